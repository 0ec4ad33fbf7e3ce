//! What is written, where, and what is left alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use std::time::Duration;

use acmekit_conformance::api::{Answer, Fault};
use acmekit_core::{DnsName, DnsProvider, Error, ErrorKind, RecordHandle, Result, Retry, TxtRecord, Zone};
use acmekit_desec::{Config, Desec};

use self::fake::{Fake, RESTRICTED, TOKEN};

const NAME: &str = "_acme-challenge.example.test";
const PATH: &str = "/domains/example.test/rrsets/_acme-challenge/TXT/";
const CREATE: &str = "POST /domains/example.test/rrsets/";

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

fn zone() -> Zone {
    Zone::new(name("example.test"))
}

fn record(value: &str) -> TxtRecord {
    TxtRecord::new(name(NAME), value)
}

async fn add(fake: &Fake, value: &str) -> Result<RecordHandle> {
    fake.provider().add_txt(&zone(), &record(value)).await
}

fn what(error: &Error) -> (ErrorKind, Retry) {
    (error.kind(), error.retry())
}

#[tokio::test]
async fn a_domain_is_found_in_one_request_whatever_its_depth() {
    let fake = Fake::start().await;
    let provider = fake.provider();
    for (at, found) in [
        ("example.test", Some("example.test")),
        ("_acme-challenge.a.b.c.example.test", Some("example.test")),
        ("_acme-challenge.notdeep.example.test", Some("example.test")),
        ("_acme-challenge.deep.example.test", Some("deep.example.test")),
        ("notexample.test", None),
        ("test", None),
    ] {
        let before = fake.count("GET");
        let zone = provider.zone(&name(at)).await.unwrap();
        assert_eq!(zone, found.map(|found| Zone::new(name(found))), "{at}");
        assert_eq!(fake.count("GET"), before + 1, "{at}");
    }
    assert_eq!(fake.asked("GET")[0].0, "GET /domains/?owns_qname=example.test");
}

#[tokio::test]
async fn a_domain_that_cannot_hold_the_name_is_not_taken() {
    let fake = Fake::start().await;
    // What a server says that knows no `owns_qname`: all there are.
    let all = r#"[{"name":"example.org","minimum_ttl":3600},{"name":"example.test","minimum_ttl":3600}]"#;
    fake.api.fail("GET", Fault::Instead(Answer::json(200, all)));
    let error = fake.provider().zone(&name(NAME)).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Protocol, Retry::Never), "{}", error.report());
}

#[tokio::test]
async fn the_first_value_is_made_in_quotes_with_the_smallest_ttl_of_the_domain() {
    let fake = Fake::start().await;
    let handle = add(&fake, "aZ09-_").await.unwrap();
    assert_eq!(handle, RecordHandle::intent("desec", zone(), record("aZ09-_")));
    let want = r#"{"subname":"_acme-challenge","type":"TXT","ttl":3600,"records":["\"aZ09-_\""]}"#;
    assert_eq!(fake.asked("POST"), [(CREATE.to_owned(), want.to_owned())]);
    // The domain is asked for its TTL where it was not just looked for.
    let asked_for_ttl =
        || fake.asked("GET").iter().filter(|(line, _)| line == "GET /domains/example.test/").count();
    assert_eq!(asked_for_ttl(), 1);
    let provider = fake.provider();
    provider.zone(&name(NAME)).await.unwrap();
    provider.add_txt(&zone(), &TxtRecord::new(name("b.example.test"), "value")).await.unwrap();
    assert_eq!(asked_for_ttl(), 1);
    assert_eq!(provider.limits().min_ttl, Duration::from_secs(60));
}

#[tokio::test]
async fn the_ttl_is_within_what_the_domain_allows() {
    let fake = Fake::start().await;
    for (asked, at, sent) in [
        (60, "a.deep.example.test", 60),
        (300, "b.deep.example.test", 300),
        (7200, "c.example.test", 7200),
        (1_000_000, "d.example.test", 604_800),
    ] {
        let (provider, record) = (fake.provider(), TxtRecord::new(name(at), "value"));
        let zone = provider.zone(&record.name).await.unwrap().unwrap();
        provider.add_txt(&zone, &record.with_ttl(Duration::from_secs(asked))).await.unwrap();
        assert_eq!(fake.change(|inner| inner.rrsets.last().unwrap().ttl), sent, "{at}");
    }
    // What was learnt may not hold for ever.
    let provider = fake.provider();
    provider.zone(&name(NAME)).await.unwrap();
    fake.change(|inner| inner.domains[0].1 = 5000);
    let error = provider.add_txt(&zone(), &record("value")).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Protocol, Some("ttl")), "{}", error.report());
    provider.add_txt(&zone(), &record("value")).await.unwrap();
    assert_eq!(fake.change(|inner| inner.rrsets.last().unwrap().ttl), 5000);
}

