//! What a vendor may answer, and what is told of it: by the HTTP client that most vendors share.

#![cfg(feature = "aws-lc-rs")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use acmekit_conformance::api::{Answer, Api, Fault};
use acmekit_conformance::log::{Log, assert_shows_none_of};
use acmekit_core::{Deadline, DnsProvider, Error, ErrorKind, RecordHandle, TxtRecord, Zone};
use acmekit_dns_update::{Config, DnsUpdate};

const KEY: &str = "s3cr3t-api-key";

/// PowerDNS's API with an empty zone: <https://doc.powerdns.com/authoritative/http-api/zone.html>.
async fn empty() -> Api {
    Api::start(|asked| async move {
        match asked.method.as_str() {
            "GET" => Answer::json(200, r#"{"name": "example.test.", "rrsets": []}"#),
            _ => Answer::new(204, ""),
        }
    })
    .await
}

fn provider(api: &Api) -> DnsUpdate {
    let mut config = Config::new("pdns").setting("api_key", KEY).setting("endpoint", api.url());
    config.zones = vec!["example.test".parse().unwrap()];
    config.timeout = Duration::from_secs(2);
    config.settle = Duration::from_millis(10);
    DnsUpdate::new(config).unwrap()
}

fn zone() -> Zone {
    Zone::new("example.test".parse().unwrap())
}

fn record() -> TxtRecord {
    TxtRecord::new("_acme-challenge.example.test".parse().unwrap(), "value")
}

#[track_caller]
fn told(error: &Error, kind: ErrorKind) {
    assert_eq!(error.kind(), kind, "{}", error.report());
    assert!(error.hint().is_some(), "{}", error.report());
    let shown = format!("{} {error:?}", error.report());
    assert!(!shown.contains(KEY), "{shown}");
    assert!(shown.contains("pdns") && shown.contains("_acme-challenge.example.test"), "{shown}");
}

#[tokio::test]
async fn each_refusal_is_told_for_what_it_is() {
    let api = empty().await;
    let provider = provider(&api);
    for (answer, kind) in [
        (Answer::new(401, "Unauthorized"), ErrorKind::Auth),
        (Answer::json(403, format!(r#"{{"error": "the key {KEY} may not do that"}}"#)), ErrorKind::Auth),
        (Answer::new(404, "Not Found"), ErrorKind::NotFound),
        (Answer::json(400, r#"{"error": "this is wrong"}"#), ErrorKind::Protocol),
        (Answer::html(500, "<html><h1>oops"), ErrorKind::Unavailable),
        (Answer::html(200, "<html>log in first"), ErrorKind::Protocol),
        (Answer::json(200, r#"{"rrsets": ["#), ErrorKind::Protocol),
    ] {
        api.fail("GET", Fault::Instead(answer.clone()));
        told(&provider.add_txt(&zone(), &record()).await.unwrap_err(), kind);
    }
    assert_eq!(api.count("PATCH"), 0, "nothing was written");
}

#[tokio::test]
async fn a_vendor_that_hangs_up_or_is_silent_or_never_ends_costs_an_error_in_time() {
    for (fault, kind) in [
        (Fault::HangUpAfter, ErrorKind::Unavailable),
        (Fault::Silence, ErrorKind::Timeout),
        (Fault::BodyThatStops, ErrorKind::Timeout),
        (Fault::EndlessBody, ErrorKind::Timeout),
    ] {
        let api = empty().await;
        // The repeats of dns-update and of its HTTP client meet it, too.
        (0..20).for_each(|_| api.fail("GET", fault.clone()));
        let deadline = Deadline::after(Duration::from_secs(10));
        told(&provider(&api).add_txt(&zone(), &record()).await.unwrap_err(), kind);
        assert!(!deadline.remaining().is_zero(), "{fault:?} took longer than its time");
    }
}

#[tokio::test]
async fn a_value_that_others_take_away_again_and_again_is_told() {
    let api = empty().await;
    told(&provider(&api).add_txt(&zone(), &record()).await.unwrap_err(), ErrorKind::Conflict);
    assert_eq!(api.count("PATCH"), 4, "it is written again");
}

#[tokio::test]
async fn a_value_that_is_not_there_is_removed_and_one_in_a_zone_that_is_not_there_is_not() {
    let api = empty().await;
    let handle = RecordHandle::intent("dns-update", zone(), record());
    provider(&api).remove_txt(&handle).await.unwrap();
    let gone = Api::start(|_| async { Answer::new(404, "Not Found") }).await;
    told(&provider(&gone).remove_txt(&handle).await.unwrap_err(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_name_outside_the_zone_is_refused_before_anything_is_sent() {
    let api = empty().await;
    let record = TxtRecord::new("_acme-challenge.notexample.test".parse().unwrap(), "value");
    let error = provider(&api).add_txt(&zone(), &record).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert_eq!(api.count(""), 0);
}

#[tokio::test]
async fn the_credential_is_in_no_log_line_even_at_trace() {
    let api = empty().await;
    let log = Log::start();
    let provider = provider(&api);
    let mut shown = format!("{provider:?}");
    shown.push_str(&format!("{:?}", provider.add_txt(&zone(), &record()).await));
    assert_eq!(api.asked().first().unwrap().header("x-api-key"), Some(KEY));
    let logged = log.text();
    assert!(logged.contains("the value is written"), "nothing is in the log");
    shown.push_str(&logged);
    assert_shows_none_of(&shown, &[KEY]);
}
