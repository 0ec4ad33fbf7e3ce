//! When a certificate is due: by the CA's suggestion (RFC 9773), or by its lifetime; within maintenance windows.
//!
//! Everything here is pure; [`Pipeline`](crate::Pipeline) asks the CA and keeps what it said.

mod maintenance;
mod suggestion;
#[cfg(test)]
mod tests;
pub(crate) mod upkeep;

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{CertificateFacts, CertificateId};

pub use maintenance::MaintenanceWindow;
pub(crate) use suggestion::Suggestion;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Certificates that live shorter than this are renewed at half of their life.
const SHORT_LIVED: Duration = Duration::from_secs(10 * 24 * 3600);

/// When certificates are renewed. As text (TOML, JSON) an object of these fields, each of which may be missing.
///
/// ```
/// use acmekit_core::renewal::RenewalPolicy;
/// let policy: RenewalPolicy = serde_json::from_str(
///     r#"{ "at_share": 0.5, "maintenance_windows": ["Sat-Sun 02:00-05:00 UTC"] }"#,
/// )?;
/// assert!(policy.follow_suggestions);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RenewalPolicy {
    /// After which share of its lifetime a certificate is renewed where the CA suggests nothing (default 2/3, as Let's
    /// Encrypt's integration guide says). Taken as at least 0.1 and at most 0.9.
    pub at_share: f64,
    /// The same for lifetimes under ten days (default 1/2).
    pub at_share_short_lived: f64,
    /// Whether the CA is asked what it suggests, and that is done (default true).
    pub follow_suggestions: bool,
    /// When renewals may begin (default: always). Overridden when only a twentieth of the lifetime is left.
    pub maintenance_windows: Vec<MaintenanceWindow>,
}

impl Default for RenewalPolicy {
    fn default() -> Self {
        Self {
            at_share: 2.0 / 3.0,
            at_share_short_lived: 0.5,
            follow_suggestions: true,
            maintenance_windows: Vec::new(),
        }
    }
}

/// What a decision is made of.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Input {
    /// The start of the certificate's validity.
    pub not_before: SystemTime,
    /// Its end.
    pub not_after: SystemTime,
    /// The window the CA suggests, and the instant picked in it ([`Window::pick`]).
    pub suggested: Option<(Window, SystemTime)>,
    /// What chance decides, from 0 to 1: always the same for one certificate, or each look would say something else.
    pub chance: f64,
}

impl Input {
    /// A certificate of which its CA has suggested nothing.
    pub fn of(id: &CertificateId, facts: &CertificateFacts) -> Self {
        Self {
            not_before: facts.not_before,
            not_after: facts.not_after,
            suggested: None,
            chance: chance(id, facts.not_before),
        }
    }

    fn lifetime(&self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or_default()
    }
}

/// A share from 0 to 1 that looks like chance and is always the same for one certificate at one point in time: nothing
/// has to be kept for it, and what was simulated can be simulated again.
pub(crate) fn chance(id: &CertificateId, at: SystemTime) -> f64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let hash =
        Sha256::new().chain_update(id.as_str()).chain_update(since.as_millis().to_be_bytes()).finalize();
    let mut octets = [0; 4];
    octets.iter_mut().zip(hash).for_each(|(octet, hash)| *octet = hash);
    f64::from(u32::from_be_bytes(octets)) / f64::from(u32::MAX)
}

/// When a certificate is to be renewed, and why then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Decision {
    /// The time; it may have passed.
    #[serde(with = "crate::clock::rfc3339")]
    pub at: SystemTime,
    /// What decided it.
    pub reason: Reason,
}

/// What decides when a certificate is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// The CA suggested it.
    Suggested,
    /// Its lifetime.
    Lifetime,
    /// It should be at another time, but that lies outside the maintenance windows.
    Maintenance,
    /// It should be earlier, but the certificate is too young: a CA that always says "now" must not have one
    /// certificate after the other.
    TooYoung,
    /// It should be later, but then it could be too late: only a twentieth of the lifetime is left.
    Emergency,
}

