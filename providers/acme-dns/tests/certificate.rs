//! A certificate for apex and wildcard behind a CNAME, from a CA that asks the DNS server behind the fake.

mod fake;

use std::sync::Arc;

use acmekit_core::dns::Resolver;
use acmekit_core::solvers::Dns01;
use acmekit_core::stores::MemoryStore;
use acmekit_core::{Authority, CertificateSpec, ErrorKind, Pipeline, Store};
use acmekit_server::TestCa;
use acmekit_testbed::Bind;

use self::fake::{Fake, ZONE};

#[tokio::test]
async fn the_first_run_tells_the_record_to_set_and_the_next_ones_have_certificates() {
    let bind = Arc::new(Bind::builder().zone("example.test").zone(ZONE).start().await.unwrap());
    let ca = TestCa::builder().dns_server(bind.addr()).start().await.unwrap();
    let fake = Fake::before(Arc::clone(&bind)).await;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let resolver = Resolver::new([bind.addr()]).unwrap().authoritative_port(bind.addr().port());
    let authority = Authority::custom(&ca.directory_url()).unwrap();
    let authority = authority.extra_roots_pem(ca.root_pem()).unwrap().agree_to_terms();
    let pipeline = Pipeline::builder(authority, Arc::clone(&store))
        .solver(Dns01::with_resolver(fake.provider(&store), resolver))
        .build()
        .unwrap();
    let spec = CertificateSpec::new(["example.test", "*.example.test"]).unwrap();

    let error = pipeline.obtain(&spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
    let hint = error.hint().unwrap();
    let record = hint.split_once("then run again: ").unwrap().1.to_owned();
    assert!(record.starts_with("_acme-challenge.example.test. CNAME 8e5700ea-"), "{hint}");
    assert_eq!((fake.api.count("POST /register"), fake.api.count("POST /update")), (1, 0));

    let line = format!("add {}", record.replace(" CNAME ", " 1 CNAME "));
    bind.update(bind.tsig(), "example.test", &line).await.unwrap();
    let issued = pipeline.obtain(&spec).await.unwrap();
    assert_eq!(issued.bundle.facts().identifiers.len(), 2);
    // The two values stay, as nobody can remove them; but they are no longer needed.
    assert_eq!(bind.txt_records(ZONE).await.unwrap().len(), 2);
    let renewed = pipeline.renew(&spec).await.unwrap();
    assert_ne!(renewed.bundle.facts().serial, issued.bundle.facts().serial);
    assert_eq!(bind.txt_records(ZONE).await.unwrap().len(), 2);
    assert_eq!(fake.api.count("POST /register"), 1);
}
