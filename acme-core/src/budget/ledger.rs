//! The mirror as plain values: what Boulder looks at and spends, without clock or store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Identifier;
use crate::backoff::LONGEST_WAIT;
use crate::bundle::hex;
use crate::clock::rfc3339;
use crate::limits::gcra::{self, Decision};
use crate::limits::{Limit, Limits, covering};

/// The page of the account itself; the others are named after what they cover.
pub(crate) const ACCOUNT: &str = "account";

/// How long a certificate makes the next one for the same identifiers a renewal (Boulder, `wfe2.NewOrder`).
const RENEWAL: Duration = Duration::from_secs(120 * 24 * 3600);

/// How long an order waits that a CA has refused for its limits, without saying until when; and how long at most all
/// others wait with it where the CA does not say which limit it was.
const UNTOLD: Duration = Duration::from_secs(3600);

/// A clock that has gone back by less may be another process's.
const SET_BACK: Duration = Duration::from_secs(600);

/// What a certificate needs of the budget.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    identifiers: BTreeSet<Identifier>,
    /// The exact set, as a hash.
    set: String,
    /// Under what the identifiers are counted, each once, sorted: the first one's page holds the exact set.
    covers: Vec<String>,
    /// A renewal inside the window the CA suggested.
    exempt: bool,
}

impl Wish {
    pub(crate) fn new(identifiers: &BTreeSet<Identifier>) -> Self {
        let mut hash = Sha256::new();
        for identifier in identifiers {
            hash.update(identifier.to_string());
            hash.update(b"\n");
        }
        let set = hex(hash.finalize().get(..16).unwrap_or_default());
        let covers: BTreeSet<String> = identifiers.iter().map(covering).collect();
        Self { identifiers: identifiers.clone(), set, covers: covers.into_iter().collect(), exempt: false }
    }

    /// A renewal that is exempt, or not.
    pub(crate) fn exempt(mut self, exempt: bool) -> Self {
        self.exempt = exempt;
        self
    }

    /// The names of the pages it is written on.
    pub(crate) fn pages(&self) -> Vec<String> {
        self.covers.iter().map(|cover| page_name(cover)).collect()
    }

    /// Where its exact set is written, and what it waits in line with.
    pub(crate) fn first_page(&self) -> String {
        self.covers.first().map(|cover| page_name(cover)).unwrap_or_default()
    }
}

/// A page's name: what it covers where that is a plain name, else a hash.
fn page_name(cover: &str) -> String {
    let plain = cover.len() <= 100
        && cover.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'))
        && cover.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    match plain {
        true => format!("names/{cover}"),
        false => format!("others/{}", hex(Sha256::digest(cover).get(..16).unwrap_or_default())),
    }
}

/// What is kept of the account, or of one registered domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Page {
    /// The orders of the account; the certificates of the registered domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    tat: Option<Time>,
    /// Until when the CA wants no order of this account, or for this domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_until: Option<Time>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sets: BTreeMap<String, Set>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    failures: BTreeMap<String, Time>,
    /// When it was last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<Time>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
struct Time(#[serde(with = "rfc3339")] SystemTime);

/// One exact set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Set {
    tat: Option<Time>,
    issued: Option<Time>,
    /// Until when the CA wants no order for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_until: Option<Time>,
    /// The last order that was charged.
    order: String,
}

impl Page {
    /// Forgets what was spent by a clock that was far ahead when this was written: it would count as spent for as long as
    /// that was ahead, and the CA itself is there to say no. By less, it may only be that others charge at the same time.
    pub(crate) fn settle(&mut self, now: SystemTime) {
        let ahead = self.changed.and_then(|changed| changed.0.duration_since(now).ok());
        if ahead.is_none_or(|ahead| ahead < SET_BACK) {
            return;
        }
        (self.tat, self.blocked_until) = (None, None);
        self.failures.clear();
        for set in self.sets.values_mut() {
            (set.tat, set.blocked_until) = (None, None);
            set.issued = set.issued.map(|_| Time(now));
        }
    }

    /// Forgets what no longer matters, and notes when that was.
    pub(crate) fn prune(&mut self, now: SystemTime) {
        self.changed = Some(Time(now));
        let past = |time: &Option<Time>| time.is_none_or(|time| time.0 <= now);
        self.sets.retain(|_, set| {
            let issued = set.issued.is_some_and(|at| is_within(at.0, now));
            issued || !past(&set.tat) || !past(&set.blocked_until)
        });
        self.failures.retain(|_, tat| tat.0 > now);
        if past(&self.tat) {
            self.tat = None;
        }
        if past(&self.blocked_until) {
            self.blocked_until = None;
        }
    }
}

