//! What a real BIND refuses, and what it does not answer: each error says whose fault it is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, SystemTime};

use acmekit_core::dns::Transport;
use acmekit_core::{
    Clock, DnsName, DnsProvider, Error, ErrorKind, RecordHandle, SystemClock, TxtRecord, Zone,
};
use acmekit_rfc2136::{Algorithm, Config, ID, Key, Rfc2136};
use acmekit_testbed::Bind;

const NAME: &str = "_acme-challenge.www.example.test";

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

fn zone(text: &str) -> Zone {
    Zone::new(name(text))
}

fn record() -> TxtRecord {
    TxtRecord::new(name(NAME), "value")
}

fn handle() -> RecordHandle {
    RecordHandle::intent(ID, zone("example.test"), record())
}

fn config(bind: &Bind, key: &str, secret: &str) -> Config {
    Config::new(bind.addr().to_string(), Key::new(key, Algorithm::HmacSha256, secret))
}

fn provider(bind: &Bind) -> Rfc2136 {
    Rfc2136::new(config(bind, bind.tsig_name(), bind.tsig_secret_base64())).unwrap()
}

/// The kind fits, the words are there, something can be done, and no secret is shown.
#[track_caller]
fn says(error: &Error, kind: ErrorKind, words: &[&str], bind: &Bind) {
    assert_eq!(error.kind(), kind, "{}", error.report());
    assert!(error.hint().is_some(), "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "`{word}` is not in: {error}");
    }
    let shown = format!("{}\n{error:?}", error.report());
    assert!(!shown.contains(bind.tsig_secret_base64()), "the secret is shown");
}

#[tokio::test]
async fn an_unknown_key_is_told_by_every_call() {
    let bind = Bind::start().await.unwrap();
    let provider = Rfc2136::new(config(&bind, "stranger", bind.tsig_secret_base64())).unwrap();
    let words = ["BADKEY", "key=stranger"];
    says(&provider.zone(&name(NAME)).await.unwrap_err(), ErrorKind::Auth, &words, &bind);
    let added = provider.add_txt(&zone("example.test"), &record()).await;
    says(&added.unwrap_err(), ErrorKind::Auth, &words, &bind);
    says(&provider.remove_txt(&handle()).await.unwrap_err(), ErrorKind::Auth, &words, &bind);
}

#[tokio::test]
async fn a_wrong_secret_is_told_by_every_call() {
    let bind = Bind::start().await.unwrap();
    let wrong = "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc=";
    let provider = Rfc2136::new(config(&bind, bind.tsig_name(), wrong)).unwrap();
    says(&provider.zone(&name(NAME)).await.unwrap_err(), ErrorKind::Auth, &["BADSIG"], &bind);
    let error = provider.add_txt(&zone("example.test"), &record()).await.unwrap_err();
    says(&error, ErrorKind::Auth, &["BADSIG", "key=testbed-key"], &bind);
    assert!(!error.report().contains(wrong));
    assert_eq!(bind.txt_records("example.test").await.unwrap(), []);
}

#[tokio::test]
async fn a_wrong_algorithm_is_told_as_an_unknown_key() {
    let bind = Bind::start().await.unwrap();
    let key = Key::new(bind.tsig_name(), Algorithm::HmacSha512, bind.tsig_secret_base64());
    let provider = Rfc2136::new(Config::new(bind.addr().to_string(), key)).unwrap();
    says(&provider.zone(&name(NAME)).await.unwrap_err(), ErrorKind::Auth, &["BADKEY"], &bind);
}

#[tokio::test]
async fn a_name_the_policy_does_not_grant_is_named() {
    let bind = Bind::builder()
        .zone("example.test")
        .add_key("narrow", "example.test", "name _acme-challenge.mail.example.test. TXT")
        .start()
        .await
        .unwrap();
    let secret = bind.key("narrow").unwrap().secret_base64();
    let provider = Rfc2136::new(config(&bind, "narrow", secret)).unwrap();
    let granted = TxtRecord::new(name("_acme-challenge.mail.example.test"), "value");
    provider.add_txt(&zone("example.test"), &granted).await.unwrap();
    let error = provider.add_txt(&zone("example.test"), &record()).await.unwrap_err();
    says(&error, ErrorKind::Auth, &["not allowed", NAME, "key=narrow"], &bind);
    assert_eq!(bind.txt_records("example.test").await.unwrap().len(), 1);
}

#[derive(Debug)]
struct Off(i64);

impl Clock for Off {
    fn now(&self) -> SystemTime {
        let (now, off) = (SystemClock::default().now(), Duration::from_secs(self.0.unsigned_abs()));
        if self.0 < 0 { now - off } else { now + off }
    }
}

#[tokio::test]
async fn clocks_too_far_apart_are_told_with_the_difference() {
    let bind = Bind::start().await.unwrap();
    for (off, direction) in [(3600, "behind"), (-3600, "ahead")] {
        let provider = provider(&bind).with_clock(Off(off));
        let error = provider.add_txt(&zone("example.test"), &record()).await.unwrap_err();
        says(&error, ErrorKind::Auth, &["clocks", "BADTIME", " s ", direction], &bind);
        let told = ["3599 s", "3600 s", "3601 s"].iter().any(|text| error.to_string().contains(text));
        assert!(told, "{error}");
        says(&provider.zone(&name(NAME)).await.unwrap_err(), ErrorKind::Auth, &["BADTIME"], &bind);
    }
    provider(&bind).with_clock(Off(200)).add_txt(&zone("example.test"), &record()).await.unwrap();
}

