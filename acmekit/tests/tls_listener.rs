//! Who is slow keeps nobody waiting, and is not waited for.

#![cfg(feature = "axum")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::time::Duration;

use acmekit::tls::{CertResolver, TlsListener, server_config};
use acmekit::{Bundle, Deadline, Identifier, probe};
use acmekit_conformance::test_bundle;
use axum::Router;
use axum::routing::get;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// An axum server, as it is in a program.
struct Server {
    address: SocketAddr,
    bundle: Bundle,
    _serving: JoinSet<std::io::Result<()>>,
}

impl Server {
    async fn start(set: impl FnOnce(TlsListener) -> TlsListener) -> Self {
        let (resolver, bundle) = (CertResolver::new(), test_bundle(&["a.test"]).unwrap());
        resolver.serve(&bundle).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = set(TlsListener::new(tcp, server_config(&resolver).unwrap()));
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "hello"));
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await });
        Self { address, bundle, _serving: serving }
    }

    async fn silent(&self, count: usize) -> Vec<TcpStream> {
        let mut streams = Vec::new();
        for _ in 0..count {
            streams.push(TcpStream::connect(self.address).await.unwrap());
        }
        streams
    }

    /// A client that does as it should is served within a second.
    async fn serves(&self) {
        let name: Identifier = "a.test".parse().unwrap();
        let seen = probe::served_chain(self.address, &name, Deadline::after(Duration::from_secs(1))).await;
        assert_eq!(seen.unwrap().first(), self.bundle.chain_der().first());
    }
}

#[tokio::test]
async fn silent_clients_keep_nobody_waiting() {
    let server = Server::start(|listener| listener).await;
    let _silent = server.silent(100).await;
    server.serves().await;
}

#[tokio::test]
async fn a_silent_client_is_hung_up_on_in_time() {
    let server = Server::start(|listener| listener.handshake_timeout(Duration::from_millis(200))).await;
    let mut silent = server.silent(1).await.remove(0);
    let ended = tokio::time::timeout(Duration::from_secs(10), silent.read(&mut [0])).await;
    assert!(matches!(ended.unwrap(), Ok(0) | Err(_)), "it is still connected");
}

#[tokio::test]
async fn of_too_many_handshakes_the_oldest_is_given_up() {
    let set =
        |listener: TlsListener| listener.handshakes_at_once(10).handshake_timeout(Duration::from_secs(3600));
    let server = Server::start(set).await;
    let mut silent = server.silent(30).await;
    let newest = silent.split_off(20);
    for mut oldest in silent {
        let ended = tokio::time::timeout(Duration::from_secs(10), oldest.read(&mut [0])).await;
        assert!(matches!(ended.unwrap(), Ok(0) | Err(_)), "it is still connected");
    }
    server.serves().await;
    drop(newest);
}

#[tokio::test]
async fn axum_answers_over_it() {
    let server = Server::start(|listener| listener).await;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(trusting(&server.bundle))
        .resolve("a.test", server.address)
        .build()
        .unwrap();
    let url = format!("https://a.test:{}/", server.address.port());
    let answer = client.get(url).send().await.unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "hello");
}

/// A client that trusts who signed the certificate.
fn trusting(bundle: &Bundle) -> rustls::ClientConfig {
    #[cfg(feature = "aws-lc-rs")]
    use rustls::crypto::aws_lc_rs as crypto;
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    use rustls::crypto::ring as crypto;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(bundle.chain_der().last().unwrap().clone().into()).unwrap();
    let mut config =
        rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(crypto::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
