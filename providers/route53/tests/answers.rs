//! What becomes of errors, of strange answers and of none; and roles.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use std::time::Duration;

use acmekit_conformance::api::{Answer, Fault};
use acmekit_core::{DnsProvider, Error, ErrorKind, Retry, TxtRecord, Zone};
use acmekit_route53::{Config, Credential, Role, Route53};

use self::fake::{Fake, KEY_ID, ROLE_TOKEN, SECRET, ZONE, error};

const NAME: &str = "_acme-challenge.deep.example.test";
const CHANGE: &str = "POST /2013-04-01/hostedzone/Z0DEEPEXAMPLETEST/rrset";

async fn add(provider: &Route53) -> Result<(), Error> {
    let zone = Zone::new("deep.example.test".parse().unwrap()).with_id(ZONE);
    provider.add_txt(&zone, &TxtRecord::new(NAME.parse().unwrap(), "value")).await.map(drop)
}

fn throttling() -> Answer {
    error(400, "Throttling", "Rate exceeded")
}

fn prior() -> Answer {
    error(
        400,
        "PriorRequestNotComplete",
        "The request was rejected because Route 53 was still processing a prior request.",
    )
}

#[tokio::test]
async fn what_is_throttled_is_made_again() {
    let fake = Fake::start().await;
    for answer in
        [throttling(), prior(), error(503, "ServiceUnavailable", "try again"), Answer::html(502, "<html>")]
    {
        fake.api.fail(CHANGE, Fault::Instead(answer));
        let provider = fake.provider();
        add(&provider).await.unwrap();
        fake.put("TXT", NAME, 60, &["\"other\""]);
    }
    assert_eq!(fake.api.count(CHANGE), 8);
}

#[tokio::test]
async fn what_stays_throttled_says_so_after_four_attempts() {
    for (answer, kind) in [
        (throttling(), ErrorKind::RateLimited),
        (prior(), ErrorKind::RateLimited),
        (Answer::html(502, "<html><body>Bad Gateway</body></html>"), ErrorKind::Unavailable),
    ] {
        let fake = Fake::start().await;
        for _ in 0..4 {
            fake.api.fail(CHANGE, Fault::Instead(answer.clone()));
        }
        let error = add(&fake.provider()).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (kind, Retry::Backoff), "{}", error.report());
        assert!(!error.report().contains("<html"), "{}", error.report());
        assert_eq!(fake.api.count(CHANGE), 4);
    }
}

#[tokio::test]
async fn an_answer_that_was_lost_makes_no_second_value() {
    let fake = Fake::start().await;
    fake.api.fail(CHANGE, Fault::HangUpAfter);
    add(&fake.provider()).await.unwrap();
    assert_eq!(fake.values(NAME), ["\"value\""]);
    fake.put("TXT", NAME, 60, &["\"other\""]);
    fake.api.fail(CHANGE, Fault::After(Answer::html(502, "<html>")));
    add(&fake.provider()).await.unwrap();
    assert_eq!(fake.values(NAME), ["\"other\"", "\"value\""]);
}

#[tokio::test]
async fn what_cannot_be_read_is_no_answer() {
    let cut = "<?xml version=\"1.0\"?>\n<ListResourceRecordSetsResponse><ResourceRecordSets><Resou";
    for body in [cut, "<html>", ""] {
        let fake = Fake::start().await;
        // However often it is asked again.
        for _ in 0..4 {
            fake.api.fail("GET", Fault::Instead(Answer::new(200, body).with("content-type", "text/xml")));
        }
        match add(&fake.provider()).await {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Protocol, "`{body}`: {}", error.report()),
            Ok(()) => panic!("`{body}` was believed"),
        }
        assert_eq!(fake.api.count(CHANGE), 0, "`{body}`: something was changed by what could not be read");
    }
    // Nor is a value believed to be gone, or a zone.
    let cut_zones = "<?xml version=\"1.0\"?>\n<ListHostedZonesResponse><HostedZones><HostedZo";
    for body in [cut, cut_zones] {
        let fake = Fake::start().await;
        let provider = fake.provider();
        let zone = Zone::new("deep.example.test".parse().unwrap()).with_id(ZONE);
        let handle = provider.add_txt(&zone, &TxtRecord::new(NAME.parse().unwrap(), "value")).await.unwrap();
        for _ in 0..4 {
            fake.api.fail("GET", Fault::Instead(Answer::new(200, body).with("content-type", "text/xml")));
        }
        let done = match body == cut {
            true => provider.remove_txt(&handle).await,
            false => provider.zone(&handle.record.name).await.map(drop),
        };
        assert_eq!(done.unwrap_err().kind(), ErrorKind::Protocol, "`{body}`");
        assert_eq!(fake.values(NAME), ["\"value\""]);
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_misses_the_deadline() {
    let fake = Fake::start().await;
    for start in ["GET", CHANGE] {
        fake.api.fail(start, Fault::Silence);
        let error = add(&fake.hurried(Duration::from_millis(400))).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Timeout, Retry::Backoff), "{}", error.report());
        assert!(error.to_string().contains("deadline=400ms"), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let port = acmekit_testbed::free_port().unwrap();
    let config =
        Config::new(Credential::keys(KEY_ID, SECRET)).with_endpoint(format!("http://{}", port.addr()));
    let error = add(&Route53::new(config).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn codes_of_credentials_are_auth_and_are_not_tried_again() {
    for code in ["AccessDenied", "ExpiredToken", "SignatureDoesNotMatch", "InvalidClientTokenId"] {
        let fake = Fake::start().await;
        fake.api.fail(CHANGE, Fault::Instead(error(403, code, "no")));
        let error = add(&fake.provider()).await.unwrap_err();
        assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Auth, Some(code)), "{}", error.report());
        assert!(error.hint().is_some());
        assert_eq!(fake.api.count(CHANGE), 1, "{code}");
    }
}

fn with_role(fake: &Fake, external_id: &str) -> Route53 {
    let role = Role::new("arn:aws:iam::123456789012:role/acme").with_session_name("renewals");
    let mut config = fake.config().with_role(role.with_external_id(external_id));
    config.sts_endpoint = Some(fake.api.url());
    Route53::new(config).unwrap()
}

#[tokio::test]
async fn a_role_is_assumed_once_and_signs() {
    let fake = Fake::start().await;
    let provider = with_role(&fake, "the-id");
    assert_eq!(fake.api.count(""), 0, "something was sent before it was needed");
    add(&provider).await.unwrap();
    assert_eq!(fake.values(NAME), ["\"value\""]);
    assert_eq!(fake.api.asked().iter().filter(|asked| asked.path == "/").count(), 1);
    let route53: Vec<_> = fake.api.asked().into_iter().filter(|asked| asked.path != "/").collect();
    assert!(route53.iter().all(|asked| asked.header("x-amz-security-token") == Some(ROLE_TOKEN)));
}

#[tokio::test]
async fn a_role_that_is_refused_is_told() {
    let fake = Fake::start().await;
    let error = add(&with_role(&fake, "another-id")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Auth, Retry::Never), "{}", error.report());
    assert!(error.hint().unwrap().contains("external id"), "{}", error.report());
    assert_eq!(fake.api.count(CHANGE), 0);
}

#[test]
fn making_one_needs_neither_a_runtime_nor_a_credential() {
    let provider = Route53::new(Config::default()).unwrap();
    assert_eq!(provider.id(), "route53");
    assert_eq!(provider.limits().call_timeout, Duration::from_secs(125));
}
