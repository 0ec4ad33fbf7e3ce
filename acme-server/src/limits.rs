//! Rate limits as Boulder, the software of Let's Encrypt, enforces them.
//!
//! A [`Policy`] that refuses with Boulder's words and checks and spends where Boulder does
//! (<https://letsencrypt.org/docs/rate-limits/>, and `ratelimits/limiter.go` of Boulder for words and arithmetic):
//!
//! | limit | checked | spent |
//! |---|---|---|
//! | registrations per address, per IPv6 /48 | newAccount | newAccount |
//! | orders per account | newOrder | newOrder; given back when the order is refused after all |
//! | certificates per registered domain | newOrder | issuance, unless the same set had a certificate |
//! | certificates per exact set | newOrder | every issuance |
//! | failed validations per name and account | newOrder | each failure |
//! | failures in a row per name and account | newOrder | each failure; forgotten at a success |
//!
//! A renewal at the time the CA suggested (RFC 9773) is checked against nothing. One whose exact set had a certificate
//! within 120 days is not checked against orders per account and certificates per domain.
//!
//! Boulder adds up to 3 % of chance to `Retry-After`; here it is exact, so that a test can be.

mod gcra;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use acmekit_core::{Clock, Identifier};
use async_trait::async_trait;

use crate::{AccountId, NewOrder, Policy, Problem, ProblemType, Renewal};
use gcra::Decision;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// For how long a set that had a certificate counts as being renewed.
const RENEWAL: Duration = Duration::from_secs(120 * 24 * 60 * 60);

/// After how many buckets the full ones are looked for and dropped.
const SWEEP: usize = 10_000;

/// So many in such a time; one comes back after each equal part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    count: u32,
    period: Duration,
}

impl Limit {
    /// `count` (at least one) in `period`.
    pub fn new(count: u32, period: Duration) -> Self {
        Self { count: count.max(1), period }
    }

    fn interval(&self) -> Duration {
        self.period / self.count
    }
}

/// The limits of a CA; `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// New accounts from one address.
    pub registrations_per_address: Option<Limit>,
    /// New accounts from one IPv6 network of /48.
    pub registrations_per_ipv6_network: Option<Limit>,
    /// New orders of one account.
    pub orders_per_account: Option<Limit>,
    /// Certificates with a name below one registered domain; addresses and IPv6 networks of /64 count as such.
    pub certificates_per_domain: Option<Limit>,
    /// Certificates for exactly the same identifiers.
    pub certificates_per_set: Option<Limit>,
    /// Failed validations of one identifier by one account.
    pub failures: Option<Limit>,
    /// Failed validations of one identifier by one account with no success in between; then it is paused.
    pub failures_in_a_row: Option<Limit>,
}

impl Limits {
    /// None at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of Let's Encrypt, as published in 2026-08.
    pub fn lets_encrypt() -> Self {
        Self {
            registrations_per_address: Some(Limit::new(10, 3 * HOUR)),
            registrations_per_ipv6_network: Some(Limit::new(500, 3 * HOUR)),
            orders_per_account: Some(Limit::new(300, 3 * HOUR)),
            certificates_per_domain: Some(Limit::new(50, 7 * DAY)),
            certificates_per_set: Some(Limit::new(5, 7 * DAY)),
            failures: Some(Limit::new(5, HOUR)),
            failures_in_a_row: Some(Limit::new(1152, 1152 * DAY)),
        }
    }

    /// Those of Let's Encrypt's staging environment, as published in 2026-08.
    pub fn lets_encrypt_staging() -> Self {
        Self {
            registrations_per_address: Some(Limit::new(50, 3 * HOUR)),
            orders_per_account: Some(Limit::new(1500, 3 * HOUR)),
            certificates_per_domain: Some(Limit::new(30_000, Duration::from_secs(1))),
            certificates_per_set: Some(Limit::new(30_000, 7 * DAY)),
            failures: Some(Limit::new(200, HOUR)),
            ..Self::lets_encrypt()
        }
    }
}

/// Whose tokens a bucket holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Bucket {
    Address(IpAddr),
    Network(Ipv6Addr),
    Account(AccountId),
    Domain(String),
    Set(Vec<Identifier>),
    Failures(AccountId, String),
    InARow(AccountId, String),
}

#[derive(Debug, Default)]
struct Counts {
    /// When each is full again; those that are not there are full.
    full_at: HashMap<Bucket, SystemTime>,
    /// When each exact set had its last certificate.
    issued: HashMap<Vec<Identifier>, SystemTime>,
    sweep_at: usize,
}

