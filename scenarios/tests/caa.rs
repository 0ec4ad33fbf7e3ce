//! CAA records, looked up through a real BIND before anything is ordered.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use acmekit::dns::{CaaRequest, check_caa};
use acmekit::solvers::{Http01, Http01Responder};
use acmekit::stores::MemoryStore;
use acmekit::{CertificateSpec, ChallengeKind, Deadline, Error, ErrorKind, Identifier, Pipeline, Retry};
use acmekit_scenarios::{NoProof, Recorder, resolver, trusted};
use acmekit_server::TestCa;
use acmekit_testbed::Bind;

/// A zone like a top-level domain, and two below it.
async fn dns(records: &[&str]) -> Bind {
    let zones = Bind::builder().zone("test").zone("example.test").zone("other.test").log_queries();
    records.iter().fold(zones, |zones, record| zones.record(record)).start().await.unwrap()
}

type Allowed = BTreeMap<Identifier, BTreeSet<ChallengeKind>>;

fn request() -> CaaRequest {
    let challenges = [ChallengeKind::Dns01, ChallengeKind::Http01];
    CaaRequest::new(["ca.example"], challenges).with_account("https://ca.example/acct/1")
}

async fn check(dns: &Bind, names: &[&str]) -> Result<Allowed, Error> {
    let names: Vec<Identifier> = names.iter().map(|name| name.parse().unwrap()).collect();
    check_caa(&resolver(dns).unwrap(), &names, &request(), Deadline::after(Duration::from_secs(20))).await
}

async fn forbidden(dns: &Bind, name: &str) -> Error {
    let error = check(dns, &[name]).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Rejected, Retry::Never), "{}", error.report());
    assert!(error.to_string().contains(&format!("identifier={name}, ")), "{error}");
    assert!(error.to_string().contains("issuer=ca.example"), "{error}");
    error
}

/// The names whose CAA records it was asked for, once for each question.
fn asked(dns: &Bind) -> Vec<String> {
    let log = dns.log();
    // `… 127.0.0.1#40001 (example.test): query: example.test IN CAA …`: a question that is sent again, because
    // its datagram or the answer's was late, comes from the same port.
    let questions: BTreeSet<(&str, &str)> = log
        .lines()
        .filter_map(|line| {
            let (client, question) = line.split_once(": query: ")?;
            Some((client.split_once(" 127.0.0.1#")?.1, question.split_once(" IN CAA")?.0))
        })
        .collect();
    questions.into_iter().map(|(_, name)| name.to_owned()).collect()
}

#[tokio::test]
async fn without_records_everything_is_allowed() {
    let dns = dns(&[]).await;
    let allowed = check(&dns, &["www.example.test", "*.example.test", "192.0.2.1", "::1"]).await.unwrap();
    let of = |name: &str| allowed[&name.parse().unwrap()].iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(of("www.example.test"), ["dns-01", "http-01"]);
    assert_eq!(of("*.example.test"), ["dns-01"]);
    assert_eq!((of("192.0.2.1").len(), of("::1").len()), (2, 2), "addresses have no CAA records");
    assert_eq!(asked(&dns).len(), 3, "{:?}", asked(&dns));
}

