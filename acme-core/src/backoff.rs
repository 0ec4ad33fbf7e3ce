//! When to try again, by what went wrong: pure, and kept over restarts by whoever uses it.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::clock::rfc3339;
use crate::{Error, ErrorKind, Retry};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest time that anybody is waited for, whatever they say. A point in time that is far beyond could not even be
/// written down, and nobody would wait until then.
pub(crate) const LONGEST_WAIT: Duration = DAY.saturating_mul(366);

/// The shortest time after a failure, whatever the other side says.
const SHORTEST_WAIT: Duration = Duration::from_secs(10);

/// The pauses after the first, second and third failure (Let's Encrypt's integration guide); after further ones a day.
const PAUSES: [Duration; 3] = [MINUTE, MINUTE.saturating_mul(10), MINUTE.saturating_mul(100)];

/// What kind of trouble an error is, for whoever decides when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Class {
    /// It may be over the next time.
    Transient,
    /// The other side has said how long to wait.
    RateLimited,
    /// It lasts until a person changes something: a credential, a record, the configuration. Tried again like what is
    /// transient, to see whether somebody has.
    NeedsPerson,
    /// The CA will not grant this wish: the wish itself has to change. Not tried again by itself.
    Fatal,
}

impl Class {
    /// The class of an error.
    pub fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::RateLimited => Self::RateLimited,
            ErrorKind::Unavailable | ErrorKind::Timeout if matches!(error.retry(), Retry::After(_)) => {
                Self::RateLimited
            }
            ErrorKind::Rejected => Self::Fatal,
            ErrorKind::Auth | ErrorKind::Config | ErrorKind::Unsupported | ErrorKind::ZoneNotFound => {
                Self::NeedsPerson
            }
            _ => Self::Transient,
        }
    }
}

/// What went wrong, how often in a row, and when to try again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Trouble {
    /// How often in a row.
    pub failures: u32,
    /// What kind of trouble it is.
    pub class: Class,
    /// The last error, in one line.
    pub error: String,
    /// What a person can do about it, where acmekit knows.
    pub hint: Option<String>,
    /// Whether the CA looked and did not find the proof.
    #[serde(default)]
    pub validation: bool,
    /// When it last failed.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
    /// When to try again; never by itself if it is [`Class::Fatal`].
    #[serde(with = "rfc3339")]
    pub retry_at: SystemTime,
}

impl Trouble {
    /// One more failure after those `before`. `chance`, from 0 to 1, spreads what failed together over a fifth of the
    /// pause. With little time `left` until the certificate expires, no pause is longer than an eighth of that.
    pub fn after(
        before: Option<&Self>,
        error: &Error,
        chance: f64,
        left: Option<Duration>,
        now: SystemTime,
    ) -> Self {
        let class = Class::of(error);
        let so_far = before.map_or(0, |before| before.failures);
        // To wait as one was told to is no failure.
        let told = class == Class::RateLimited && matches!(error.retry(), Retry::After(_));
        let failures = if told { so_far } else { so_far.saturating_add(1) };
        let pause = match error.retry() {
            // A date that has passed by this machine's clock, which may be ahead, says "at once", again and again.
            Retry::After(wait) => wait.clamp(SHORTEST_WAIT, LONGEST_WAIT),
            _ => {
                let position = usize::try_from(failures.max(1) - 1).unwrap_or(usize::MAX);
                PAUSES.get(position).copied().unwrap_or(DAY)
            }
        };
        let pause = pause.saturating_add((pause / 5).mul_f64(chance.clamp(0.0, 1.0)));
        let pause = match (left, error.retry()) {
            (Some(left), Retry::Never | Retry::Backoff) => pause.min((left / 8).max(MINUTE)),
            _ => pause,
        };
        Self {
            failures,
            class,
            error: error.to_string(),
            hint: error.hint().map(str::to_owned),
            validation: error.kind() == ErrorKind::Validation,
            at: now,
            retry_at: now.checked_add(pause).unwrap_or(now),
        }
    }

    /// Whether it is too early to try again. A clock that was set back does not keep anybody waiting for longer than a
    /// pause lasts.
    pub fn holds(&self, now: SystemTime) -> bool {
        if self.class == Class::Fatal {
            return true;
        }
        now < self.retry_at && now >= self.at
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn now() -> SystemTime {
        UNIX_EPOCH + DAY * 20_000
    }

    fn failed(kind: ErrorKind) -> Error {
        Error::new(kind, "test", "no")
    }

    fn pauses(kind: ErrorKind, chance: f64, left: Option<Duration>, count: usize) -> Vec<u64> {
        let mut trouble = None;
        (0..count)
            .map(|_| {
                let next = Trouble::after(trouble.as_ref(), &failed(kind), chance, left, now());
                let pause = next.retry_at.duration_since(now()).unwrap().as_secs();
                trouble = Some(next);
                pause
            })
            .collect()
    }

    #[test]
    fn pauses_grow_to_a_day_and_are_spread() {
        assert_eq!(pauses(ErrorKind::Unavailable, 0.0, None, 5), [60, 600, 6000, 86_400, 86_400]);
        assert_eq!(pauses(ErrorKind::Validation, 1.0, None, 4), [72, 720, 7200, 103_680]);
        assert_eq!(pauses(ErrorKind::Auth, 0.0, None, 2), [60, 600]);
    }

    #[test]
    fn little_time_left_makes_pauses_short() {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        assert_eq!(pauses(ErrorKind::Unavailable, 0.0, hours(8), 5), [60, 600, 3600, 3600, 3600]);
        assert_eq!(pauses(ErrorKind::Auth, 0.0, Some(Duration::ZERO), 1), [60]);
    }

    #[test]
    fn what_the_other_side_says_counts_and_is_no_failure() {
        let wait = Duration::from_secs(7777);
        let error = failed(ErrorKind::RateLimited).with_retry(Retry::After(wait));
        let trouble = Trouble::after(None, &error, 0.0, Some(Duration::ZERO), now());
        assert_eq!((trouble.failures, trouble.class), (0, Class::RateLimited));
        assert_eq!(trouble.retry_at, now() + wait);
        assert!(trouble.holds(now()) && !trouble.holds(now() + wait));
    }

    #[test]
    fn nobody_is_waited_for_longer_than_can_be_written_down() {
        for wait in [Duration::from_secs(1 << 50), Duration::MAX] {
            let error = failed(ErrorKind::RateLimited).with_retry(Retry::After(wait));
            let trouble = Trouble::after(None, &error, 1.0, None, now());
            assert!(trouble.retry_at > now() + DAY * 365, "{:?}", trouble.retry_at);
            let text = serde_json::to_string(&trouble).unwrap();
            assert_eq!(serde_json::from_str::<Trouble>(&text).unwrap(), trouble);
        }
    }

    #[test]
    fn who_may_come_at_once_waits_a_little_nevertheless() {
        let error = failed(ErrorKind::RateLimited).with_retry(Retry::After(Duration::ZERO));
        assert!(Trouble::after(None, &error, 0.0, None, now()).holds(now()));
    }

    #[test]
    fn what_cannot_be_granted_is_not_asked_for_again() {
        let trouble = Trouble::after(None, &failed(ErrorKind::Rejected), 0.0, None, now());
        assert!(trouble.holds(now() + DAY * 1000));
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_nobody_waiting() {
        let trouble = Trouble::after(None, &failed(ErrorKind::Timeout), 0.0, None, now());
        assert!(trouble.holds(now()) && !trouble.holds(now() - DAY));
    }
}
