//! A certificate for apex and wildcard, from a CA that asks a DNS server for what moto has.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use acmekit_core::dns::Resolver;
use acmekit_core::solvers::Dns01;
use acmekit_core::stores::MemoryStore;
use acmekit_core::{Authority, CertificateSpec, Pipeline};
use acmekit_route53::{Config, Credential, Route53};
use acmekit_server::TestCa;
use acmekit_testbed::{Bind, Moto, MotoRecords};
use tokio::task::JoinSet;

const NAME: &str = "_acme-challenge.example.test";

/// moto has no name servers. This plays Route 53's: what moto has at the name, a moment later they have.
async fn name_servers(moto: Arc<Moto>, zone: String, bind: Arc<Bind>) {
    let mut served: Vec<MotoRecords> = Vec::new();
    loop {
        let there = moto.records(&zone).await.unwrap();
        if there != served {
            let mut update = format!("delete {NAME}. TXT");
            for value in there.iter().filter(|it| it.name == format!("{NAME}.")).flat_map(|it| &it.values) {
                update.push_str(&format!("\nadd {NAME}. 1 TXT {value}"));
            }
            bind.update(bind.tsig(), "example.test", &update).await.unwrap();
            served = there;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn apex_and_wildcard_are_proved_and_nothing_is_left() {
    let bind = Arc::new(Bind::builder().zone("example.test").start().await.unwrap());
    let ca = TestCa::builder().dns_server(bind.addr()).start().await.unwrap();
    let moto = Arc::new(Moto::start().await.unwrap());
    let zone = moto.create_zone("example.test", false).await.unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(name_servers(Arc::clone(&moto), zone.clone(), Arc::clone(&bind)));

    let provider = Route53::new(
        Config::new(Credential::keys("AKIAIOSFODNN7EXAMPLE", "s3cret")).with_endpoint(moto.url()),
    )
    .unwrap();
    let resolver = Resolver::new([bind.addr()]).unwrap().authoritative_port(bind.addr().port());
    let authority = Authority::custom(&ca.directory_url()).unwrap();
    let authority = authority.extra_roots_pem(ca.root_pem()).unwrap().agree_to_terms();
    let pipeline = Pipeline::builder(authority, Arc::new(MemoryStore::new()))
        .solver(Dns01::with_resolver(provider, resolver))
        .build()
        .unwrap();
    let spec = CertificateSpec::new(["example.test", "*.example.test"]).unwrap();
    let issued = pipeline.obtain(&spec).await.unwrap();
    assert_eq!(issued.bundle.facts().identifiers.len(), 2);
    assert_eq!(moto.records(&zone).await.unwrap(), []);
    let log = moto.log();
    assert!(log.matches("POST /2013-04-01/hostedzone/").count() >= 4, "two came and two went: {log}");
}
