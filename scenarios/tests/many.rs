//! Many orders at once, through everything acmekit has, against a CA in this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use acmekit::solvers::Http01;
use acmekit::stores::MemoryStore;
use acmekit::{CertificateSpec, Pipeline};
use acmekit_scenarios::{Recorder, trusted};
use acmekit_server::{Endpoint, TestCa};
use acmekit_testbed::free_port;
use futures_util::{StreamExt, stream};

const ORDERS: usize = 2000;
const AT_ONCE: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_orders_32_at_a_time_are_all_issued() {
    let port = free_port().unwrap();
    let ca = TestCa::builder().http_port(port.number()).start().await.unwrap();
    let authority = trusted(&ca.directory_url(), ca.root_pem()).unwrap();
    let seen = Recorder::default();
    let pipeline = Pipeline::builder(authority, Arc::new(MemoryStore::new()))
        .solver(Http01::standalone(SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()))))
        .observer(seen.observer())
        .build()
        .unwrap();

    let begun = tokio::time::Instant::now();
    let serials: Vec<String> = stream::iter(0..ORDERS)
        .map(async |number| {
            let spec = CertificateSpec::new([format!("n{number}.example.test")]).unwrap();
            let issued = tokio::time::timeout(Duration::from_secs(60), pipeline.obtain(&spec)).await;
            let issued = issued.unwrap_or_else(|_| panic!("order {number} is frozen")).unwrap();
            assert!(issued.fresh);
            issued.bundle.facts().serial.clone()
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let took = begun.elapsed();

    let different: std::collections::HashSet<&String> = serials.iter().collect();
    assert_eq!(different.len(), ORDERS, "one certificate each");
    assert_eq!(ca.certificates_issued(), ORDERS as u64, "none ordered twice");
    assert_eq!(ca.requests(Endpoint::NewAccount), 1);
    assert_eq!(seen.count("challenge-cleaned"), ORDERS);
    let requests: u64 = Endpoint::ALL.iter().map(|endpoint| ca.requests(*endpoint)).sum();
    eprintln!(
        "{ORDERS} orders, {AT_ONCE} at a time: {took:.1?}, {:.0} a second; {:.1} requests each; the CA was busy {:.1?}, summed over requests",
        ORDERS as f64 / took.as_secs_f64(),
        requests as f64 / ORDERS as f64,
        ca.time_spent(),
    );
}
