//! What is counted and timed, over the `metrics` facade: for Prometheus, or whatever recorder the program installs.
//!
//! All of it needs the feature `metrics`; without it nothing here is called, and nothing linked. A recorder is told what
//! each metric means when a [`Pipeline`](crate::Pipeline) is built, so it had better be installed before that.
//!
//! | name | kind | labels | unit | meaning |
//! |---|---|---|---|---|
//! | `acmekit_certificate_not_after_timestamp_seconds` | gauge | `certificate` | seconds since 1970 | until when the stored certificate is valid; `NaN` once a [`Manager`](crate::Manager) no longer looks after it |
//! | `acmekit_renewals_total` | counter | `authority`, `result` | | certificates stored, first ones too (`issued`), and runs that ended in an error (why) |
//! | `acmekit_deployments_total` | counter | `deployer`, `result` | | deployments, by what came of them |
//! | `acmekit_ca_request_duration_seconds` | histogram | `authority`, `request`, `result` | seconds | one HTTP request to a CA, until its answer is read |
//! | `acmekit_challenge_duration_seconds` | histogram | `kind`, `phase`, `result` | seconds | a solver's work on one challenge; for dns-01 that is the DNS |
//! | `acmekit_dns_provider_call_duration_seconds` | histogram | `provider`, `op`, `result` | seconds | one call of a DNS provider, once its turn has come |
//! | `acmekit_budget_left` | gauge | `authority`, `limit` | orders | what was left of the account's limit when it was last charged, or asked for |
//! | `acmekit_budget_blocked_until_timestamp_seconds` | gauge | `authority` | seconds since 1970 | until when the CA wants no order at all; 0 if it has said nothing of the kind |
//!
//! # Labels
//! | label | values |
//! |---|---|
//! | `certificate` | the certificate's [id](crate::CertificateId) |
//! | `authority`, `deployer`, `provider` | the id of each |
//! | `request` | `directory`, `newNonce`, `newAccount`, `newOrder`, `order`, `authorization`, `challenge`, `validation` (waiting for it), `finalize`, `issuance` (waiting for it), `certificate`, `renewalInfo`, `revokeCert` |
//! | `kind` | `dns-01`, `http-01`, …: those there is a solver for |
//! | `phase` | `prepare`, `present`, `ready`, `cleanup` |
//! | `op` | as in errors: `dns01.zone`, `dns01.provider`, `dns01.present`, `dns01.cleanup` |
//! | `limit` | `orders_per_account` |
//! | `result` | of what went well: `issued`; `applied`, `already-current`; `2xx` to `5xx`; `ok` |
//! | | of what did not: an [`ErrorKind`](crate::ErrorKind) as `rate-limited`; `dropped` where nobody waited for the end |
//! | | of renewals also `budget-spent`, where the CA was not even asked, and `busy`, where another process is at it |
//!
//! So the number of series is bounded by what the program configures. No label holds a URL, free text or a secret.
//!
//! What is left of a budget grows by itself, but is told only when it is looked at: whoever shows it calls
//! [`Manager::status`](crate::Manager::status) or [`Pipeline::budget_left`](crate::Pipeline::budget_left) now and then.

/// Gauge: until when a certificate is valid.
pub const CERTIFICATE_NOT_AFTER: &str = "acmekit_certificate_not_after_timestamp_seconds";
/// Counter: certificates got, and failures to get them.
pub const RENEWALS: &str = "acmekit_renewals_total";
/// Counter: deployments.
pub const DEPLOYMENTS: &str = "acmekit_deployments_total";
/// Histogram: requests to CAs.
pub const CA_REQUEST_DURATION: &str = "acmekit_ca_request_duration_seconds";
/// Histogram: the work of solvers.
pub const CHALLENGE_DURATION: &str = "acmekit_challenge_duration_seconds";
/// Histogram: the calls of DNS providers.
pub const DNS_PROVIDER_CALL_DURATION: &str = "acmekit_dns_provider_call_duration_seconds";
/// Gauge: what is left of a CA's limit.
pub const BUDGET_LEFT: &str = "acmekit_budget_left";
/// Gauge: until when a CA wants no order.
pub const BUDGET_BLOCKED_UNTIL: &str = "acmekit_budget_blocked_until_timestamp_seconds";

