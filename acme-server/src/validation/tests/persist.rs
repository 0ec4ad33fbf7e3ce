//! dns-persist-01.

use std::time::SystemTime;

use super::fakes::{FakeDns, Zone};
use super::*;

const PLACE: &str = "_validation-persist.www.example.org";
const NOW: u64 = 1_800_000_000;

#[derive(Debug)]
struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }
}

async fn asked(identifier: &str, records: &[&str]) -> Result<(), Problem> {
    let dns = FakeDns::start(Zone::default().txt(PLACE, records)).await;
    let config = by_dns(dns.address).with_clock(Arc::new(Fixed));
    outcome(config, &validation(identifier, "dns-persist-01")).await
}

#[tokio::test]
async fn a_record_that_names_ca_and_account_is_valid() {
    for record in [
        "ca.example;accounturi=https://ca.example/acct/1",
        " CA.example. ; accounturi = https://ca.example/acct/1 ",
        "other.ca.example; AccountURI=https://ca.example/acct/1; policy=other",
        "ca.example; accounturi=https://ca.example/acct/1; unknown=a b; policy=wildcard",
        "ca.example; accounturi=https://ca.example/acct/1; persistUntil=1800000000",
    ] {
        asked("www.example.org", &[record]).await.unwrap();
    }
}

#[tokio::test]
async fn a_wildcard_needs_the_policy() {
    let account = "ca.example; accounturi=https://ca.example/acct/1";
    asked("*.www.example.org", &[&format!("{account}; policy=WildCard")]).await.unwrap();
    for policy in ["", "; policy=none"] {
        let done = asked("*.www.example.org", &[&format!("{account}{policy}")]).await;
        assert_refused(done, ProblemType::Unauthorized, "policy=wildcard");
    }
}

#[tokio::test]
async fn records_that_do_not_permit_are_unauthorized() {
    for (record, why) in [
        ("ca.example; accounturi=https://ca.example/acct/2", "another account"),
        ("ca.example; accounturi=https://ca.example/ACCT/1", "another account"),
        ("ca.example; accounturi=https://ca.example/acct/1; persistUntil=1799999999", "has passed"),
        ("else.example; accounturi=https://ca.example/acct/1", "names this CA"),
        ("sub.ca.example; accounturi=https://ca.example/acct/1", "names this CA"),
        ("", "names this CA"),
        (";", "names this CA"),
    ] {
        assert_refused(asked("www.example.org", &[record]).await, ProblemType::Unauthorized, why);
    }
    let done = asked("www.example.org", &[]).await;
    assert_refused(done, ProblemType::Unauthorized, "No TXT record found");
}

#[tokio::test]
async fn a_record_for_this_ca_with_a_mistake_is_malformed() {
    let account = "accounturi=https://ca.example/acct/1";
    for record in [
        "ca.example".to_owned(),
        "ca.example; accounturi=".to_owned(),
        format!("ca.example; {account};"),
        format!("ca.example; {account}; x"),
        format!("ca.example; {account}; =x"),
        format!("ca.example; {account}; AccountUri=x"),
        format!("ca.example; {account} b"),
        format!("ca.example; {account}; persistUntil="),
        format!("ca.example; {account}; persistUntil=tomorrow"),
        format!("ca.example; {account}; persistUntil=1; persistUntil=2"),
    ] {
        let done = asked("www.example.org", &[&record]).await;
        assert_refused(done, ProblemType::Malformed, "is not usable");
    }
}

#[tokio::test]
async fn one_good_record_is_enough() {
    let good = "ca.example; accounturi=https://ca.example/acct/1";
    let records = ["v=spf1 -all", "ca.example; x", "ca.example; accounturi=https://ca.example/acct/9", good];
    asked("www.example.org", &records).await.unwrap();
}

#[tokio::test]
async fn with_a_hash_prefix_the_account_is_hashed() {
    // The example of draft-ietf-acme-dns-persist-02 section 10.2.
    let hashed = "5SQm7n6tPh2-PlLbCKGnViTXX5z19SCN4cPGQHSk-kw";
    let of_any_name = "NpDnSwUthQK8zCgFdefYxAdAVPnygMLbs9US6oO-5ug";
    let proof = KeyAuthorization::new(TOKEN, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    let account = "https://ca.example/acct/123";
    let check = async |identifier: &str, uri: String| {
        let place = format!("_validation-persist.{identifier}");
        let zone = Zone::default().txt(&place, &[&format!("ca.example; accounturi={uri}")]);
        let dns = FakeDns::start(zone).await;
        let config = by_dns(dns.address).with_account_hash_prefix("https://ca.example/account-hash/");
        let mut validation = validation(identifier, "dns-persist-01");
        (validation.key_authorization, validation.account_url) = (proof.clone(), account.to_owned());
        outcome(config, &validation).await
    };
    let prefix = "https://ca.example/account-hash/sha-256/";
    check("example.com", format!("{prefix}{hashed}")).await.unwrap();
    check("example.com", format!("{prefix}{of_any_name}")).await.unwrap();
    check("example.org", format!("{prefix}{of_any_name}")).await.unwrap();
    for (identifier, uri) in [
        ("example.org", format!("{prefix}{hashed}")),
        ("example.com", account.to_owned()),
        ("example.com", format!("https://else.example/sha-256/{hashed}")),
    ] {
        assert_refused(check(identifier, uri).await, ProblemType::Unauthorized, "another account");
    }
}
