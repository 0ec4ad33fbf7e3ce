//! Certificates for servers to start with, and what a TLS client is presented.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::TestbedError;

const HANDSHAKE: Duration = Duration::from_secs(10);

/// A self-signed certificate and its key.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SelfSigned {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key, PKCS #8.
    pub key_pem: String,
    /// The certificate's serial number, as [`serial_of`] writes it.
    pub serial: String,
}

/// Makes a self-signed certificate for `names` (DNS names or IP addresses): P-256, a new serial each time.
pub fn self_signed(names: &[&str]) -> Result<SelfSigned, TestbedError> {
    let key = KeyPair::generate()?;
    let params = leaf_params(names)?;
    let cert = params.self_signed(&key)?;
    Ok(SelfSigned { cert_pem: cert.pem(), key_pem: key.serialize_pem(), serial: serial_of(cert.der())? })
}

/// A root and a leaf signed by it, for a server whose clients verify.
pub(crate) struct Signed {
    pub(crate) root_pem: String,
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
}

pub(crate) fn signed_by_new_root(names: &[&str]) -> Result<Signed, TestbedError> {
    let mut root = CertificateParams::new(Vec::new())?;
    root.distinguished_name.push(DnType::CommonName, "acmekit testbed root");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root_key = KeyPair::generate()?;
    let root_pem = root.self_signed(&root_key)?.pem();
    let key = KeyPair::generate()?;
    let mut leaf = leaf_params(names)?;
    leaf.use_authority_key_identifier_extension = true;
    let cert_pem = leaf.signed_by(&key, &Issuer::new(root, root_key))?.pem();
    Ok(Signed { root_pem, cert_pem, key_pem: key.serialize_pem() })
}

fn leaf_params(names: &[&str]) -> Result<CertificateParams, TestbedError> {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    if let Some(first) = names.first() {
        params.distinguished_name.push(DnType::CommonName, *first);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// The certificates a server presented, leaf first.
#[derive(Debug, Clone)]
pub struct Presented {
    certificates: Vec<CertificateDer<'static>>,
}

impl Presented {
    /// The leaf, DER.
    pub fn leaf(&self) -> &[u8] {
        self.certificates.first().map_or(&[], AsRef::as_ref)
    }

    /// What came after the leaf, each DER.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        self.certificates.get(1..).unwrap_or_default()
    }

    /// The leaf's serial number, as [`serial_of`] writes it.
    pub fn serial(&self) -> Result<String, TestbedError> {
        serial_of(self.leaf())
    }
}

/// Shakes hands and returns what the server presented, whoever signed it.
///
/// `sni` may be an IP address: then no server name is sent, and the server chooses its default certificate.
pub async fn handshake(addr: SocketAddr, sni: &str) -> Result<Presented, TestbedError> {
    let provider = provider();
    let config = client_builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAnything(provider)))
        .with_no_client_auth();
    let stream = connect(addr, sni, config).await?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(Presented { certificates: certificates.iter().map(|der| der.clone().into_owned()).collect() })
}

/// The serial number of a DER certificate: lower-case hex without leading zeros, as Pebble logs it.
pub fn serial_of(der: &[u8]) -> Result<String, TestbedError> {
    let (_, cert) = x509_parser::parse_x509_certificate(der)
        .map_err(|error| TestbedError::Certificate(format!("not a certificate: {error}")))?;
    let hex: String = cert.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(hex.trim_start_matches('0').to_owned())
}

/// Whether a PEM chain, leaf first, proves each of `names` to one who trusts `roots`; returns the leaf, DER.
pub fn verify_chain(fullchain_pem: &str, roots: &[String], names: &[&str]) -> Result<Vec<u8>, TestbedError> {
    let bad = |what: &str, error: String| TestbedError::Certificate(format!("{what}: {error}"));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(fullchain_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| bad("chain", error.to_string()))?;
    let (leaf, intermediates) =
        chain.split_first().ok_or_else(|| bad("chain", "no certificate in it".to_owned()))?;
    let mut trusted = RootCertStore::empty();
    for root in roots {
        let root = CertificateDer::from_pem_slice(root.as_bytes())
            .map_err(|error| bad("root", error.to_string()))?;
        trusted.add(root).map_err(|error| bad("root", error.to_string()))?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted), provider())
        .build()
        .map_err(|error| bad("roots", error.to_string()))?;
    for name in names {
        let server = ServerName::try_from(*name).map_err(|error| bad(name, error.to_string()))?;
        verifier
            .verify_server_cert(leaf, intermediates, &server, &[], UnixTime::now())
            .map_err(|error| bad(name, error.to_string()))?;
    }
    Ok(leaf.to_vec())
}

/// A connection on which the server proved to be signed by `root_pem`.
pub(crate) async fn connect_verified(
    addr: SocketAddr,
    root_pem: &str,
) -> Result<TlsStream<TcpStream>, TestbedError> {
    let bad = |error: String| TestbedError::Certificate(format!("root: {error}"));
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(root_pem.as_bytes()).map_err(|error| bad(error.to_string()))?;
    roots.add(root).map_err(|error| bad(error.to_string()))?;
    let config = client_builder()?.with_root_certificates(roots).with_no_client_auth();
    connect(addr, "localhost", config).await
}

async fn connect(
    addr: SocketAddr,
    name: &str,
    config: ClientConfig,
) -> Result<TlsStream<TcpStream>, TestbedError> {
    let what = format!("TLS to {addr} as {name}");
    let server = ServerName::try_from(name.to_owned())
        .map_err(|error| TestbedError::unexpected(&what, error.to_string()))?;
    let connected = timeout(HANDSHAKE, async {
        let tcp = TcpStream::connect(addr).await?;
        TlsConnector::from(Arc::new(config)).connect(server, tcp).await
    });
    match connected.await {
        Ok(result) => result.map_err(TestbedError::io(what)),
        Err(_) => Err(TestbedError::NotReady { what, waited: HANDSHAKE, log: String::new() }),
    }
}

fn client_builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TestbedError> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TestbedError::unexpected("configure TLS", error.to_string()))
}

/// Named each time: the process-wide default is left to the code under test.
fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    use rustls::crypto::aws_lc_rs as chosen;
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    use rustls::crypto::ring as chosen;
    Arc::new(chosen::default_provider())
}

/// Tests look at what is presented; they judge it themselves.
#[derive(Debug)]
struct AcceptAnything(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnything {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
