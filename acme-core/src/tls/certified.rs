//! A certificate as rustls serves it.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair};
use rustls::SignatureScheme;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::bundle::hex;
use crate::probe::crypto_provider;
use crate::{Bundle, CertificateSpec, Challenge, Clock, Error, ErrorKind, Result, SystemClock};

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
    /// Until when it is valid.
    pub(super) not_after: SystemTime,
    /// Empty if no CA has signed it.
    pub(super) serial: String,
    /// That of the leaf, in hexadecimal.
    pub(super) sha256: String,
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
        let validity = facts.not_before..facts.not_after;
        Self::of(bundle.id().as_str(), chain, key, validity, &facts.serial)
            .map_err(|e| refuse("TLS cannot use a key of this type").with_source(e))
    }

    /// One that stands in for what is wished for: signed by itself, and older than any other.
    pub(super) fn placeholder(spec: &CertificateSpec) -> Result<Self> {
        let names: Vec<String> = spec.identifiers().iter().map(ToString::to_string).collect();
        let made = CertificateParams::new(names).and_then(|mut params| {
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "placeholder of acmekit");
            let key = KeyPair::generate()?;
            Ok((vec![params.self_signed(&key)?.der().clone()], Zeroizing::new(key.serialize_der())))
        });
        let failed = |why: &str| {
            Error::new(ErrorKind::Other, "tls.placeholder", why.to_owned()).with("certificate", spec.id())
        };
        let (chain, key) = made.map_err(|e| failed("the placeholder cannot be made").with_source(e))?;
        let validity = SystemTime::UNIX_EPOCH..SystemTime::UNIX_EPOCH;
        Self::of(spec.id().as_str(), chain, PrivatePkcs8KeyDer::from(key.as_slice()), validity, "")
            .map_err(|e| failed("TLS cannot use the placeholder's key").with_source(e))
    }

    /// The certificate that answers a challenge (RFC 8737 section 3): of this name or address alone, signed by itself.
    pub(super) fn answering(challenge: &Challenge) -> Result<Self> {
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
        // Of two for the same name, the later is the one.
        let now = SystemClock.now();
        Self::of(&challenge.token, chain, PrivatePkcs8KeyDer::from(octets.as_slice()), now..now, "").map_err(
            |e| {
                Error::new(ErrorKind::Other, "tls.answer", "TLS cannot use the challenge's key")
                    .with_source(e)
            },
        )
    }

    fn of(
        id: &str,
        chain: Vec<CertificateDer<'static>>,
        key: PrivatePkcs8KeyDer<'_>,
        validity: Range<SystemTime>,
        serial: &str,
    ) -> std::result::Result<Self, rustls::Error> {
        let key = PrivateKeyDer::from(key.clone_key());
        let key = crypto_provider().key_provider.load_private_key(key)?;
        let schemes =
            SCHEMES.iter().enumerate().filter(|(_, scheme)| key.choose_scheme(&[**scheme]).is_some());
        let schemes = schemes.map(|(at, _)| 1 << at).sum();
        let certified = Arc::new(CertifiedKey::new(chain, key));
        let (not_before, not_after, serial) = (validity.start, validity.end, serial.to_owned());
        let sha256 = certified.cert.first().map(|leaf| hex(&Sha256::digest(leaf))).unwrap_or_default();
        Ok(Self { id: id.into(), certified, schemes, not_before, not_after, serial, sha256 })
    }

    /// Whether a client that takes these signatures can have it.
    pub(super) fn fits(&self, offered: &[SignatureScheme]) -> bool {
        self.schemes().any(|scheme| offered.contains(&scheme))
    }

    /// Whether it only stands in for another.
    pub(super) fn is_placeholder(&self) -> bool {
        self.serial.is_empty()
    }

    /// How long it is valid in all.
    pub(super) fn life(&self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or_default()
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

    /// The smaller, the sooner it is served: before placeholders, by its best signature, and of two of a kind the newer
    /// one.
    pub(super) fn rank(&self) -> (bool, u32, Reverse<SystemTime>) {
        (self.is_placeholder(), self.schemes.trailing_zeros(), Reverse(self.not_before))
    }
}
