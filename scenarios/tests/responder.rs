//! dns-01 without a vendor, end to end: BIND follows a delegation to the DNS server inside acmekit, and Pebble, which
//! asks BIND, believes what it says.
//!
//! An NS record has no port: the responder is at port 53, of a loopback address of its own. Without the right to bind
//! it these tests fail, and say so.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use acmekit::dns::Resolver;
use acmekit::responder::{Config, Responder};
use acmekit::solvers::Dns01;
use acmekit::stores::{FileStore, MemoryStore};
use acmekit::{CertificateSpec, DnsName, Pipeline, Store};
use acmekit_scenarios::{Recorder, authority};
use acmekit_testbed::{Bind, BindBuilder, Pebble, free_loopback, wait_for};

/// The zones of the responder, and the name of the server they are delegated to.
const ZONES: [&str; 2] = ["_acme-challenge.example.test", "acme.example.test"];
const SERVER: &str = "ns.acme.example.test";

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

/// `example.test`, with both zones delegated to these addresses, and one challenge's name an alias.
fn delegating(servers: &[Ipv4Addr]) -> BindBuilder {
    let bind = Bind::builder().zone("example.test");
    let bind = ZONES.iter().fold(bind, |bind, zone| bind.record(&format!("{zone}. 1 IN NS {SERVER}.")));
    let glue = |bind: BindBuilder, ip: &Ipv4Addr| bind.record(&format!("{SERVER}. 1 IN A {ip}"));
    servers.iter().fold(bind, glue).cname("_acme-challenge.www.example.test", "www.acme.example.test")
}

fn config(listen: Ipv4Addr, servers: &[Ipv4Addr]) -> Config {
    let config = Config::new(ZONES.map(name), [name(SERVER)]).listen((listen, 53).into());
    servers.iter().fold(config, |config, ip| config.address(name(SERVER), IpAddr::V4(*ip)))
}

struct World {
    dns: Bind,
    ca: Pebble,
}

impl World {
    async fn start(servers: &[Ipv4Addr]) -> Self {
        let dns = delegating(servers).start().await.unwrap();
        let ca = Pebble::builder().dns_server(dns.addr()).start().await.unwrap();
        Self { dns, ca }
    }

    fn pipeline(&self, store: &Arc<dyn Store>, responder: &Responder, seen: &Recorder) -> Pipeline {
        // BIND is asked as a resolver; whom the zones are delegated to, at port 53.
        let solver = Dns01::with_resolver(responder.clone(), Resolver::new([self.dns.addr()]).unwrap());
        Pipeline::builder(authority(&self.ca).unwrap(), Arc::clone(store))
            .solver(solver)
            .observer(seen.observer())
            .build()
            .unwrap()
    }

    async fn assert_clean(&self, store: &Arc<dyn Store>) {
        assert_eq!(store.list(&"responder".parse().unwrap()).await.unwrap(), []);
        for at in ["_acme-challenge.example.test", "_acme-challenge.www.example.test"] {
            // A second server has half a second until it knows.
            let gone = wait_for(Duration::from_secs(10), at, || async {
                self.dns.query_txt(at).await.is_ok_and(|values| values.is_empty()).then_some(())
            });
            gone.await.unwrap();
        }
    }
}

async fn obtain(names: &[&str]) {
    let ip = free_loopback(53).unwrap();
    let world = World::start(&[ip]).await;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let responder = Responder::start(config(ip, &[ip]), Arc::clone(&store)).unwrap();
    let seen = Recorder::default();
    let acme = world.pipeline(&store, &responder, &seen);
    let issued = acme.obtain(&CertificateSpec::new(names).unwrap()).await.unwrap();
    assert_eq!(issued.bundle.facts().identifiers.len(), names.len());
    assert_eq!(seen.count("challenge-presented"), names.len(), "{:#?}", seen.all());
    world.assert_clean(&store).await;
    responder.shutdown().await;
}

#[tokio::test]
async fn apex_and_wildcard_through_a_delegation_of_the_challenge_itself() {
    obtain(&["example.test", "*.example.test"]).await;
}

#[tokio::test]
async fn apex_and_wildcard_through_an_alias_into_a_delegated_zone() {
    obtain(&["www.example.test", "*.www.example.test"]).await;
}

#[tokio::test]
async fn many_names_at_once_through_both() {
    obtain(&["example.test", "*.example.test", "www.example.test", "*.www.example.test"]).await;
}

#[tokio::test]
async fn each_of_two_name_servers_answers_what_the_other_process_has_added() {
    let ips = [free_loopback(53).unwrap(), free_loopback(53).unwrap()];
    let world = World::start(&ips).await;
    let folder = tempfile::tempdir().unwrap();
    let mut both = Vec::new();
    for ip in ips {
        let store: Arc<dyn Store> = Arc::new(FileStore::open(folder.path().join("acme")).await.unwrap());
        both.push((Responder::start(config(ip, &ips), Arc::clone(&store)).unwrap(), store));
    }
    for (turn, (responder, store)) in both.iter().enumerate() {
        let acme = world.pipeline(store, responder, &Recorder::default());
        let spec = CertificateSpec::new(["example.test", "*.example.test"]).unwrap();
        let spec = spec.named(&format!("turn-{turn}")).unwrap();
        acme.obtain(&spec).await.unwrap();
    }
    assert_eq!(world.ca.issued_certificates(), 2);
    for (_, store) in &both {
        world.assert_clean(store).await;
    }
}

#[tokio::test]
async fn a_configuration_becomes_a_certificate_and_the_port_is_free_afterwards() {
    let ip = free_loopback(53).unwrap();
    let world = World::start(&[ip]).await;
    let folder = tempfile::tempdir().unwrap();
    let attributes = acmekit::atomic::FileAttributes::default();
    let roots = folder.path().join("roots.pem");
    acmekit::atomic::write_file(&roots, world.ca.root_pem().as_bytes(), attributes).unwrap();
    let text = format!(
        r#"
        [store]
        kind = "files"
        path = "store"

        [[authorities]]
        ca = "{}"
        id = "pebble"
        agree_to_terms = true
        extra_roots = "roots.pem"

        [dns]
        resolvers = ["{}"]

        [[dns.providers]]
        kind = "responder"
        zones = ["{}", "{}"]
        name_servers = ["{SERVER}"]
        addresses = {{ "{SERVER}" = ["{ip}"] }}
        listen = ["{ip}:53"]

        [[certificates]]
        names = ["example.test", "*.example.test", "www.example.test"]
        "#,
        world.ca.directory_url(),
        world.dns.addr(),
        ZONES[0],
        ZONES[1],
    );
    let config = acmekit::config::Config::parse(&text, folder.path());
    let setup = config.unwrap_or_else(|error| panic!("{}", error.report())).build().await;
    let setup = setup.unwrap_or_else(|error| panic!("{}", error.report()));
    let acme = setup.pipeline().unwrap();
    let is_free = || std::net::UdpSocket::bind((ip, 53)).is_ok();
    assert!(is_free(), "who only plans needs no port");
    let issued = acme.obtain(&setup.certificates()[0].spec).await;
    let issued = issued.unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!(issued.bundle.facts().identifiers.len(), 3);
    assert!(!is_free(), "it listens until the end");
    world.assert_clean(setup.store()).await;
    setup.close().await;
    assert!(is_free());
    setup.listen().unwrap();
    assert!(!is_free(), "before the first challenge, for others");
    setup.close().await;
    assert!(is_free());
}