/// Whether a certificate of then makes one of now a renewal. A clock that was set back has let no time pass.
fn is_within(then: SystemTime, now: SystemTime) -> bool {
    now.duration_since(then).map_or(true, |elapsed| elapsed < RENEWAL)
}

/// Why not now, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) retry_at: SystemTime,
    /// All orders of the account wait for it.
    pub(crate) of_account: bool,
    pub(crate) why: String,
}

/// Pages that are open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    pages: BTreeMap<String, Page>,
}

impl Ledger {
    pub(crate) fn insert(&mut self, name: &str, page: Page) {
        self.pages.insert(name.to_owned(), page);
    }

    pub(crate) fn take(&mut self, name: &str) -> Page {
        self.pages.remove(name).unwrap_or_default()
    }

    fn page(&self, name: &str) -> Option<&Page> {
        self.pages.get(name)
    }

    fn page_mut(&mut self, name: &str) -> &mut Page {
        self.pages.entry(name.to_owned()).or_default()
    }

    fn set(&self, wish: &Wish) -> Option<&Set> {
        self.page(&wish.first_page())?.sets.get(&wish.set)
    }

    /// Whether the exact set had a certificate in the last 120 days.
    pub(crate) fn is_renewal(&self, wish: &Wish, now: SystemTime) -> bool {
        self.set(wish).and_then(|set| set.issued).is_some_and(|at| is_within(at.0, now))
    }

    /// Whether the CA would refuse an order now; of several reasons the one that lasts longest.
    pub(crate) fn refusal(&self, limits: &Limits, wish: &Wish, now: SystemTime) -> Option<Refusal> {
        if wish.exempt {
            return None;
        }
        let of_names = self.refusal_of_names(limits, wish, now);
        let of_account = match self.is_renewal(wish, now) {
            true => self.blocked(now),
            false => self.refusal_of_account(limits, now),
        };
        of_names.into_iter().chain(of_account).max_by_key(|refusal| refusal.retry_at)
    }

    /// As [`refusal`](Self::refusal), for the reasons that lie with the account: all its orders share them.
    pub(crate) fn refusal_of_account(&self, limits: &Limits, now: SystemTime) -> Option<Refusal> {
        let tat = self.page(ACCOUNT).and_then(|page| page.tat);
        let orders = limits.orders_per_account.and_then(|limit| {
            refusal(limit, tat, now, || format!("the account's {} new orders are spent", limit.burst()))
        });
        let refused = orders.into_iter().chain(self.blocked(now)).max_by_key(|refusal| refusal.retry_at)?;
        Some(Refusal { of_account: true, ..refused })
    }

    fn blocked(&self, now: SystemTime) -> Option<Refusal> {
        told_to_wait(self.page(ACCOUNT)?.blocked_until, now)
    }

    /// As [`refusal`](Self::refusal), for the reasons that lie with the names.
    pub(crate) fn refusal_of_names(&self, limits: &Limits, wish: &Wish, now: SystemTime) -> Option<Refusal> {
        let mut found: Vec<Refusal> =
            self.set(wish).and_then(|set| told_to_wait(set.blocked_until, now)).into_iter().collect();
        if !self.is_renewal(wish, now) {
            for cover in &wish.covers {
                let page = self.page(&page_name(cover));
                let tat = page.and_then(|page| page.tat);
                found.extend(page.and_then(|page| told_to_wait(page.blocked_until, now)));
                found.extend(limits.for_domain(cover).and_then(|limit| {
                    let why = || format!("the {} certificates for `{cover}` are spent", limit.burst());
                    refusal(limit, tat, now, why)
                }));
            }
        }
        if let Some(limit) = limits.certificates_per_set {
            let tat = self.set(wish).and_then(|set| set.tat);
            let why = || format!("the {} certificates for exactly these names are spent", limit.burst());
            found.extend(refusal(limit, tat, now, why));
        }
        if let Some(limit) = limits.failures {
            for identifier in &wish.identifiers {
                let page = self.page(&page_name(&covering(identifier)));
                let tat = page.and_then(|page| page.failures.get(&identifier.to_string())).copied();
                let why = || format!("`{identifier}` has failed {} times", limit.burst());
                found.extend(refusal(limit, tat, now, why));
            }
        }
        found.into_iter().max_by_key(|refusal| refusal.retry_at)
    }

