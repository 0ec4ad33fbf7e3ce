//! A certificate as rustls serves it.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::SignatureScheme;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::probe::crypto_provider;
use crate::{Bundle, Challenge, Error, ErrorKind, Result};

/// All that a key may sign by, in the order of preference: the small and fast ones first.
const SCHEMES: [SignatureScheme; 10] = [
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

/// A certificate that is served: parsed once, shared by all its names and handshakes.
#[derive(Debug)]
pub(super) struct Served {
    /// The certificate's id; that of a challenge's is the token.
    pub(super) id: Box<str>,
    pub(super) certified: Arc<CertifiedKey>,
    /// By which of [`SCHEMES`] its key signs, as bits: no handshake has to ask the key, which would allocate.
    schemes: u16,
    not_before: SystemTime,
    pub(super) serial: String,
}

impl Served {
    pub(super) fn new(bundle: &Bundle) -> Result<Self> {
        let refuse = |why| Error::new(ErrorKind::Config, "tls.serve", why).with("certificate", bundle.id());
        let Some(key) = bundle.key() else {
            return Err(refuse("the certificate came of a CSR, so its key is not here")
                .with_hint("serve it where its key is"));
        };
        let chain = bundle.chain_der().iter().map(|der| CertificateDer::from(der.clone())).collect();
        let key = PrivatePkcs8KeyDer::from(key.to_pkcs8().expose().as_slice());
        let facts = bundle.facts();
        Self::of(bundle.id().as_str(), chain, key, facts.not_before, &facts.serial)
            .map_err(|e| refuse("TLS cannot use a key of this type").with_source(e))
    }

    /// The certificate that answers a challenge (RFC 8737 section 3): of this name or address alone, signed by itself.
    pub(super) fn answering(challenge: &Challenge, now: SystemTime) -> Result<Self> {
        let failed = |e: rcgen::Error| {
            Error::new(ErrorKind::Other, "tls.answer", "the challenge's certificate cannot be made")
                .with("identifier", &challenge.identifier)
                .with_source(e)
        };
        let mut params = CertificateParams::new([challenge.identifier.to_string()]).map_err(failed)?;
        params.custom_extensions =
            vec![CustomExtension::new_acme_identifier(&challenge.key_authorization.digest())];
        let key = KeyPair::generate().map_err(failed)?;
        let chain = vec![params.self_signed(&key).map_err(failed)?.der().clone()];
        let octets = Zeroizing::new(key.serialize_der());
        Self::of(&challenge.token, chain, PrivatePkcs8KeyDer::from(octets.as_slice()), now, "").map_err(|e| {
            Error::new(ErrorKind::Other, "tls.answer", "TLS cannot use the challenge's key").with_source(e)
        })
    }

    fn of(
        id: &str,
        chain: Vec<CertificateDer<'static>>,
        key: PrivatePkcs8KeyDer<'_>,
        not_before: SystemTime,
        serial: &str,
    ) -> std::result::Result<Self, rustls::Error> {
        let key = PrivateKeyDer::from(key.clone_key());
        let key = crypto_provider().key_provider.load_private_key(key)?;
        let schemes =
            SCHEMES.iter().enumerate().filter(|(_, scheme)| key.choose_scheme(&[**scheme]).is_some());
        let schemes = schemes.map(|(at, _)| 1 << at).sum();
        let certified = Arc::new(CertifiedKey::new(chain, key));
        Ok(Self { id: id.into(), certified, schemes, not_before, serial: serial.to_owned() })
    }

    /// Whether a client that takes these signatures can have it.
    pub(super) fn fits(&self, offered: &[SignatureScheme]) -> bool {
        self.schemes().any(|scheme| offered.contains(&scheme))
    }

    /// Whether it is this very certificate, with its chain.
    pub(super) fn is_of(&self, bundle: &Bundle) -> bool {
        self.certified.cert.iter().map(AsRef::as_ref).eq(bundle.chain_der().iter().map(Vec::as_slice))
    }

    /// All that its key signs by.
    pub(super) fn schemes(&self) -> impl Iterator<Item = SignatureScheme> {
        let own = SCHEMES.iter().enumerate().filter(|(at, _)| self.schemes & (1 << at) != 0);
        own.map(|(_, scheme)| *scheme)
    }

    /// The smaller, the sooner it is served: by its best signature, and of two of a kind the newer one.
    pub(super) fn rank(&self) -> (u32, Reverse<SystemTime>) {
        (self.schemes.trailing_zeros(), Reverse(self.not_before))
    }
}
