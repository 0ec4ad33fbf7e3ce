//! What is counted, by what, and what the client is told.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use acmekit_core::Identifier;
use acmekit_core::limits::{covering, prefix};

use super::{Limit, Limits};
use crate::{AccountId, Problem, ProblemType};

const PAGE: &str = "https://letsencrypt.org/docs/rate-limits/#";

/// Identifiers regardless of their order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ExactSet(Vec<Identifier>);

impl ExactSet {
    pub(super) fn new(identifiers: &[Identifier]) -> Self {
        let mut sorted = identifiers.to_vec();
        sorted.sort();
        sorted.dedup();
        Self(sorted)
    }
}

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Bucket {
    RegistrationsPerAddress(IpAddr),
    /// By the first address of the /48.
    RegistrationsPerRange(Ipv6Addr),
    OrdersPerAccount(AccountId),
    /// By [`covering`].
    CertificatesPerDomain(String),
    CertificatesPerSet(ExactSet),
    Failures(AccountId, Identifier),
    ConsecutiveFailures(AccountId, Identifier),
}

impl Bucket {
    /// Those of a new account from this address. An IPv4 address in IPv6 clothes is an IPv4 address.
    pub(super) fn registrations(from: IpAddr) -> Vec<Self> {
        let from = from.to_canonical();
        let mut buckets = vec![Self::RegistrationsPerAddress(from)];
        if let IpAddr::V6(address) = from {
            buckets.push(Self::RegistrationsPerRange(prefix(address, 48)));
        }
        buckets
    }

    /// Those of the registered domains of these identifiers, each once.
    pub(super) fn domains(identifiers: &[Identifier]) -> Vec<Self> {
        let mut covers: Vec<_> = identifiers.iter().map(covering).collect();
        covers.sort();
        covers.dedup();
        covers.into_iter().map(Self::CertificatesPerDomain).collect()
    }

    pub(super) fn limit(&self, limits: &Limits) -> Option<Limit> {
        match self {
            Self::RegistrationsPerAddress(_) => limits.registrations_per_address,
            Self::RegistrationsPerRange(_) => limits.registrations_per_range,
            Self::OrdersPerAccount(_) => limits.orders_per_account,
            Self::CertificatesPerDomain(domain) => limits.for_domain(domain),
            Self::CertificatesPerSet(_) => limits.certificates_per_set,
            Self::Failures(..) => limits.failures,
            Self::ConsecutiveFailures(..) => limits.consecutive_failures,
        }
    }

    /// What a client is told that hit this bucket's limit: Boulder's texts (`ratelimits/limiter.go`,
    /// `errors/errors.go`). Boulder adds up to 3 % of the wait at random; here the instant is exact.
    pub(super) fn refusal(&self, limit: Limit, retry_at: SystemTime) -> Problem {
        let burst = limit.burst();
        let (what, anchor) = match self {
            Self::RegistrationsPerAddress(_) => (
                format!("too many new registrations ({burst}) from this IP address"),
                "new-registrations-per-ip-address",
            ),
            Self::RegistrationsPerRange(_) => (
                format!("too many new registrations ({burst}) from this /48 subnet of IPv6 addresses"),
                "new-registrations-per-ipv6-range",
            ),
            Self::OrdersPerAccount(_) => {
                (format!("too many new orders ({burst}) from this account"), "new-orders-per-account")
            }
            Self::CertificatesPerDomain(cover) => (
                format!("too many certificates ({burst}) already issued for \"{}\"", last_part(cover)),
                "new-certificates-per-registered-domain",
            ),
            Self::CertificatesPerSet(_) => (
                format!("too many certificates ({burst}) already issued for this exact set of identifiers"),
                "new-certificates-per-exact-set-of-identifiers",
            ),
            Self::Failures(_, identifier) | Self::ConsecutiveFailures(_, identifier) => (
                format!(
                    "too many failed authorizations ({burst}) for \"{}\"",
                    last_part(&identifier.to_string())
                ),
                "authorization-failures-per-identifier-per-account",
            ),
        };
        let (period, at) = (go_duration(limit.period()), timestamp(retry_at));
        let detail = format!("{what} in the last {period}, retry after {at}: see {PAGE}{anchor}");
        Problem::new(ProblemType::RateLimited, detail).with_retry_at(retry_at)
    }
}

