//! What a CA allows in a time: which limits there are, how high, and what they are counted by.
//!
//! The same values are enforced by `acmekit-server`, to test against, and kept to by a [`Pipeline`](crate::Pipeline) whose
//! authority has them ([`Authority::with_limits`](crate::Authority::with_limits)).

pub mod gcra;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::{Error, ErrorKind, Identifier, Result};

/// So many in a period, refilled evenly: one each `period / count`.
///
/// As text (JSON, TOML) an object of `count`, `period` (`"168h"`, `"3h"`, `"90s"`) and, where it is another than the
/// count, `burst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Limit {
    count: u32,
    burst: u32,
    period: Duration,
}

impl Limit {
    /// `count` in each `period`, all of which may come at once. A count of 0 is taken as 1: a limit that lets
    /// nothing through would name no time to retry at.
    pub const fn new(count: u32, period: Duration) -> Self {
        let count = if count == 0 { 1 } else { count };
        Self { count, burst: count, period }
    }

    /// With a bucket that holds `burst` instead of `count`; 0 is taken as 1.
    #[must_use]
    pub const fn with_burst(mut self, burst: u32) -> Self {
        self.burst = if burst == 0 { 1 } else { burst };
        self
    }

    /// How many are refilled in a period.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// How many may come at once.
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// The period.
    pub const fn period(self) -> Duration {
        self.period
    }

    /// How long it takes to refill one.
    pub fn interval(self) -> Duration {
        self.period / self.count
    }
}

/// A limit as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    count: u32,
    #[serde(with = "period")]
    period: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
}

impl TryFrom<Form> for Limit {
    type Error = String;
    fn try_from(form: Form) -> Result<Self, String> {
        match (form.count, form.burst) {
            (0, _) | (_, Some(0)) => {
                Err("a limit that lets nothing through: write a count and a burst of 1 or more".to_owned())
            }
            _ if form.period.is_zero() => {
                Err("a limit without a period limits nothing: leave it out".to_owned())
            }
            (count, burst) => Ok(Self::new(count, form.period).with_burst(burst.unwrap_or(count))),
        }
    }
}

impl From<Limit> for Form {
    fn from(limit: Limit) -> Self {
        let burst = (limit.burst != limit.count).then_some(limit.burst);
        Self { count: limit.count, period: limit.period, burst }
    }
}

/// A duration as text; read as all others are.
mod period {
    use super::{Duration, Serializer};
    pub(super) use crate::duration::deserialize;

    pub(super) fn serialize<S: Serializer>(period: &Duration, out: S) -> Result<S::Ok, S::Error> {
        let span = jiff::SignedDuration::try_from(*period).map_err(serde::ser::Error::custom)?;
        out.collect_str(&format_args!("{span:#}"))
    }
}

/// The limits to enforce, or to keep to; `None` is none.
///
/// ```
/// use acmekit_core::limits::Limits;
/// let ours = Limits::from_json(r#"{
///     "orders_per_account": { "count": 1500, "period": "3h" },
///     "certificates_per_domain": { "count": 50, "period": "168h" },
///     "certificates_per_domain_of": { "example.com": { "count": 2000, "period": "168h" } }
/// }"#)?;
/// assert_eq!(ours.for_domain("example.com").map(|limit| limit.count()), Some(2000));
/// # Ok::<(), acmekit_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Limits {
    /// The day on which these values were looked up, as `2026-08-01`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub as_of: String,
    /// Where they are published.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// New accounts from one IP address.
    pub registrations_per_address: Option<Limit>,
    /// New accounts from one IPv6 /48.
    pub registrations_per_range: Option<Limit>,
    /// New orders of one account.
    pub orders_per_account: Option<Limit>,
    /// Certificates for one registered domain, IPv4 address or IPv6 /64.
    pub certificates_per_domain: Option<Limit>,
    /// Overrides that the CA has granted for registered domains, each by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub certificates_per_domain_of: BTreeMap<String, Limit>,
    /// Certificates for exactly the same identifiers.
    pub certificates_per_set: Option<Limit>,
    /// Failed authorizations for one identifier by one account.
    pub failures: Option<Limit>,
    /// Failed authorizations for one identifier by one account without a success between; beyond it the account is
    /// paused for the identifier.
    pub consecutive_failures: Option<Limit>,
}

