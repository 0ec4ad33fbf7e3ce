//! A clock that is wrong as it is told.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use acmekit::Clock;
use acmekit_server::MovableClock;

use crate::world::lock;

/// How a clock is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Wrong {
    /// It is not.
    #[default]
    Right,
    /// It is ahead.
    Ahead(Duration),
    /// It is behind.
    Behind(Duration),
    /// It stands still.
    Frozen(SystemTime),
}

/// The clock of a machine: what it is told of the truth.
#[derive(Debug, Clone)]
pub struct Skewed {
    truth: MovableClock,
    wrong: Arc<Mutex<Wrong>>,
}

impl Skewed {
    /// One that is right.
    pub fn new(truth: MovableClock) -> Self {
        Self { truth, wrong: Arc::default() }
    }

    /// From now on it is wrong like this.
    pub fn set(&self, wrong: Wrong) {
        *lock(&self.wrong) = wrong;
    }

    /// The one that is right.
    pub fn truth_clock(&self) -> &MovableClock {
        &self.truth
    }

    /// What time it really is.
    pub fn truth(&self) -> SystemTime {
        self.truth.now()
    }
}

impl Clock for Skewed {
    fn now(&self) -> SystemTime {
        let truth = self.truth.now();
        match *lock(&self.wrong) {
            Wrong::Right => truth,
            Wrong::Ahead(by) => truth.checked_add(by).unwrap_or(truth),
            // A machine without a battery begins at the epoch; before that there is nothing.
            Wrong::Behind(by) => truth.checked_sub(by).unwrap_or(SystemTime::UNIX_EPOCH),
            Wrong::Frozen(at) => at,
        }
    }
}
