//! http-01 end to end: Pebble fetches what acmekit serves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use acmekit::solvers::Http01;
use acmekit::stores::MemoryStore;
use acmekit::{CertificateSpec, ErrorKind, Identifier, Pipeline};
use acmekit_scenarios::{Recorder, authority, dns01};
use acmekit_testbed::{Bind, Pebble};

async fn servers() -> (Bind, Pebble) {
    let dns = Bind::builder().zone("example.test").loopback("www.example.test").start().await.unwrap();
    let ca = Pebble::builder().dns_server(dns.addr()).start().await.unwrap();
    (dns, ca)
}

fn port_of(ca: &Pebble) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, ca.http_port()).into()
}

#[tokio::test]
async fn a_name_is_proved_by_a_standalone_server_that_ends_afterwards() {
    let (_dns, ca) = servers().await;
    let acme = Pipeline::builder(authority(&ca).unwrap(), Arc::new(MemoryStore::new()))
        .solver(Http01::standalone(port_of(&ca)))
        .build()
        .unwrap();
    acme.obtain(&CertificateSpec::new(["www.example.test"]).unwrap()).await.unwrap();
    assert!(tokio::net::TcpStream::connect(port_of(&ca)).await.is_err(), "the responder still listens");
}

#[tokio::test]
async fn a_wildcard_by_dns_and_an_address_by_http_in_one_order() {
    let (dns, ca) = servers().await;
    let seen = Recorder::default();
    let acme = Pipeline::builder(authority(&ca).unwrap(), Arc::new(MemoryStore::new()))
        .solver(Http01::standalone(port_of(&ca)))
        .solver(dns01(&dns).unwrap())
        .observer(seen.observer())
        .build()
        .unwrap();
    let spec = CertificateSpec::new(["*.example.test", "127.0.0.1"]).unwrap();
    let issued = acme.obtain(&spec).await.unwrap();
    let address: Identifier = "127.0.0.1".parse().unwrap();
    assert!(issued.bundle.facts().identifiers.contains(&address));
    assert_eq!(seen.count("challenge-cleaned"), 2);
    assert_eq!(dns.txt_records("example.test").await.unwrap(), []);
}

#[tokio::test]
async fn a_port_in_use_is_told_before_the_ca_is() {
    let (_dns, ca) = servers().await;
    let _taken = tokio::net::TcpListener::bind(port_of(&ca)).await.unwrap();
    let acme = Pipeline::builder(authority(&ca).unwrap(), Arc::new(MemoryStore::new()))
        .solver(Http01::standalone(port_of(&ca)))
        .build()
        .unwrap();
    let error = acme.obtain(&CertificateSpec::new(["www.example.test"]).unwrap()).await.unwrap_err();
    assert_ne!(error.kind(), ErrorKind::Validation, "the CA was told: {}", error.report());
    assert!(error.to_string().contains(&port_of(&ca).to_string()), "{error}");
}

#[cfg(feature = "rsa")]
#[tokio::test]
async fn an_rsa_key_is_certified() {
    let (_dns, ca) = servers().await;
    let acme = Pipeline::builder(authority(&ca).unwrap(), Arc::new(MemoryStore::new()))
        .solver(Http01::standalone(port_of(&ca)))
        .build()
        .unwrap();
    let spec = CertificateSpec::new(["www.example.test"]).unwrap().key_type(acmekit::KeyType::Rsa2048);
    let issued = acme.obtain(&spec).await.unwrap();
    // A SubjectPublicKeyInfo of 2048 bits RSA is 294 octets; one of P-256 is 91.
    assert_eq!(issued.bundle.public_key_info().len(), 294);
}
