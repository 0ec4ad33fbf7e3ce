//! dns-01 end to end: Pebble validates what acmekit has put into BIND.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use acmekit::stores::MemoryStore;
use acmekit::{CertificateSpec, ErrorKind, Pipeline, Store};
use acmekit_scenarios::{Recorder, World, authority, dns01, resolver, timeouts};
use acmekit_testbed::Pebble;

fn spec(names: &[&str]) -> CertificateSpec {
    CertificateSpec::new(names).unwrap()
}

fn pipeline(world: &World, store: Arc<dyn Store>, seen: &Recorder) -> Pipeline {
    let builder = Pipeline::builder(authority(&world.ca).unwrap(), store);
    builder.solver(dns01(&world.dns).unwrap()).observer(seen.observer()).build().unwrap()
}

#[tokio::test]
async fn apex_and_wildcard_in_one_order_leave_a_clean_zone() {
    let world = World::start().await.unwrap();
    let seen = Recorder::default();
    let acme = pipeline(&world, Arc::new(MemoryStore::new()), &seen);
    let issued = acme.obtain(&spec(&["example.test", "*.example.test"])).await.unwrap();
    assert_eq!(issued.bundle.facts().identifiers.len(), 2);
    assert_eq!(seen.count("challenge-presented"), 2, "{:#?}", seen.all());
    assert_eq!(world.leftovers().await.unwrap(), []);
}

#[tokio::test]
async fn a_name_behind_a_cname_is_proved_in_the_other_zone() {
    let world = World::start().await.unwrap();
    let acme = pipeline(&world, Arc::new(MemoryStore::new()), &Recorder::default());
    acme.obtain(&spec(&["alias.example.test", "*.alias.example.test"])).await.unwrap();
    assert_eq!(world.leftovers().await.unwrap(), []);
}

#[tokio::test]
async fn two_orders_for_the_same_name_at_once_end_right() {
    let world = World::start().await.unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let acme = pipeline(&world, store, &Recorder::default());
    let (one, two) = (
        spec(&["www.example.test"]).named("one").unwrap(),
        spec(&["www.example.test"]).named("two").unwrap(),
    );
    let (one, two) = tokio::join!(acme.obtain(&one), acme.obtain(&two));
    assert_ne!(one.unwrap().bundle.facts().serial, two.unwrap().bundle.facts().serial);
    assert_eq!((world.ca.issued_certificates(), world.ca.accounts()), (2, 1));
    assert_eq!(world.leftovers().await.unwrap(), []);
}

#[tokio::test]
async fn half_of_the_nonces_rejected_and_every_authorization_reused() {
    let world = World::with(Pebble::builder().nonce_reject(50).authz_reuse(100)).await.unwrap();
    let acme = pipeline(&world, Arc::new(MemoryStore::new()), &Recorder::default());
    let spec = spec(&["a.example.test", "b.example.test"]);
    acme.obtain(&spec).await.unwrap();
    acme.renew(&spec).await.unwrap();
    assert_eq!(world.ca.issued_certificates(), 2);
    assert_eq!(world.leftovers().await.unwrap(), []);
}

#[tokio::test]
async fn a_name_in_no_zone_is_told_before_anything_is_written() {
    let world = World::start().await.unwrap();
    let acme = pipeline(&world, Arc::new(MemoryStore::new()), &Recorder::default());
    let error = acme.obtain(&spec(&["www.foreign.example"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ZoneNotFound, "{}", error.report());
    assert!(error.to_string().contains("_acme-challenge.www.foreign.example"), "{error}");
    assert_eq!(world.leftovers().await.unwrap(), []);
}

#[tokio::test]
async fn a_validation_that_fails_says_why_and_leaves_nothing() {
    // The CA asks another DNS server than the one acmekit writes to.
    let elsewhere = acmekit_testbed::Bind::builder().zone("example.test").start().await.unwrap();
    let mut world = World::start().await.unwrap();
    world.ca = Pebble::builder().dns_server(elsewhere.addr()).start().await.unwrap();
    let seen = Recorder::default();
    let acme = pipeline(&world, Arc::new(MemoryStore::new()), &seen);
    let error = acme.obtain(&spec(&["a.example.test", "b.example.test"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation, "{}", error.report());
    assert!(error.to_string().contains("example.test by dns-01"), "{error}");
    assert!(error.hint().is_some());
    assert_eq!(world.leftovers().await.unwrap(), []);
    assert_eq!(seen.count("challenge-cleaned"), 2);
}

#[tokio::test]
async fn a_value_that_never_becomes_visible_names_every_server() {
    let world = World::start().await.unwrap();
    // This server serves the zone, but gets no updates.
    let stale = acmekit_testbed::Bind::builder().zone("example.test").start().await.unwrap();
    let both = resolver(&world.dns).unwrap().authoritative([world.dns.addr(), stale.addr()]);
    let solver =
        acmekit::solvers::Dns01::with_resolver(acmekit_scenarios::rfc2136(&world.dns).unwrap(), both);
    let mut short = timeouts();
    short.ready = Duration::from_secs(2);
    let authority = authority(&world.ca).unwrap().with_timeouts(short);
    let acme = Pipeline::builder(authority, Arc::new(MemoryStore::new())).solver(solver).build().unwrap();
    let error = acme.obtain(&spec(&["example.test"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    assert!(error.to_string().contains(&format!("{} has it", world.dns.addr())), "{error}");
    assert!(error.to_string().contains(&format!("{} does not know the name yet", stale.addr())), "{error}");
    assert_eq!(world.leftovers().await.unwrap(), []);
    // A server that is down does not stand in the way of those that agree.
    stale.stop();
    acme.obtain(&spec(&["example.test"])).await.unwrap();
}

#[tokio::test]
async fn a_circle_of_cnames_is_told_with_each_hop() {
    let dns = acmekit_testbed::Bind::builder()
        .zone("example.test")
        .cname("_acme-challenge.example.test", "one.example.test.")
        .cname("one.example.test", "two.example.test.")
        .cname("two.example.test", "one.example.test.")
        .start()
        .await
        .unwrap();
    let name = "_acme-challenge.example.test".parse().unwrap();
    let deadline = acmekit::Deadline::after(Duration::from_secs(10));
    let error = resolver(&dns).unwrap().canonical(&name, deadline).await.unwrap_err();
    assert!(
        error.to_string().contains("one.example.test -> two.example.test -> one.example.test"),
        "{error}"
    );
}

#[tokio::test]
async fn a_frozen_dns_server_costs_a_deadline_that_is_named() {
    let world = World::start().await.unwrap();
    let mut short = timeouts();
    short.present = Duration::from_secs(2);
    let authority = authority(&world.ca).unwrap().with_timeouts(short);
    let acme = Pipeline::builder(authority, Arc::new(MemoryStore::new()))
        .solver(dns01(&world.dns).unwrap())
        .build()
        .unwrap();
    world.dns.freeze().unwrap();
    let error = acme.obtain(&spec(&["example.test"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    world.dns.thaw().unwrap();
    acme.obtain(&spec(&["example.test"])).await.unwrap();
    assert_eq!(world.leftovers().await.unwrap(), []);
}
