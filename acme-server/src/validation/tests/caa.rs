//! CAA.

use super::fakes::{FakeDns, Zone};
use super::*;
use hickory_resolver::proto::rr::RecordType;

type Property = (bool, &'static str, &'static str);

fn proven() -> Zone {
    Zone::default().txt("_acme-challenge.www.example.org", &[&proof().txt_value()])
}

async fn asked(zone: Zone, identifier: &str) -> Result<(), Problem> {
    let dns = FakeDns::start(zone).await;
    let config = ValidationConfig::new().with_dns_servers([dns.address]).with_timeout(Duration::from_secs(5));
    outcome(config, &validation(identifier, "dns-01")).await
}

async fn with(properties: &[Property], identifier: &str) -> Result<(), Problem> {
    asked(proven().caa("www.example.org", properties), identifier).await
}

#[tokio::test]
async fn records_that_permit_this_ca_do() {
    for properties in [
        &[][..],
        &[(false, "issue", "ca.example")],
        &[(true, "Issue", " CA.example. ")],
        &[(false, "issue", "else.example"), (false, "issue", "other.ca.example; unknown=1")],
        &[(false, "iodef", "mailto:a@example.org")],
        &[(false, "unknown", "x")],
        &[(false, "issuewild", ";")],
        &[(
            false,
            "issue",
            "ca.example; accounturi=https://ca.example/acct/1; validationmethods=http-01,dns-01",
        )],
        &[(false, "issue", "ca.example; accounturi=https://x"), (false, "issue", "ca.example")],
    ] {
        with(properties, "www.example.org").await.unwrap();
    }
}

#[tokio::test]
async fn records_that_forbid_are_a_caa_problem() {
    for (property, why) in [
        ((false, "issue", "else.example"), "no property names this CA"),
        ((false, "issue", ";"), "no property names this CA"),
        ((false, "issue", ""), "no property names this CA"),
        ((false, "issue", "sub.ca.example"), "no property names this CA"),
        ((false, "issue", "ca.example; x"), "no property names this CA"),
        ((true, "unknown", "x"), "critical property `unknown`"),
        ((false, "issue", "ca.example; accounturi=https://ca.example/acct/2"), "another account"),
        (
            (
                false,
                "issue",
                "ca.example; accounturi=https://ca.example/acct/1; accounturi=https://ca.example/acct/1",
            ),
            "twice",
        ),
        ((false, "issue", "ca.example; validationmethods=http-01,dns-account-01"), "does not have dns-01"),
        ((false, "issue", "ca.example; validationmethods="), "does not have dns-01"),
    ] {
        assert_refused(with(&[property], "www.example.org").await, ProblemType::Caa, why);
    }
}

#[tokio::test]
async fn issuewild_alone_counts_for_a_wildcard() {
    let wildcard = "*.www.example.org";
    let (issue, none): (Property, Property) = ((false, "issue", "ca.example"), (false, "issue", ";"));
    with(&[issue], wildcard).await.unwrap();
    with(&[none, (false, "issuewild", "ca.example")], wildcard).await.unwrap();
    for properties in [[issue, (false, "issuewild", ";")], [issue, (false, "issuewild", "else.example")]] {
        assert_refused(with(&properties, wildcard).await, ProblemType::Caa, "no property");
    }
}

#[tokio::test]
async fn the_nearest_set_counts() {
    let forbidden: &[Property] = &[(false, "issue", ";")];
    let done = asked(proven().caa("org", forbidden), "www.example.org").await;
    assert_refused(done, ProblemType::Caa, "CAA record for org");
    let zone = proven().caa("org", forbidden).caa("example.org", &[(false, "issue", "ca.example")]);
    asked(zone, "www.example.org").await.unwrap();
}

#[tokio::test]
async fn aliases_are_followed_but_not_climbed_from() {
    let forbidden: &[Property] = &[(false, "issue", ";")];
    let alias = || proven().alias("www.example.org", "a.example.net");
    let done = asked(alias().caa("a.example.net", forbidden), "www.example.org").await;
    assert_refused(done, ProblemType::Caa, "CAA record for www.example.org");
    // RFC 8659 section 3 climbs from the name itself, unlike RFC 6844.
    asked(alias().caa("example.net", forbidden), "www.example.org").await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_looked_up_forbids() {
    let done = asked(proven().fails("example.org", RecordType::CAA), "www.example.org").await;
    assert_refused(done, ProblemType::Caa, "SERVFAIL looking up CAA for example.org");
}

#[tokio::test]
async fn caa_is_left_alone_when_switched_off_or_the_ca_has_no_name() {
    let dns = FakeDns::start(proven().caa("example.org", &[(false, "issue", ";")])).await;
    let validation = validation("www.example.org", "dns-01");
    outcome(by_dns(dns.address), &validation).await.unwrap();
    let nameless = validation.clone().with_issuer_domains(Vec::<String>::new());
    let on = || by_dns(dns.address).with_caa(true);
    outcome(on(), &nameless).await.unwrap();
    assert_refused(outcome(on(), &validation).await, ProblemType::Caa, "prevents issuance");
}