    /// Spends an order of the account, unless the wish is exempt from that limit.
    pub(crate) fn spend_order(&mut self, limits: &Limits, wish: &Wish, now: SystemTime) {
        if wish.exempt || self.is_renewal(wish, now) {
            return;
        }
        if let Some(limit) = limits.orders_per_account {
            spend(limit, &mut self.page_mut(ACCOUNT).tat, now);
        }
    }

    /// Gives an order back.
    pub(crate) fn refund_order(&mut self, limits: &Limits, wish: &Wish, now: SystemTime) {
        if wish.exempt || self.is_renewal(wish, now) {
            return;
        }
        if let Some((limit, tat)) = limits.orders_per_account.zip(self.page_mut(ACCOUNT).tat.as_mut()) {
            tat.0 = gcra::refund(limit, tat.0, now, 1);
        }
    }

    /// Spends what a certificate costs, if this order has not been charged.
    pub(crate) fn spend_issuance(&mut self, limits: &Limits, wish: &Wish, order: &str, now: SystemTime) {
        if !order.is_empty() && self.set(wish).is_some_and(|set| set.order == order) {
            return;
        }
        if !self.is_renewal(wish, now) {
            for cover in &wish.covers {
                if let Some(limit) = limits.for_domain(cover) {
                    spend(limit, &mut self.page_mut(&page_name(cover)).tat, now);
                }
            }
        }
        let set = self.page_mut(&wish.first_page()).sets.entry(wish.set.clone()).or_default();
        if let Some(limit) = limits.certificates_per_set {
            spend(limit, &mut set.tat, now);
        }
        set.issued = Some(Time(now));
        order.clone_into(&mut set.order);
    }

    /// Spends a failed validation of a name.
    pub(crate) fn spend_failure(&mut self, limits: &Limits, identifier: &Identifier, now: SystemTime) {
        let Some(limit) = limits.failures else { return };
        let failures = &mut self.page_mut(&page_name(&covering(identifier))).failures;
        let mut tat = failures.get(&identifier.to_string()).copied();
        spend(limit, &mut tat, now);
        if let Some(tat) = tat {
            failures.insert(identifier.to_string(), tat);
        }
    }

    /// What the CA has said when it refused: by Boulder's texts (`ratelimits/limiter.go`) it is known for whom that
    /// holds. Any other refusal holds for this set, and all orders wait a while.
    pub(crate) fn correct(
        &mut self,
        limits: &Limits,
        wish: &Wish,
        detail: &str,
        wait: Option<Duration>,
        now: SystemTime,
    ) {
        let retry_at = said_at(detail).or_else(|| now.checked_add(wait?)).unwrap_or(now + UNTOLD);
        let retry_at = retry_at.min(now + LONGEST_WAIT);
        let quoted = detail.split('"').nth(1).filter(|quoted| !quoted.is_empty());
        let cover = wish.covers.iter().find(|cover| quoted.is_some_and(|quoted| cover.ends_with(quoted)));
        let blocked = match cover {
            Some(cover) if detail.contains("already issued for") => {
                &mut self.page_mut(&page_name(cover)).blocked_until
            }
            _ if detail.contains("too many new orders") => {
                let page = self.page_mut(ACCOUNT);
                if let Some(limit) = limits.orders_per_account {
                    page.tat = page.tat.max(Some(Time(gcra::exhausted_until(limit, retry_at))));
                    return;
                }
                &mut page.blocked_until
            }
            _ => {
                let known =
                    detail.contains("exact set of identifiers") || detail.contains("failed authorizations");
                if !known {
                    let account = &mut self.page_mut(ACCOUNT).blocked_until;
                    *account = (*account).max(Some(Time(retry_at.min(now + UNTOLD))));
                }
                let sets = &mut self.page_mut(&wish.first_page()).sets;
                &mut sets.entry(wish.set.clone()).or_default().blocked_until
            }
        };
        *blocked = (*blocked).max(Some(Time(retry_at)));
    }

