//! Every server starts, answers, can be frozen, and is gone when its value is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::time::Duration;

use acmekit_testbed::{
    Bind, HaProxy, Nginx, Pebble, TestbedError, TsigAlgorithm, TsigKey, handshake, wait_for,
};

const SOON: Duration = Duration::from_secs(10);

async fn gone(pid: u32) {
    let stat = format!("/proc/{pid}");
    wait_for(SOON, "the process is gone", || async { (!Path::new(&stat).exists()).then_some(()) })
        .await
        .unwrap();
}

#[tokio::test]
async fn pebble_answers_freezes_restarts_and_ends() {
    let dns = Bind::builder().zone("example.test").start().await.unwrap();
    let ca = Pebble::builder().dns_server(dns.addr()).alternate_roots(1).start().await.unwrap();
    assert_eq!(ca.issuing_roots_pem().await.unwrap().len(), 2);
    assert_eq!((ca.issued_certificates(), ca.accounts(), ca.orders()), (0, 0, 0));
    ca.freeze().unwrap();
    let asked = tokio::time::timeout(Duration::from_millis(300), ca.management("GET", "/roots/0", "")).await;
    assert!(asked.is_err(), "a frozen Pebble answered");
    ca.thaw().unwrap();
    ca.restart().await.unwrap();
    let pid = ca.pid().unwrap();
    drop(ca);
    gone(pid).await;
}

#[tokio::test]
async fn bind_serves_its_zones_and_transfers_them() {
    let key = TsigKey::random("k.test", TsigAlgorithm::HmacSha512);
    let dns = Bind::builder()
        .zone("example.test")
        .record("_acme-challenge IN TXT \"a b\"")
        .record("www IN CNAME target.other.test.")
        .zone("other.test")
        .record("target IN TXT \"behind\"")
        .key(key)
        .start()
        .await
        .unwrap();
    assert_eq!(dns.query_txt("_acme-challenge.example.test").await.unwrap(), ["a b"]);
    assert!(dns.query_txt("www.example.test").await.unwrap().contains(&"behind".to_owned()));
    assert_eq!(dns.txt_records("other.test").await.unwrap(), [("target.other.test".into(), "behind".into())]);
    let pid = dns.pid().unwrap();
    drop(dns);
    gone(pid).await;
}

#[tokio::test]
async fn haproxy_serves_its_first_certificate_on_every_port() {
    let proxy = HaProxy::builder().name("example.test").bind_lines(3).master().start().await.unwrap();
    for addr in proxy.tls_addrs() {
        assert_eq!(handshake(addr, "example.test").await.unwrap().serial().unwrap(), proxy.initial_serial());
    }
    assert!(proxy.socket_path().exists() && proxy.master_socket_path().exists());
    proxy.reload().unwrap();
    assert!(proxy.is_alive());
    let pid = proxy.pid().unwrap();
    drop(proxy);
    gone(pid).await;
}

#[tokio::test]
async fn nginx_serves_from_files() {
    let nginx = Nginx::builder().name("example.test").start().await.unwrap();
    handshake(nginx.addr(), "example.test").await.unwrap();
    let pid = nginx.pid().unwrap();
    drop(nginx);
    gone(pid).await;
}

#[tokio::test]
async fn a_missing_program_says_what_to_install() {
    let error = Pebble::builder().binary("/nonexistent/pebble").start().await.unwrap_err();
    assert!(matches!(error, TestbedError::MissingBinary { .. }));
    assert!(error.to_string().contains("dev/setup"), "{error}");
}
