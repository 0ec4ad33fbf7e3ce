//! Faults on demand: a [`tower`] layer that makes an ACME server misbehave.
//!
//! [`Faults`] holds a script of [`Fault`]s, which may change while the server runs. Requests are told apart
//! by [`Endpoint::of_path`] and answers are changed as the JSON they are, so nothing of the server behind is
//! needed:
//!
//! ```
//! use acmekit_server::Endpoint;
//! use acmekit_server::faults::{Action, Fault, Faults, presets};
//!
//! let faults = Faults::new();
//! // The second and third finalize fail; the first and all others work.
//! let second = faults.add(Fault::new(Endpoint::Finalize, presets::html_502()).skip(1).times(2));
//! // The connection breaks once the order has been made.
//! faults.add(Fault::new(Endpoint::NewOrder, Action::Reset).after_effect());
//! faults.add(presets::order_stuck_in_processing());
//! let server = faults.wrap(axum::Router::<()>::new());
//! assert_eq!(faults.hits_of(second), 0);
//! # drop(server);
//! ```
//!
//! # How a script is read
//! - A fault counts the requests that [fit](Fault::only) it, also those that another fault answers. It
//!   strikes once it has [skipped](Fault::skip) its share, as [often](Fault::times) as it may, and with its
//!   [chance](Fault::percent).
//! - Before the effect, the first fault that answers by itself ends the matter; delays before it add up.
//! - After it, all faults apply to the real answer in the order they were added. What changes the contents
//!   ([`Action::Patch`], [`Action::Rewrite`], [`Action::Body`], [`Action::Chain`]) leaves error answers
//!   alone.
//! - Only what really took place is a [hit](Faults::hits).
//!
//! # Resets
//! A tower service cannot close a socket. [`Action::Reset`] makes it fail with [`ConnectionReset`]; whoever
//! accepts connections asks [`is_reset`] about the error the connection ended with (hyper hands it through as
//! a source), and closes the socket with `SO_LINGER` 0. The error type is therefore [`BoxError`], which
//! `axum::Router::layer` does not take: put the faults around the whole router, by [`Faults::wrap`].
//! Over HTTP/2 hyper resets the stream only, and the connection lives on.

mod action;
pub mod presets;
mod script;
mod service;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use acmekit_core::{Clock, Deadline, SystemClock};
use tokio::sync::Notify;

pub use action::{Action, Answer, ChainFault, RetryAfter, Rewrite};
pub use script::ScriptError;
pub use service::{BoxError, ConnectionReset, FaultLayer, FaultService, is_reset};

use crate::Endpoint;

/// What goes wrong, where, and how often.
#[derive(Debug, Clone)]
pub struct Fault {
    endpoints: Vec<Endpoint>,
    action: Action,
    only: Option<Only>,
    after_effect: bool,
    skip: u64,
    times: Option<u64>,
    percent: u8,
    seed: u64,
}

/// Narrows the requests a [`Fault`] fits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Only {
    /// POST requests: those that carry a nonce.
    Posts,
    /// Requests whose payload names a certificate to replace (RFC 9773 section 5).
    Replaces,
    /// Requests whose real answer has one of these as its `status`: an order is `processing` only once it is
    /// finalized.
    StatusIn(Vec<String>),
}

impl Fault {
    /// At this endpoint, once, before the request takes effect.
    pub fn new(endpoint: Endpoint, action: Action) -> Self {
        Self {
            endpoints: vec![endpoint],
            action,
            only: None,
            after_effect: false,
            skip: 0,
            times: Some(1),
            percent: 100,
            seed: 0,
        }
    }

    /// At every endpoint.
    pub fn everywhere(action: Action) -> Self {
        let mut fault = Self::new(Endpoint::Directory, action);
        fault.endpoints = Endpoint::ALL.to_vec();
        fault
    }

    /// The fault of this name, one of [`all_named`](Self::all_named).
    pub fn preset(name: &str) -> Option<Self> {
        Self::all_named().into_iter().find(|(known, _)| *known == name).map(|(_, fault)| fault)
    }

