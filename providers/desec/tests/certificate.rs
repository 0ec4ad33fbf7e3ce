//! A certificate for apex and wildcard, from a CA that asks the DNS server behind the fake.

mod fake;

use std::sync::Arc;

use acmekit_core::dns::Resolver;
use acmekit_core::solvers::Dns01;
use acmekit_core::stores::MemoryStore;
use acmekit_core::{Authority, CertificateSpec, Pipeline};
use acmekit_server::TestCa;
use acmekit_testbed::Bind;

use self::fake::Fake;

#[tokio::test]
async fn apex_and_wildcard_are_proved_and_nothing_is_left() {
    let bind = Arc::new(Bind::builder().zone("example.test").start().await.unwrap());
    let ca = TestCa::builder().dns_server(bind.addr()).start().await.unwrap();
    let fake = Fake::before(Arc::clone(&bind)).await;
    let resolver = Resolver::new([bind.addr()]).unwrap().authoritative_port(bind.addr().port());
    let authority = Authority::custom(&ca.directory_url()).unwrap();
    let authority = authority.extra_roots_pem(ca.root_pem()).unwrap().agree_to_terms();
    let pipeline = Pipeline::builder(authority, Arc::new(MemoryStore::new()))
        .solver(Dns01::with_resolver(fake.provider(), resolver))
        .build()
        .unwrap();
    let spec = CertificateSpec::new(["example.test", "*.example.test"]).unwrap();
    let issued = pipeline.obtain(&spec).await.unwrap();
    assert_eq!(issued.bundle.facts().identifiers.len(), 2);
    // One is made, the other put beside it; one is taken from beside the other, the last with the RRset.
    let one = "/domains/example.test/rrsets/_acme-challenge/TXT/";
    for (write, times) in [
        ("POST /domains/example.test/rrsets/".to_owned(), 1),
        (format!("PATCH {one}"), 2),
        (format!("DELETE {one}"), 1),
    ] {
        assert_eq!(fake.count(&write), times, "{write}");
    }
    assert!(fake.change(|inner| inner.rrsets.is_empty()));
    assert_eq!(bind.txt_records("example.test").await.unwrap(), []);
}
