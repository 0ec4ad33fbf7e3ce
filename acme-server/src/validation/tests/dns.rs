//! dns-01 and dns-account-01.

use super::fakes::{FakeDns, Zone};
use super::*;
use crate::validation::txt::account_label;
use hickory_resolver::proto::rr::RecordType;

const PLACE: &str = "_acme-challenge.www.example.org";

async fn asked(zone: Zone) -> Result<(), Problem> {
    let dns = FakeDns::start(zone).await;
    outcome(by_dns(dns.address), &validation("www.example.org", "dns-01")).await
}

#[tokio::test]
async fn the_right_record_is_valid_alone_and_among_others() {
    let value = proof().txt_value();
    asked(Zone::default().txt(PLACE, &[&value])).await.unwrap();
    asked(Zone::default().txt(PLACE, &["old", &value, "other"])).await.unwrap();
}

#[tokio::test]
async fn the_strings_of_a_record_are_joined() {
    let value = proof().txt_value();
    let (start, end) = value.split_at(20);
    asked(Zone::default().txt_in_parts(PLACE, &[start, end])).await.unwrap();
    let done = asked(Zone::default().txt(PLACE, &[start, end])).await;
    assert_refused(done, ProblemType::Unauthorized, "(and 1 more)");
}

#[tokio::test]
async fn aliases_are_followed() {
    let zone = Zone::default()
        .alias(PLACE, "a.example.net")
        .alias("a.example.net", "b.example.net")
        .txt("b.example.net", &[&proof().txt_value()]);
    asked(zone).await.unwrap();
}

#[tokio::test]
async fn an_alias_loop_ends() {
    let zone = Zone::default().alias(PLACE, "a.example.net").alias("a.example.net", PLACE);
    asked(zone).await.unwrap_err();
}

#[tokio::test]
async fn a_wildcard_is_checked_at_its_domain() {
    let dns = FakeDns::start(Zone::default().txt(PLACE, &[&proof().txt_value()])).await;
    outcome(by_dns(dns.address), &validation("*.www.example.org", "dns-01")).await.unwrap();
}

