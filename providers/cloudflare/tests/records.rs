//! What is written, what is left alone, and what happens when the API does not do as it should.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use std::time::Duration;

use acmekit_cloudflare::{Cloudflare, Credential};
use acmekit_conformance::api::{Answer, Fault};
use acmekit_core::{DnsProvider, Error, ErrorKind, RecordHandle, Result, Retry, TxtRecord, Zone};

use self::fake::{Fake, PARENT, Scope, TOKEN};

const NAME: &str = "_acme-challenge.example.test";

fn zone() -> Zone {
    Zone::new("example.test".parse().unwrap()).with_id(PARENT)
}

fn record(value: &str) -> TxtRecord {
    TxtRecord::new(NAME.parse().unwrap(), value)
}

async fn add(fake: &Fake, value: &str) -> Result<RecordHandle> {
    fake.provider(TOKEN).add_txt(&zone(), &record(value)).await
}

fn intent(value: &str) -> RecordHandle {
    RecordHandle::intent("cloudflare", zone(), record(value))
}

fn what(error: &Error) -> (ErrorKind, Retry) {
    (error.kind(), error.retry())
}

#[tokio::test]
async fn a_value_is_one_record_in_quotes_with_a_comment_and_the_smallest_ttl() {
    let fake = Fake::start().await;
    let handle = add(&fake, "aZ09-_").await.unwrap();
    let asked = fake.api.asked().pop().unwrap();
    assert_eq!(asked.line(), format!("POST /client/v4/zones/{PARENT}/dns_records"));
    let want =
        format!(r#"{{"type":"TXT","name":"{NAME}","content":"\"aZ09-_\"","ttl":60,"comment":"acmekit"}}"#);
    assert_eq!(asked.body, want);
    assert_eq!(handle, intent("aZ09-_").with_id(handle.id.clone().unwrap()));
    assert_eq!(fake.provider(TOKEN).limits().min_ttl, Duration::from_secs(60));
    for (asked, sent) in [(1, 60), (3600, 3600), (1_000_000, 86_400)] {
        let record = record(&format!("ttl-{asked}")).with_ttl(Duration::from_secs(asked));
        fake.provider(TOKEN).add_txt(&zone(), &record).await.unwrap();
        assert_eq!(fake.change(|inner| inner.records.last().unwrap().ttl), sent);
    }
}

#[tokio::test]
async fn a_plan_that_wants_more_gets_a_ttl_of_120() {
    let fake = Fake::start().await;
    fake.change(|inner| inner.min_ttl = 120);
    add(&fake, "value").await.unwrap();
    assert_eq!(fake.change(|inner| inner.records[0].ttl), 120);
    fake.change(|inner| inner.min_ttl = 7200);
    let error = add(&fake, "another").await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Protocol, Retry::Never), "{}", error.report());
    assert_eq!(error.vendor_code(), Some("1004/9021"));
}

#[tokio::test]
async fn a_value_that_is_there_already_is_found_on_whatever_page_it_is() {
    let fake = Fake::start().await;
    let mut ids: Vec<String> =
        (0..5).map(|number| fake.plant(PARENT, "TXT", NAME, &format!("value-{number}"))).collect();
    fake.change(|inner| inner.page = Some(2));
    let handle = add(&fake, "value-4").await.unwrap();
    assert_eq!(handle.id, ids.pop());
    assert_eq!(fake.api.count("GET"), 3);
    assert_eq!(fake.values(NAME).len(), 5);

    let older = r#"{"success":false,"errors":[{"code":81057,"message":"The record already exists."}],"messages":[],"result":null}"#;
    fake.api.fail("POST", Fault::Instead(Answer::json(400, older)));
    assert_eq!(add(&fake, "value-0").await.unwrap().id.as_ref(), ids.first());
    // There, says the one; not there, says the other: somebody else is at work.
    fake.api.fail("POST", Fault::Instead(Answer::json(400, older)));
    let error = add(&fake, "nowhere").await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Conflict, Retry::Backoff), "{}", error.report());
}

