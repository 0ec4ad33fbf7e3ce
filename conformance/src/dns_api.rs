//! Clause D17, for providers that speak to a vendor's HTTP API: whatever the API answers, or does not, it is told for
//! what it is, in time, and nothing is left behind.
//!
//! It runs on a fake of the API ([`Api`]), at each kind of request that adding a value makes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use acmekit_core::{DnsProvider, Error, ErrorKind, RecordHandle, Retry, TxtRecord, async_trait};

use crate::api::{Answer, Api, Fault};
use crate::dns_provider::{self, name, zone_of};

/// What the suite runs on, beside what it needs of every provider.
#[async_trait]
pub trait Subject: dns_provider::Subject {
    /// The vendor's API, as a fake has it.
    fn api(&self) -> &Api;

    /// The provider, with no more than two seconds for a request.
    fn impatient(&self) -> Arc<dyn DnsProvider>;
}

/// How long a call may take whose requests have two seconds each, with what it makes of them.
const IN_TIME: Duration = Duration::from_secs(30);

/// Has every request of a kind meet the fault, one kind after the other.
async fn told(subject: &dyn Subject, label: &str, fault: &Fault, kinds: &[ErrorKind], also: impl Fn(&Error)) {
    let at = name(subject, label);
    let zone = zone_of(subject, &at).await;
    let (provider, api) = (subject.impatient(), subject.api());
    // What is asked when nothing is wrong.
    let before = api.asked().len();
    let added = provider.add_txt(&zone, &TxtRecord::new(at.clone(), value("fine"))).await;
    let handle = added.unwrap_or_else(|e| panic!("D17: add_txt failed without a fault: {}", e.report()));
    let methods: BTreeSet<String> = api.asked().into_iter().skip(before).map(|asked| asked.method).collect();
    assert!(!methods.is_empty(), "D17: nothing was asked");
    remove(&provider, &handle, fault).await;
    for method in methods {
        let record = TxtRecord::new(at.clone(), value(&format!("met-at-{method}")));
        let intent = RecordHandle::intent(provider.id(), zone.clone(), record.clone());
        api.fail_all(&method, fault.clone());
        let ended = tokio::time::timeout(IN_TIME, provider.add_txt(&zone, &record)).await;
        api.mend();
        let ended =
            ended.unwrap_or_else(|_| panic!("D17: {fault:?} at each {method}: no end in {IN_TIME:?}"));
        let Err(error) = ended else {
            // Who looks whether it was done although nobody said so may say so.
            let is_there = *fault == Fault::HangUpAfter && subject.lookup(&at).await.contains(&record.value);
            assert!(is_there, "D17: {fault:?} at each {method} was taken for success");
            remove(&provider, &intent, fault).await;
            continue;
        };
        let (kind, report) = (error.kind(), error.report());
        assert!(kinds.contains(&kind), "D17: {fault:?} at each {method} is told as {kind:?}: {report}");
        assert!(
            error.hint().is_some() || kind != ErrorKind::Auth,
            "D17: the error says not what to do: {report}"
        );
        let shown = format!("{report} {error:?}");
        assert!(!shown.contains(&subject.secret()), "D17: the credential is shown");
        also(&error);
        remove(&provider, &intent, fault).await;
    }
}

/// As long as those of dns-01: some servers take no others.
fn value(text: &str) -> String {
    format!("{text:_<43}")
}

async fn remove(provider: &Arc<dyn DnsProvider>, handle: &RecordHandle, fault: &Fault) {
    let removed = provider.remove_txt(handle).await;
    removed.unwrap_or_else(|e| panic!("D17: after {fault:?} a value cannot be removed: {}", e.report()));
}

/// D17: a limit is told with the time that the vendor wants, and not waited for when it is long.
pub async fn d17_a_limit_is_told_with_the_vendors_time(subject: &dyn Subject) {
    let limit = Answer::json(429, "{}").with("retry-after", "3600");
    told(subject, "d17-limit", &Fault::Instead(limit), &[ErrorKind::RateLimited], |error| {
        let Retry::After(wait) = error.retry() else {
            panic!("D17: the vendor's time is not handed on: {error:?}");
        };
        let hour = Duration::from_secs(3500)..=Duration::from_secs(3600);
        assert!(hour.contains(&wait), "D17: the vendor says an hour, the error says {wait:?}");
    })
    .await;
}

/// D17: a refused credential is told as one, whether with a body or without.
pub async fn d17_a_refusal_is_told_as_one(subject: &dyn Subject) {
    for (label, answer) in [
        ("d17-401", Answer::new(401, "")),
        ("d17-403", Answer::new(403, "")),
        ("d17-403-html", Answer::html(403, "<html><h1>Forbidden</h1>")),
    ] {
        told(subject, label, &Fault::Instead(answer), &[ErrorKind::Auth], |_| {}).await;
    }
}

/// D17: an outage is told as one, also where a proxy tells of it in HTML.
pub async fn d17_an_outage_is_told_as_one(subject: &dyn Subject) {
    for (label, answer) in [
        ("d17-500", Answer::new(500, "")),
        ("d17-502-html", Answer::html(502, "<html><h1>Bad Gateway</h1>")),
        ("d17-503", Answer::json(503, "{}")),
    ] {
        told(subject, label, &Fault::Instead(answer), &[ErrorKind::Unavailable], |_| {}).await;
    }
}

/// D17: what is no answer of the vendor's is not taken for success; who looks whether it was done may say that it was
/// undone.
pub async fn d17_nonsense_is_no_success(subject: &dyn Subject) {
    let kinds = [ErrorKind::Protocol, ErrorKind::Unavailable, ErrorKind::Conflict];
    for (label, answer) in [
        ("d17-html", Answer::html(200, "<html>Please log in")),
        ("d17-cut", Answer::json(200, r#"{"result": [{"#)),
        ("d17-other", Answer::json(200, "[[[1]]]")),
    ] {
        told(subject, label, &Fault::Instead(answer), &kinds, |_| {}).await;
    }
}

/// D17: a connection that ends before the answer is told; what had been done can be undone.
pub async fn d17_a_connection_that_ends_is_told(subject: &dyn Subject) {
    told(subject, "d17-end", &Fault::HangUpAfter, &[ErrorKind::Unavailable], |_| {}).await;
}

/// D17: a vendor that is silent, or stops within an answer, or never ends it, costs its time and no more.
pub async fn d17_silence_costs_its_time_and_no_more(subject: &dyn Subject) {
    for (label, fault, kinds) in [
        ("d17-silence", Fault::Silence, &[ErrorKind::Timeout][..]),
        ("d17-stops", Fault::BodyThatStops, &[ErrorKind::Timeout]),
        ("d17-endless", Fault::EndlessBody, &[ErrorKind::Protocol, ErrorKind::Timeout]),
    ] {
        told(subject, label, &fault, kinds, |_| {}).await;
    }
}

/// Expands every clause into a test, as [`dns_provider_suite!`](crate::dns_provider_suite) does.
#[macro_export]
macro_rules! dns_api_suite {
    ($subject:expr $(, skip { $($clause:ident : $why:literal),* $(,)? })? $(,)?) => {
        $crate::__clauses! { @all ($) dns_api ($subject) [$($($clause $why)*)?]
            d17_a_limit_is_told_with_the_vendors_time
            d17_a_refusal_is_told_as_one
            d17_an_outage_is_told_as_one
            d17_nonsense_is_no_success
            d17_a_connection_that_ends_is_told
            d17_silence_costs_its_time_and_no_more
        }
    };
}