#[tokio::test]
async fn apex_and_deep_names_are_where_they_belong() {
    let fake = Fake::start().await;
    for (at, subname, segment) in [
        ("example.test", "", "@"),
        ("_acme-challenge.a.b.example.test", "_acme-challenge.a.b", "_acme-challenge.a.b"),
    ] {
        let provider = fake.provider();
        let handle = provider.add_txt(&zone(), &TxtRecord::new(name(at), "one")).await.unwrap();
        provider.add_txt(&zone(), &TxtRecord::new(name(at), "two")).await.unwrap();
        assert_eq!(fake.values(at), ["one", "two"]);
        assert!(fake.asked("POST").last().unwrap().1.starts_with(&format!(r#"{{"subname":"{subname}","#)));
        assert_eq!(fake.count(&format!("PATCH /domains/example.test/rrsets/{segment}/TXT/")), 1);
        provider.remove_txt(&handle).await.unwrap();
        assert_eq!(fake.values(at), ["two"]);
    }
}

#[tokio::test]
async fn what_others_have_at_the_name_goes_back_letter_by_letter_with_its_ttl() {
    let fake = Fake::start().await;
    let theirs = [r#""v=spf1 -all""#, r#""two" "parts""#, r#""\130\195\164 \"quoted\"""#];
    for content in theirs {
        fake.plant(NAME, "TXT", content);
    }
    fake.change(|inner| inner.rrsets[0].ttl = 86_400);
    let handle = add(&fake, "mine").await.unwrap();
    assert_eq!(fake.contents(NAME, "TXT"), [&theirs[..], &["\"mine\""]].concat());
    let (line, body) = fake.asked("PATCH").remove(0);
    assert_eq!(line, format!("PATCH {PATH}"));
    let records = serde_json::to_string(&fake.contents(NAME, "TXT")).unwrap();
    assert_eq!(body, format!(r#"{{"records":{records}}}"#));
    fake.provider().remove_txt(&handle).await.unwrap();
    assert_eq!(fake.contents(NAME, "TXT"), theirs);
    assert_eq!(fake.change(|inner| inner.rrsets[0].ttl), 86_400);
}

#[tokio::test]
async fn a_value_in_another_form_is_the_same_value() {
    let fake = Fake::start().await;
    fake.plant(NAME, "TXT", r#""va" "l\117e""#);
    let handle = add(&fake, "value").await.unwrap();
    assert_eq!(fake.writes(), 0);
    fake.provider().remove_txt(&handle).await.unwrap();
    assert!(fake.contents(NAME, "TXT").is_empty());
}

#[tokio::test]
async fn the_last_value_takes_the_rrset_with_it_and_nothing_to_remove_is_no_error() {
    let fake = Fake::start().await;
    let handle = add(&fake, "value").await.unwrap();
    fake.provider().remove_txt(&handle).await.unwrap();
    assert_eq!(fake.count(&format!("DELETE {PATH}")), 1);
    let before = fake.writes();
    fake.provider().remove_txt(&handle).await.unwrap();
    // Not even in a domain that is gone.
    let gone = Zone::new(name("gone.test"));
    let record = TxtRecord::new(name("a.gone.test"), "value");
    fake.provider().remove_txt(&RecordHandle::intent("desec", gone, record)).await.unwrap();
    assert_eq!(fake.writes(), before);
}

#[tokio::test]
async fn an_answer_that_was_lost_leads_to_no_second_value() {
    let fake = Fake::start().await;
    fake.api
        .fail("POST", Fault::After(Answer::json(500, r#"{"detail":"Internal Server Error. We're on it!"}"#)));
    let error = add(&fake, "value").await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Unavailable, Retry::Backoff), "{}", error.report());
    let handle = add(&fake, "value").await.unwrap();
    assert_eq!((fake.contents(NAME, "TXT").len(), fake.writes()), (1, 1));
    fake.api.fail("DELETE", Fault::HangUpAfter);
    fake.provider().remove_txt(&handle).await.unwrap_err();
    fake.provider().remove_txt(&handle).await.unwrap();
    assert_eq!(fake.writes(), 2);
}

#[tokio::test]
async fn a_name_with_a_cname_says_so_and_is_tried_once() {
    let fake = Fake::start().await;
    fake.plant(NAME, "CNAME", "elsewhere.example.");
    let error = add(&fake, "value").await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Protocol, Retry::Never), "{}", error.report());
    assert!(error.hint().unwrap().contains("CNAME"), "{}", error.report());
    assert_eq!(fake.writes(), 1);
}

#[tokio::test]
async fn a_token_for_one_domain_writes_there_and_nowhere_else() {
    let fake = Fake::start().await;
    let provider = Desec::new(fake.config(RESTRICTED)).unwrap();
    let at = name("_acme-challenge.deep.example.test");
    let deep = provider.zone(&at).await.unwrap().unwrap();
    let handle = provider.add_txt(&deep, &TxtRecord::new(at, "value")).await.unwrap();
    provider.remove_txt(&handle).await.unwrap();
    let error = provider.add_txt(&zone(), &record("value")).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Auth, Retry::Never), "{}", error.report());
    assert!(error.hint().unwrap().contains("perm_write"), "{}", error.report());
}

#[tokio::test]
async fn a_name_outside_the_zone_is_never_sent() {
    let fake = Fake::start().await;
    for outside in ["www.example.org", "notexample.test", "test"] {
        let error = fake.provider().add_txt(&zone(), &TxtRecord::new(name(outside), "v")).await.unwrap_err();
        assert_eq!((error.kind(), fake.count("")), (ErrorKind::Config, 0), "{}", error.report());
    }
}

#[test]
fn configurations_that_cannot_work_are_refused_at_once() {
    let refused = |change: fn(&mut Config)| {
        let mut config = Config::new(TOKEN);
        change(&mut config);
        let error = Desec::new(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
    };
    refused(|config| config.token = "".into());
    refused(|config| config.token = "Token s3cr3t".into());
    refused(|config| config.base_url = "http://desec.io/api/v1".to_owned());
    refused(|config| config.base_url = "desec.io".to_owned());
    // A line break at the end is what a file leaves there.
    Desec::new(Config::new(format!("{TOKEN}\n"))).unwrap();
}