#[cfg(not(feature = "metrics"))]
pub(crate) use self::nothing::*;
#[cfg(feature = "metrics")]
pub(crate) use self::recorded::*;

#[cfg(feature = "metrics")]
mod recorded {
    use std::time::{SystemTime, UNIX_EPOCH};

    use ::metrics::{
        Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
    };
    use http::StatusCode;
    use tokio::time::Instant;

    use super::*;
    use crate::{CertificateId, ChallengeKind, Error, ErrorKind, Outcome, Result};

    /// Tells the recorder what each metric means.
    pub(crate) fn describe() {
        describe_gauge!(
            CERTIFICATE_NOT_AFTER,
            Unit::Seconds,
            "Until when the stored certificate is valid, in seconds since 1970."
        );
        describe_counter!(
            RENEWALS,
            Unit::Count,
            "Certificates got, first ones too, and runs that ended in an error."
        );
        describe_counter!(DEPLOYMENTS, Unit::Count, "Deployments, by what came of them.");
        describe_histogram!(
            CA_REQUEST_DURATION,
            Unit::Seconds,
            "One HTTP request to a CA, until its answer is read."
        );
        describe_histogram!(CHALLENGE_DURATION, Unit::Seconds, "A solver's work on one challenge.");
        describe_histogram!(DNS_PROVIDER_CALL_DURATION, Unit::Seconds, "One call of a DNS provider.");
        describe_gauge!(
            BUDGET_LEFT,
            Unit::Count,
            "What was left of the CA's limit when it was last charged or asked for."
        );
        describe_gauge!(
            BUDGET_BLOCKED_UNTIL,
            Unit::Seconds,
            "Until when the CA wants no order, in seconds since 1970; 0 if it has not said so."
        );
    }

    /// Until when a certificate is valid has become known.
    pub(crate) fn expires(certificate: &CertificateId, not_after: SystemTime) {
        gauge!(CERTIFICATE_NOT_AFTER, "certificate" => certificate.to_string()).set(seconds(not_after));
    }

    /// A certificate is nobody's concern any more. The facade cannot take a series back; `NaN` raises no alarm.
    pub(crate) fn forgotten(certificate: &CertificateId) {
        gauge!(CERTIFICATE_NOT_AFTER, "certificate" => certificate.to_string()).set(f64::NAN);
    }

    /// A new certificate is in the store.
    pub(crate) fn issued(authority: &str) {
        renewal(authority, "issued");
    }

    /// A run has ended without one.
    pub(crate) fn failed(authority: &str, error: &Error) {
        let word = match (error.kind(), error.op()) {
            (ErrorKind::Conflict, "lease.take") => "busy",
            (ErrorKind::RateLimited, op) if op.starts_with("budget") => "budget-spent",
            (kind, _) => kind.as_str(),
        };
        renewal(authority, word);
    }

    fn renewal(authority: &str, result: &'static str) {
        counter!(RENEWALS, "authority" => authority.to_owned(), "result" => result).increment(1);
    }

    /// A deployment has ended.
    pub(crate) fn deployed(deployer: &str, result: &Result<Outcome>) {
        let word = match result {
            Ok(Outcome::Applied) => "applied",
            Ok(Outcome::AlreadyCurrent) => "already-current",
            Err(error) => error.kind().as_str(),
        };
        counter!(DEPLOYMENTS, "deployer" => deployer.to_owned(), "result" => word).increment(1);
    }

    /// What is left of the orders of an account, and until when the CA wants none.
    pub(crate) fn budget(authority: &str, (orders, blocked_until): (Option<u32>, Option<SystemTime>)) {
        if let Some(orders) = orders {
            let labels = [("authority", authority.to_owned()), ("limit", "orders_per_account".to_owned())];
            gauge!(BUDGET_LEFT, &labels).set(orders);
        }
        let until = blocked_until.map_or(0.0, seconds);
        gauge!(BUDGET_BLOCKED_UNTIL, "authority" => authority.to_owned()).set(until);
    }

