//! The contract on two more real servers, Knot DNS and PowerDNS, and the habits in which they differ from BIND.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use acmekit_conformance::dns_provider::Subject;
use acmekit_core::dns::Transport;
use acmekit_core::{
    Clock, DnsName, DnsProvider, Error, ErrorKind, SystemClock, TxtRecord, Zone, async_trait,
};
use acmekit_rfc2136::{Algorithm, Config, Key, Rfc2136};
use acmekit_testbed::{DnsClient, Knot, PowerDns, TsigKey};

const ZONES: [&str; 2] = ["example.test", "deep.example.test"];
const WRONG: &str = "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc=";

enum Server {
    Knot(Knot),
    PowerDns(PowerDns),
}

impl Server {
    async fn knot() -> Self {
        Self::Knot(Knot::start(&ZONES).await.unwrap())
    }

    async fn power_dns() -> Self {
        Self::PowerDns(PowerDns::start(&ZONES).await.unwrap())
    }

    fn client(&self) -> &DnsClient {
        match self {
            Self::Knot(server) => server.client(),
            Self::PowerDns(server) => server.client(),
        }
    }

    fn addr(&self) -> SocketAddr {
        match self {
            Self::Knot(server) => server.addr(),
            Self::PowerDns(server) => server.addr(),
        }
    }

    fn tsig(&self) -> &TsigKey {
        match self {
            Self::Knot(server) => server.tsig(),
            Self::PowerDns(server) => server.tsig(),
        }
    }

    /// A key the server knows, but that may not change everything.
    fn lesser(&self) -> &TsigKey {
        match self {
            Self::Knot(server) => server.narrow(),
            Self::PowerDns(server) => server.other(),
        }
    }

    fn log(&self) -> String {
        match self {
            Self::Knot(server) => server.log(),
            Self::PowerDns(server) => server.log(),
        }
    }

    fn config(&self, key: &str, secret: &str) -> Config {
        Config::new(self.addr().to_string(), Key::new(key, Algorithm::HmacSha256, secret))
    }

    fn with(&self, key: &str, secret: &str) -> Rfc2136 {
        Rfc2136::new(self.config(key, secret)).unwrap()
    }

    fn with_key(&self, key: &TsigKey) -> Rfc2136 {
        self.with(key.name(), key.secret_base64())
    }

    /// What adding a value at this name, with this provider, fails with.
    async fn refusal(&self, provider: &Rfc2136, zone: &str, name: &str) -> Error {
        let added =
            provider.add_txt(&self::zone(zone), &TxtRecord::new(name.parse().unwrap(), "value")).await;
        let error = added.unwrap_err();
        assert!(error.hint().is_some(), "{error}");
        let shown = format!("{}\n{error:?}", error.report());
        for secret in [self.tsig().secret_base64(), self.lesser().secret_base64(), WRONG] {
            assert!(!shown.contains(secret), "a secret is shown");
        }
        error
    }
}

fn zone(name: &str) -> Zone {
    Zone::new(name.parse().unwrap())
}

#[track_caller]
fn says(error: &Error, kind: ErrorKind, words: &[&str]) {
    assert_eq!(error.kind(), kind, "{}", error.report());
    for word in words {
        assert!(error.to_string().contains(word), "`{word}` is not in: {error}");
    }
}

#[async_trait]
impl Subject for Server {
    fn provider(&self) -> Arc<dyn DnsProvider> {
        Arc::new(self.with_key(self.tsig()))
    }

    fn another(&self) -> Arc<dyn DnsProvider> {
        self.provider()
    }

    fn zone(&self) -> DnsName {
        "deep.example.test".parse().unwrap()
    }

    fn foreign_name(&self) -> DnsName {
        "www.example.org".parse().unwrap()
    }

    async fn lookup(&self, name: &DnsName) -> Vec<String> {
        self.client().query_txt(name.as_str()).await.unwrap()
    }

    async fn plant(&self, name: &DnsName, value: &str) {
        let lines = format!("add {name}. 1 TXT \"{value}\"\nadd {name}. 1 CAA 0 issue \"ca.test\"");
        self.client().update(self.tsig(), Subject::zone(self).as_str(), &lines).await.unwrap();
    }

    async fn has_planted_record(&self, name: &DnsName) -> bool {
        let records = self.client().transfer(self.tsig(), Subject::zone(self).as_str()).await.unwrap();
        records.iter().any(|line| line.starts_with(&format!("{name}. ")) && line.contains(" CAA "))
    }

    fn secret(&self) -> String {
        self.tsig().secret_base64().to_owned()
    }

    fn wrong_secret(&self) -> String {
        WRONG.to_owned()
    }

    fn with_wrong_credential(&self) -> Arc<dyn DnsProvider> {
        Arc::new(self.with(self.tsig().name(), WRONG))
    }
}

mod on_knot {
    use super::*;
    acmekit_conformance::dns_provider_suite!(Server::knot().await);
}

mod on_power_dns {
    use super::*;
    acmekit_conformance::dns_provider_suite!(Server::power_dns().await);
}

