//! What happens when the API does not do as it should.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use std::time::Duration;

use acmekit_conformance::api::{Answer, Fault};
use acmekit_core::{DnsProvider, Error, ErrorKind, RecordHandle, Result, Retry, TxtRecord, Zone};
use acmekit_desec::Desec;

use self::fake::{Fake, TOKEN};

const NAME: &str = "_acme-challenge.example.test";

fn zone() -> Zone {
    Zone::new("example.test".parse().unwrap())
}

fn record() -> TxtRecord {
    TxtRecord::new(NAME.parse().unwrap(), "value")
}

async fn add(fake: &Fake) -> Result<RecordHandle> {
    fake.provider().add_txt(&zone(), &record()).await
}

async fn remove(fake: &Fake) -> Result<()> {
    fake.provider().remove_txt(&RecordHandle::intent("desec", zone(), record())).await
}

fn what(error: &Error) -> (ErrorKind, Retry) {
    (error.kind(), error.retry())
}

fn throttled(seconds: u64) -> Fault {
    Fault::Instead(fake::answers::throttled(seconds))
}

#[tokio::test]
async fn a_limit_is_waited_for_where_that_is_short_and_told_where_it_is_long() {
    let fake = Fake::start().await;
    fake.api.fail("POST", throttled(1));
    add(&fake).await.unwrap();
    assert_eq!(fake.count("POST"), 2);
    // Between the two it was read again.
    let lines: Vec<String> = fake.asked("").into_iter().map(|(line, _)| line).collect();
    let posts: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with("POST")).collect();
    assert!(
        lines[posts[0]..posts[1]].iter().any(|line| line.ends_with("/_acme-challenge/TXT/")),
        "{lines:?}"
    );

    fake.api.fail("DELETE", throttled(57));
    let error = remove(&fake).await.unwrap_err();
    let want = (ErrorKind::RateLimited, Retry::After(Duration::from_secs(57)));
    assert_eq!(what(&error), want, "{}", error.report());
    assert!(error.to_string().contains("Expected available in 57 seconds"), "{error}");
    assert_eq!(fake.count("DELETE"), 1);
}

#[tokio::test]
async fn a_limit_that_does_not_end_is_told_after_a_few_times() {
    let fake = Fake::start().await;
    for _ in 0..6 {
        fake.api.fail("POST", throttled(0));
    }
    let error = add(&fake).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::RateLimited, Retry::After(Duration::ZERO)), "{}", error.report());
    assert_eq!(fake.count("POST"), 6);
    // https://github.com/desec-io/desec-stack/blob/main/api/desecapi/exceptions.py: it says no time.
    let concurrent = Answer::json(429, r#"{"detail":"Too many concurrent requests."}"#);
    fake.api.fail("POST", Fault::Instead(concurrent));
    let error = add(&fake).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::RateLimited, Retry::Backoff), "{}", error.report());
}

#[tokio::test]
async fn a_refused_token_says_what_it_needs() {
    let fake = Fake::start().await;
    let provider = Desec::new(fake.config("nobody-k-NOWS_this-token_1234")).unwrap();
    let error = provider.zone(&record().name).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Auth, Retry::Never), "{}", error.report());
    assert!(error.to_string().contains("Invalid token.") && error.to_string().contains(NAME), "{error}");
    assert!(error.hint().unwrap().contains("expired"), "{}", error.report());
    // https://www.django-rest-framework.org/api-guide/exceptions/#permissiondenied
    let body = r#"{"detail":"You do not have permission to perform this action."}"#;
    fake.api.fail("POST", Fault::Instead(Answer::json(403, body)));
    let error = add(&fake).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Auth, Retry::Never), "{}", error.report());
    assert!(error.hint().unwrap().contains("perm_write"), "{}", error.report());
}

