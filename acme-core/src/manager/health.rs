//! Which authority to turn to: the first that is in order.

use std::time::{Duration, SystemTime};

use crate::{Error, ErrorKind};

/// So many failures in a row that lie with the CA, over all certificates, and it counts as out of order.
pub(super) const FAILURES: u32 = 3;
/// How long it is left alone then; twice as long each time it is still so, up to an hour.
const REST: Duration = Duration::from_secs(5 * 60);

/// How one authority fares.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Health {
    failures: u32,
    down_until: Option<SystemTime>,
}

impl Health {
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub(super) fn failed(&mut self, now: SystemTime) {
        // Those that were under way together fail together: that is once.
        if self.is_down(now).is_some() {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            let doubled = 2u32.saturating_pow((self.failures - FAILURES).min(4));
            self.down_until = now.checked_add((REST * doubled).min(Duration::from_secs(3600)));
        }
    }

    /// Until when it is left alone.
    pub(super) fn is_down(&self, now: SystemTime) -> Option<SystemTime> {
        self.down_until.filter(|until| *until > now)
    }
}

/// Whether a failure lies with the CA as a whole: it does not answer, or nothing sensible.
pub(super) fn is_outage(error: &Error) -> bool {
    let of_the_ca = error.op().starts_with("ca.") || error.op() == "issue.poll";
    // Boulder is busy with `rateLimited`, too, but by status 503.
    let status = error.problem().and_then(|problem| problem.status);
    let broken = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Protocol);
    of_the_ca && (broken || status.is_some_and(|status| status >= 500))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn three_failures_in_a_row_rest_it_longer_and_longer() {
        let mut health = Health::default();
        let mut now = UNIX_EPOCH;
        health.failed(now);
        health.failed(now);
        health.succeeded();
        health.failed(now);
        health.failed(now);
        assert_eq!(health.is_down(now), None);
        let mut rests = Vec::new();
        for _ in 0..7 {
            health.failed(now);
            // Those that were under way do not count.
            health.failed(now);
            let until = health.is_down(now).unwrap();
            rests.push(until.duration_since(now).unwrap().as_secs() / 60);
            now = until;
            assert_eq!(health.is_down(now), None, "it is tried again");
        }
        assert_eq!(rests, [5, 10, 20, 40, 60, 60, 60]);
        health.succeeded();
        health.failed(now);
        assert_eq!(health.is_down(now), None);
    }

    #[test]
    fn what_is_wrong_here_is_not_the_cas() {
        for (kind, op, want) in [
            (ErrorKind::Unavailable, "ca.http", true),
            (ErrorKind::Timeout, "issue.poll", true),
            (ErrorKind::Protocol, "ca.nonce", true),
            (ErrorKind::Validation, "order", false),
            (ErrorKind::Timeout, "solver.present", false),
            (ErrorKind::RateLimited, "ca.http", false),
            (ErrorKind::Unavailable, "rfc2136.exchange", false),
        ] {
            assert_eq!(is_outage(&Error::new(kind, op, "x")), want, "{kind:?} {op}");
        }
        let busy = |status| crate::Problem { status: Some(status), ..crate::Problem::default() };
        let limited = |status| Error::new(ErrorKind::RateLimited, "ca.http", "x").with_problem(busy(status));
        assert!(is_outage(&limited(503)) && !is_outage(&limited(429)));
    }
}