#[tokio::test]
async fn knot_says_badkey_of_a_known_key_and_it_is_not_told_as_an_unknown_one() {
    let knot = Server::knot().await;
    let narrow = knot.with_key(knot.lesser());
    let granted = TxtRecord::new("_acme-challenge.mail.example.test".parse().unwrap(), "value");
    let handle = narrow.add_txt(&zone("example.test"), &granted).await.unwrap();
    narrow.remove_txt(&handle).await.unwrap();
    let error = knot.refusal(&narrow, "example.test", "_acme-challenge.example.test").await;
    says(
        &error,
        ErrorKind::Auth,
        &["not allowed to change", "key=narrow", "name=_acme-challenge.example.test"],
    );

    let stranger = knot.with("stranger", knot.tsig().secret_base64());
    let error = knot.refusal(&stranger, "example.test", "_acme-challenge.example.test").await;
    says(&error, ErrorKind::Auth, &["does not know this TSIG key (BADKEY)", "key=stranger"]);
    let wrong = knot.with(knot.tsig().name(), WRONG);
    let error = knot.refusal(&wrong, "example.test", "_acme-challenge.example.test").await;
    says(&error, ErrorKind::Auth, &["BADSIG", "key=testbed-key"]);
}

#[tokio::test]
async fn power_dns_refuses_an_unknown_key_and_a_wrong_secret_alike_and_both_are_told() {
    let server = Server::power_dns().await;
    let (key, secret) = (server.tsig().name(), server.tsig().secret_base64());
    for (provider, logged) in [
        (server.with("stranger", secret), "can't find TSIG key with name 'stranger'"),
        (server.with(key, WRONG), "Signature with TSIG key 'testbed-key' failed to validate"),
    ] {
        let error = server.refusal(&provider, "example.test", "_acme-challenge.example.test").await;
        let words = ["refuses, unsigned", "unknown key, wrong TSIG secret", "not allowed"];
        says(&error, ErrorKind::Auth, &words);
        // The hint sends people there.
        assert!(server.log().contains(logged), "`{logged}` is not in:\n{}", server.log());
    }
    // Only of a key that it knows does it say, signed, that this may not change the zone.
    let error = server.refusal(&server.with_key(server.lesser()), "example.test", "www.example.test").await;
    says(&error, ErrorKind::Auth, &["not allowed to change", "key=other", "name=www.example.test"]);
    assert_eq!(server.client().txt_records(server.tsig(), "example.test").await.unwrap(), []);
}

#[tokio::test]
async fn a_zone_that_is_not_served_is_told() {
    for (server, kind, words) in [
        (Server::knot().await, ErrorKind::Auth, "neither key nor zone (NOTAUTH, unsigned)"),
        (Server::power_dns().await, ErrorKind::NotFound, "does not serve this zone (NOTAUTH)"),
    ] {
        let provider = server.with_key(server.tsig());
        let name = "_acme-challenge.elsewhere.test";
        assert_eq!(provider.zone(&name.parse().unwrap()).await.unwrap(), None);
        says(&server.refusal(&provider, "elsewhere.test", name).await, kind, &[words]);
    }
}

#[tokio::test]
async fn an_alias_at_the_name_is_told() {
    for server in [Server::knot().await, Server::power_dns().await] {
        let alias = "_acme-challenge.example.test";
        let lines = format!("add {alias}. 1 CNAME www.example.test.");
        server.client().update(server.tsig(), "example.test", &lines).await.unwrap();
        let provider = server.with_key(server.tsig());
        let error = server.refusal(&provider, "example.test", alias).await;
        says(&error, ErrorKind::Protocol, &["the name is an alias (CNAME)", alias]);
    }
}

#[derive(Debug)]
struct Late;

impl Clock for Late {
    fn now(&self) -> SystemTime {
        SystemClock::default().now() - Duration::from_secs(3600)
    }
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_where_the_server_says_so() {
    for (server, words) in [
        (Server::knot().await, "the clocks differ by more than 300 s (BADTIME): the server's is 3"),
        (Server::power_dns().await, "the server refuses, unsigned"),
    ] {
        let provider = server.with_key(server.tsig()).with_clock(Late);
        let error = server.refusal(&provider, "example.test", "_acme-challenge.example.test").await;
        says(&error, ErrorKind::Auth, &[words]);
    }
}

#[tokio::test]
async fn updates_over_udp_are_taken_too() {
    for server in [Server::knot().await, Server::power_dns().await] {
        let mut config = server.config(server.tsig().name(), server.tsig().secret_base64());
        config.transport = Transport::Udp;
        let provider = Rfc2136::new(config).unwrap();
        let name: DnsName = "_acme-challenge.www.example.test".parse().unwrap();
        let zone = provider.zone(&name).await.unwrap().unwrap();
        let handle = provider.add_txt(&zone, &TxtRecord::new(name.clone(), "value")).await.unwrap();
        assert_eq!(server.client().query_txt(name.as_str()).await.unwrap(), ["value"]);
        provider.remove_txt(&handle).await.unwrap();
        assert_eq!(server.client().txt_records(server.tsig(), "example.test").await.unwrap(), []);
    }
}
