//! The kinds of challenges that are still drafts, end to end: a CA validates what stands in BIND.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use acmekit::solvers::DnsPersist01;
use acmekit::stores::MemoryStore;
use acmekit::{Authority, CertificateSpec, ChallengeKind, ChallengeSolver, Error, ErrorKind, Pipeline};
use acmekit_scenarios::{Recorder, World, authority, dns01, resolver, trusted};
use acmekit_server::TestCa;
use acmekit_testbed::Bind;

fn pipeline(authority: Authority, solver: impl ChallengeSolver + 'static, seen: &Recorder) -> Pipeline {
    Pipeline::builder(authority, Arc::new(MemoryStore::new()))
        .solver(solver)
        .observer(seen.observer())
        .build()
        .unwrap()
}

fn apex_and_wildcard() -> CertificateSpec {
    CertificateSpec::new(["example.test", "*.example.test"]).unwrap()
}

async fn by_a_label_of_the_account(authority: Authority, dns: &Bind) {
    let seen = Recorder::default();
    let acme = pipeline(authority, dns01(dns).unwrap().for_account(), &seen);
    let issued = acme.obtain(&apex_and_wildcard()).await.unwrap();
    assert_eq!(issued.bundle.facts().identifiers.len(), 2);
    let presented = seen.all().into_iter().filter(|event| event.contains("challenge-presented"));
    let presented: Vec<_> = presented.collect();
    assert!(
        presented.len() == 2 && presented.iter().all(|event| event.contains("dns-account-01")),
        "{presented:?}"
    );
    assert_eq!(dns.txt_records("example.test").await.unwrap(), []);
}

fn told(error: &Error) -> String {
    format!("{} {}", error.report(), error.hint().unwrap_or_default())
}

async fn by_records_that_stand(authority: Authority, dns: &Bind) {
    let seen = Recorder::default();
    let acme = pipeline(authority, DnsPersist01::with_resolver(resolver(dns).unwrap()), &seen);
    let spec = apex_and_wildcard();
    let [record] = &acme.standing_records(&spec).await.unwrap()[..] else { panic!("one for both names") };

    // Without it the CA is told nothing, and the error has the line to set.
    let error = acme.obtain(&spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.report());
    assert!(told(&error).contains("set this record: _validation-persist.example.test. "), "{}", told(&error));
    // One that is not for the wildcard is told, too.
    let mut narrow = record.clone();
    narrow.wildcard = false;
    dns.add_txt("example.test", "_validation-persist.example.test", &narrow.value()).await.unwrap();
    let error = acme.obtain(&spec).await.unwrap_err();
    assert!(told(&error).contains("policy=wildcard"), "{}", told(&error));

    dns.add_txt("example.test", "_validation-persist.example.test", &record.value()).await.unwrap();
    let issued = acme.obtain(&spec).await.unwrap();
    assert_eq!(issued.bundle.facts().identifiers.len(), 2);
    // It stays, for the next time; and nothing else was put there.
    acme.renew(&spec).await.unwrap();
    let stands = dns.txt_records("example.test").await.unwrap();
    assert_eq!(stands.len(), 2, "{stands:?}");
    assert!(stands.iter().all(|(name, _)| name == "_validation-persist.example.test"), "{stands:?}");
    assert!(seen.all().iter().all(|event| !event.contains("order-failed")), "{:#?}", seen.all());
}

async fn test_ca(dns: &Bind) -> (TestCa, Authority) {
    let ca = TestCa::builder().dns_server(dns.addr()).start().await.unwrap();
    let authority = trusted(&ca.directory_url(), ca.root_pem()).unwrap();
    (ca, authority)
}

#[tokio::test]
async fn a_record_below_the_label_of_the_account_proves_a_name() {
    let dns = Bind::start().await.unwrap();
    let (_ca, authority) = test_ca(&dns).await;
    by_a_label_of_the_account(authority, &dns).await;
}

#[tokio::test]
async fn a_record_that_stands_proves_a_name_and_stays() {
    let dns = Bind::start().await.unwrap();
    let (_ca, authority) = test_ca(&dns).await;
    by_records_that_stand(authority, &dns).await;
}

/// An older Pebble offers no such challenges: then there is nothing to be seen.
fn offers_drafts(world: &World) -> bool {
    !world.ca.offers_profiles().is_empty()
}

#[tokio::test]
async fn pebble_believes_a_record_below_the_label_of_the_account() {
    let world = World::start().await.unwrap();
    if offers_drafts(&world) {
        by_a_label_of_the_account(authority(&world.ca).unwrap(), &world.dns).await;
    }
}

#[tokio::test]
async fn pebble_believes_a_record_that_stands() {
    let world = World::start().await.unwrap();
    if offers_drafts(&world) {
        by_records_that_stand(authority(&world.ca).unwrap(), &world.dns).await;
    }
}

#[tokio::test]
async fn of_two_ways_the_one_that_can_is_taken() {
    let dns = Bind::start().await.unwrap();
    let (_ca, authority) = test_ca(&dns).await;
    let acme = Pipeline::builder(authority, Arc::new(MemoryStore::new()))
        .solver(DnsPersist01::with_resolver(resolver(&dns).unwrap()))
        .solver(dns01(&dns).unwrap())
        .build()
        .unwrap();
    // No record stands, so dns-01 has to do; who insists is refused.
    acme.obtain(&apex_and_wildcard()).await.unwrap();
    let insisting =
        CertificateSpec::new(["www.example.test"]).unwrap().challenge(ChallengeKind::DnsPersist01);
    assert_eq!(acme.obtain(&insisting).await.unwrap_err().kind(), ErrorKind::NotFound);
}
