//! What the CA still allows: a mirror of its rate limits, kept in the store.
//!
//! It is charged before the request that costs, so that neither a crash loop nor a second process spends more than the
//! CA allows; and it is corrected by what the CA says when it refuses nevertheless.
//!
//! | when | what is looked at | what is spent |
//! |---|---|---|
//! | before newOrder | orders of the account, each registered domain, the exact set, failures of each name | one order |
//! | before the CSR is sent | | one certificate of each registered domain and of the exact set |
//! | after a failed validation | | one failure of that name |
//!
//! A renewal inside the window the CA has suggested (RFC 9773) is not looked at before newOrder; one of the exact set of a
//! certificate of the last 120 days is exempt from the limits on orders and registered domains, and spends neither
//! (Boulder, `wfe2` and `ra`).

pub(crate) mod ledger;
pub(crate) mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::Mutex;

use crate::limits::Limits;
use crate::{
    Condition, Deadline, Error, ErrorKind, Expected, Identifier, Result, Retry, Secret, Store, StoreKey,
    Version, metrics,
};

pub(crate) use ledger::{Ledger, Page, Wish};

/// How long a charge may wait for others, in this process and in the store.
const PATIENCE: Duration = Duration::from_secs(30);

/// The operation of refusals that hold for all orders of the account.
const OF_ACCOUNT: &str = "budget.account";

/// Until when no order of the account is to be had, if that is what the error says.
pub(crate) fn spent_until(error: &Error, now: SystemTime) -> Option<SystemTime> {
    match error.retry() {
        Retry::After(wait) if error.op() == OF_ACCOUNT => now.checked_add(wait),
        _ => None,
    }
}

/// The budget at one authority.
#[derive(Debug)]
pub(crate) struct Budget {
    store: Arc<dyn Store>,
    authority: String,
    limits: Limits,
    /// One at a time charges in this process: others would only have to try again.
    turn: Mutex<()>,
}

/// What is left of a limit on one account, as [`Status`](crate::manager::Status) shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Left {
    /// The authority's id.
    pub authority: String,
    /// How many new orders the account may still make now; `None` without such a limit.
    pub orders: Option<u32>,
    /// Until when the CA wants no order at all, if it has said so.
    #[serde(serialize_with = "crate::clock::rfc3339::serialize_option")]
    pub blocked_until: Option<SystemTime>,
}

/// A page as it is in the store.
struct Loaded {
    key: StoreKey,
    name: String,
    version: Option<Version>,
    before: Page,
}

impl Budget {
    pub(crate) fn new(store: Arc<dyn Store>, authority: &str, limits: Limits) -> Self {
        Self { store, authority: authority.to_owned(), limits, turn: Mutex::default() }
    }

    /// Before newOrder: spends an order, or says when there will be one to spend.
    pub(crate) async fn charge_order(&self, wish: &Wish, now: SystemTime) -> Result<()> {
        self.change(&wish.pages(), now, |ledger| {
            if let Some(refusal) = ledger.refusal(&self.limits, wish, now) {
                return Err(self.refused(&refusal, now));
            }
            ledger.spend_order(&self.limits, wish, now);
            Ok(())
        })
        .await
    }

    /// The CA has not made an order: it has not been spent, and the CA may have said how long to wait, and for what.
    pub(crate) async fn order_refused(&self, wish: &Wish, error: &Error, now: SystemTime) -> Result<()> {
        let Some(problem) = error.problem() else { return Ok(()) };
        let by_the_ca = problem.status.is_some_and(|status| (400..500).contains(&status));
        let wait = match error.retry() {
            Retry::After(wait) => Some(wait),
            _ => None,
        };
        // One that is busy (503) says nothing of limits, and may or may not have counted.
        if !by_the_ca {
            return Ok(());
        }
        let limited = error.kind() == ErrorKind::RateLimited;
        self.change(&wish.pages(), now, |ledger| {
            ledger.refund_order(&self.limits, wish, now);
            if limited {
                ledger.correct(&self.limits, wish, &problem.detail, wait, now);
            }
            Ok(())
        })
        .await
    }

    /// Before the CSR of an order is sent; for one order once, however often it is sent.
    pub(crate) async fn charge_issuance(&self, wish: &Wish, order: &str, now: SystemTime) -> Result<()> {
        self.change(&wish.pages(), now, |ledger| {
            ledger.spend_issuance(&self.limits, wish, order, now);
            Ok(())
        })
        .await
    }

