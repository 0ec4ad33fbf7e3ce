//! A responder on free loopback ports, and `dig` to ask it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use acmekit_core::stores::MemoryStore;
use acmekit_core::{DnsName, DnsProvider, Store, TxtRecord, Zone};
use acmekit_responder::{Config, Responder};

pub(crate) fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

/// Two zones, one below the other, on one free port each of 127.0.0.1 and ::1.
pub(crate) fn config() -> Config {
    Config::new([name("acme.test"), name("sub.acme.test")], [name("ns.acme.test"), name("ns.example.test")])
        .address(name("ns.acme.test"), [192, 0, 2, 53].into())
        .address(name("ns.acme.test"), "2001:db8::53".parse().unwrap())
        .listen((Ipv4Addr::LOCALHOST, 0).into())
}

#[allow(dead_code, reason = "not every test needs it")]
pub(crate) fn start(config: Config) -> Responder {
    start_on(config, Arc::new(MemoryStore::new()))
}

pub(crate) fn start_on(config: Config, store: Arc<dyn Store>) -> Responder {
    Responder::start(config, store).unwrap_or_else(|error| panic!("{}", error.report()))
}

/// Where it answers in this family.
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) fn address(responder: &Responder, family: IpAddr) -> SocketAddr {
    let of_family = |address: &SocketAddr| address.is_ipv6() == family.is_ipv6();
    responder.udp_addresses().into_iter().find(of_family).unwrap()
}

pub(crate) const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

#[allow(dead_code, reason = "not every test needs it")]
pub(crate) async fn add(responder: &Responder, at: &str, value: &str) {
    let zone = responder.zone(&name(at)).await.unwrap().unwrap();
    responder.add_txt(&zone, &TxtRecord::new(name(at), value)).await.unwrap();
}

#[allow(dead_code, reason = "not every test needs it")]
pub(crate) async fn remove(responder: &Responder, at: &str, value: &str) {
    let zone = Zone::new(name("acme.test"));
    let handle =
        acmekit_core::RecordHandle::intent(acmekit_responder::ID, zone, TxtRecord::new(name(at), value));
    responder.remove_txt(&handle).await.unwrap();
}

/// What `dig` prints when it asks this server.
pub(crate) async fn dig(server: SocketAddr, question: &[&str]) -> String {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let run = tokio::process::Command::new("dig")
        .args(["-r", &at, "-p", &port, "+time=5", "+tries=2"])
        .args(question)
        .kill_on_drop(true)
        .output();
    let output = run.await.unwrap_or_else(|error| panic!("dig (package bind9-dnsutils): {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "dig {question:?}: {text}");
    text
}

/// The TXT values at a name, as the server has them.
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) async fn values(server: SocketAddr, at: &str) -> Vec<String> {
    let text = dig(server, &["+short", at, "TXT"]).await;
    text.lines().map(|line| line.trim_matches('"').to_owned()).collect()
}