#[tokio::test]
async fn an_answer_that_was_lost_makes_no_second_record() {
    let fake = Fake::start().await;
    fake.api.fail("POST", Fault::After(Answer::json(500, "{}")));
    let error = add(&fake, "value").await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Unavailable, Retry::Backoff), "{}", error.report());
    assert_eq!(fake.api.count("POST"), 1, "a write was repeated blindly");
    let handle = add(&fake, "value").await.unwrap();
    assert_eq!(fake.values(NAME), ["value"]);
    fake.api.fail("DELETE", Fault::After(Answer::json(502, "{}")));
    fake.provider(TOKEN).remove_txt(&handle).await.unwrap_err();
    fake.provider(TOKEN).remove_txt(&handle).await.unwrap();
    assert!(fake.values(NAME).is_empty());
}

#[tokio::test]
async fn what_others_have_at_the_name_stays() {
    let fake = Fake::start().await;
    fake.plant(PARENT, "TXT", NAME, "theirs");
    fake.plant(PARENT, "CAA", NAME, "mine");
    fake.plant(PARENT, "TXT", "other.example.test", "mine");
    let handle = add(&fake, "mine").await.unwrap();
    fake.provider(TOKEN).remove_txt(&handle).await.unwrap();
    assert_eq!(fake.change(|inner| inner.records.len()), 3);
    // Our record, but somebody has given it another content since.
    let handle = add(&fake, "mine").await.unwrap();
    fake.change(|inner| inner.records.last_mut().unwrap().content = "\"edited\"".to_owned());
    fake.provider(TOKEN).remove_txt(&handle).await.unwrap();
    assert_eq!(fake.values(NAME), ["theirs", "edited"]);
}

#[tokio::test]
async fn a_record_that_no_list_shows_yet_is_removed_by_its_id() {
    let fake = Fake::start().await;
    let handle = add(&fake, "value").await.unwrap();
    fake.change(|inner| inner.unlisted = handle.id.clone());
    fake.provider(TOKEN).remove_txt(&handle).await.unwrap();
    assert!(fake.change(|inner| inner.records.is_empty()));
    fake.provider(TOKEN).remove_txt(&handle).await.unwrap();
}

#[tokio::test]
async fn a_record_that_goes_away_under_our_hands_is_no_error() {
    let fake = Fake::start().await;
    let handle = add(&fake, "value").await.unwrap();
    fake.api.fail(
        "DELETE",
        Fault::Instead(Answer::json(
            404,
            r#"{"success":false,"errors":[{"code":81044,"message":"Record does not exist."}],"messages":[],"result":null}"#,
        )),
    );
    fake.provider(TOKEN).remove_txt(&handle).await.unwrap();
}

#[tokio::test]
async fn a_name_with_a_cname_says_so() {
    let fake = Fake::start().await;
    fake.plant(PARENT, "CNAME", NAME, "elsewhere.example");
    let error = add(&fake, "value").await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Protocol, Retry::Never), "{}", error.report());
    assert!(error.hint().unwrap().contains("CNAME"), "{}", error.report());
}

#[tokio::test]
async fn a_token_that_may_not_write_is_told_which_permission_it_needs() {
    let token = "tokEN-that-may-only-read_0123456789abcde";
    let fake = Fake::start().await.with_token(token, Scope::ReadOnly);
    let error = fake.provider(token).add_txt(&zone(), &record("value")).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Auth, Some("10000")), "{}", error.report());
    assert!(error.hint().unwrap().contains("Zone → DNS → Edit"), "{}", error.report());
    fake.plant(PARENT, "TXT", NAME, "value");
    let error = fake.provider(token).remove_txt(&intent("value")).await.unwrap_err();
    assert!(error.hint().unwrap().contains("Zone → DNS → Edit"), "{}", error.report());
    // Some refusals come with status 200.
    let body = r#"{"success":false,"errors":[{"code":10000,"message":"Authentication error"}],"messages":[],"result":null}"#;
    fake.api.fail("POST", Fault::Instead(Answer::json(200, body)));
    assert_eq!(add(&fake, "another").await.unwrap_err().kind(), ErrorKind::Auth);
}

/// <https://community.cloudflare.com/t/do-requests-to-cloudflares-api-include-an-object-error-or-headers-when-rate-limited/109192>
const LIMITED: &str = r#"{"success":false,"errors":[{"code":10100,"message":"More than 1200 requests per 300 seconds reached. Please wait and consider throttling your request speed"}],"messages":[],"result":null}"#;

fn limited(seconds: &'static str) -> Fault {
    Fault::Instead(Answer::json(429, LIMITED).with("retry-after", seconds))
}

