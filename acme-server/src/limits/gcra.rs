//! The generic cell rate algorithm, as Boulder counts: a bucket is one instant, at which it will be full again (its
//! theoretical arrival time, TAT). Pure.

use std::time::SystemTime;

use super::Limit;

/// What taking one from a bucket would mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// There is one; afterwards the bucket is full again then.
    Allowed(SystemTime),
    /// There is none until then.
    Denied(SystemTime),
}

/// Takes one from a bucket that is full again at `full`, or `None` from one that is full now.
pub(super) fn take(limit: &Limit, full: Option<SystemTime>, now: SystemTime) -> Decision {
    let interval = limit.interval();
    let from = full.map_or(now, |full| full.max(now));
    // A time nobody lives to see cannot be reckoned with: no limit ends there.
    let Some(full) = from.checked_add(interval) else { return Decision::Allowed(from) };
    let earliest = full.checked_sub(limit.period).unwrap_or(SystemTime::UNIX_EPOCH);
    match earliest <= now {
        true => Decision::Allowed(full),
        false => Decision::Denied(earliest),
    }
}

/// Takes one whether or not there is one, but never below empty.
pub(super) fn take_at_most(limit: &Limit, full: Option<SystemTime>, now: SystemTime) -> Option<SystemTime> {
    match take(limit, full, now) {
        Decision::Allowed(full) => Some(full),
        Decision::Denied(_) => full,
    }
}

/// Gives one back. `None`: the bucket is full.
pub(super) fn give_back(limit: &Limit, full: Option<SystemTime>, now: SystemTime) -> Option<SystemTime> {
    full.and_then(|full| full.checked_sub(limit.interval())).filter(|full| *full > now)
}
