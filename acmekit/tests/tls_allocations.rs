//! A handshake costs no memory in the resolver, however many certificates there are.

#![cfg(feature = "rustls")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use acmekit::tls::CertResolver;
use acmekit_conformance::test_bundle;
use rustls::pki_types::ServerName;
use rustls::server::{Accepted, Acceptor, ResolvesServerCert};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as crypto;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use rustls::crypto::ring as crypto;

/// What a client says first, as a server has it.
fn hello(name: &str) -> Accepted {
    let provider = Arc::new(crypto::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut said = Vec::new();
    ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut said).unwrap();
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut said.as_slice()).unwrap();
    acceptor.accept().ok().flatten().unwrap()
}

#[test]
fn a_lookup_allocates_nothing() {
    let resolver = CertResolver::new();
    for at in 0..50 {
        resolver.serve(&test_bundle(&[&format!("c{at}.test"), &format!("*.c{at}.test")]).unwrap()).unwrap();
    }
    resolver.serve(&test_bundle(&["127.0.0.1"]).unwrap()).unwrap();
    for (name, found) in [
        ("c7.test", true),
        ("www.c7.test", true),
        ("deep.www.c7.test", false),
        ("www.other.test", false),
        ("127.0.0.1", true),
    ] {
        let hello = hello(name);
        // What a thread sets up for itself once is no part of it.
        assert_eq!(resolver.resolve(hello.client_hello()).is_some(), found, "{name}");
        let counted = allocation_counter::measure(|| drop(resolver.resolve(hello.client_hello())));
        assert_eq!(counted.count_total, 0, "{name}: {counted:?}");
    }
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(Box::new([1; 64]))));
    assert!(counted.count_total > 0, "the counter counts");
}
