//! What is sent, byte for byte, and what becomes of each answer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use std::time::Duration;

use acmekit_conformance::api::{Answer, Fault};
use acmekit_core::{DnsName, DnsProvider, Error, ErrorKind, RecordHandle, Result, Retry, TxtRecord, Zone};
use acmekit_httpreq::{BasicAuth, Config, HttpReq};

use self::fake::{Fake, USER};

const NAME: &str = "_acme-challenge.example.test";

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

fn zone() -> Zone {
    Zone::new(name("example.test"))
}

async fn add(provider: &HttpReq, value: &str) -> Result<RecordHandle> {
    provider.add_txt(&zone(), &TxtRecord::new(name(NAME), value)).await
}

fn what(error: &Error) -> (ErrorKind, Retry) {
    (error.kind(), error.retry())
}

#[tokio::test]
async fn both_calls_are_what_lego_sends() {
    let fake = Fake::start().await;
    let provider = fake.provider();
    let handle = add(&provider, "LHDhK3oGRvkiefQnx7OOczTY5Tic_xZ6HcMOc_gmtoM").await.unwrap();
    provider.remove_txt(&handle).await.unwrap();
    let asked = fake.api.asked();
    assert_eq!(
        asked.iter().map(|asked| asked.line()).collect::<Vec<_>>(),
        ["POST /acme/present", "POST /acme/cleanup"]
    );
    for asked in asked {
        let body = r#"{"fqdn":"_acme-challenge.example.test.","value":"LHDhK3oGRvkiefQnx7OOczTY5Tic_xZ6HcMOc_gmtoM"}"#;
        assert_eq!((asked.body.as_str(), asked.header("content-type")), (body, Some("application/json")));
        assert_eq!(asked.header("authorization"), Some("Basic YWNtZTpwYXNzOiB3MHJkLW9mLXRoZS1zZXJ2ZXI="));
    }
    assert!(fake.is_clean());
}

#[tokio::test]
async fn without_a_user_nothing_is_said_of_one_and_the_refusal_says_what_is_missing() {
    let fake = Fake::start().await;
    let mut config = fake.config();
    config.auth = None;
    let error = add(&HttpReq::new(config).unwrap(), "value").await.unwrap_err();
    assert_eq!(fake.api.asked()[0].header("authorization"), None);
    assert_eq!(what(&error), (ErrorKind::Auth, Retry::Never), "{}", error.report());
    assert!(error.hint().unwrap().contains("none are set"), "{}", error.report());
}

#[tokio::test]
async fn zones_are_those_configured_and_without_any_every_name_is_its_own() {
    let fake = Fake::start().await;
    let provider = fake.provider();
    for (at, zone) in [
        ("_acme-challenge.a.deep.example.test", Some("deep.example.test")),
        ("_acme-challenge.notdeep.example.test", Some("example.test")),
        ("example.test", Some("example.test")),
        ("badexample.test", None),
        ("test", None),
    ] {
        assert_eq!(provider.zone(&name(at)).await.unwrap(), zone.map(|zone| Zone::new(name(zone))), "{at}");
    }
    let provider = HttpReq::new(Config::new(fake.api.url())).unwrap();
    assert_eq!(provider.zone(&name("a.example.org")).await.unwrap(), Some(Zone::new(name("a.example.org"))));
    assert_eq!(fake.api.count(""), 0);
}

#[tokio::test]
async fn a_success_may_say_anything_but_a_page_is_none() {
    let fake = Fake::start().await;
    for fine in [
        Answer::new(200, ""),
        Answer::new(204, ""),
        Answer::new(201, "created"),
        Answer::text(200, "ok\n"),
        Answer::json(200, r#"{"fqdn":"x","value":"y"}"#),
        Answer::json(202, "not JSON at all"),
    ] {
        fake.api.fail("POST", Fault::Instead(fine.clone()));
        add(&fake.provider(), "value").await.unwrap_or_else(|e| panic!("{fine:?}: {}", e.report()));
    }
    // A login page in front of everything.
    for page in [Answer::html(200, "<html>log in</html>"), Answer::html(404, "<html>nginx</html>")] {
        fake.api.fail("POST", Fault::Instead(page));
        let error = add(&fake.provider(), "value").await.unwrap_err();
        assert_eq!(what(&error), (ErrorKind::Protocol, Retry::Never), "{}", error.report());
        assert!(error.hint().unwrap().contains("check the base URL"), "{}", error.report());
    }
    let elsewhere = Answer::new(307, "").with("location", "https://elsewhere.example.com/");
    fake.api.fail("POST", Fault::Instead(elsewhere));
    let error = add(&fake.provider(), "value").await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Protocol, Retry::Never), "{}", error.report());
    assert!(error.hint().unwrap().contains("redirects"), "{}", error.report());
}