#[tokio::test]
async fn a_limit_is_waited_for_where_that_is_short_and_told_where_it_is_long() {
    let fake = Fake::start().await;
    fake.plant(PARENT, "TXT", NAME, "value");
    fake.api.fail("GET", limited("0"));
    fake.api.fail("GET", limited("0"));
    fake.provider(TOKEN).remove_txt(&intent("value")).await.unwrap();
    assert_eq!(fake.api.count("GET"), 3);

    fake.api.fail("GET", limited("300"));
    let error = fake.provider(TOKEN).remove_txt(&intent("value")).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::RateLimited, Retry::After(Duration::from_secs(300))), "{error}");
    assert_eq!((error.vendor_code(), fake.api.count("GET")), (Some("10100"), 4));

    // Not even this is a reason to repeat a write.
    fake.api.fail("POST", limited("0"));
    let error = add(&fake, "another").await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::RateLimited, Retry::After(Duration::ZERO)), "{error}");
    assert_eq!(fake.api.count("POST"), 1);
}

#[tokio::test]
async fn a_page_of_html_is_not_mistaken_for_an_answer() {
    let page = "<html><head><title>502 Bad Gateway</title></head></html>";
    let broken = || Fault::Instead(Answer::html(502, page));
    let fake = Fake::start().await;
    for _ in 0..3 {
        fake.api.fail("GET", broken());
    }
    let error = fake.provider(TOKEN).remove_txt(&intent("value")).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Unavailable, Retry::Backoff), "{}", error.report());
    assert!(error.to_string().contains("502 with an HTML page instead of JSON"), "{error}");
    assert!(!error.report().contains("<html>"), "{}", error.report());
    assert_eq!(fake.api.count("GET"), 3);
    fake.api.fail("POST", broken());
    assert_eq!(add(&fake, "value").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(fake.api.count("POST"), 1);

    // A proxy that knows no such page says nothing of the record.
    fake.api.fail("DELETE", Fault::Instead(Answer::html(404, page)));
    let handle = add(&fake, "value").await.unwrap();
    let error = fake.provider(TOKEN).remove_txt(&handle).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Protocol, Retry::Never), "{}", error.report());

    // A login page in front of everything.
    fake.api.fail("DELETE", Fault::Instead(Answer::html(200, page)));
    let error = fake.provider(TOKEN).remove_txt(&handle).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Protocol, Retry::Never), "{}", error.report());
}

#[tokio::test]
async fn json_of_another_form_is_a_protocol_error_that_shows_none_of_it() {
    let fake = Fake::start().await;
    for body in [r#"{"result":"s3cr3t"}"#, "s3cr3t", "[", ""] {
        fake.api.fail("POST", Fault::Instead(Answer::json(200, body)));
        let error = add(&fake, "value").await.unwrap_err();
        assert_eq!(what(&error), (ErrorKind::Protocol, Retry::Never), "{body}: {}", error.report());
        assert!(!format!("{} {error:?}", error.report()).contains("s3cr3t"), "{}", error.report());
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_not_read_for_ever() {
    let fake = Fake::start().await;
    fake.api.fail("GET", Fault::EndlessBody);
    let error = fake.provider(TOKEN).remove_txt(&intent("value")).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Protocol, Retry::Never), "{}", error.report());
    assert!(error.to_string().contains("longer than 1 MiB"), "{error}");
}

#[tokio::test]
async fn a_server_that_falls_silent_misses_the_deadline() {
    let fake = Fake::start().await;
    let mut config = fake.config(Credential::token(TOKEN));
    config.timeout = Duration::from_millis(200);
    let provider = Cloudflare::new(config).unwrap();
    for fault in [Fault::Silence, Fault::BodyThatStops] {
        fake.api.fail("POST", fault);
        let error = provider.add_txt(&zone(), &record("value")).await.unwrap_err();
        assert_eq!(what(&error), (ErrorKind::Timeout, Retry::Backoff), "{}", error.report());
        let shown = error.to_string();
        let phase = format!("phase=POST /client/v4/zones/{PARENT}/dns_records");
        assert!(shown.contains(&phase) && shown.contains("deadline=200ms"), "{shown}");
        assert!(error.hint().unwrap().contains("not known"), "{}", error.report());
    }
}