impl Limits {
    /// No limits: to switch on one alone.
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of Let's Encrypt (<https://letsencrypt.org/docs/rate-limits/>, as of August 2026), which are also in
    /// Boulder's source. Newer ones, or those with overrides, come from a file of yours by [`from_json`](Self::from_json).
    pub fn lets_encrypt() -> Self {
        built_in(include_str!("limits/lets_encrypt.json"))
    }

    /// Those of its staging environment (<https://letsencrypt.org/docs/staging-environment/>, as of November 2025).
    pub fn lets_encrypt_staging() -> Self {
        built_in(include_str!("limits/lets_encrypt_staging.json"))
    }

    /// Reads limits as JSON: the fields of this type, each of which may be missing.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that says what is wrong where.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| {
            Error::new(ErrorKind::Config, "limits.json", format!("these are no limits: {error}")).with_hint(
                "write an object such as {\"orders_per_account\": {\"count\": 300, \"period\": \"3h\"}}",
            )
        })
    }

    /// The limit on certificates for one registered domain, with the override that the CA has granted for it.
    pub fn for_domain(&self, domain: &str) -> Option<Limit> {
        self.certificates_per_domain_of.get(domain).copied().or(self.certificates_per_domain)
    }

    /// With this limit on new accounts from one IP address.
    #[must_use]
    pub fn with_registrations_per_address(mut self, limit: impl Into<Option<Limit>>) -> Self {
        self.registrations_per_address = limit.into();
        self
    }

    /// With this limit on new accounts from one IPv6 /48.
    #[must_use]
    pub fn with_registrations_per_range(mut self, limit: impl Into<Option<Limit>>) -> Self {
        self.registrations_per_range = limit.into();
        self
    }

    /// With this limit on new orders of one account.
    #[must_use]
    pub fn with_orders_per_account(mut self, limit: impl Into<Option<Limit>>) -> Self {
        self.orders_per_account = limit.into();
        self
    }

    /// With this limit on certificates for one registered domain.
    #[must_use]
    pub fn with_certificates_per_domain(mut self, limit: impl Into<Option<Limit>>) -> Self {
        self.certificates_per_domain = limit.into();
        self
    }

    /// With this limit on certificates for exactly the same identifiers.
    #[must_use]
    pub fn with_certificates_per_set(mut self, limit: impl Into<Option<Limit>>) -> Self {
        self.certificates_per_set = limit.into();
        self
    }

    /// With this limit on failed authorizations for one identifier by one account.
    #[must_use]
    pub fn with_failures(mut self, limit: impl Into<Option<Limit>>) -> Self {
        self.failures = limit.into();
        self
    }

    /// With this limit on failed authorizations without a success between.
    #[must_use]
    pub fn with_consecutive_failures(mut self, limit: impl Into<Option<Limit>>) -> Self {
        self.consecutive_failures = limit.into();
        self
    }

    /// With this override for one registered domain.
    #[must_use]
    pub fn with_override(mut self, domain: impl Into<String>, limit: Limit) -> Self {
        self.certificates_per_domain_of.insert(domain.into(), limit);
        self
    }
}

/// What is compiled in can be read: a test says so.
fn built_in(text: &str) -> Limits {
    Limits::from_json(text).unwrap_or_default()
}

/// Under what an identifier is counted: the registered domain (a public suffix itself under its own name), the IPv4
/// address, the IPv6 /64.
///
/// As in Boulder (`ratelimits/utilities.go`) the suffixes are those of both parts of the list, so each name below
/// `github.io` is a domain of its own, a name below no known suffix has its last label as suffix, and the name is
/// looked up with its `*.`: `*.github.io` is counted apart from `github.io`.
pub fn covering(identifier: &Identifier) -> String {
    match identifier {
        Identifier::Ip(IpAddr::V4(address)) => format!("{address}/32"),
        Identifier::Ip(IpAddr::V6(address)) => format!("{}/64", prefix(*address, 64)),
        _ => {
            let name = identifier.to_string();
            psl::domain_str(&name).map_or_else(|| name.clone(), str::to_owned)
        }
    }
}

/// The first address of the network of this many bits, at most 128.
pub fn prefix(address: Ipv6Addr, bits: u32) -> Ipv6Addr {
    let host = u128::MAX.checked_shr(bits).unwrap_or(0);
    Ipv6Addr::from_bits(address.to_bits() & !host)
}
