//! Pebble starts, answers, freezes, forgets and ends.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use acmekit_testbed::{Pebble, TestbedError, serial_of};
use common::is_gone;
use tokio::task::JoinSet;

#[tokio::test]
async fn answers_and_ends_on_drop() {
    let ca = Pebble::start().await.unwrap();
    let pid = ca.pid().unwrap();
    assert!(ca.directory_url().starts_with("https://127.0.0.1:"));
    assert!(ca.root_pem().contains("BEGIN CERTIFICATE"));
    assert_eq!(ca.issuing_roots_pem().await.unwrap().len(), 1);
    assert_eq!((ca.accounts(), ca.orders(), ca.issued_certificates()), (0, 0, 0));
    assert!(ca.requests("/dir") >= 1);
    assert!(ca.version().await.contains('.'), "{}", ca.version().await);
    drop(ca);
    assert!(is_gone(pid));
}

#[tokio::test]
async fn knobs_reach_the_server() {
    let ca = Pebble::builder()
        .nonce_reject(15)
        .authz_reuse(20)
        .alternate_roots(2)
        .chain_length(2)
        .eab("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W")
        .dns_server(([127, 0, 0, 1], 5353).into())
        .strict(true)
        .retry_after(Duration::from_secs(7))
        .profile("short", Duration::from_secs(3_600))
        .start()
        .await
        .unwrap();
    assert_eq!(ca.issuing_roots_pem().await.unwrap().len(), 3);
    for line in ["reject 15% of good nonces", "20% of the time", "127.0.0.1:5353"] {
        assert!(ca.log().contains(line), "{line}: {}", ca.log());
    }
    let profiles = ca.offers_profiles();
    assert!(profiles.is_empty() || profiles == ["short"], "{profiles:?}");
}

#[tokio::test]
async fn frozen_it_accepts_and_says_nothing() {
    let ca = Pebble::start().await.unwrap();
    ca.freeze().unwrap();
    let asked = tokio::time::timeout(Duration::from_millis(300), ca.management("GET", "/roots/0", "")).await;
    assert!(asked.is_err(), "{asked:?}");
    ca.thaw().unwrap();
    assert_eq!(ca.management("GET", "/roots/0", "").await.unwrap().status, 200);
    ca.freeze().unwrap();
    let pid = ca.pid().unwrap();
    drop(ca);
    assert!(is_gone(pid), "a frozen server ends too");
}

#[tokio::test]
async fn restarting_keeps_the_address_and_forgets_the_roots() {
    let ca = Pebble::start().await.unwrap();
    let (url, roots) = (ca.directory_url(), ca.issuing_roots_pem().await.unwrap());
    ca.stop();
    assert!(ca.management("GET", "/roots/0", "").await.is_err());
    ca.restart().await.unwrap();
    assert_eq!(ca.directory_url(), url);
    assert_ne!(ca.issuing_roots_pem().await.unwrap(), roots);
}

#[tokio::test]
async fn a_missing_program_says_what_to_install() {
    let error = Pebble::builder().binary("/nowhere/pebble").start().await.unwrap_err();
    assert!(matches!(error, TestbedError::MissingBinary { .. }));
    let said = error.to_string();
    assert!(
        said.contains("/nowhere/pebble") && said.contains("dev/setup") && said.contains("package"),
        "{said}"
    );
}

#[tokio::test]
async fn a_program_that_ends_at_once_shows_what_it_wrote() {
    let error = Pebble::builder().binary("/bin/ls").start().await.unwrap_err();
    let TestbedError::Exited { log, .. } = &error else { panic!("{error}") };
    assert!(log.contains("pebble.json"), "{log}");
}

#[tokio::test]
async fn ten_start_at_once() {
    let mut starting: JoinSet<_> = (0..10).map(|_| Pebble::start()).collect();
    let mut running = Vec::new();
    while let Some(started) = starting.join_next().await {
        running.push(started.unwrap().unwrap());
    }
    let urls: BTreeSet<String> = running.iter().map(Pebble::directory_url).collect();
    assert_eq!(urls.len(), 10);
}

#[test]
fn a_serial_of_garbage_is_an_error() {
    assert!(serial_of(b"garbage").is_err());
}