impl RenewalPolicy {
    /// Decides when to renew: at the instant picked in the window the CA suggests, or else by the lifetime, up to a
    /// fiftieth of it earlier as chance has it, so that what was issued together is not renewed together. Inside a
    /// maintenance window, if there is one in time, and if possible also inside the suggested window. Never before the
    /// certificate has lived an hour and a twentieth of its life; at the latest when a twentieth is left.
    pub fn decide(&self, input: &Input) -> Decision {
        let life = input.lifetime();
        let earliest = input.not_before.checked_add((life / 20).max(HOUR)).unwrap_or(input.not_before);
        let latest = input.not_after.checked_sub(life / 20).unwrap_or(input.not_after);
        let suggested = input.suggested.as_ref().filter(|_| self.follow_suggestions);
        let (wished, reason) = match suggested {
            Some((_, at)) => (*at, Reason::Suggested),
            None => (self.by_lifetime(input), Reason::Lifetime),
        };
        // Of a life too short for both, the end counts.
        if wished > latest || earliest > latest {
            return Decision { at: latest, reason: Reason::Emergency };
        }
        let (wished, reason) = match wished < earliest {
            true => (earliest, Reason::TooYoung),
            false => (wished, reason),
        };
        if maintenance::is_open(&self.maintenance_windows, wished) {
            return Decision { at: wished, reason };
        }
        let inside = suggested.and_then(|(window, _)| {
            let from = window.start.max(earliest);
            maintenance::next(&self.maintenance_windows, from, window.end.min(latest), input.chance)
        });
        let at =
            inside.or_else(|| maintenance::next(&self.maintenance_windows, wished, latest, input.chance));
        match at {
            Some(at) => Decision { at, reason: Reason::Maintenance },
            None => Decision { at: latest, reason: Reason::Emergency },
        }
    }

    fn by_lifetime(&self, input: &Input) -> SystemTime {
        let life = input.lifetime();
        let share = if life < SHORT_LIVED { self.at_share_short_lived } else { self.at_share };
        let share = if share.is_finite() { share.clamp(0.1, 0.9) } else { 0.5 };
        let after = life.mul_f64(share).saturating_sub((life / 50).mul_f64(input.chance.clamp(0.0, 1.0)));
        off_the_hour(input.not_before.checked_add(after).unwrap_or(input.not_before))
    }
}

/// Not in the first minute of an hour, when everybody else comes.
fn off_the_hour(at: SystemTime) -> SystemTime {
    let past_hour = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() % 3600);
    match past_hour < 60 {
        true => at.checked_sub(Duration::from_secs(61)).unwrap_or(at),
        false => at,
    }
}

/// When a CA suggests to renew (RFC 9773 section 4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Window {
    /// Its start.
    #[serde(with = "crate::clock::rfc3339")]
    pub start: SystemTime,
    /// Its end.
    #[serde(with = "crate::clock::rfc3339")]
    pub end: SystemTime,
    /// A page that says why, where there is a reason.
    pub explanation_url: Option<String>,
}

impl Window {
    /// A window; `None` if it ends before it starts.
    pub fn new(start: SystemTime, end: SystemTime) -> Option<Self> {
        (start < end).then_some(Self { start, end, explanation_url: None })
    }

    /// An instant in the window, by a share of it from 0 to 1 that chance decides; in one that has passed, its start.
    /// Placed so that waiting for the DNS and a second try still fit in, and never at the full hour, when everybody
    /// else comes.
    pub fn pick(&self, share: f64, now: SystemTime) -> SystemTime {
        let width = self.end.duration_since(self.start).unwrap_or_default();
        if self.end <= now {
            return self.start;
        }
        // The end is not in it, also of one that is hardly more than an instant.
        let usable = width - (width / 4).clamp(Duration::from_nanos(1).min(width), HOUR);
        let at = self.start + usable.mul_f64(share.clamp(0.0, 1.0));
        let past_hour = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() % 3600);
        match past_hour < 60 {
            // Inside what is kept free at the end, or earlier.
            true => at + Duration::from_secs(61).min(width / 8),
            false => at,
        }
    }

    /// Whether an instant lies in it (RFC 9773 section 4.2: the end does not).
    pub fn contains(&self, at: SystemTime) -> bool {
        self.start <= at && at < self.end
    }
}