    /// Every preset with its name, at the endpoint it fits: to run a client against each of them.
    pub fn all_named() -> Vec<(&'static str, Self)> {
        presets::all()
    }

    /// At this endpoint too.
    #[must_use]
    pub fn also(mut self, endpoint: Endpoint) -> Self {
        if !self.endpoints.contains(&endpoint) {
            self.endpoints.push(endpoint);
        }
        self
    }

    /// At these endpoints instead.
    #[must_use]
    pub fn at(mut self, endpoints: &[Endpoint]) -> Self {
        self.endpoints = endpoints.to_vec();
        self
    }

    /// Only for such requests.
    #[must_use]
    pub fn only(mut self, only: Only) -> Self {
        self.only = Some(only);
        self
    }

    /// Once the server has done what it was asked, so that its answer is lost. It makes no difference to an
    /// action that changes the real answer.
    #[must_use]
    pub fn after_effect(mut self) -> Self {
        self.after_effect = true;
        self
    }

    /// Not for the first `requests` that fit.
    #[must_use]
    pub fn skip(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// This often.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Until it is removed.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }

    /// With this chance for each request, and until it is removed. The dice are the same in each run; see
    /// [`seed`](Self::seed).
    #[must_use]
    pub fn percent(mut self, percent: u8) -> Self {
        self.percent = percent.min(100);
        self.always()
    }

    /// Throws other dice.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Where.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// What.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// Whether the server does what it was asked before this strikes.
    pub fn is_after_effect(&self) -> bool {
        self.after_effect || self.action.needs_answer() || matches!(self.only, Some(Only::StatusIn(_)))
    }
}

/// Names a fault of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FaultId(u64);

#[derive(Debug)]
struct Rule {
    id: FaultId,
    fault: Fault,
    seen: u64,
    hits: u64,
    dice: u64,
}

impl Rule {
    fn is_spent(&self) -> bool {
        self.fault.times.is_some_and(|times| self.hits >= times)
    }

    /// Counts a request that fits, and says whether the fault is due.
    fn see(&mut self) -> bool {
        self.seen = self.seen.saturating_add(1);
        let spared = self.fault.percent < 100 && throw(&mut self.dice) % 100 >= u64::from(self.fault.percent);
        self.seen > self.fault.skip && !spared && !self.is_spent()
    }

    fn strike(&mut self) {
        self.hits = self.hits.saturating_add(1);
    }
}

/// SplitMix64: the same numbers on every machine and with every version of every crate.
fn throw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[derive(Debug, Default)]
struct Script {
    next: u64,
    rules: Vec<Rule>,
}

impl Script {
    fn add(&mut self, fault: Fault) -> FaultId {
        let id = FaultId(self.next);
        self.next = self.next.wrapping_add(1);
        let dice = fault.seed;
        self.rules.push(Rule { id, fault, seen: 0, hits: 0, dice });
        id
    }
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    struck: Notify,
    clock: Arc<dyn Clock>,
}

/// A script of faults. Clones share it.
#[derive(Debug, Clone)]
pub struct Faults {
    shared: Arc<Shared>,
}

impl Default for Faults {
    fn default() -> Self {
        Self::new()
    }
}

impl Faults {
    /// Nothing goes wrong yet.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock::default()))
    }

