//! tls-alpn-01 by the server that has the certificates, end to end: TestCa and Pebble connect to its port.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;

use acmekit::probe::served_chain;
use acmekit::solvers::TlsAlpn01;
use acmekit::stores::MemoryStore;
use acmekit::tls::{CertResolver, TlsListener, server_config};
use acmekit::{Authority, CertificateSpec, Deadline, Issuance, Pipeline};
use acmekit_scenarios::{authority, trusted};
use acmekit_server::TestCa;
use acmekit_testbed::{Bind, Pebble};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A TLS server on a free port of this machine.
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

    /// Gets a certificate by the server's own handshakes, and has it served there.
    async fn gets_and_serves(&self, authority: Authority, names: &[&str]) {
        let pipeline = Pipeline::builder(authority, Arc::new(MemoryStore::new()))
            .solver(TlsAlpn01::new(self.resolver.clone()))
            .deployer(self.resolver.clone())
            .build()
            .unwrap();
        let spec = CertificateSpec::new(names).unwrap();
        for renewed in [false, true] {
            let done = match renewed {
                false => pipeline.obtain(&spec).await,
                true => pipeline.renew(&spec).await,
            };
            let issued = done.and_then(Issuance::served).unwrap_or_else(|error| panic!("{}", error.report()));
            assert!(issued.fresh);
            for name in &issued.bundle.facts().identifiers {
                let deadline = Deadline::after(std::time::Duration::from_secs(5));
                let seen = served_chain(self.address, name, deadline).await.unwrap();
                assert_eq!(seen.first(), issued.bundle.chain_der().first(), "{name}, renewed: {renewed}");
            }
        }
    }
}

const NAMES: [&str; 2] = ["www.example.test", "127.0.0.1"];

async fn dns() -> Bind {
    Bind::builder().zone("example.test").loopback("www.example.test").start().await.unwrap()
}

#[tokio::test]
async fn a_name_and_an_address_are_proved_to_test_ca_and_served() {
    let (server, dns) = (Server::start().await, dns().await);
    let ca = TestCa::builder().dns_server(dns.addr()).tls_port(server.address.port()).start().await.unwrap();
    let authority = trusted(&ca.directory_url(), ca.root_pem()).unwrap();
    server.gets_and_serves(authority, &NAMES).await;
}

#[tokio::test]
async fn a_name_and_an_address_are_proved_to_pebble_and_served() {
    let (server, dns) = (Server::start().await, dns().await);
    let ca = Pebble::builder().dns_server(dns.addr()).tls_port(server.address.port()).start().await.unwrap();
    server.gets_and_serves(authority(&ca).unwrap(), &NAMES).await;
}