#[tokio::test]
async fn each_refusal_is_told_in_the_servers_words() {
    let fake = Fake::start().await;
    let backoff = Retry::Backoff;
    for (answer, kind, retry, told) in [
        (Answer::text(400, "no such\nthing\n"), ErrorKind::Protocol, Retry::Never, "no such thing"),
        (Answer::text(401, "Unauthorized\n"), ErrorKind::Auth, Retry::Never, "Unauthorized"),
        (
            Answer::json(403, r#"{"error":"not yours"}"#),
            ErrorKind::Auth,
            Retry::Never,
            r#"{"error":"not yours"}"#,
        ),
        (Answer::text(404, "404 page not found\n"), ErrorKind::NotFound, Retry::Never, "404 page not found"),
        (Answer::new(500, ""), ErrorKind::Unavailable, backoff, "500 Internal Server Error"),
        (Answer::text(500, "zone is locked"), ErrorKind::Unavailable, backoff, "zone is locked"),
        (Answer::html(502, "<html>"), ErrorKind::Unavailable, backoff, "502 with an HTML page"),
        (
            Answer::text(429, "slowly").with("retry-after", "90"),
            ErrorKind::RateLimited,
            Retry::After(Duration::from_secs(90)),
            "slowly",
        ),
        (
            Answer::html(503, "<html>").with("retry-after", "7"),
            ErrorKind::Unavailable,
            Retry::After(Duration::from_secs(7)),
            "503 with an HTML page",
        ),
    ] {
        let provider = fake.provider();
        let handle = RecordHandle::intent("httpreq", zone(), TxtRecord::new(name(NAME), "value"));
        for path in ["POST /acme/present", "POST /acme/cleanup"] {
            fake.api.fail(path, Fault::Instead(answer.clone()));
        }
        let before = fake.api.count("");
        for error in
            [add(&provider, "value").await.unwrap_err(), provider.remove_txt(&handle).await.unwrap_err()]
        {
            assert_eq!(what(&error), (kind, retry), "{answer:?}: {}", error.report());
            assert!(error.message().contains(told), "{answer:?}: {}", error.report());
            assert!(error.to_string().contains(&format!("name={NAME}")), "{error}");
        }
        assert_eq!(fake.api.count("") - before, 2, "a call was repeated blindly");
    }
}

#[tokio::test]
async fn long_words_are_cut_off() {
    let fake = Fake::start().await;
    fake.api.fail("POST", Fault::Instead(Answer::text(400, "ä".repeat(10_000))));
    let error = add(&fake.provider(), "value").await.unwrap_err();
    assert_eq!(error.message().chars().filter(|letter| *letter == 'ä').count(), 300);
}

#[tokio::test]
async fn an_answer_that_was_lost_makes_no_second_value() {
    let fake = Fake::start().await;
    let provider = fake.provider();
    fake.api.fail("POST", Fault::HangUpAfter);
    let error = add(&provider, "value").await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Unavailable, Retry::Backoff), "{}", error.report());
    assert_eq!(fake.api.count("POST"), 1);
    let handle = add(&provider, "value").await.unwrap();
    assert_eq!(fake.values(NAME), ["value"]);
    fake.api.fail("POST", Fault::After(Answer::new(502, "")));
    provider.remove_txt(&handle).await.unwrap_err();
    provider.remove_txt(&handle).await.unwrap();
    assert!(fake.is_clean());
}

#[tokio::test]
async fn a_server_that_falls_silent_misses_the_deadline_and_a_flood_is_not_read() {
    let fake = Fake::start().await;
    let mut config = fake.config();
    config.timeout = Duration::from_millis(200);
    let provider = HttpReq::new(config).unwrap();
    for fault in [Fault::Silence, Fault::BodyThatStops] {
        fake.api.fail("POST", fault);
        let error = add(&provider, "value").await.unwrap_err();
        assert_eq!(what(&error), (ErrorKind::Timeout, Retry::Backoff), "{}", error.report());
        let shown = error.to_string();
        assert!(shown.contains("phase=POST /acme/present") && shown.contains("deadline=200ms"), "{shown}");
        assert!(error.hint().unwrap().contains("not known"), "{}", error.report());
    }
    fake.api.fail("POST", Fault::EndlessBody);
    let error = add(&fake.provider(), "value").await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Protocol, Retry::Never), "{}", error.report());
    assert!(error.to_string().contains("longer than 1 MiB"), "{error}");
}

#[test]
fn configurations_that_cannot_work_are_refused_at_once() {
    let good = || Config::new("https://dns.example.com").with_auth(BasicAuth::new(USER, "s3cr3t\n"));
    HttpReq::new(good()).unwrap();
    for change in [
        |config: &mut Config| config.endpoint = "http://dns.example.com".to_owned(),
        |config: &mut Config| config.endpoint = "dns.example.com".to_owned(),
        |config: &mut Config| config.endpoint = "https://u:s3cr3t@dns.example.com".to_owned(),
        |config: &mut Config| config.auth = Some(BasicAuth::new("a:b", "s3cr3t")),
        |config: &mut Config| config.auth = Some(BasicAuth::new("", "s3cr3t")),
        |config: &mut Config| config.auth = Some(BasicAuth::new(USER, "")),
    ] {
        let mut config = good();
        change(&mut config);
        let error = HttpReq::new(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
        assert!(error.hint().is_some() && !error.report().contains("s3cr3t"), "{}", error.report());
    }
}
