//! A clock that can be moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use acmekit_core::{Clock, SystemClock};

/// The system's clock, moved ahead by as much as a test likes. Clones move together: give one to the client under
/// test (`Pipeline::builder(…).clock(…)`), so that both live at the same time.
#[derive(Debug, Clone, Default)]
pub struct MovableClock(Arc<AtomicU64>);

impl MovableClock {
    /// One that shows the system's time until it is moved.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves it ahead. Never back: neither does a CA's.
    pub fn advance(&self, by: Duration) {
        let milliseconds = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for MovableClock {
    fn now(&self) -> SystemTime {
        let now = SystemClock::default().now();
        now.checked_add(Duration::from_millis(self.0.load(Ordering::SeqCst))).unwrap_or(now)
    }
}