    /// As [`new`](Self::new), with the clock that `Retry-After` dates are reckoned by.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let shared = Shared { script: Mutex::default(), struck: Notify::new(), clock };
        Self { shared: Arc::new(shared) }
    }

    /// Appends a fault.
    pub fn add(&self, fault: Fault) -> FaultId {
        self.lock().add(fault)
    }

    /// Takes a fault out again; says whether it was there.
    pub fn remove(&self, id: FaultId) -> bool {
        let mut script = self.lock();
        let before = script.rules.len();
        script.rules.retain(|rule| rule.id != id);
        script.rules.len() < before
    }

    /// Nothing goes wrong any more.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    /// Puts these in the place of all there are, at one stroke.
    pub fn replace(&self, faults: impl IntoIterator<Item = Fault>) -> Vec<FaultId> {
        let faults: Vec<Fault> = faults.into_iter().collect();
        let mut script = self.lock();
        script.rules.clear();
        faults.into_iter().map(|fault| script.add(fault)).collect()
    }

    /// How often each fault struck, in the order they were added.
    pub fn hits(&self) -> Vec<u64> {
        self.lock().rules.iter().map(|rule| rule.hits).collect()
    }

    /// How often this fault struck; 0 once it is gone.
    pub fn hits_of(&self, id: FaultId) -> u64 {
        self.lock().rules.iter().find(|rule| rule.id == id).map_or(0, |rule| rule.hits)
    }

    /// Waits until this fault has struck `hits` times, but no longer than `within`; says whether it has.
    pub async fn wait_for(&self, id: FaultId, hits: u64, within: Duration) -> bool {
        let deadline = Deadline::after(within);
        loop {
            let struck = self.shared.struck.notified();
            tokio::pin!(struck);
            // Enabled before the count is read, so that no hit falls in between.
            struck.as_mut().enable();
            if self.hits_of(id) >= hits {
                return true;
            }
            if tokio::time::timeout(deadline.remaining(), struck).await.is_err() {
                return self.hits_of(id) >= hits;
            }
        }
    }

    /// A layer that does as the script says. Clones of the layer share the script.
    pub fn layer(&self) -> FaultLayer {
        FaultLayer::new(self.clone())
    }

    /// This service, doing as the script says.
    pub fn wrap<S>(&self, inner: S) -> FaultService<S> {
        FaultService::new(self.clone(), inner)
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.shared.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clock(&self) -> &dyn Clock {
        &*self.shared.clock
    }

    /// Whether a fault asks what the payload says; else the request need not be read here.
    fn wants_payload(&self, endpoint: Endpoint) -> bool {
        self.lock().rules.iter().any(|rule| {
            rule.fault.only == Some(Only::Replaces)
                && rule.fault.endpoints.contains(&endpoint)
                && !rule.is_spent()
        })
    }

    /// What is to happen to a request.
    fn plan(&self, endpoint: Endpoint, is_post: bool, replaces: bool) -> Plan {
        let mut plan = Plan::default();
        let mut ended = false;
        let mut script = self.lock();
        for rule in &mut script.rules {
            let fits = rule.fault.endpoints.contains(&endpoint)
                && match rule.fault.only {
                    Some(Only::Posts) => is_post,
                    Some(Only::Replaces) => replaces,
                    _ => true,
                };
            if !fits || rule.is_spent() {
                continue;
            }
            if let Some(Only::StatusIn(states)) = &rule.fault.only {
                let states = Some(states.clone());
                plan.after.push(Due { id: rule.id, action: rule.fault.action.clone(), states });
            } else if rule.see() {
                if rule.fault.is_after_effect() {
                    plan.after.push(Due { id: rule.id, action: rule.fault.action.clone(), states: None });
                } else if !ended {
                    rule.strike();
                    ended = !matches!(rule.fault.action, Action::Delay(_));
                    plan.before.push(rule.fault.action.clone());
                }
            }
        }
        drop(script);
        if !plan.before.is_empty() {
            self.shared.struck.notify_waiters();
        }
        plan
    }

    /// Books a hit of a fault that is due after the effect, unless it is spent or gone meanwhile.
    fn claim(&self, due: &Due) -> bool {
        let mut script = self.lock();
        let Some(rule) = script.rules.iter_mut().find(|rule| rule.id == due.id) else { return false };
        // One that looks at the real answer counts only now.
        let strikes = if due.states.is_some() { rule.see() } else { !rule.is_spent() };
        if strikes {
            rule.strike();
        }
        drop(script);
        if strikes {
            self.shared.struck.notify_waiters();
        }
        strikes
    }
}

/// What is to happen to one request.
#[derive(Debug, Default)]
struct Plan {
    /// Delays, and at most one action that answers, at the end.
    before: Vec<Action>,
    after: Vec<Due>,
}

#[derive(Debug)]
struct Due {
    id: FaultId,
    action: Action,
    /// [`Only::StatusIn`], which cannot be judged before the effect.
    states: Option<Vec<String>>,
}
