//! The resolver by what clients see over a real socket.

#![cfg(feature = "rustls")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use acmekit::tls::{ACME_TLS, CertResolver, TlsListener, server_config};
use acmekit::{Bundle, CertificateId, Deployer, ErrorKind, Origin, PrivateKey, async_trait};
use acmekit_conformance::deployer::{DeployerSubject, NAMES};
use acmekit_conformance::test_bundle;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as crypto;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use rustls::crypto::ring as crypto;

/// A server that says nothing after the handshake.
struct Server {
    address: SocketAddr,
    resolver: CertResolver,
    _serving: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let resolver = CertResolver::new();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut listener = TlsListener::new(tcp, server_config(&resolver).unwrap());
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            loop {
                drop(listener.accept().await);
            }
        });
        Self { address, resolver, _serving: serving }
    }

    /// The leaf that a client sees, or that there is none.
    async fn seen_by(&self, client: ClientConfig, name: &str) -> Option<Vec<u8>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.ok()?;
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        Some(chain.first().unwrap().to_vec())
    }

    async fn seen(&self, name: &str) -> Option<Vec<u8>> {
        self.seen_by(client(&[]), name).await
    }
}

fn leaf(bundle: &Bundle) -> Option<Vec<u8>> {
    bundle.chain_der().first().cloned()
}

/// Takes whatever certificate, if it is signed by one of these schemes; all, if none is given.
#[derive(Debug)]
struct Anything(Arc<CryptoProvider>, Vec<SignatureScheme>);

impl ServerCertVerifier for Anything {
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
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match self.1.is_empty() {
            true => self.0.signature_verification_algorithms.supported_schemes(),
            false => self.1.clone(),
        }
    }
}

fn client(schemes: &[SignatureScheme]) -> ClientConfig {
    let provider = Arc::new(crypto::default_provider());
    let anything = Anything(Arc::clone(&provider), schemes.to_vec());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anything))
        .with_no_client_auth()
}

#[async_trait]
impl DeployerSubject for Server {
    fn deployer(&self) -> Arc<dyn Deployer> {
        Arc::new(self.resolver.clone())
    }

    fn handshake_address(&self) -> SocketAddr {
        self.address
    }

    async fn break_target(&mut self) {
        unreachable!("the clauses that need it are skipped");
    }

    async fn mend(&mut self) {}

    async fn release(&mut self, _: &CertificateId) {}
}

async fn serving_another() -> Server {
    let server = Server::start().await;
    server.resolver.serve(&test_bundle(&NAMES).unwrap()).unwrap();
    server
}

mod as_a_deployer {
    use super::*;
    acmekit_conformance::deployer_suite!(
        serving_another(),
        skip {
            Y4: "between looking up and having looked up nothing can fail",
            Y5: "between looking up and having looked up nothing can fail",
            Y9: "it has a deployment fail for that; see below",
        }
    );
}

#[tokio::test]
async fn no_private_key_is_ever_shown() {
    let server = Server::start().await;
    let (served, other) = (test_bundle(&["a.test"]).unwrap(), test_bundle(&["a.test"]).unwrap());
    server.resolver.serve(&served).unwrap();
    let error = server.resolver.verify(&other).await.unwrap_err();
    assert!(error.to_string().contains(&served.facts().serial), "{error}");
    let config = server_config(&server.resolver).unwrap();
    let shown = format!("{:?} {config:?} {} {error:?}", server.resolver, error.report());
    assert!(shown.contains(served.id().as_str()), "{shown}");
    for bundle in [served, other] {
        let pem = bundle.key_pem().unwrap();
        let lines = pem.expose().lines().filter(|line| !line.starts_with("-----"));
        assert!(lines.filter(|line| shown.contains(line)).count() == 0, "a private key is shown");
        let octets = format!("{:?}", bundle.key().unwrap().to_pkcs8().expose());
        assert!(!shown.contains(octets.trim_matches(['[', ']'])), "a private key is shown");
    }
}

#[tokio::test]
async fn a_name_of_its_own_comes_before_the_wildcard_and_both_before_nothing() {
    let server = Server::start().await;
    let wildcard = test_bundle(&["*.a.test"]).unwrap();
    let exact = test_bundle(&["www.a.test", "a.test"]).unwrap();
    server.resolver.serve(&wildcard).unwrap();
    assert_eq!(server.seen("www.a.test").await, leaf(&wildcard));
    server.resolver.serve(&exact).unwrap();
    assert_eq!(server.seen("www.a.test").await, leaf(&exact));
    assert_eq!(server.seen("WWW.A.Test").await, leaf(&exact), "names have no case");
    assert_eq!(server.seen("other.a.test").await, leaf(&wildcard));
    for not_covered in ["deep.other.a.test", "test", "nota.test"] {
        assert_eq!(server.seen(not_covered).await, None, "{not_covered}");
    }
    server.resolver.withdraw(exact.id());
    assert_eq!(server.seen("www.a.test").await, leaf(&wildcard));
    assert_eq!(server.seen("a.test").await, None);
}

#[tokio::test]
async fn a_name_that_the_new_certificate_lacks_is_served_no_longer() {
    let server = Server::start().await;
    let both = test_bundle(&["a.test", "b.test"]).unwrap();
    server.resolver.serve(&both).unwrap();
    let one = test_bundle(&["a.test"]).unwrap();
    let key = PrivateKey::from_pem(one.key_pem().unwrap().expose()).unwrap();
    let one = Bundle::new(both.id().clone(), &one.fullchain_pem(), Some(key), Origin::default()).unwrap();
    server.resolver.serve(&one).unwrap();
    assert_eq!(server.seen("a.test").await, leaf(&one));
    assert_eq!(server.seen("b.test").await, None);
}

