//! Time as a seam: what time it is, and until when a call may last.

use std::fmt;
use std::future::Future;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::{Error, ErrorKind, Result};

/// Tells the wall-clock time. Everything in acmekit that compares with an expiry asks it.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> SystemTime;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The longest time a call may have.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A point in time after which a call has failed, and how long it had in all.
///
/// It counts on the monotonic clock, so a jump of the wall clock neither ends nor prolongs a call.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
    budget: Duration,
}

impl Deadline {
    /// The point `budget` from now; one further off than a clock can tell is a hundred years from now.
    pub fn after(budget: Duration) -> Self {
        let budget = budget.min(LONGEST);
        Self { at: Instant::now() + budget, budget }
    }

    /// What is left; zero once passed.
    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// How long there was in all.
    pub fn budget(&self) -> Duration {
        self.budget
    }

    /// Whether it has passed.
    pub fn is_over(&self) -> bool {
        self.remaining().is_zero()
    }

    /// The earlier of this and the point `budget` from now.
    #[must_use]
    pub fn capped(&self, budget: Duration) -> Self {
        let other = Self::after(budget);
        if other.at < self.at { other } else { *self }
    }

    /// Sleeps for `pause`, but never past the deadline. Says whether there is time left.
    pub async fn sleep(&self, pause: Duration) -> bool {
        tokio::time::sleep(pause.min(self.remaining())).await;
        !self.is_over()
    }

    /// Runs `call` until the deadline.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] that names `phase` and the deadline; else what `call` fails with.
    pub async fn run<T>(
        &self,
        op: &'static str,
        phase: &str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match tokio::time::timeout_at(self.at, call).await {
            Ok(done) => done,
            Err(_) => Err(self.missed(op, phase)),
        }
    }

    /// The error that says this deadline was missed in `phase`.
    pub fn missed(&self, op: &'static str, phase: &str) -> Error {
        Error::new(ErrorKind::Timeout, op, format!("{phase}: no end within {:?}", self.budget))
            .with("phase", phase)
            .with("deadline", format!("{:?}", self.budget))
    }
}

/// `SystemTime` as RFC 3339 text.
pub(crate) mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn parse(text: &str) -> Option<SystemTime> {
        text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
    }

    /// The time as text; empty if it is beyond what a calendar knows.
    #[cfg(feature = "rustls")]
    pub(crate) fn text(time: SystemTime) -> String {
        jiff::Timestamp::try_from(time).map(|time| time.to_string()).unwrap_or_default()
    }

    pub(crate) fn serialize<S: Serializer>(time: &SystemTime, out: S) -> Result<S::Ok, S::Error> {
        let stamp = jiff::Timestamp::try_from(*time).map_err(serde::ser::Error::custom)?;
        out.collect_str(&stamp)
    }

    pub(crate) fn serialize_option<S: Serializer>(
        time: &Option<SystemTime>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serialize(time, out),
            None => out.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(input)?;
        parse(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not an RFC 3339 time")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_missed_deadline_names_phase_and_budget() {
        let deadline = Deadline::after(Duration::from_secs(3));
        let error = deadline.run::<()>("ca.order", "newOrder", std::future::pending()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(error.to_string(), "ca.order: newOrder: no end within 3s (phase=newOrder, deadline=3s)");
    }

    #[tokio::test(start_paused = true)]
    async fn sleeping_never_passes_the_deadline() {
        let deadline = Deadline::after(Duration::from_secs(1));
        assert!(!deadline.sleep(Duration::from_secs(60)).await);
        assert_eq!(deadline.remaining(), Duration::ZERO);
    }
}
