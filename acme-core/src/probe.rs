//! What a client sees: a TLS handshake that looks at the certificate and trusts nobody.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{Bundle, Deadline, Error, ErrorKind, Identifier, Result};

/// Makes a handshake with `address` for `name` and answers the certificates shown, leaf first, as
/// DER. For a wildcard, a name below it is asked for.
///
/// The chain is not validated: the question is what is served, not whether to trust it. The
/// handshake itself is checked, so the server has the leaf's key.
///
/// # Errors
/// `Unavailable` if nobody answers or the handshake fails, `Timeout` at the deadline.
pub async fn served_chain(
    address: SocketAddr,
    name: &Identifier,
    deadline: Deadline,
) -> Result<Vec<Vec<u8>>> {
    let seen = deadline.run("probe.handshake", "TLS handshake", handshake(address, name)).await;
    seen.map_err(|e| e.with("address", address).with("name", name))
}

/// Asks `address` for each name of the bundle, and says so if another certificate is served.
///
/// # Errors
/// `Deploy` if another certificate is served; else as [`served_chain`].
pub async fn verify_served(address: SocketAddr, bundle: &Bundle, deadline: Deadline) -> Result<()> {
    for name in &bundle.facts().identifiers {
        let seen = served_chain(address, name, deadline).await?;
        let want = bundle.chain_der();
        if seen.first() != want.first() {
            let serial = seen.first().and_then(|der| serial(der)).unwrap_or_else(|| "unreadable".to_owned());
            return Err(Error::new(ErrorKind::Deploy, "probe.verify", "another certificate is served")
                .with("address", address)
                .with("name", name)
                .with("served_serial", serial)
                .with("wanted_serial", &bundle.facts().serial));
        }
        if seen.len() < want.len() {
            return Err(Error::new(
                ErrorKind::Deploy,
                "probe.verify",
                "the right certificate is served, but not its whole chain",
            )
            .with("address", address)
            .with("name", name)
            .with("served", seen.len())
            .with("wanted", want.len()));
        }
    }
    Ok(())
}

fn serial(der: &[u8]) -> Option<String> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.raw_serial().iter().map(|octet| format!("{octet:02X}")).collect())
}

async fn handshake(address: SocketAddr, name: &Identifier) -> Result<Vec<Vec<u8>>> {
    let failed = |why: &str, e: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::Unavailable, "probe.handshake", why).with_source(e)
    };
    let server_name = match name {
        Identifier::Dns(name) => ServerName::try_from(name.as_str().to_owned()),
        Identifier::Wildcard(name) => ServerName::try_from(format!("acmekit-probe.{name}")),
        Identifier::Ip(ip) => Ok(ServerName::IpAddress((*ip).into())),
    }
    .map_err(|e| failed("the name cannot be asked for", e.into()))?;
    let config = client_config(Arc::new(crypto_provider()))
        .map_err(|e| failed("the crypto provider cannot do TLS", e.into()))?;
    let stream = TcpStream::connect(address).await.map_err(|e| failed("nobody answers", e.into()))?;
    let tls = TlsConnector::from(Arc::new(config))
        .connect(server_name, stream)
        .await
        .map_err(|e| failed("the handshake failed", e.into()))?;
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(chain.iter().map(|der| der.as_ref().to_vec()).collect())
}

/// The one crypto provider this build links; never the process-wide default.
#[cfg(feature = "aws-lc-rs")]
pub(crate) fn crypto_provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// The one crypto provider this build links; never the process-wide default.
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
pub(crate) fn crypto_provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// For handshakes that look at what is served and send nothing worth protecting.
pub(crate) fn client_config(provider: Arc<CryptoProvider>) -> Result<ClientConfig, rustls::Error> {
    let witness = Witness(Arc::clone(&provider));
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(witness))
        .with_no_client_auth())
}

/// Takes any certificate, but insists that the server holds its key.
#[derive(Debug)]
struct Witness(Arc<CryptoProvider>);

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
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
