//! What the CA suggested for one certificate, as it is kept.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{HOUR, Window};

/// How soon the CA is asked again when it says nothing of it, or could not be asked.
const USUALLY: Duration = Duration::from_secs(6 * 60 * 60);

/// RFC 9773 section 4.3: a day is too long to miss a revocation; and no CA is asked all the time.
const SOONEST: Duration = Duration::from_secs(60);
const LATEST: Duration = Duration::from_secs(12 * 60 * 60);

/// It belongs to one certificate: after a renewal it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Suggestion {
    /// The certificate's name in renewal information.
    certificate: String,
    window: Option<Picked>,
    #[serde(with = "crate::clock::rfc3339")]
    ask_again: SystemTime,
    /// How often in a row the CA has said nothing sensible.
    #[serde(default)]
    unanswered: u32,
}

/// A window, and the instant in it that was picked: kept, or every look would throw the dice anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Picked {
    window: Window,
    #[serde(with = "crate::clock::rfc3339")]
    at: SystemTime,
}

impl Suggestion {
    /// Nothing is known yet; the CA is to be asked at once.
    pub(crate) fn none(certificate: &str, now: SystemTime) -> Self {
        Self { certificate: certificate.to_owned(), window: None, ask_again: now, unanswered: 0 }
    }

    pub(crate) fn is_of(&self, certificate: &str) -> bool {
        self.certificate == certificate
    }

    /// Whether the CA is to be asked. A clock that was set back far asks, too.
    pub(crate) fn is_stale(&self, now: SystemTime) -> bool {
        self.ask_again <= now || self.ask_again.duration_since(now).is_ok_and(|left| left > LATEST)
    }

    /// The window, and the instant picked in it.
    pub(crate) fn picked(&self) -> Option<(Window, SystemTime)> {
        self.window.as_ref().map(|picked| (picked.window.clone(), picked.at))
    }

    /// When the CA is to be asked again.
    pub(crate) fn ask_again(&self) -> SystemTime {
        self.ask_again
    }

    /// When the CA suggests to renew.
    pub(crate) fn at(&self) -> Option<SystemTime> {
        self.window.as_ref().map(|picked| picked.at)
    }

    /// What the CA has said now. The instant stays while the window does. Says whether it is another window.
    pub(crate) fn told(
        &mut self,
        window: Window,
        retry_after: Option<Duration>,
        share: f64,
        now: SystemTime,
    ) -> bool {
        self.unanswered = 0;
        self.ask_again = now + retry_after.unwrap_or(USUALLY).clamp(SOONEST, LATEST);
        if self.window.as_ref().is_some_and(|picked| picked.window == window) {
            return false;
        }
        self.window = Some(Picked { at: window.pick(share, now), window });
        true
    }

    /// The CA could not be asked, or said nothing sensible: what it said before stays. It is asked again in an hour, and
    /// later each time.
    pub(crate) fn untold(&mut self, retry_after: Option<Duration>, now: SystemTime) {
        let pause = HOUR * 2u32.pow(self.unanswered.min(4));
        self.unanswered = self.unanswered.saturating_add(1);
        self.ask_again = now + retry_after.unwrap_or_default().max(pause).min(LATEST);
    }
}