impl Counts {
    fn set(&mut self, bucket: Bucket, full: Option<SystemTime>, now: SystemTime) {
        match full {
            Some(full) => _ = self.full_at.insert(bucket, full),
            None => _ = self.full_at.remove(&bucket),
        }
        if self.full_at.len() + self.issued.len() > self.sweep_at.max(SWEEP) {
            self.full_at.retain(|_, full| *full > now);
            self.issued.retain(|_, at| is_recent(*at, now));
            // What is left is in use: not looked through again until it has doubled.
            self.sweep_at = 2 * (self.full_at.len() + self.issued.len());
        }
    }
}

/// Enforces [`Limits`].
#[derive(Debug)]
pub struct RateLimits {
    limits: Limits,
    clock: Arc<dyn Clock>,
    counts: Mutex<Counts>,
}

impl RateLimits {
    /// These limits, by this clock.
    pub fn new(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        Self { limits, clock, counts: Mutex::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands against a new order, by bucket, and which of them it spends.
    fn asked_of(&self, order: &NewOrder<'_>, renews: bool) -> Vec<(Bucket, Limit, bool)> {
        let limits = &self.limits;
        let mut asked = Vec::new();
        if !renews {
            asked.extend(
                limits.orders_per_account.map(|limit| (Bucket::Account(order.account.clone()), limit, true)),
            );
            for domain in domains(order.identifiers) {
                asked.extend(
                    limits.certificates_per_domain.map(|limit| (Bucket::Domain(domain), limit, false)),
                );
            }
        }
        asked.extend(
            limits.certificates_per_set.map(|limit| (Bucket::Set(order.identifiers.to_vec()), limit, false)),
        );
        for name in names(order.identifiers) {
            let (account, limit) = (order.account.clone(), limits.failures);
            asked.extend(limit.map(|limit| (Bucket::Failures(account, name), limit, false)));
        }
        asked
    }
}

#[async_trait]
impl Policy for RateLimits {
    async fn new_account(&self, from: Option<IpAddr>) -> Result<(), Problem> {
        let Some(from) = from else { return Ok(()) };
        let mut asked = Vec::new();
        asked.extend(self.limits.registrations_per_address.map(|limit| (Bucket::Address(from), limit, true)));
        if let IpAddr::V6(address) = from {
            let network = Bucket::Network(network(address, 48));
            asked.extend(self.limits.registrations_per_ipv6_network.map(|limit| (network, limit, true)));
        }
        ask(&mut self.counts(), asked, self.clock.now())
    }

    async fn new_order(&self, order: &NewOrder<'_>) -> Result<(), Problem> {
        let now = self.clock.now();
        let mut counts = self.counts();
        if let Some(limit) = &self.limits.failures_in_a_row {
            let paused = names(order.identifiers).into_iter().find(|name| {
                let bucket = Bucket::InARow(order.account.clone(), name.clone());
                matches!(gcra::take(limit, counts.full_at.get(&bucket).copied(), now), Decision::Denied(_))
            });
            if let Some(name) = paused {
                return Err(Problem::new(
                    ProblemType::RateLimited,
                    format!(
                        "Your account is temporarily prevented from requesting certificates for {name} and possibly others. Please visit: https://ca.example.test/unpause"
                    ),
                ));
            }
        }
        if order.renewal == Renewal::Suggested {
            return Ok(());
        }
        let renews = counts.issued.get(order.identifiers).is_some_and(|at| is_recent(*at, now));
        let asked = self.asked_of(order, renews);
        ask(&mut counts, asked, now)
    }

    async fn order_refused(&self, order: &NewOrder<'_>) {
        let now = self.clock.now();
        let mut counts = self.counts();
        let renews = counts.issued.get(order.identifiers).is_some_and(|at| is_recent(*at, now));
        // Nothing is given back that was not spent.
        if let Some(limit) = &self.limits.orders_per_account
            && !renews
            && order.renewal == Renewal::No
        {
            let bucket = Bucket::Account(order.account.clone());
            let full = gcra::give_back(limit, counts.full_at.get(&bucket).copied(), now);
            counts.set(bucket, full, now);
        }
    }

    async fn validation_failed(&self, account: &AccountId, identifier: &Identifier) {
        let now = self.clock.now();
        let mut counts = self.counts();
        let name = name(identifier);
        for (bucket, limit) in [
            (Bucket::Failures(account.clone(), name.clone()), &self.limits.failures),
            (Bucket::InARow(account.clone(), name), &self.limits.failures_in_a_row),
        ] {
            if let Some(limit) = limit {
                let full = gcra::take_at_most(limit, counts.full_at.get(&bucket).copied(), now);
                counts.set(bucket, full, now);
            }
        }
    }

    async fn validation_succeeded(&self, account: &AccountId, identifier: &Identifier) {
        let now = self.clock.now();
        self.counts().set(Bucket::InARow(account.clone(), name(identifier)), None, now);
    }

    async fn issued(&self, _: &AccountId, identifiers: &[Identifier]) {
        let now = self.clock.now();
        let mut counts = self.counts();
        let renews = counts.issued.get(identifiers).is_some_and(|at| is_recent(*at, now));
        let mut spent = Vec::new();
        spent
            .extend(self.limits.certificates_per_set.map(|limit| (Bucket::Set(identifiers.to_vec()), limit)));
        if let Some(limit) = self.limits.certificates_per_domain
            && !renews
        {
            spent.extend(domains(identifiers).into_iter().map(|domain| (Bucket::Domain(domain), limit)));
        }
        for (bucket, limit) in spent {
            let full = gcra::take_at_most(&limit, counts.full_at.get(&bucket).copied(), now);
            counts.set(bucket, full, now);
        }
        counts.issued.insert(identifiers.to_vec(), now);
    }
}

/// Checks all, and spends what is to be spent only if all allow it. Of several that do not, the one that lasts longest
/// is told.
fn ask(counts: &mut Counts, asked: Vec<(Bucket, Limit, bool)>, now: SystemTime) -> Result<(), Problem> {
    let mut spent = Vec::new();
    let mut longest: Option<(SystemTime, Problem)> = None;
    for (bucket, limit, spends) in asked {
        match gcra::take(&limit, counts.full_at.get(&bucket).copied(), now) {
            Decision::Allowed(full) if spends => spent.push((bucket, full)),
            Decision::Allowed(_) => {}
            Decision::Denied(until) if longest.as_ref().is_none_or(|(known, _)| *known < until) => {
                longest = Some((until, refusal(&bucket, &limit, until)));
            }
            Decision::Denied(_) => {}
        }
    }
    if let Some((_, problem)) = longest {
        return Err(problem);
    }
    for (bucket, full) in spent {
        counts.set(bucket, Some(full), now);
    }
    Ok(())
}

/// In Boulder's words.
fn refusal(bucket: &Bucket, limit: &Limit, until: SystemTime) -> Problem {
    let count = limit.count;
    let (what, page) = match bucket {
        Bucket::Address(_) => (
            format!("too many new registrations ({count}) from this IP address"),
            "new-registrations-per-ip-address",
        ),
        Bucket::Network(_) => (
            format!("too many new registrations ({count}) from this /48 subnet of IPv6 addresses"),
            "new-registrations-per-ipv6-range",
        ),
        Bucket::Account(_) => {
            (format!("too many new orders ({count}) from this account"), "new-orders-per-account")
        }
        Bucket::Domain(domain) => (
            format!("too many certificates ({count}) already issued for {domain:?}"),
            "new-certificates-per-registered-domain",
        ),
        Bucket::Set(_) => (
            format!("too many certificates ({count}) already issued for this exact set of identifiers"),
            "new-certificates-per-exact-set-of-identifiers",
        ),
        Bucket::Failures(_, name) | Bucket::InARow(_, name) => (
            format!("too many failed authorizations ({count}) for {name:?}"),
            "authorization-failures-per-identifier-per-account",
        ),
    };
    // Told in whole seconds: rounded up, so that who waits as told is let in.
    let until = match until.duration_since(SystemTime::UNIX_EPOCH).map(|since| since.subsec_nanos()) {
        Ok(part) if part > 0 => until + Duration::new(1, 0) - Duration::new(0, part),
        _ => until,
    };
    let at =
        jiff::Timestamp::try_from(until).unwrap_or(jiff::Timestamp::MAX).strftime("%Y-%m-%d %H:%M:%S UTC");
    let period = period(limit.period);
    Problem::new(
        ProblemType::RateLimited,
        format!("{what} in the last {period}, retry after {at}: see https://letsencrypt.org/docs/rate-limits/#{page}"),
    )
    .with_retry_at(until)
}

/// As Go writes a duration: `3h0m0s`.
fn period(period: Duration) -> String {
    let seconds = period.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn is_recent(at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(at).is_ok_and(|ago| ago <= RENEWAL)
}

/// What is under validation: of a wildcard its domain.
fn name(identifier: &Identifier) -> String {
    identifier.domain().map_or_else(|| identifier.to_string(), ToString::to_string)
}

fn names(identifiers: &[Identifier]) -> BTreeSet<String> {
    identifiers.iter().map(name).collect()
}

/// The registered domains of the names, by the whole Public Suffix List, its private part too, as Boulder has it; a name
/// that is itself a suffix counts for itself.
fn domains(identifiers: &[Identifier]) -> BTreeSet<String> {
    let domain = |identifier: &Identifier| match identifier {
        Identifier::Ip(IpAddr::V6(address)) => format!("{}/64", network(*address, 64)),
        Identifier::Ip(address) => address.to_string(),
        other => {
            let name = name(other);
            psl::domain_str(&name).map_or(name.clone(), str::to_owned)
        }
    };
    identifiers.iter().map(domain).collect()
}

fn network(address: Ipv6Addr, bits: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() >> (128 - bits) << (128 - bits))
}
