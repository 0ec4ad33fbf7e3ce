//! TLS that looks at what is shown and trusts nobody.

use std::io;
use std::sync::Arc;

use acmekit_core::{Error, ErrorKind, Result as CoreResult};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use x509_parser::asn1_rs::{Any, FromDer};
use x509_parser::prelude::X509Certificate;

/// The one crypto provider this build links; never the process-wide default.
#[cfg(feature = "aws-lc-rs")]
pub(super) fn crypto_provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// The one crypto provider this build links; never the process-wide default.
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
pub(super) fn crypto_provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// Takes any certificate, and insists that the server holds its key.
pub(super) fn client_config() -> CoreResult<ClientConfig> {
    let provider = Arc::new(crypto_provider());
    let witness = Witness(provider.signature_verification_algorithms);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| {
            Error::new(ErrorKind::Config, "validation.tls", "the crypto provider cannot do TLS")
                .with_source(e)
        })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(witness))
        .with_no_client_auth();
    // A resumed handshake shows no certificate.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The TLS error in an I/O error; `source` would skip over it.
pub(super) fn cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref()?.downcast_ref(),
        None => error.downcast_ref(),
    }
}

/// The handshake's signature is checked with the bare key: webpki refuses a certificate with an extension it does not
/// know and that is critical, which every tls-alpn-01 certificate has.
#[derive(Debug)]
struct Witness(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let (_, leaf) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let (key_algorithm, key) = key(&leaf).ok_or(CertificateError::BadEncoding)?;
        let schemes = self.0.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
        let verified = schemes
            .flat_map(|(_, algorithms)| algorithms.iter())
            .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == key_algorithm)
            .any(|algorithm| algorithm.verify_signature(key, message, signed.signature()).is_ok());
        if verified {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let (_, leaf) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let key = SubjectPublicKeyInfoDer::from(leaf.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Whether the certificate is signed with its own key.
pub(super) fn is_self_signed(
    certificate: &X509Certificate<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let Some((key_algorithm, key)) = key(certificate) else { return false };
    let Some(signed_by) = signature_algorithm(certificate) else { return false };
    let message = certificate.tbs_certificate.as_ref();
    certificate.subject().as_raw() == certificate.issuer().as_raw()
        && algorithms.all.iter().any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == key_algorithm
                && algorithm.signature_alg_id().as_ref() == signed_by
                && algorithm.verify_signature(key, message, &certificate.signature_value.data).is_ok()
        })
}

/// The content of the key's AlgorithmIdentifier, and the key (RFC 5280 section 4.1.2.7).
fn key<'a>(certificate: &'a X509Certificate<'_>) -> Option<(&'a [u8], &'a [u8])> {
    let info = certificate.public_key();
    let (_, outer) = Any::from_der(info.raw).ok()?;
    let (_, algorithm) = Any::from_der(outer.data).ok()?;
    Some((algorithm.data, &info.subject_public_key.data))
}

/// The content of the AlgorithmIdentifier with which it is signed: the `signature` field within what is signed.
fn signature_algorithm<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    let (_, outer) = Any::from_der(certificate.tbs_certificate.as_ref()).ok()?;
    let mut rest = outer.data;
    // `version` is optional and comes before `serialNumber` (RFC 5280 section 4.1).
    let (after, first) = Any::from_der(rest).ok()?;
    rest = after;
    if first.header.tag().0 != 2 {
        rest = Any::from_der(rest).ok()?.0;
    }
    let (_, algorithm) = Any::from_der(rest).ok()?;
    Some(algorithm.data)
}