    /// How many orders the account has left, and until when the CA wants none.
    pub(crate) fn left(&self, limits: &Limits, now: SystemTime) -> (Option<u32>, Option<SystemTime>) {
        let page = self.page(ACCOUNT);
        let blocked = page.and_then(|page| page.blocked_until).map(|time| time.0).filter(|at| *at > now);
        let orders = limits.orders_per_account.map(|limit| {
            let tat = page.and_then(|page| page.tat).map(|tat| tat.0);
            let spent = tat.and_then(|tat| tat.duration_since(now).ok()).unwrap_or_default();
            let spent = spent.as_nanos().div_ceil(limit.interval().as_nanos().max(1));
            limit.burst().saturating_sub(u32::try_from(spent).unwrap_or(u32::MAX))
        });
        (orders, blocked)
    }
}

/// How much later than allowed whoever is refused is to come again: the CA's spending lay a little after ours.
fn margin(limit: Limit) -> Duration {
    (limit.interval() / 100).clamp(Duration::from_secs(2), Duration::from_secs(600))
}

fn refusal(limit: Limit, tat: Option<Time>, now: SystemTime, why: impl Fn() -> String) -> Option<Refusal> {
    match gcra::decide(limit, tat.map(|tat| tat.0), now, 1) {
        Decision::Allowed { .. } => None,
        Decision::Refused { retry_at } => Some(Refusal {
            retry_at: retry_at.checked_add(margin(limit)).unwrap_or(retry_at),
            of_account: false,
            why: why(),
        }),
    }
}

fn told_to_wait(until: Option<Time>, now: SystemTime) -> Option<Refusal> {
    let until = until.filter(|until| until.0 > now)?;
    Some(Refusal { retry_at: until.0, of_account: false, why: "the CA has asked to wait".to_owned() })
}

fn spend(limit: Limit, tat: &mut Option<Time>, now: SystemTime) {
    if let Decision::Allowed { tat: new } = gcra::decide(limit, tat.map(|tat| tat.0), now, 1) {
        *tat = Some(Time(new));
    }
}

/// `… retry after 2026-08-01 12:00:00 UTC: see …`
fn said_at(detail: &str) -> Option<SystemTime> {
    let (_, rest) = detail.split_once("retry after ")?;
    let text = rest.get(..19)?;
    let time = jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", text).ok()?;
    let zoned = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(SystemTime::from(zoned.timestamp()))
}

/// For the fuzz targets only.
pub(crate) mod fuzzing {
    use super::*;

    /// A time of today, more or less: seconds of the Unix time.
    const NOW: u64 = 1_800_000_000;

    /// Reads octets as a page, and goes on with it as if the CA had said this and told to wait so long.
    ///
    /// # Panics
    /// If what becomes of it cannot be written, or is read as something else.
    pub(crate) fn page(octets: &[u8], detail: &str, wait: Option<Duration>) {
        let mut page = serde_json::from_slice::<Page>(octets).unwrap_or_default();
        let Ok(name) = "www.example.com".parse::<Identifier>() else { return };
        let (limits, now) = (Limits::lets_encrypt(), SystemTime::UNIX_EPOCH + Duration::from_secs(NOW));
        page.settle(now);
        let wish = Wish::new(&BTreeSet::from([name.clone()]));
        let pages: Vec<String> = std::iter::once(ACCOUNT.to_owned()).chain(wish.pages()).collect();
        let mut ledger = Ledger::default();
        pages.iter().for_each(|name| ledger.insert(name, page.clone()));
        let _ = (ledger.refusal(&limits, &wish, now), ledger.left(&limits, now));
        ledger.spend_order(&limits, &wish, now);
        ledger.spend_issuance(&limits, &wish, "order", now);
        ledger.spend_failure(&limits, &name, now);
        ledger.refund_order(&limits, &wish, now);
        ledger.correct(&limits, &wish, detail, wait, now);
        for name in &pages {
            let mut page = ledger.take(name);
            page.prune(now);
            let written = serde_json::to_vec(&page).ok();
            let again = written.and_then(|octets| serde_json::from_slice::<Page>(&octets).ok());
            assert!(again.as_ref() == Some(&page), "a page of the budget does not survive being written");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_ca_says_at_the_end_of_time_can_be_written_down() {
        for detail in [
            "too many new orders (300), retry after 9999-12-31 23:59:59 UTC",
            "too many certificates already issued for \"example.com\", retry after 9999-12-31 23:59:59 UTC",
            "no such limit",
        ] {
            super::fuzzing::page(b"{}", detail, Some(std::time::Duration::from_secs(1 << 50)));
        }
    }
}