#[tokio::test]
async fn the_nearest_records_count_up_to_the_top_level_domain() {
    let dns = dns(&[
        r#"test. 1 IN CAA 0 issue "tld.example""#,
        r#"example.test. 1 IN CAA 0 issue "CA.example""#,
        r#"no.example.test. 1 IN CAA 0 issue ";""#,
        r#"no.example.test. 1 IN CAA 0 iodef "mailto:a@example.test""#,
        "deep.www.example.test. 1 IN A 127.0.0.1",
    ])
    .await;
    // The apex itself, a name that is there, one that is not, and one between them.
    let names = ["example.test", "deep.www.example.test", "a.b.example.test", "www.example.test"];
    assert_eq!(check(&dns, &names).await.unwrap().len(), 4);

    let error = forbidden(&dns, "x.no.example.test").await;
    let told = error.to_string();
    assert!(told.contains("at=no.example.test") && told.contains(r#"0 issue ";""#), "{told}");
    assert!(told.contains(r#"0 iodef "mailto:a@example.test""#), "{told}");
    let hint = r#"add this record: no.example.test. CAA 0 issue "ca.example""#;
    assert_eq!(error.hint(), Some(hint));

    // Nobody can add to the records of a top-level domain, but everybody before them.
    let error = forbidden(&dns, "www.other.test").await;
    assert!(error.to_string().contains("at=test, records=0 issue \"tld.example\""), "{error}");
    assert_eq!(error.hint(), Some(r#"add this record: www.other.test. CAA 0 issue "ca.example""#));
}

#[tokio::test]
async fn the_record_of_the_hint_helps() {
    let dns = dns(&[r#"example.test. 1 IN CAA 0 issuewild "else.example""#]).await;
    let error = forbidden(&dns, "*.example.test").await;
    let record = error.hint().unwrap().strip_prefix("add this record: ").unwrap().to_owned();
    assert_eq!(record, r#"example.test. CAA 0 issuewild "ca.example""#);
    let added = record.replacen(" CAA", " 1 CAA", 1);
    dns.update(dns.tsig(), "example.test", &format!("add {added}")).await.unwrap();
    check(&dns, &["*.example.test"]).await.unwrap();
}

#[tokio::test]
async fn an_alias_is_followed_but_not_climbed_from() {
    let dns = dns(&[
        r#"example.test. 1 IN CAA 0 issue "ca.example""#,
        "alias.example.test. 1 IN CNAME hop.example.test.",
        "hop.example.test. 1 IN CNAME cdn.other.test.",
        r#"cdn.other.test. 1 IN CAA 0 issue "else.example""#,
        r#"other.test. 1 IN CAA 0 issue ";""#,
        "free.example.test. 1 IN CNAME host.other.test.",
        "host.other.test. 1 IN A 127.0.0.1",
        "dangling.example.test. 1 IN CNAME gone.other.test.",
        "parent.example.test. 1 IN CNAME cdn.other.test.",
    ])
    .await;
    let error = forbidden(&dns, "alias.example.test").await;
    // The alias can have no record beside it, so it belongs to where it leads.
    assert_eq!(error.hint(), Some(r#"add this record: cdn.other.test. CAA 0 issue "ca.example""#));
    // RFC 8659 section 3 goes on at the parent of the name, RFC 6844 went on at that of the target.
    check(&dns, &["free.example.test", "dangling.example.test"]).await.unwrap();
    // A parent that is an alias counts like any other.
    forbidden(&dns, "www.parent.example.test").await;
}

#[tokio::test]
async fn issuewild_counts_for_wildcards_only() {
    let dns = dns(&[
        r#"example.test. 1 IN CAA 0 issue "ca.example""#,
        r#"example.test. 1 IN CAA 0 issuewild ";""#,
        r#"other.test. 1 IN CAA 0 issue ";""#,
        r#"other.test. 1 IN CAA 0 issuewild "ca.example""#,
    ])
    .await;
    check(&dns, &["example.test", "www.example.test", "*.other.test"]).await.unwrap();
    let error = forbidden(&dns, "*.example.test").await;
    assert!(error.hint().is_some_and(|hint| hint.contains("CAA 0 issuewild \"ca.example\"")), "{error:?}");
    forbidden(&dns, "other.test").await;
    // A wildcard is looked up at the name without `*.`, not at its parent.
    forbidden(&dns, "*.www.example.test").await;
}

#[tokio::test]
async fn account_and_methods_are_weighed() {
    let dns = dns(&[
        r#"a.example.test. 1 IN CAA 0 issue "ca.example; accounturi=https://ca.example/acct/1; validationmethods=dns-01""#,
        r#"b.example.test. 1 IN CAA 0 issue "ca.example; accounturi=https://ca.example/acct/2""#,
        r#"c.example.test. 1 IN CAA 0 issue "ca.example; validationmethods=tls-alpn-01""#,
    ])
    .await;
    let allowed = check(&dns, &["a.example.test"]).await.unwrap();
    assert_eq!(allowed.into_values().next().unwrap(), BTreeSet::from([ChallengeKind::Dns01]));
    let error = forbidden(&dns, "b.example.test").await;
    let hint =
        r#"add this record: b.example.test. CAA 0 issue "ca.example; accounturi=https://ca.example/acct/1""#;
    assert_eq!(error.hint(), Some(hint));
    let error = forbidden(&dns, "c.example.test").await;
    assert!(error.hint().is_some_and(|hint| hint.contains("validationmethods=dns-01,http-01")), "{error:?}");
}

#[tokio::test]
async fn a_critical_property_nobody_knows_forbids() {
    let dns = dns(&[
        r#"a.example.test. 1 IN CAA 0 issue "ca.example""#,
        r#"a.example.test. 1 IN CAA 128 averyveryverylongtag "x""#,
        r#"b.example.test. 1 IN CAA 0 issue "ca.example""#,
        r#"b.example.test. 1 IN CAA 0 averyveryverylongtag "x""#,
    ])
    .await;
    let error = forbidden(&dns, "a.example.test").await;
    assert!(error.hint().is_some_and(|hint| hint.contains("`averyveryverylongtag`")), "{error:?}");
    check(&dns, &["b.example.test"]).await.unwrap();
}

#[tokio::test]
async fn a_lame_delegation_is_an_error_that_explains() {
    let dns = dns(&["lame.example.test. 1 IN NS ns.nowhere.example."]).await;
    for name in ["lame.example.test", "*.www.lame.example.test"] {
        let error = check(&dns, &[name]).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Backoff), "{error}");
        assert!(error.to_string().contains("answers Server Failure"), "{error}");
        let hint = error.hint().unwrap();
        assert!(hint.contains("the CA will see this too") && hint.contains("DNSSEC"), "{hint}");
    }
    check(&dns, &["www.example.test"]).await.unwrap();
}

#[tokio::test]
async fn a_frozen_resolver_costs_the_deadline() {
    let dns = dns(&[]).await;
    dns.freeze().unwrap();
    let name: Identifier = "www.example.test".parse().unwrap();
    let deadline = Deadline::after(Duration::from_secs(1));
    let error = check_caa(&resolver(&dns).unwrap(), [&name], &request(), deadline).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("name=www.example.test"), "{error}");
    dns.thaw().unwrap();
}

#[tokio::test]
async fn a_hundred_names_of_one_domain_ask_for_each_name_once() {
    let dns = dns(&[r#"example.test. 1 IN CAA 0 issue "ca.example""#]).await;
    let names: Vec<String> = (0..98).map(|i| format!("h{i}.example.test")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.extend(["example.test", "*.example.test"]);
    assert_eq!(check(&dns, &names).await.unwrap().len(), 100);
    let once: BTreeSet<String> = asked(&dns).into_iter().collect();
    assert_eq!((asked(&dns).len(), once.len()), (99, 99), "{:?}", asked(&dns));
}

#[tokio::test]
async fn all_that_is_forbidden_is_told_at_once() {
    let dns = dns(&[r#"example.test. 1 IN CAA 0 issue ";""#]).await;
    let names: Vec<String> = (0..9).map(|i| format!("h{i}.example.test")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.push("www.other.test");
    let error = check(&dns, &names).await.unwrap_err();
    let rest =
        "h1.example.test, h2.example.test, h3.example.test, h4.example.test, h5.example.test, and 3 more";
    assert!(error.to_string().contains("issue for h0.example.test: none of them names this CA"), "{error}");
    assert!(error.to_string().contains(&format!("also_forbidden={rest}")), "{error}");
}

#[tokio::test]
async fn a_ca_that_says_no_name_is_not_looked_for() {
    let dns = dns(&[r#"example.test. 1 IN CAA 0 issue ";""#]).await;
    let name: Identifier = "www.example.test".parse().unwrap();
    let nameless = CaaRequest::new(Vec::<String>::new(), [ChallengeKind::Dns01]);
    let deadline = Deadline::after(Duration::from_secs(20));
    let allowed = check_caa(&resolver(&dns).unwrap(), [&name], &nameless, deadline).await.unwrap();
    assert_eq!((allowed.len(), asked(&dns).len()), (1, 0));
}

#[tokio::test]
async fn what_the_records_forbid_is_not_ordered_and_what_they_ask_for_is_used() {
    let dns = dns(&[
        r#"example.test. 1 IN CAA 0 issue "elsewhere.example""#,
        r#"www.other.test. 1 IN CAA 0 issue "ca.example.test; validationmethods=http-01""#,
    ])
    .await;
    let ca = TestCa::builder().always_valid().start().await.unwrap();
    let authority = trusted(&ca.directory_url(), ca.root_pem()).unwrap();
    let seen = Recorder::default();
    let acme = Pipeline::builder(authority, Arc::new(MemoryStore::new()))
        .solver(NoProof::default())
        .solver(Http01::new(Http01Responder::default()))
        .caa(resolver(&dns).unwrap())
        .observer(seen.observer())
        .build()
        .unwrap();
    let forbidden = CertificateSpec::new(["www.example.test"]).unwrap();
    let error = acme.obtain(&forbidden).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected, "{}", error.report());
    assert_eq!(ca.state().orders().len(), 0);
    acme.obtain(&CertificateSpec::new(["www.other.test"]).unwrap()).await.unwrap();
    assert!(seen.all().iter().any(|event| event.contains("\"kind\":\"http-01\"")), "{:?}", seen.all());
}