#[tokio::test]
async fn a_zone_that_is_not_served_here_is_named() {
    let bind = Bind::start().await.unwrap();
    let provider = provider(&bind);
    assert_eq!(provider.zone(&name("www.other.test")).await.unwrap(), None);
    let other = TxtRecord::new(name("www.other.test"), "value");
    let error = provider.add_txt(&zone("other.test"), &other).await.unwrap_err();
    says(&error, ErrorKind::NotFound, &["NOTAUTH", "zone=other.test"], &bind);
}

#[tokio::test]
async fn what_is_delegated_to_others_is_not_in_our_zone() {
    let builder = Bind::builder().zone("example.test").record("sub.example.test. 1 IN NS ns.elsewhere.test.");
    let bind = builder.start().await.unwrap();
    let provider = provider(&bind);
    assert_eq!(provider.zone(&name("_acme-challenge.www.sub.example.test")).await.unwrap(), None);
    assert_eq!(provider.zone(&name("sub.example.test")).await.unwrap(), None);
    assert_eq!(provider.zone(&name(NAME)).await.unwrap(), Some(zone("example.test")));
}

#[tokio::test]
async fn a_value_at_an_alias_is_refused_though_the_server_says_noerror() {
    let bind = Bind::builder().zone("example.test").cname(NAME, "else.example.test").start().await.unwrap();
    let error = provider(&bind).add_txt(&zone("example.test"), &record()).await.unwrap_err();
    says(&error, ErrorKind::Protocol, &["NOERROR", "CNAME", NAME], &bind);
    provider(&bind).remove_txt(&handle()).await.unwrap();
    assert_eq!(bind.txt_records("example.test").await.unwrap(), []);
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable() {
    let bind = Bind::start().await.unwrap();
    bind.stop();
    for transport in [Transport::Tcp, Transport::Udp] {
        let mut config = config(&bind, bind.tsig_name(), bind.tsig_secret_base64());
        config.transport = transport;
        let error = Rfc2136::new(config).unwrap().zone(&name(NAME)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
        assert!(error.to_string().contains(&bind.addr().to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_frozen_server_costs_the_timeout_and_names_the_phase() {
    let bind = Bind::start().await.unwrap();
    bind.freeze().unwrap();
    for transport in [Transport::Tcp, Transport::Udp] {
        let mut config = config(&bind, bind.tsig_name(), bind.tsig_secret_base64());
        (config.transport, config.timeout) = (transport, Duration::from_secs(1));
        let provider = Rfc2136::new(config).unwrap();
        let error = provider.zone(&name(NAME)).await.unwrap_err();
        says(&error, ErrorKind::Timeout, &["looking for the zone", "within 1s"], &bind);
        let error = provider.add_txt(&zone("example.test"), &record()).await.unwrap_err();
        says(&error, ErrorKind::Timeout, &["sending the update", "within 1s"], &bind);
    }
    // What was sent meanwhile may still be done: it can be removed by the intent.
    bind.thaw().unwrap();
    provider(&bind).remove_txt(&handle()).await.unwrap();
    assert_eq!(bind.txt_records("example.test").await.unwrap(), []);
}

#[tokio::test]
async fn everything_else_at_the_name_stays() {
    let caa = format!("{NAME}. 1 IN CAA 0 issue \"ca.test\"");
    let bind = Bind::builder().zone("example.test").record(&caa).start().await.unwrap();
    bind.add_txt("example.test", NAME, "somebody-elses").await.unwrap();
    let before = bind.transfer("example.test").await.unwrap();
    let provider = provider(&bind);
    let handle = provider.add_txt(&zone("example.test"), &record()).await.unwrap();
    assert_eq!(bind.transfer("example.test").await.unwrap().len(), before.len() + 1);
    provider.remove_txt(&handle).await.unwrap();
    // The serial grows, and the values at one name have one TTL: the last one set (RFC 2181 section 5.2).
    let lasting = |records: &[String]| -> Vec<String> {
        let kept = records.iter().filter(|line| !line.contains(" SOA "));
        let mut kept: Vec<String> = kept.map(|line| line.replace(" 60 IN ", " 1 IN ")).collect();
        kept.sort();
        kept
    };
    assert_eq!(lasting(&bind.transfer("example.test").await.unwrap()), lasting(&before));
}

#[tokio::test]
async fn a_key_file_and_a_name_in_another_case_do_as_well() {
    let bind = Bind::start().await.unwrap();
    let text = format!(
        "key \"{}\" {{\n\talgorithm {};\n\tsecret \"{}\";\n}};\n",
        bind.tsig_name().to_uppercase(),
        bind.tsig_algorithm(),
        bind.tsig_secret_base64()
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file.as_file(), text.as_bytes()).unwrap();
    let config = Config::new(bind.addr().to_string(), Key::from_file(file.path()).unwrap());
    let provider = Rfc2136::new(config).unwrap();
    provider.add_txt(&zone("example.test"), &record()).await.unwrap();
    assert_eq!(bind.query_txt(NAME).await.unwrap(), ["value"]);
}

#[tokio::test]
async fn a_server_given_by_name_is_looked_up() {
    let bind = Bind::start().await.unwrap();
    let mut config = config(&bind, bind.tsig_name(), bind.tsig_secret_base64());
    config.server = format!("localhost:{}", bind.addr().port());
    let found = Rfc2136::new(config.clone()).unwrap().zone(&name(NAME)).await.unwrap();
    assert_eq!(found, Some(zone("example.test")));
    config.server = "no-such-host.invalid".to_owned();
    let error = Rfc2136::new(config).unwrap().zone(&name(NAME)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
}
