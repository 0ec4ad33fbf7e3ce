//! A clock that can be moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use acmekit_core::{Clock, SystemClock};
use tokio::time::Instant;

/// The system's clock, moved ahead by as much as a test likes. Clones move together: give one to the client under
/// test (`Pipeline::builder(…).clock(…)`), so that both live at the same time.
#[derive(Debug, Clone, Default)]
pub struct MovableClock {
    ahead: Arc<AtomicU64>,
    /// Begun when, at what time.
    paced: Option<(Instant, SystemTime)>,
}

impl MovableClock {
    /// One that shows the system's time until it is moved.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that shows `start` now, and goes on with tokio's time: where that is paused, as in
    /// `#[tokio::test(start_paused = true)]`, it stands still while anything is being done, and jumps to the next moment
    /// at which somebody wants to wake up. A year can pass in a minute, and always in the same way.
    pub fn paced(start: SystemTime) -> Self {
        Self { ahead: Arc::default(), paced: Some((Instant::now(), start)) }
    }

    /// Moves it ahead. Never back: neither does a CA's.
    pub fn advance(&self, by: Duration) {
        let milliseconds = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.ahead.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for MovableClock {
    fn now(&self) -> SystemTime {
        let now = match self.paced {
            Some((begun, start)) => start.checked_add(begun.elapsed()).unwrap_or(start),
            None => SystemClock::default().now(),
        };
        now.checked_add(Duration::from_millis(self.ahead.load(Ordering::SeqCst))).unwrap_or(now)
    }
}
