//! From listening to the end, and several processes on one store.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use acmekit_core::stores::{FileStore, MemoryStore};
use acmekit_core::{DnsProvider, ErrorKind, RecordHandle, Store, TxtRecord, Zone};
use acmekit_responder::{Config, Responder, Sockets};
use acmekit_testbed::wait_for;
use tokio::net::TcpStream;

use self::common::{V4, add, address, config, name, remove, start, start_on, values};

const AT: &str = "_acme-challenge.www.acme.test";

fn is_free(address: SocketAddr) -> bool {
    UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
}

#[tokio::test]
async fn shutdown_frees_the_port_though_clients_are_connected() {
    let responder = start(config());
    let server = address(&responder, V4);
    let mut client = TcpStream::connect(server).await.unwrap();
    assert!(!is_free(server));
    responder.clone().shutdown().await;
    assert!(UdpSocket::bind(server).is_ok());
    assert!(TcpStream::connect(server).await.is_err(), "nobody listens");
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut client, &mut rest).await.ok();
    assert!(responder.udp_addresses().is_empty());
    responder.shutdown().await;
    // And it can begin anew.
    responder.listen().unwrap();
    responder.listen().unwrap();
    assert!(!responder.udp_addresses().is_empty());
}

#[tokio::test]
async fn dropping_the_last_clone_frees_the_port() {
    let responder = start(config());
    let server = address(&responder, V4);
    let clone = responder.clone();
    drop(responder);
    assert!(!is_free(server), "a clone is left");
    drop(clone);
    let freed = wait_for(Duration::from_secs(10), "the port is free", || {
        std::future::ready(is_free(server).then_some(()))
    });
    freed.await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_what_to_do() {
    let first = start(config());
    let taken = address(&first, V4);
    let mut second = config();
    second.listen = vec![taken];
    let error = Responder::start(second, Arc::new(MemoryStore::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    assert!(error.hint().unwrap().contains("another program has it"), "{}", error.report());
    let mut foreign = config();
    foreign.listen = vec!["192.0.2.1:0".parse().unwrap()];
    let error = Responder::start(foreign, Arc::new(MemoryStore::new())).unwrap_err();
    assert!(error.hint().unwrap().contains("of this machine"), "{}", error.report());
    let nowhere = Config::new([name("acme.test")], [name("ns.example.test")]);
    let error = Responder::start(nowhere, Arc::new(MemoryStore::new())).unwrap_err();
    assert!(error.to_string().contains("field=listen"), "{error}");
}

#[test]
fn without_a_runtime_it_says_so() {
    let error = Responder::start(config(), Arc::new(MemoryStore::new())).unwrap_err();
    assert!(error.to_string().contains("tokio runtime"), "{error}");
}

#[tokio::test]
async fn sockets_can_be_handed_over() {
    let mut config = config();
    config.listen.clear();
    let responder = Responder::new(config, Arc::new(MemoryStore::new())).unwrap();
    // A port that is free for one may be taken for the other.
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            break (udp, tcp);
        }
    };
    responder.listen_on(Sockets::default().udp(udp).tcp(tcp)).unwrap();
    add(&responder, AT, "value").await;
    assert_eq!(values(address(&responder, V4), AT).await, ["value"]);
    let error = responder.listen_on(Sockets::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn what_one_process_adds_the_other_answers() {
    let folder = tempfile::tempdir().unwrap();
    let mut both = Vec::new();
    for _ in 0..2 {
        let store = FileStore::open(folder.path().join("acme")).await.unwrap();
        both.push(start_on(config(), Arc::new(store)));
    }
    let (one, other) = (&both[0], address(&both[1], V4));
    // It has just looked, and has found nothing.
    assert!(values(other, AT).await.is_empty());
    add(one, AT, "value").await;
    assert_eq!(values(address(one, V4), AT).await, ["value"], "its own at once");
    let soon = Duration::from_secs(5);
    let shown =
        wait_for(soon, "the other has it", || async { (values(other, AT).await == ["value"]).then_some(()) });
    shown.await.unwrap();
    remove(&both[1], AT, "value").await;
    assert!(values(other, AT).await.is_empty(), "its own removal at once");
    let gone = wait_for(soon, "the first has it no more", || async {
        values(address(one, V4), AT).await.is_empty().then_some(())
    });
    gone.await.unwrap();
}

#[tokio::test]
async fn values_outlive_the_process_and_its_successor_removes_them() {
    let folder = tempfile::tempdir().unwrap();
    let open = || FileStore::open(folder.path().join("acme"));
    let first = start_on(config(), Arc::new(open().await.unwrap()));
    add(&first, AT, "value").await;
    first.shutdown().await;
    drop(first);
    let store: Arc<dyn Store> = Arc::new(open().await.unwrap());
    let second = start_on(config(), Arc::clone(&store));
    assert_eq!(values(address(&second, V4), AT).await, ["value"]);
    remove(&second, AT, "value").await;
    assert_eq!(store.list(&"responder".parse().unwrap()).await.unwrap(), []);
}

#[tokio::test]
async fn what_cannot_be_answered_is_not_added() {
    let responder = start(config());
    let zone = Zone::new(name("example.test"));
    let foreign = TxtRecord::new(name("www.example.test"), "value");
    let error = responder.add_txt(&zone, &foreign).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.report());
    let long = TxtRecord::new(name(AT), "x".repeat(256));
    let error = responder.add_txt(&zone, &long).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
    // A zone that was taken out of the configuration can be cleaned up all the same.
    responder.remove_txt(&RecordHandle::intent("responder", zone, foreign)).await.unwrap();
}
