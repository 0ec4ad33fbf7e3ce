//! tls-alpn-01.

use std::sync::Mutex;

use rcgen::{CertificateParams, CustomExtension, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use super::fakes::{FakeDns, FakeWeb, Reply, Zone, closed_port};
use super::*;
use crate::validation::tls::crypto_provider;

const NAME: &str = "www.example.org";
const OID: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 31];

fn digest() -> CustomExtension {
    CustomExtension::new_acme_identifier(&proof().digest())
}

fn of_content(content: Vec<u8>, critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(OID, content);
    extension.set_criticality(critical);
    extension
}

fn octets(content: &[u8]) -> Vec<u8> {
    [&[4, u8::try_from(content.len()).unwrap()], content].concat()
}

fn params(names: &[&str], extensions: Vec<CustomExtension>) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.custom_extensions = extensions;
    params
}

/// Shows one certificate to everybody, and remembers who was asked for.
#[derive(Debug)]
struct Shows {
    certificate: Arc<CertifiedKey>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ResolvesServerCert for Shows {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.asked.lock().unwrap().push(hello.server_name().unwrap_or_default().to_owned());
        Some(Arc::clone(&self.certificate))
    }
}

struct Server {
    certificate: CertificateDer<'static>,
    key: KeyPair,
    alpn: Vec<&'static str>,
    version: &'static SupportedProtocolVersion,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(params: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, key, alpn: vec!["acme-tls/1"], version: &TLS13, asked: Arc::default() }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(crypto_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let key = provider.key_provider.load_private_key(key).unwrap();
        let certificate = Arc::new(CertifiedKey::new(vec![self.certificate.clone()], key));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Shows { certificate, asked: Arc::clone(&self.asked) }));
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    async fn check_at(&self, ip: &str, identifier: &str) -> Result<(), Problem> {
        let web = FakeWeb::start_at(ip, Some(self.acceptor()), |_| Reply::Close).await;
        outcome(loopback().with_tls_port(web.port), &validation(identifier, "tls-alpn-01")).await
    }

    async fn check(&self) -> Result<(), Problem> {
        self.check_at("127.0.0.1", NAME).await
    }
}

/// A TLS server for names, with or without the extension.
pub(super) fn acceptor(
    names: &[&str],
    extension: Option<CustomExtension>,
    alpn: &[&'static str],
) -> TlsAcceptor {
    let mut server = Server::new(&params(names, extension.into_iter().collect()));
    server.alpn = alpn.to_vec();
    server.acceptor()
}

async fn shown(names: &[&str], extensions: Vec<CustomExtension>) -> Result<(), Problem> {
    Server::new(&params(names, extensions)).check().await
}

#[tokio::test]
async fn the_right_certificate_is_valid_in_each_version_of_tls() {
    for version in [&TLS12, &TLS13] {
        let mut server = Server::new(&params(&["WWW.example.org"], vec![digest()]));
        server.version = version;
        server.check().await.unwrap();
        assert_eq!(*server.asked.lock().unwrap(), [NAME]);
    }
}

#[tokio::test]
async fn a_server_without_the_certificates_key_is_refused() {
    for version in [&TLS12, &TLS13] {
        let mut server = Server::new(&params(&[NAME], vec![digest()]));
        server.version = version;
        server.key = KeyPair::generate().unwrap();
        assert_refused(server.check().await, ProblemType::Tls, "BadSignature");
    }
}

#[tokio::test]
async fn addresses_are_asked_for_by_their_reverse_name() {
    let zeros = "0.".repeat(31);
    for (ip, sni) in
        [("127.0.0.1", "1.0.0.127.in-addr.arpa".to_owned()), ("::1", format!("1.{zeros}ip6.arpa"))]
    {
        let server = Server::new(&params(&[ip], vec![digest()]));
        server.check_at(ip, ip).await.unwrap();
        assert_eq!(*server.asked.lock().unwrap(), [sni]);
    }
    let server = Server::new(&params(&["127.0.0.2"], vec![digest()]));
    let done = server.check_at("127.0.0.1", "127.0.0.1").await;
    assert_refused(done, ProblemType::Unauthorized, "has [127.0.0.2]");
}

#[tokio::test]
async fn the_name_must_be_there_alone() {
    for (names, why) in [
        (&["other.example.org"][..], "has [other.example.org]"),
        (&[NAME, "other.example.org"], "has [www.example.org, other.example.org]"),
        (&[NAME, "127.0.0.1"], "has [www.example.org, 127.0.0.1]"),
        (&["*.example.org"], "has [*.example.org]"),
        (&[], "no subjectAltName"),
    ] {
        assert_refused(shown(names, vec![digest()]).await, ProblemType::Unauthorized, why);
    }
}

#[tokio::test]
async fn the_extension_must_be_right() {
    let wanted = proof().digest();
    for (extensions, why) in [
        (vec![], "missing or not unique"),
        (vec![of_content(octets(&wanted), false)], "not critical"),
        (vec![CustomExtension::new_acme_identifier(&[7; 32])], "another key authorization's digest"),
        (vec![of_content(octets(&wanted[..31]), true)], "another key authorization's digest"),
        (vec![of_content(wanted.to_vec(), true)], "malformed"),
        (vec![of_content([octets(&wanted), vec![0]].concat(), true)], "malformed"),
    ] {
        assert_refused(shown(&[NAME], extensions).await, ProblemType::Unauthorized, why);
    }
}

#[tokio::test]
async fn a_certificate_of_an_issuer_is_refused() {
    let ca_key = KeyPair::generate().unwrap();
    let mut server = Server::new(&params(&[NAME], vec![digest()]));
    // With the same name, so that only the signature tells.
    let issuer = Issuer::new(params(&[], vec![]), ca_key);
    let signed = params(&[NAME], vec![digest()]).signed_by(&server.key, &issuer).unwrap();
    server.certificate = signed.der().clone();
    assert_refused(server.check().await, ProblemType::Unauthorized, "not self-signed");
}

#[tokio::test]
async fn the_protocol_must_be_negotiated() {
    let mut server = Server::new(&params(&[NAME], vec![digest()]));
    server.alpn = vec![];
    assert_refused(server.check().await, ProblemType::Unauthorized, "Cannot negotiate ALPN");
    server.alpn = vec!["h2", "http/1.1"];
    assert_refused(server.check().await, ProblemType::Tls, "NoApplicationProtocol");
}

#[tokio::test]
async fn ipv4_is_tried_when_ipv6_fails() {
    let server = Server::new(&params(&[NAME], vec![digest()]));
    let web = FakeWeb::start_at("127.0.0.1", Some(server.acceptor()), |_| Reply::Close).await;
    let dns = FakeDns::start(Zone::default().address(NAME, "::1").address(NAME, "127.0.0.1")).await;
    let config = by_dns(dns.address).with_tls_port(web.port);
    outcome(config, &validation(NAME, "tls-alpn-01")).await.unwrap();
}

#[tokio::test]
async fn nobody_there_and_no_tls_are_told_apart() {
    let validation = validation(NAME, "tls-alpn-01");
    let done = outcome(loopback().with_tls_port(closed_port().await), &validation).await;
    assert_refused(done, ProblemType::Connection, "refused");
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = loopback().with_tls_port(silent.local_addr().unwrap().port());
    let done = outcome(config.with_timeout(Duration::from_millis(300)), &validation).await;
    assert_refused(done, ProblemType::Connection, "Timeout");
}
