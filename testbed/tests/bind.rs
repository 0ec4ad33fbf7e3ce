//! BIND serves its zones, takes signed updates and refuses others.

mod common;

use std::time::Duration;

use acmekit_testbed::{Bind, TsigAlgorithm, wait_for};
use common::is_gone;

#[tokio::test]
async fn serves_zones_and_ends_on_drop() {
    let dns = Bind::builder().zone("example.test").zone("other.test").start().await.unwrap();
    assert_eq!(dns.zones(), ["example.test", "other.test"]);
    let records = dns.transfer("example.test").await.unwrap();
    assert_eq!(records.len(), 3, "{records:?}");
    assert!(records.iter().any(|record| record == "ns1.example.test. 1 IN A 127.0.0.1"), "{records:?}");
    assert!(dns.version().await.unwrap().starts_with('9'));
    let pid = dns.pid().unwrap();
    drop(dns);
    assert!(is_gone(pid));
}

#[tokio::test]
async fn updates_are_seen_by_transfer_and_by_query() {
    for algorithm in [TsigAlgorithm::HmacSha256, TsigAlgorithm::HmacSha384, TsigAlgorithm::HmacSha512] {
        let dns = Bind::builder().zone("example.test").tsig_algorithm(algorithm).start().await.unwrap();
        assert_eq!(dns.tsig_algorithm(), algorithm);
        dns.add_txt("example.test", "_acme-challenge.example.test", "one value").await.unwrap();
        dns.add_txt("example.test", "_acme-challenge.example.test", "two").await.unwrap();
        let name = "_acme-challenge.example.test".to_owned();
        let mut found = dns.txt_records("example.test").await.unwrap();
        found.sort();
        assert_eq!(found, [(name.clone(), "one value".to_owned()), (name.clone(), "two".to_owned())]);
        assert_eq!(dns.query_txt(&name).await.unwrap().len(), 2);
        dns.restart().await.unwrap();
        assert_eq!(dns.txt_records("example.test").await.unwrap().len(), 2, "updates survive a restart");
    }
}

#[tokio::test]
async fn follows_a_cname_into_another_zone() {
    let dns = Bind::builder()
        .zone("example.test")
        .zone("sub.example.test")
        .zone("other.test")
        .cname("_acme-challenge.www.example.test", "www.other.test")
        .loopback("www.example.test")
        .record("deep.sub.example.test. 1 IN TXT \"in the\" \"inner zone\"")
        .start()
        .await
        .unwrap();
    dns.add_txt("other.test", "www.other.test.", "delegated").await.unwrap();
    assert_eq!(dns.query_txt("_acme-challenge.www.example.test").await.unwrap(), ["delegated"]);
    assert_eq!(dns.query_txt("deep.sub.example.test").await.unwrap(), ["in theinner zone"]);
    assert_eq!(
        dns.query_txt("www.elsewhere.invalid").await.unwrap(),
        [""; 0],
        "answered from the own root zone"
    );
}

#[tokio::test]
async fn a_narrow_key_is_refused_elsewhere() {
    let dns = Bind::builder()
        .zone("example.test")
        .add_key("only-www", "example.test", "name _acme-challenge.www.example.test. TXT")
        .start()
        .await
        .unwrap();
    let key = dns.key("only-www").unwrap();
    dns.update(key, "example.test", "add _acme-challenge.www.example.test. 1 TXT yes").await.unwrap();
    let refused =
        dns.update(key, "example.test", "add _acme-challenge.example.test. 1 TXT no").await.unwrap_err();
    assert!(refused.to_string().contains("REFUSED"), "{refused}");
    assert!(dns.transfer_with(key, "example.test").await.is_err());
    assert_eq!(dns.txt_records("example.test").await.unwrap().len(), 1);
}

#[tokio::test]
async fn two_run_side_by_side_and_freeze_alone() {
    let (one, two) = (Bind::start().await.unwrap(), Bind::start().await.unwrap());
    assert_ne!(one.addr(), two.addr());
    assert_ne!(one.tsig_secret_base64(), two.tsig_secret_base64());
    one.freeze().unwrap();
    let asked = tokio::time::timeout(Duration::from_millis(300), one.query_txt("example.test")).await;
    assert!(asked.is_err(), "{asked:?}");
    two.transfer("example.test").await.unwrap();
    one.thaw().unwrap();
    one.transfer("example.test").await.unwrap();
    assert_eq!(one.tsig_name(), one.tsig().name());
}

#[tokio::test]
async fn a_record_outside_the_zones_is_an_error() {
    let error = Bind::builder().zone("example.test").loopback("www.other.test").start().await.unwrap_err();
    assert!(error.to_string().contains("www.other.test"), "{error}");
}

#[tokio::test]
async fn a_missing_program_says_what_to_install() {
    let error = Bind::builder().binary("/nowhere/named").start().await.unwrap_err().to_string();
    assert!(error.contains("dev/setup") && error.contains("bind9"), "{error}");
}

#[tokio::test]
async fn a_secondary_that_is_not_notified_has_the_news_after_its_refresh() {
    let primary = Bind::builder()
        .zone("example.test")
        .refresh(Duration::from_secs(2))
        .record("example.test. 1 IN NS ns2.example.test.")
        .record("ns2.example.test. 1 IN AAAA ::1")
        .start()
        .await
        .unwrap();
    let secondary = primary.secondary().authoritative_only().start().await.unwrap();
    assert_eq!(secondary.addr().port(), primary.addr().port());
    assert_eq!(
        secondary.transfer("example.test").await.unwrap(),
        primary.transfer("example.test").await.unwrap()
    );
    primary.add_txt("example.test", "news.example.test", "value").await.unwrap();
    wait_for(Duration::from_secs(20), "the secondary has the news", || async {
        (secondary.query_txt("news.example.test").await.unwrap() == ["value"]).then_some(())
    })
    .await
    .unwrap();
    assert!(!secondary.log().contains("received notify"), "{}", secondary.log());
    // What it does not serve, it refuses, though the one beside it answers.
    assert_eq!(secondary.query_txt("elsewhere.test").await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_server_on_ipv6_listens_nowhere_else() {
    let dns = Bind::builder().zone("example.test").on_ipv6().start().await.unwrap();
    assert_eq!(dns.addr().ip(), std::net::Ipv6Addr::LOCALHOST);
    dns.add_txt("example.test", "www.example.test", "value").await.unwrap();
    assert_eq!(dns.query_txt("www.example.test").await.unwrap(), ["value"]);
    assert!(std::net::TcpStream::connect(("127.0.0.1", dns.addr().port())).is_err());
}
