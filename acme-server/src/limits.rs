//! Rate limits as Let's Encrypt enforces them.
//!
//! What is checked and spent when, as in Boulder (`wfe2`, `ra` and `ratelimits`):
//!
//! | limit | at newAccount, newOrder | later |
//! |---|---|---|
//! | registrations per address, per IPv6 /48 | check and spend | |
//! | orders per account | check and spend | given back if the order is not stored |
//! | certificates per registered domain | check | spend at issuance of a set that is new |
//! | certificates per exact set | check | spend at issuance |
//! | failures per identifier and account | check | spend at failure |
//! | consecutive failures | refuse if paused | spend at failure, reset by success |
//!
//! A renewal the CA has asked for ([`Renewal::Suggested`]) is exempt from all of these checks but the pause. Another
//! one, of an exact set that had a certificate in the last 120 days, is exempt from the limits on orders and
//! registered domains. No exemption changes what is spent at issuance.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use acmekit_core::{Clock, Identifier};
use async_trait::async_trait;

mod bucket;
#[cfg(test)]
mod tests;

pub use acmekit_core::limits::{Limit, Limits};

use crate::{AccountId, NewOrder, Policy, Problem, ProblemType, Renewal};
use acmekit_core::limits::gcra::{self, Decision};
use bucket::{Bucket, ExactSet, Forgetful};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a certificate makes the next one for the same identifiers a renewal (Boulder, `wfe2.NewOrder` and
/// `ra.issueCertificateOuter`).
const RENEWAL: Duration = DAY.saturating_mul(120);
/// How long after an unpause no new pause is made (Boulder, `sa.PauseIdentifiers`).
const GRACE: Duration = DAY.saturating_mul(14);

/// A [`Policy`] that limits what accounts may have in a time.
///
/// It keeps its buckets in memory, and forgets those that are full.
#[derive(Debug)]
pub struct RateLimits {
    limits: Limits,
    unpause_url: String,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The TAT of each bucket that is not full.
    buckets: Forgetful<Bucket, SystemTime>,
    /// When the last certificate was issued.
    issued: Forgetful<ExactSet, SystemTime>,
    paused: Forgetful<(AccountId, Identifier), Pause>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    Paused,
    Lifted(SystemTime),
}

impl RateLimits {
    /// These limits, all buckets full, by this clock.
    pub fn new(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let state = State { buckets: Forgetful::new(), issued: Forgetful::new(), paused: Forgetful::new() };
        let unpause_url = "https://portal.letsencrypt.org".to_owned();
        Self { limits, unpause_url, clock, state: Mutex::new(state) }
    }

    /// With this portal for paused accounts: its base URL, without a slash at the end.
    #[must_use]
    pub fn with_unpause_url(mut self, url: impl Into<String>) -> Self {
        self.unpause_url = url.into();
        self
    }

    /// Lifts the pause of an account for all its identifiers, as the self-service portal does, and says for how
    /// many. For two weeks the account is not paused again for those.
    pub fn unpause(&self, account: &AccountId) -> usize {
        let now = self.clock.now();
        let mut lifted = 0;
        for ((paused, _), pause) in self.state().paused.iter_mut() {
            if paused == account && *pause == Pause::Paused {
                *pause = Pause::Lifted(now);
                lifted += 1;
            }
        }
        lifted
    }

    /// Nothing that is done under the lock can leave half a change behind, so a poisoned one is as good as another.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text of `wfe2.NewOrder`. There is no portal here that could read a token, so its place holds the account.
    fn paused(&self, account: &AccountId, identifiers: &[&Identifier]) -> Problem {
        let names: Vec<_> = identifiers.iter().map(ToString::to_string).collect();
        Problem::new(
            ProblemType::RateLimited,
            format!(
                "Your account is temporarily prevented from requesting certificates for {} and possibly others. \
                 Please visit: {}/sfe/v1/unpause?jwt={account}",
                names.join(", "),
                self.unpause_url
            ),
        )
    }
}

impl State {
    fn decide(&self, limits: &Limits, bucket: &Bucket, now: SystemTime) -> Option<(Limit, Decision)> {
        let limit = bucket.limit(limits)?;
        Some((limit, gcra::decide(limit, self.buckets.get(bucket).copied(), now, 1)))
    }

    /// Checks all, and names the limit that is to be waited for longest; among equals the last, as in Boulder.
    ///
    /// Boulder compares with the allowed ones too, and lets a request through if one of those would then be exhausted
    /// for longer: an accident that no client should count on, and not reproduced.
    fn refusal(&self, limits: &Limits, buckets: &[Bucket], now: SystemTime) -> Option<Problem> {
        buckets
            .iter()
            .filter_map(|bucket| match self.decide(limits, bucket, now)? {
                (limit, Decision::Refused { retry_at }) => Some((retry_at, bucket, limit)),
                (_, Decision::Allowed { .. }) => None,
            })
            .max_by_key(|(retry_at, ..)| *retry_at)
            .map(|(retry_at, bucket, limit)| bucket.refusal(limit, retry_at))
    }

    /// Spends if there is something to spend, and says whether there was.
    fn spend(&mut self, limits: &Limits, bucket: Bucket, now: SystemTime) -> bool {
        match self.decide(limits, &bucket, now) {
            Some((_, Decision::Allowed { tat })) => {
                self.buckets.insert(bucket, tat, |tat| *tat > now);
                true
            }
            Some((_, Decision::Refused { .. })) => false,
            None => true,
        }
    }

    fn refund(&mut self, limits: &Limits, bucket: Bucket, now: SystemTime) {
        if let (Some(limit), Some(tat)) = (bucket.limit(limits), self.buckets.get(&bucket).copied()) {
            self.buckets.insert(bucket, gcra::refund(limit, tat, now, 1), |tat| *tat > now);
        }
    }

    fn is_renewal(&self, set: &ExactSet, now: SystemTime) -> bool {
        self.issued.get(set).is_some_and(|at| is_within(RENEWAL, *at, now))
    }

    fn is_paused(&self, account: &AccountId, identifier: &Identifier) -> bool {
        self.paused.get(&(account.clone(), identifier.clone())) == Some(&Pause::Paused)
    }

    fn pause(&mut self, account: &AccountId, identifier: &Identifier, now: SystemTime) {
        let key = (account.clone(), identifier.clone());
        let matters = |pause: &Pause| match pause {
            Pause::Paused => true,
            Pause::Lifted(at) => is_within(GRACE, *at, now),
        };
        if !self.paused.get(&key).is_some_and(matters) {
            self.paused.insert(key, Pause::Paused, matters);
        }
    }
}

/// Whether less than `period` has passed since then. A clock that was set back has let no time pass.
fn is_within(period: Duration, then: SystemTime, now: SystemTime) -> bool {
    now.duration_since(then).map_or(true, |elapsed| elapsed < period)
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Policy for RateLimits {
    async fn new_account(&self, from: Option<IpAddr>) -> Result<(), Problem> {
        let Some(from) = from else { return Ok(()) };
        let (now, buckets) = (self.clock.now(), Bucket::registrations(from));
        let mut state = self.state();
        if let Some(refusal) = state.refusal(&self.limits, &buckets, now) {
            return Err(refusal);
        }
        for bucket in buckets {
            state.spend(&self.limits, bucket, now);
        }
        Ok(())
    }

    async fn new_order(&self, order: &NewOrder<'_>) -> Result<(), Problem> {
        let now = self.clock.now();
        let set = ExactSet::new(order.identifiers);
        let mut state = self.state();

        // Boulder looks for a pause before it looks at `replaces`.
        let paused: Vec<_> = order
            .identifiers
            .iter()
            .filter(|identifier| state.is_paused(order.account, identifier))
            .collect();
        if !paused.is_empty() {
            return Err(self.paused(order.account, &paused));
        }
        if order.renewal == Renewal::Suggested {
            return Ok(());
        }

        let is_renewal = state.is_renewal(&set, now);
        let orders = Bucket::OrdersPerAccount(order.account.clone());
        let failures = order
            .identifiers
            .iter()
            .map(|identifier| Bucket::Failures(order.account.clone(), identifier.clone()));
        let mut buckets = Vec::new();
        if !is_renewal {
            buckets.push(orders.clone());
        }
        buckets.extend(failures);
        if !is_renewal {
            buckets.extend(Bucket::domains(order.identifiers));
        }
        buckets.push(Bucket::CertificatesPerSet(set));
        if let Some(refusal) = state.refusal(&self.limits, &buckets, now) {
            return Err(refusal);
        }
        if !is_renewal {
            state.spend(&self.limits, orders, now);
        }
        Ok(())
    }

    async fn order_refused(&self, order: &NewOrder<'_>) {
        let now = self.clock.now();
        let mut state = self.state();
        let is_exempt =
            order.renewal == Renewal::Suggested || state.is_renewal(&ExactSet::new(order.identifiers), now);
        if !is_exempt {
            state.refund(&self.limits, Bucket::OrdersPerAccount(order.account.clone()), now);
        }
    }

    /// Boulder keeps the `*.` in an authorization's identifier, and so counts a wildcard apart from its domain: the
    /// identifier here is the order's.
    async fn validation_failed(&self, account: &AccountId, identifier: &Identifier) {
        let now = self.clock.now();
        let mut state = self.state();
        state.spend(&self.limits, Bucket::Failures(account.clone(), identifier.clone()), now);
        let consecutive = Bucket::ConsecutiveFailures(account.clone(), identifier.clone());
        if !state.spend(&self.limits, consecutive, now) {
            state.pause(account, identifier, now);
        }
    }

    async fn validation_succeeded(&self, account: &AccountId, identifier: &Identifier) {
        let consecutive = Bucket::ConsecutiveFailures(account.clone(), identifier.clone());
        self.state().buckets.remove(&consecutive);
    }

    async fn issued(&self, _account: &AccountId, identifiers: &[Identifier]) {
        let now = self.clock.now();
        let set = ExactSet::new(identifiers);
        let mut state = self.state();
        if !state.is_renewal(&set, now) {
            for bucket in Bucket::domains(identifiers) {
                state.spend(&self.limits, bucket, now);
            }
        }
        state.spend(&self.limits, Bucket::CertificatesPerSet(set.clone()), now);
        state.issued.insert(set, now, |at| is_within(RENEWAL, *at, now));
    }
}
