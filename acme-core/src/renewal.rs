//! When a certificate is due: by the CA's suggestion (RFC 9773), or by its lifetime.
//!
//! Everything here is pure; [`Pipeline`](crate::Pipeline) asks the CA and keeps what it said.

mod suggestion;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::CertificateFacts;

pub(crate) use suggestion::Suggestion;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Certificates that live shorter than this are renewed at half of their life.
const SHORT_LIVED: Duration = Duration::from_secs(10 * 24 * 3600);

/// When a certificate should be renewed by its lifetime alone: at two thirds of it, or at one half
/// if it lives less than ten days (Let's Encrypt's integration guide).
pub fn due(facts: &CertificateFacts) -> SystemTime {
    let life = lifetime(facts);
    let after = if life < SHORT_LIVED { life / 2 } else { life * 2 / 3 };
    facts.not_before.checked_add(after).unwrap_or(facts.not_before)
}

/// When a certificate is to be renewed, and why then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// The time; it may have passed.
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
    /// It should be earlier, but the certificate is too young: a CA that always says "now" must not have one
    /// certificate after the other.
    TooYoung,
    /// It should be later, but then it could be too late: only a twentieth of the lifetime is left.
    Emergency,
}

/// Decides when to renew: at the time `suggested` by the CA, or else by the lifetime; never before the certificate has
/// lived an hour and a twentieth of its life, and at the latest when a twentieth is left.
///
/// ```
/// # fn example(facts: &acmekit_core::CertificateFacts) {
/// use acmekit_core::renewal::{decide, due};
/// assert_eq!(decide(facts, None).at, due(facts));
/// # }
/// ```
pub fn decide(facts: &CertificateFacts, suggested: Option<SystemTime>) -> Decision {
    let life = lifetime(facts);
    let (wished, reason) = match suggested {
        Some(at) => (at, Reason::Suggested),
        None => (due(facts), Reason::Lifetime),
    };
    let earliest = facts.not_before.checked_add((life / 20).max(HOUR)).unwrap_or(facts.not_before);
    let latest = facts.not_after.checked_sub(life / 20).unwrap_or(facts.not_after);
    // Of a life too short for both, the end counts.
    if wished > latest || earliest > latest {
        return Decision { at: latest, reason: Reason::Emergency };
    }
    match wished < earliest {
        true => Decision { at: earliest, reason: Reason::TooYoung },
        false => Decision { at: wished, reason },
    }
}

fn lifetime(facts: &CertificateFacts) -> Duration {
    facts.not_after.duration_since(facts.not_before).unwrap_or_default()
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
        let usable = width - (width / 4).min(HOUR);
        let at = self.start + usable.mul_f64(share.clamp(0.0, 1.0));
        let past_hour = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() % 3600);
        match past_hour < 60 {
            // Inside what is kept free at the end, or earlier.
            true => at + Duration::from_secs(61).min(width / 8),
            false => at,
        }
    }
}