#[tokio::test]
async fn another_value_is_quoted_without_the_proof() {
    let done = asked(Zone::default().txt(PLACE, &["wrong\"", "x"])).await;
    let want = format!(r#"Incorrect TXT record "wrong\"" (and 1 more) found at {PLACE}"#);
    assert_refused(done, ProblemType::Unauthorized, &want);
    let done = asked(Zone::default().txt(PLACE, &[&proof_text()])).await;
    assert_refused(done, ProblemType::Unauthorized, "[key authorization]");
}

#[tokio::test]
async fn no_record_is_unauthorized() {
    let want = format!("No TXT record found at {PLACE}");
    assert_refused(asked(Zone::default()).await, ProblemType::Unauthorized, &want);
    assert_refused(asked(Zone::default().txt(PLACE, &[])).await, ProblemType::Unauthorized, &want);
}

#[tokio::test]
async fn a_failing_server_is_a_dns_problem() {
    let zone = Zone::default().fails(PLACE, RecordType::TXT);
    assert_refused(asked(zone).await, ProblemType::Dns, &format!("SERVFAIL looking up TXT for {PLACE}"));
}

#[tokio::test]
async fn a_silent_server_is_a_dns_problem_in_time() {
    let dns = FakeDns::start(Zone::default().silent(PLACE, RecordType::TXT)).await;
    let config = by_dns(dns.address).with_timeout(Duration::from_millis(400));
    let done = tokio::time::timeout(
        Duration::from_secs(3),
        outcome(config, &validation("www.example.org", "dns-01")),
    )
    .await
    .unwrap();
    assert_eq!(done.unwrap_err().kind(), ProblemType::Dns);
}

#[tokio::test]
async fn a_silent_server_is_a_dns_problem_for_kinds_that_connect_too() {
    let zone =
        Zone::default().silent("www.example.org", RecordType::A).silent("www.example.org", RecordType::AAAA);
    let dns = FakeDns::start(zone).await;
    for kind in ["http-01", "tls-alpn-01"] {
        let config = by_dns(dns.address).with_timeout(Duration::from_secs(1));
        let done = outcome(config, &validation("www.example.org", kind)).await;
        assert_refused(done, ProblemType::Dns, "timed out looking up A");
    }
}

#[tokio::test]
async fn an_answer_too_long_for_udp_comes_by_tcp() {
    let mut values: Vec<String> = (0..60).map(|number| format!("{number:0>200}")).collect();
    values.push(proof().txt_value());
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    asked(Zone::default().tcp_only().txt(PLACE, &values)).await.unwrap();
}

#[tokio::test]
async fn a_server_may_have_an_ipv6_address() {
    let zone = Zone::default().txt(PLACE, &[&proof().txt_value()]);
    let dns = FakeDns::start_at("::1".parse().unwrap(), zone).await;
    outcome(by_dns(dns.address), &validation("www.example.org", "dns-01")).await.unwrap();
}

#[tokio::test]
async fn a_second_question_is_not_answered_from_memory() {
    let validator_of = |address| RealValidator::new(by_dns(address)).unwrap();
    let first = FakeDns::start(Zone::default()).await;
    let validator = validator_of(first.address);
    let validation = validation("www.example.org", "dns-01");
    validator.validate(&validation).await.unwrap_err();
    let right = FakeDns::start(Zone::default().txt(PLACE, &[&proof().txt_value()])).await;
    validator_of(right.address).validate(&validation).await.unwrap();
    validator.validate(&validation).await.unwrap_err();
}

#[tokio::test]
async fn a_name_too_long_for_the_label_is_a_dns_problem() {
    let name = format!("{}example.org", "abcdefg.".repeat(30));
    let dns = FakeDns::start(Zone::default()).await;
    let done = outcome(by_dns(dns.address), &validation(&name, "dns-01")).await;
    assert_refused(done, ProblemType::Dns, "too long or malformed");
}

#[test]
fn the_account_label_is_that_of_the_draft() {
    // The example of draft-ietf-acme-dns-account-label section 3.2.
    assert_eq!(account_label("https://example.com/acme/acct/ExampleAccount"), "_ujmmovf2vn55tgye");
}

#[tokio::test]
async fn dns_account_01_looks_below_the_accounts_label() {
    let value = proof().txt_value();
    let place = format!("{}.{PLACE}", account_label(ACCOUNT));
    let dns = FakeDns::start(Zone::default().txt(&place, &[&value])).await;
    outcome(by_dns(dns.address), &validation("www.example.org", "dns-account-01")).await.unwrap();
    outcome(by_dns(dns.address), &validation("*.www.example.org", "dns-account-01")).await.unwrap();
    let mut other = validation("www.example.org", "dns-account-01");
    other.account_url = "https://ca.example/acct/2".to_owned();
    let done = outcome(by_dns(dns.address), &other).await;
    assert_refused(done, ProblemType::Unauthorized, "No TXT record found at _");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_validator_checks_many_at_once() {
    let value = proof().txt_value();
    let zone = (0..300).fold(Zone::default(), |zone, number| {
        zone.txt(&format!("_acme-challenge.{number}.example.org"), &[&value])
            .caa(&format!("{number}.example.org"), &[(false, "issue", "ca.example")])
    });
    let dns = FakeDns::start(zone).await;
    let validator = RealValidator::new(by_dns(dns.address).with_caa(true)).unwrap();
    let checks = (0..300).map(|number| {
        let validation = validation(&format!("{number}.example.org"), "dns-01");
        let validator = &validator;
        async move { validator.validate(&validation).await }
    });
    for done in futures_util::future::join_all(checks).await {
        done.unwrap();
    }
}
