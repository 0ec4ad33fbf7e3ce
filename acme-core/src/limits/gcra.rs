//! The generic cell rate algorithm: a token bucket kept as one point in time.
//!
//! That point, the *theoretical arrival time* (TAT), is when the bucket is full again. A request moves it on by
//! `cost * interval` from `max(now, TAT)`, and is allowed iff it then lies at most `burst * interval` ahead of now
//! (Boulder, `ratelimits/gcra.go`). Everything here is pure: who keeps the TAT spends by storing the new one, and
//! checks by not doing so.

use std::time::{Duration, SystemTime};

use super::Limit;

/// Whether a request is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third answer")]
pub enum Decision {
    /// It is.
    Allowed {
        /// The TAT if it is spent.
        tat: SystemTime,
    },
    /// It is not.
    Refused {
        /// The instant from which it is, to the nanosecond.
        retry_at: SystemTime,
    },
}

/// Decides on a request of this cost; no TAT is a full bucket.
///
/// A cost above the burst is taken as the burst, so that no request waits for ever. Near the ends of representable
/// time the bucket counts as full.
pub fn decide(limit: Limit, tat: Option<SystemTime>, now: SystemTime, cost: u32) -> Decision {
    let base = tat.map_or(now, |tat| tat.max(now));
    let increment = price(limit, cost);
    let slack = size(limit).saturating_sub(increment);
    match base.checked_sub(slack) {
        Some(retry_at) if retry_at > now => Decision::Refused { retry_at },
        _ => Decision::Allowed { tat: base.checked_add(increment).unwrap_or(base) },
    }
}

/// The TAT once a request of this cost is given back: never further in the past than now, for a bucket is at most
/// full.
pub fn refund(limit: Limit, tat: SystemTime, now: SystemTime, cost: u32) -> SystemTime {
    if tat <= now {
        return tat;
    }
    tat.checked_sub(price(limit, cost)).map_or(now, |back| back.max(now))
}

/// The TAT of a bucket that allows one request at this instant and not before: for a CA that has said so itself.
pub fn exhausted_until(limit: Limit, retry_at: SystemTime) -> SystemTime {
    let slack = size(limit).saturating_sub(price(limit, 1));
    retry_at.checked_add(slack).unwrap_or(retry_at)
}

fn price(limit: Limit, cost: u32) -> Duration {
    limit.interval().saturating_mul(cost.min(limit.burst()))
}