/// Boulder takes the identifier out of the bucket's key again, from the last colon on: of an IPv6 network it names
/// only the end.
fn last_part(identifier: &str) -> &str {
    identifier.rsplit(':').next().unwrap_or(identifier)
}

/// As Go's layout `2006-01-02 15:04:05 MST` prints it in UTC. Rounded up to the full second: who retries then, does
/// not retry too early.
fn timestamp(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::MAX);
    let seconds = at.as_second().saturating_add(i64::from(at.subsec_nanosecond() > 0));
    let at = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// As Go prints a `time.Duration`: `168h0m0s`, `1.5s`, `20ms`.
fn go_duration(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if seconds == 0 {
        return match nanos {
            0 => "0s".to_owned(),
            1..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => format!("{}µs", decimal((nanos / 1_000).into(), nanos % 1_000, 3)),
            _ => format!("{}ms", decimal((nanos / 1_000_000).into(), nanos % 1_000_000, 6)),
        };
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let last = decimal(seconds % 60, nanos, 9);
    match (hours, minutes) {
        (0, 0) => format!("{last}s"),
        (0, _) => format!("{minutes}m{last}s"),
        _ => format!("{hours}h{minutes}m{last}s"),
    }
}

/// `whole` and the fraction of that many digits, without zeros at its end.
fn decimal(whole: u64, fraction: u32, digits: usize) -> String {
    let text = format!("{whole}.{fraction:0digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A map that forgets what no longer matters whenever it has doubled, so that it holds little more than what does.
#[derive(Debug)]
pub(super) struct Forgetful<K, V> {
    entries: HashMap<K, V>,
    sweep_at: usize,
}

impl<K: Eq + Hash, V> Forgetful<K, V> {
    const LEAST: usize = 64;

    pub(super) fn new() -> Self {
        Self { entries: HashMap::new(), sweep_at: Self::LEAST }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries.iter_mut()
    }

    /// Inserts; `matters` says which of the other entries still do.
    pub(super) fn insert(&mut self, key: K, value: V, matters: impl Fn(&V) -> bool) {
        if self.entries.len() >= self.sweep_at {
            self.entries.retain(|_, value| matters(value));
            self.sweep_at = self.entries.len().saturating_mul(2).max(Self::LEAST);
        }
        self.entries.insert(key, value);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (duration, want) in [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(7), "7ns"),
            (Duration::from_nanos(1_500), "1.5µs"),
            (Duration::from_millis(20), "20ms"),
            (Duration::from_millis(1_050), "1.05s"),
            (Duration::from_secs(1), "1s"),
            (Duration::from_secs(10), "10s"),
            (Duration::from_secs(90), "1m30s"),
            (Duration::from_secs(3_600), "1h0m0s"),
            (Duration::from_secs(604_800), "168h0m0s"),
        ] {
            assert_eq!(go_duration(duration), want);
        }
    }

    #[test]
    fn timestamps_are_rounded_up_to_the_second_and_bounded() {
        for (at, want) in [
            (UNIX_EPOCH, "1970-01-01 00:00:00 UTC"),
            (UNIX_EPOCH + Duration::from_nanos(1), "1970-01-01 00:00:01 UTC"),
            (UNIX_EPOCH - Duration::from_nanos(1), "1970-01-01 00:00:00 UTC"),
            (UNIX_EPOCH + Duration::from_secs(u64::MAX / 4), "9999-12-30 22:00:00 UTC"),
        ] {
            assert_eq!(timestamp(at), want);
        }
    }
}