    /// Times a request to a CA.
    pub(crate) async fn requesting<H, B>(
        authority: &str,
        request: &'static str,
        work: impl Future<Output = Result<(StatusCode, H, B)>>,
    ) -> Result<(StatusCode, H, B)> {
        let labels =
            vec![Label::new("authority", authority.to_owned()), Label::from_static_parts("request", request)];
        timed(CA_REQUEST_DURATION, labels, work, |(status, ..)| class(*status)).await
    }

    /// Times a solver's work.
    pub(crate) async fn solving<T>(
        kind: ChallengeKind,
        phase: &'static str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let labels =
            vec![Label::new("kind", kind.as_str().to_owned()), Label::from_static_parts("phase", phase)];
        timed(CHALLENGE_DURATION, labels, work, |_| "ok").await
    }

    /// Times a call of a DNS provider.
    pub(crate) async fn calling<T>(
        provider: &str,
        op: &'static str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let labels = vec![Label::new("provider", provider.to_owned()), Label::from_static_parts("op", op)];
        timed(DNS_PROVIDER_CALL_DURATION, labels, work, |_| "ok").await
    }

    async fn timed<T>(
        name: &'static str,
        labels: Vec<Label>,
        work: impl Future<Output = Result<T>>,
        well: fn(&T) -> &'static str,
    ) -> Result<T> {
        let mut watch = Watch { name, labels, result: "dropped", started: Instant::now() };
        let done = work.await;
        watch.result = match &done {
            Ok(done) => well(done),
            Err(error) => error.kind().as_str(),
        };
        done
    }

    /// Is looked at when it goes: what somebody stops waiting for counts, too, for it is the slowest of all.
    struct Watch {
        name: &'static str,
        labels: Vec<Label>,
        result: &'static str,
        started: Instant,
    }

    impl Drop for Watch {
        fn drop(&mut self) {
            let mut labels = std::mem::take(&mut self.labels);
            labels.push(Label::from_static_parts("result", self.result));
            histogram!(self.name, labels).record(self.started.elapsed());
        }
    }

    fn class(status: StatusCode) -> &'static str {
        match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => "other",
        }
    }

    fn seconds(time: SystemTime) -> f64 {
        time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }
}

/// The same, for those who measure nothing.
#[cfg(not(feature = "metrics"))]
mod nothing {
    use std::time::SystemTime;

    use crate::{CertificateId, ChallengeKind, Error, Outcome, Result};

    pub(crate) fn describe() {}
    pub(crate) fn expires(_: &CertificateId, _: SystemTime) {}
    pub(crate) fn forgotten(_: &CertificateId) {}
    pub(crate) fn issued(_: &str) {}
    pub(crate) fn failed(_: &str, _: &Error) {}
    pub(crate) fn deployed(_: &str, _: &Result<Outcome>) {}
    pub(crate) fn budget(_: &str, _: (Option<u32>, Option<SystemTime>)) {}
    pub(crate) fn requesting<F: Future>(_: &str, _: &'static str, work: F) -> F {
        work
    }
    pub(crate) fn solving<F: Future>(_: ChallengeKind, _: &'static str, work: F) -> F {
        work
    }
    pub(crate) fn calling<F: Future>(_: &str, _: &'static str, work: F) -> F {
        work
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_in_the_table_above() {
        let table = include_str!("metrics.rs");
        for name in [
            CERTIFICATE_NOT_AFTER,
            RENEWALS,
            DEPLOYMENTS,
            CA_REQUEST_DURATION,
            CHALLENGE_DURATION,
            DNS_PROVIDER_CALL_DURATION,
            BUDGET_LEFT,
            BUDGET_BLOCKED_UNTIL,
        ] {
            assert!(table.contains(&format!("//! | `{name}` | ")), "{name}");
        }
    }
}