#[tokio::test]
async fn who_names_nothing_gets_the_one_that_was_chosen_for_that() {
    let server = Server::start().await;
    let (chosen, other) = (test_bundle(&["a.test"]).unwrap(), test_bundle(&["b.test"]).unwrap());
    server.resolver.serve(&other).unwrap();
    // rustls sends no name for an address.
    assert_eq!(server.seen("127.0.0.1").await, None);
    server.resolver.default_to(chosen.id());
    assert_eq!(server.seen("127.0.0.1").await, None, "it is not there yet");
    server.resolver.serve(&chosen).unwrap();
    assert_eq!(server.seen("127.0.0.1").await, leaf(&chosen));
    let renewed = test_bundle(&["a.test"]).unwrap();
    server.resolver.serve(&renewed).unwrap();
    assert_eq!(server.seen("127.0.0.1").await, leaf(&renewed));
    server.resolver.withdraw(chosen.id());
    assert_eq!(server.seen("127.0.0.1").await, None);
}

#[tokio::test]
async fn who_has_connected_to_an_address_gets_its_certificate() {
    let server = Server::start().await;
    let (name, address) = (test_bundle(&["a.test"]).unwrap(), test_bundle(&["127.0.0.1"]).unwrap());
    server.resolver.serve(&name).unwrap();
    server.resolver.serve(&address).unwrap();
    assert_eq!(server.seen("127.0.0.1").await, leaf(&address));
    server.resolver.withdraw(address.id());
    assert_eq!(server.seen("127.0.0.1").await, None);
}

/// With an RSA key, which `rcgen` makes with aws-lc alone.
#[cfg(feature = "aws-lc-rs")]
#[tokio::test]
async fn a_client_that_knows_no_ecdsa_gets_the_certificate_with_an_rsa_key() {
    let server = Server::start().await;
    let small = test_bundle(&["a.test"]).unwrap();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let key = PrivateKey::from_pem(&key.serialize_pem()).unwrap();
    let large = Bundle::new("a-rsa".parse().unwrap(), &pem, Some(key), Origin::default()).unwrap();
    server.resolver.serve(&large).unwrap();
    assert_eq!(server.seen("a.test").await, leaf(&large));
    server.resolver.serve(&small).unwrap();
    assert_eq!(server.seen("a.test").await, leaf(&small), "ECDSA comes first");
    let old = client(&[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256]);
    assert_eq!(server.seen_by(old, "a.test").await, leaf(&large));
    // Both are in place: each is what some clients get.
    server.resolver.verify(&small).await.unwrap();
    assert_eq!(server.resolver.deploy(&large).await.unwrap(), acmekit::Outcome::AlreadyCurrent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_certificates_are_swapped_every_handshake_succeeds_and_after_it_none_sees_the_old_one() {
    const SWAPS: usize = 20;
    let server = Arc::new(Server::start().await);
    let all: Arc<Vec<Bundle>> = Arc::new((0..=SWAPS).map(|_| test_bundle(&["a.test"]).unwrap()).collect());
    server.resolver.serve(&all[0]).unwrap();
    // The newest that was served when somebody looked.
    let newest = Arc::new(AtomicUsize::new(0));
    let (done, mut handshakes) = mpsc::unbounded_channel();
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let done = done.clone();
        let (server, all, newest) = (Arc::clone(&server), Arc::clone(&all), Arc::clone(&newest));
        clients.spawn(async move {
            loop {
                let before = newest.load(Ordering::SeqCst);
                let seen = server.seen("a.test").await.expect("a handshake failed");
                let at = all.iter().position(|bundle| bundle.chain_der()[0] == seen).unwrap();
                assert!(at >= before, "the one before the newest was served");
                if before == SWAPS || done.send(()).is_err() {
                    return;
                }
            }
        });
    }
    for (at, bundle) in all.iter().enumerate().skip(1) {
        for _ in 0..8 {
            handshakes.recv().await.unwrap();
        }
        server.resolver.serve(bundle).unwrap();
        newest.store(at, Ordering::SeqCst);
    }
    clients.join_all().await;
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused_and_the_old_one_stays() {
    let server = Server::start().await;
    let old = test_bundle(&["a.test"]).unwrap();
    server.resolver.serve(&old).unwrap();
    let chain = test_bundle(&["a.test"]).unwrap().fullchain_pem();
    let keyless = Bundle::new(old.id().clone(), &chain, None, Origin::default()).unwrap();
    let error = server.resolver.deploy(&keyless).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
    assert!(error.to_string().contains("CSR"), "{error}");
    assert_eq!(server.seen("a.test").await, leaf(&old));
}

#[tokio::test]
async fn a_challenge_is_not_answered_where_none_is_and_the_certificate_not_given_away_for_it() {
    let server = Server::start().await;
    let bundle = test_bundle(&["a.test"]).unwrap();
    server.resolver.serve(&bundle).unwrap();
    let mut asking = client(&[]);
    asking.alpn_protocols = vec![ACME_TLS.to_vec()];
    assert_eq!(server.seen_by(asking, "a.test").await, None);
    // A client that can do more than challenges is a client like others.
    let mut able = client(&[]);
    able.alpn_protocols = vec![ACME_TLS.to_vec(), b"h2".to_vec()];
    assert_eq!(server.seen_by(able, "a.test").await, leaf(&bundle));
}