fn size(limit: Limit) -> Duration {
    limit.interval().saturating_mul(limit.burst())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn allowed(decision: Decision) -> SystemTime {
        match decision {
            Decision::Allowed { tat } => tat,
            Decision::Refused { retry_at } => panic!("refused until {retry_at:?}"),
        }
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_one_for_each_interval() {
        let limit = Limit::new(5, HOUR);
        let start = UNIX_EPOCH + HOUR;
        let mut tat = None;
        for _ in 0..5 {
            tat = Some(allowed(decide(limit, tat, start, 1)));
        }
        let retry_at = start + HOUR / 5;
        assert_eq!(decide(limit, tat, start, 1), Decision::Refused { retry_at });
        let early = retry_at - Duration::from_nanos(1);
        assert_eq!(decide(limit, tat, early, 1), Decision::Refused { retry_at });
        tat = Some(allowed(decide(limit, tat, retry_at, 1)));
        assert_eq!(
            decide(limit, tat, retry_at, 1),
            Decision::Refused { retry_at: retry_at + HOUR / 5 },
            "the refill is continuous: one at a time, not the whole burst"
        );
    }

    #[test]
    fn a_refund_gives_back_what_was_spent_and_never_more() {
        let limit = Limit::new(2, HOUR);
        let now = UNIX_EPOCH + HOUR;
        let once = allowed(decide(limit, None, now, 1));
        let twice = allowed(decide(limit, Some(once), now, 1));
        assert_eq!(refund(limit, twice, now, 1), once);
        assert_eq!(refund(limit, once, now, 1), now);
        assert_eq!(refund(limit, once, now, 2), now);
        assert_eq!(refund(limit, now - HOUR, now, 1), now - HOUR);
    }

    #[test]
    fn a_cost_above_the_burst_waits_for_a_full_bucket_and_no_longer() {
        let limit = Limit::new(3, HOUR);
        let now = UNIX_EPOCH + HOUR;
        let empty = allowed(decide(limit, None, now, 9));
        assert_eq!(empty, now + HOUR);
        assert_eq!(decide(limit, Some(empty), now, 9), Decision::Refused { retry_at: empty });
        allowed(decide(limit, Some(empty), empty, 9));
    }

    #[test]
    fn what_the_ca_says_is_when_the_next_one_is_allowed() {
        let limit = Limit::new(50, 168 * HOUR);
        let retry_at = UNIX_EPOCH + 7 * HOUR;
        let tat = Some(exhausted_until(limit, retry_at));
        let early = retry_at - Duration::from_nanos(1);
        assert_eq!(decide(limit, tat, early, 1), Decision::Refused { retry_at });
        allowed(decide(limit, tat, retry_at, 1));
    }

    fn any_limit() -> impl Strategy<Value = Limit> {
        (1..2000u32, 1..2000u32, 1..10_000_000_000u64).prop_map(|(count, burst, micros)| {
            Limit::new(count, Duration::from_micros(micros)).with_burst(burst)
        })
    }

    fn any_time() -> impl Strategy<Value = SystemTime> {
        (any::<bool>(), any::<u64>(), 0..1_000_000_000u32).prop_map(|(later, seconds, nanos)| {
            let distance = Duration::new(seconds / 2, nanos);
            let time =
                if later { UNIX_EPOCH.checked_add(distance) } else { UNIX_EPOCH.checked_sub(distance) };
            time.unwrap_or(UNIX_EPOCH)
        })
    }

    proptest! {
        #[test]
        fn the_instant_named_is_the_first_that_is_allowed(
            limit in any_limit(), ahead in 0..100_000_000_000u64, cost in 1..10u32,
        ) {
            let now = UNIX_EPOCH + HOUR;
            let tat = Some(now + Duration::from_micros(ahead));
            if let Decision::Refused { retry_at } = decide(limit, tat, now, cost) {
                let before = decide(limit, tat, retry_at - Duration::from_nanos(1), cost);
                prop_assert_eq!(before, Decision::Refused { retry_at });
                let is_allowed = matches!(decide(limit, tat, retry_at, cost), Decision::Allowed { .. });
                prop_assert!(is_allowed);
            }
        }

        #[test]
        fn no_pattern_of_requests_gets_more_than_the_burst_and_the_refill(
            limit in any_limit(), pauses in prop::collection::vec(0..1_000_000_000u64, 1..200),
        ) {
            let start = UNIX_EPOCH + HOUR;
            let (mut now, mut tat, mut granted) = (start, None, 0u128);
            for pause in pauses {
                now += Duration::from_nanos(pause);
                if let Decision::Allowed { tat: new } = decide(limit, tat, now, 1) {
                    tat = Some(new);
                    granted += 1;
                    prop_assert!(new <= now + size(limit));
                }
            }
            let elapsed = now.duration_since(start).unwrap().as_nanos();
            if let Some(refilled) = elapsed.checked_div(limit.interval().as_nanos()) {
                prop_assert!(granted <= u128::from(limit.burst()) + refilled);
            }
        }

        #[test]
        fn a_check_spends_nothing_and_a_refund_undoes_a_spend(
            limit in any_limit(), ahead in 0..100_000_000u64, cost in 1..10u32,
        ) {
            let now = UNIX_EPOCH + HOUR;
            let tat = now + Duration::from_micros(ahead);
            prop_assert_eq!(decide(limit, Some(tat), now, cost), decide(limit, Some(tat), now, cost));
            if let Decision::Allowed { tat: spent } = decide(limit, Some(tat), now, cost) {
                prop_assert_eq!(refund(limit, spent, now, cost), tat);
            }
        }

        #[test]
        fn no_point_in_time_and_no_limit_overflows(
            tat in any_time(), now in any_time(), cost: u32, count: u32, burst: u32, seconds: u64,
        ) {
            let limit = Limit::new(count, Duration::from_secs(seconds)).with_burst(burst);
            if let Decision::Refused { retry_at } = decide(limit, Some(tat), now, cost) {
                prop_assert!(retry_at > now);
            }
            prop_assert!(refund(limit, tat, now, cost) <= tat.max(now));
        }
    }
}
