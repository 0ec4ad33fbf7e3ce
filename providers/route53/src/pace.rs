//! Five requests a second, as Route 53 allows them to an account.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use acmekit_core::Deadline;
use tokio::time::Instant;

/// <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DNSLimitations.html#limits-api-requests>
const BETWEEN: Duration = Duration::from_millis(200);
/// What may be asked at once, after a pause.
const AT_ONCE: u32 = 5;

/// Spreads requests. A throttled account would throttle all that its owner does with Route 53.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// Waits for this request's turn, but not past the deadline. Says whether it has come.
    pub(crate) async fn turn(&self, deadline: Deadline) -> bool {
        let wait = {
            let mut full = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let (turn, next) = grant(now, *full);
            *full = Some(next);
            turn.saturating_duration_since(now)
        };
        wait.is_zero() || deadline.sleep(wait).await
    }
}

/// When this request may be made; and when all that was granted will have been spread evenly.
fn grant(now: Instant, full: Option<Instant>) -> (Instant, Instant) {
    let full = full.map_or(now, |full| full.max(now));
    let turn = full.checked_sub(BETWEEN * (AT_ONCE - 1)).unwrap_or(now);
    (turn.max(now), full + BETWEEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn five_at_once_and_then_five_a_second() {
        let (pace, begin) = (Pace::default(), Instant::now());
        let deadline = Deadline::after(Duration::from_secs(60));
        for _ in 0..5 {
            assert!(pace.turn(deadline).await);
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            assert!(pace.turn(deadline).await);
        }
        assert_eq!(begin.elapsed().as_millis() / 10, 200);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let begin = Instant::now();
        for _ in 0..5 {
            assert!(pace.turn(deadline).await);
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_past_the_deadline() {
        let pace = Pace::default();
        let deadline = Deadline::after(Duration::from_millis(300));
        let mut turns = 0;
        while pace.turn(deadline).await {
            turns += 1;
        }
        assert_eq!(turns, 6);
    }
}