    /// The CA did not find the proof for these.
    pub(crate) async fn charge_failures(&self, failed: &[Identifier], now: SystemTime) -> Result<()> {
        if failed.is_empty() {
            return Ok(());
        }
        let wish = Wish::new(&failed.iter().cloned().collect::<BTreeSet<_>>());
        self.change(&wish.pages(), now, |ledger| {
            for identifier in failed {
                ledger.spend_failure(&self.limits, identifier, now);
            }
            Ok(())
        })
        .await
    }

    /// What is left now.
    pub(crate) async fn left(&self, now: SystemTime) -> Result<Left> {
        let (ledger, _) = self.load(&[], now).await?;
        let (orders, blocked_until) = ledger.left(&self.limits, now);
        metrics::budget(&self.authority, (orders, blocked_until));
        Ok(Left { authority: self.authority.clone(), orders, blocked_until })
    }

    /// The ledger with these pages, to be played with.
    pub(crate) async fn ledger(&self, pages: &[String], now: SystemTime) -> Result<Ledger> {
        Ok(self.load(pages, now).await?.0)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn refused(&self, refusal: &ledger::Refusal, now: SystemTime) -> Error {
        let wait = refusal.retry_at.duration_since(now).unwrap_or_default();
        let op = if refusal.of_account { OF_ACCOUNT } else { "budget" };
        Error::new(ErrorKind::RateLimited, op, format!("{}; nothing was sent", refusal.why))
            .with("authority", &self.authority)
            .with_retry(Retry::After(wait))
            .with_hint("the CA would refuse: wait, or ask it for an override and write it into the limits")
    }

    /// Loads pages, changes them, and saves those that have changed; again if somebody else was quicker.
    async fn change<T>(
        &self,
        pages: &[String],
        now: SystemTime,
        change: impl Fn(&mut Ledger) -> Result<T> + Send + Sync,
    ) -> Result<T>
    where
        T: Send,
    {
        let work = async {
            let _turn = self.turn.lock().await;
            loop {
                let (mut ledger, loaded) = self.load(pages, now).await?;
                let done = change(&mut ledger);
                metrics::budget(&self.authority, ledger.left(&self.limits, now));
                let done = done?;
                match self.save(ledger, loaded, now).await {
                    Err(error) if error.kind() == ErrorKind::Conflict => {
                        tokio::time::sleep(Duration::from_millis(rand::random_range(1..20))).await;
                    }
                    saved => return saved.map(|()| done),
                }
            }
        };
        Deadline::after(PATIENCE).run("budget", "charging the budget", work).await
    }

    async fn load(&self, pages: &[String], now: SystemTime) -> Result<(Ledger, Vec<Loaded>)> {
        let mut ledger = Ledger::default();
        let mut loaded = Vec::new();
        for name in std::iter::once(&ledger::ACCOUNT.to_owned()).chain(pages) {
            let key: StoreKey = format!("budgets/{}/{name}", self.authority).parse()?;
            let entry = self.store.load(&key).await?;
            let version = entry.as_ref().map(|entry| entry.version);
            let mut page = match entry.map(|entry| serde_json::from_slice::<Page>(entry.value.expose())) {
                None => Page::default(),
                Some(Ok(page)) => page,
                // It only keeps from asking too often: the CA itself is there to say no.
                Some(Err(_)) => {
                    tracing::warn!(entry = %key, "the budget cannot be read, and begins anew");
                    Page::default()
                }
            };
            page.settle(now);
            loaded.push(Loaded { key, name: name.clone(), version, before: page.clone() });
            ledger.insert(name, page);
        }
        Ok((ledger, loaded))
    }

    async fn save(&self, mut ledger: Ledger, loaded: Vec<Loaded>, now: SystemTime) -> Result<()> {
        for Loaded { key, name, version, before } in loaded {
            let mut page = ledger.take(&name);
            if page == before {
                continue;
            }
            page.prune(now);
            let value = serde_json::to_vec(&page).map_err(|e| {
                Error::new(ErrorKind::Storage, "budget", "could not be encoded").with_source(e)
            })?;
            let expected = version.map_or(Expected::Absent, Expected::Version);
            self.store.save(&key, &Secret::new(value), &Condition::expecting(expected)).await?;
        }
        Ok(())
    }
}