#[tokio::test]
async fn a_domain_that_is_gone_is_not_found() {
    let fake = Fake::start().await;
    let gone = Zone::new("gone.test".parse().unwrap());
    let record = TxtRecord::new("a.gone.test".parse().unwrap(), "value");
    let error = fake.provider().add_txt(&gone, &record).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::NotFound, Retry::Never), "{}", error.report());
    assert!(error.hint().unwrap().contains("account"), "{}", error.report());
    // It was there a moment ago.
    fake.api.fail("POST", Fault::Instead(Answer::json(404, r#"{"detail":"Not found."}"#)));
    let error = add(&fake).await.unwrap_err();
    assert_eq!((error.kind(), fake.count("POST")), (ErrorKind::NotFound, 1), "{}", error.report());
}

#[tokio::test]
async fn a_page_of_html_is_not_mistaken_for_an_answer() {
    let page = "<html><head><title>502 Bad Gateway</title></head></html>";
    let fake = Fake::start().await;
    for _ in 0..3 {
        fake.api.fail("GET", Fault::Instead(Answer::html(502, page)));
    }
    let error = add(&fake).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Unavailable, Retry::Backoff), "{}", error.report());
    assert!(error.to_string().contains("502 with an HTML page instead of JSON"), "{error}");
    fake.api.fail("POST", Fault::Instead(Answer::html(502, page)));
    let error = add(&fake).await.unwrap_err();
    assert_eq!((error.kind(), fake.count("POST")), (ErrorKind::Unavailable, 1), "{}", error.report());
    // A proxy that knows no such page says nothing of the records: they are not taken for absent.
    fake.plant(NAME, "TXT", "\"value\"");
    fake.api.fail("GET", Fault::Instead(Answer::html(404, page)));
    let error = remove(&fake).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Protocol, Retry::Never), "{}", error.report());
}

#[tokio::test]
async fn json_that_is_cut_or_of_another_form_is_a_protocol_error_that_shows_none_of_it() {
    let fake = Fake::start().await;
    for body in [r#"{"records":["\"s3c"#, r#"{"records":"s3cr3t"}"#, "s3cr3t", "[]", ""] {
        fake.api.fail("GET /api/v1/domains/example.test/rrsets/", Fault::Instead(Answer::json(200, body)));
        let error = add(&fake).await.unwrap_err();
        assert_eq!(what(&error), (ErrorKind::Protocol, Retry::Never), "{body}: {}", error.report());
        assert!(!format!("{} {error:?}", error.report()).contains("s3c"), "{}", error.report());
    }
    assert_eq!(fake.writes(), 0, "it was written what was not read");
    for body in [r#"[{"name":"example.te"#, r#"[{"name":"a b"}]"#, "{}"] {
        fake.api.fail("GET", Fault::Instead(Answer::json(200, body)));
        let error = fake.provider().zone(&record().name).await.unwrap_err();
        assert_eq!(what(&error), (ErrorKind::Protocol, Retry::Never), "{body}: {}", error.report());
    }
    // What a change is answered with does not matter: it is read again.
    fake.api.fail("POST", Fault::After(Answer::json(201, "[")));
    add(&fake).await.unwrap();
}

#[tokio::test]
async fn a_body_that_never_ends_is_not_read_for_ever() {
    let fake = Fake::start().await;
    fake.api.fail("GET", Fault::EndlessBody);
    let error = remove(&fake).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Protocol, Retry::Never), "{}", error.report());
}

#[tokio::test]
async fn a_server_that_falls_silent_misses_the_deadline() {
    let fake = Fake::start().await;
    let mut config = fake.config(TOKEN);
    config.timeout = Duration::from_millis(200);
    let provider = Desec::new(config).unwrap();
    for (fault, path) in [(Fault::Silence, "POST"), (Fault::BodyThatStops, "POST"), (Fault::Silence, "GET")] {
        fake.api.fail(path, fault);
        let error = provider.add_txt(&zone(), &record()).await.unwrap_err();
        assert_eq!(what(&error), (ErrorKind::Timeout, Retry::Backoff), "{}", error.report());
        let shown = error.to_string();
        assert!(shown.contains(&format!("phase={path} /api/v1/domains/example.test/")), "{shown}");
        assert!(shown.contains("deadline=200ms"), "{shown}");
    }
    // Whoever waits for its turn is not held up by it.
    provider.add_txt(&zone(), &record()).await.unwrap();
}
