//! What is known of names that were asked for: bounded, whoever asks.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::backoff::{Class, Trouble};
use crate::limits::Limit;
use crate::limits::gcra::{Decision, decide};
use crate::{CertificateId, DnsName, Event, What};

/// How many refusals are remembered.
const REFUSALS: usize = 10_000;
/// How long a name is left alone whose wish the CA will not grant.
const FATAL: Duration = Duration::from_secs(24 * 3600);
/// How long it is watched that what was given up does not come back, by work that was under way then.
const WATCHED: Duration = Duration::from_secs(3600);

/// Names, shared by all handshakes.
#[derive(Debug, Default)]
pub(in crate::tls) struct Names(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    names: HashMap<DnsName, Known>,
    /// Those that have a certificate, or are to have one.
    wanted: HashMap<CertificateId, DnsName>,
    refused: Refused,
    /// Those that are no longer wanted: since when, and whether nothing is left of them but what may come back.
    given_up: HashMap<CertificateId, (SystemTime, bool)>,
    /// When the budget of orders is full again.
    spent: Option<SystemTime>,
}

#[derive(Debug)]
struct Known {
    standing: Standing,
    /// When the permission was last asked for.
    asked_at: SystemTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Somebody is finding out whether it may have a certificate.
    Deciding,
    Wanted,
    /// There is none before this time.
    Failed(SystemTime),
}

/// What a handshake for a name is to do.
#[derive(Debug)]
pub(super) enum Turn {
    /// Find out whether it may have one.
    Decide,
    /// Wait for what others have begun.
    Wait,
    Refused,
}

impl Names {
    /// One handshake asks for a name. Whoever is to decide calls [`decided`](Self::decided) in the end.
    pub(super) fn enter(&self, name: &DnsName, now: SystemTime) -> Turn {
        let mut state = self.state();
        if state.refused.holds(name, now) {
            return Turn::Refused;
        }
        match state.names.get(name).map(|known| known.standing) {
            Some(Standing::Failed(until)) if now < until => Turn::Refused,
            Some(_) => Turn::Wait,
            None => {
                let known = Known { standing: Standing::Deciding, asked_at: now };
                state.names.insert(name.clone(), known);
                Turn::Decide
            }
        }
    }

    /// Whoever was to decide has done so, or has given up.
    pub(super) fn decided(&self, name: &DnsName) {
        let mut state = self.state();
        if state.names.get(name).is_some_and(|known| known.standing == Standing::Deciding) {
            state.names.remove(name);
        }
    }

    pub(super) fn refuse(&self, name: &DnsName, until: SystemTime) {
        self.state().refused.put(name.clone(), until);
    }

    /// It is to have a certificate. Says whether there is room for it.
    pub(super) fn want(
        &self,
        name: &DnsName,
        id: &CertificateId,
        asked_at: SystemTime,
        at_most: usize,
    ) -> bool {
        let mut state = self.state();
        if state.wanted.len() >= at_most && !state.wanted.contains_key(id) {
            return false;
        }
        state.given_up.remove(id);
        state.wanted.insert(id.clone(), name.clone());
        state.names.insert(name.clone(), Known { standing: Standing::Wanted, asked_at });
        true
    }

    /// It is to have none.
    pub(super) fn forget(&self, name: &DnsName, id: &CertificateId) {
        let mut state = self.state();
        state.wanted.remove(id);
        state.names.remove(name);
    }

    /// It is to have none any more, and what is under way for it is not to be served.
    pub(super) fn give_up(&self, name: &DnsName, id: &CertificateId, now: SystemTime) {
        self.forget(name, id);
        self.state().given_up.insert(id.clone(), (now, false));
    }

    /// Whether nothing is left of it; `None` if it is not given up.
    pub(super) fn is_given_up(&self, id: &CertificateId) -> Option<bool> {
        self.state().given_up.get(id).map(|(_, is_done)| *is_done)
    }

    /// Nothing is left of it.
    pub(super) fn has_given_up(&self, id: &CertificateId) {
        if let Some((_, is_done)) = self.state().given_up.get_mut(id) {
            *is_done = true;
        }
    }

    /// What was given up a short while ago.
    pub(super) fn given_up(&self, now: SystemTime) -> Vec<CertificateId> {
        let mut state = self.state();
        let is_watched = |since| now.duration_since(since).is_ok_and(|past| past < WATCHED);
        state.given_up.retain(|_, (since, is_done)| !*is_done || is_watched(*since));
        state.given_up.keys().cloned().collect()
    }

    /// Whether there is room for this one.
    pub(super) fn has_room(&self, id: &CertificateId, at_most: usize) -> bool {
        let state = self.state();
        state.wanted.len() < at_most || state.wanted.contains_key(id)
    }

    /// There is no certificate for it before this time.
    pub(super) fn failed(&self, name: &DnsName, until: SystemTime) {
        if let Some(known) = self.state().names.get_mut(name) {
            known.standing = Standing::Failed(until);
        }
    }

    /// Whether the last that was heard is that there is none.
    pub(super) fn has_failed(&self, name: &DnsName) -> bool {
        let standing = self.state().names.get(name).map(|known| known.standing);
        matches!(standing, Some(Standing::Failed(_)))
    }

    /// Those that have a certificate, or are to have one.
    pub(in crate::tls) fn wanted(&self) -> Vec<CertificateId> {
        self.state().wanted.keys().cloned().collect()
    }

    /// Whether this certificate is for a name that was asked for.
    pub(in crate::tls) fn is_wanted(&self, id: &CertificateId) -> bool {
        self.state().wanted.contains_key(id)
    }

    /// Spends one order, or says when there will be one.
    pub(super) fn spend(&self, orders: Limit, now: SystemTime) -> Result<(), SystemTime> {
        let mut state = self.state();
        match decide(orders, state.spent, now, 1) {
            Decision::Allowed { tat } => {
                state.spent = Some(tat);
                Ok(())
            }
            Decision::Refused { retry_at } => Err(retry_at),
        }
    }

    /// Those whose permission was last asked for before this, at most so many.
    pub(super) fn to_ask_again(&self, before: SystemTime, at_most: usize) -> Vec<(DnsName, CertificateId)> {
        let state = self.state();
        let due = state
            .wanted
            .iter()
            .filter(|(_, name)| state.names.get(*name).is_some_and(|known| known.asked_at <= before));
        due.take(at_most).map(|(id, name)| (name.clone(), id.clone())).collect()
    }

    pub(super) fn asked(&self, name: &DnsName, at: SystemTime) {
        if let Some(known) = self.state().names.get_mut(name) {
            known.asked_at = at;
        }
    }

    /// Learns from what happens to certificates. Says whether somebody may wait for it.
    pub(in crate::tls) fn hear(&self, event: &Event) -> bool {
        let standing = match &event.what {
            What::Failed { trouble } => Standing::Failed(until(trouble)),
            What::BudgetSpent { until } => Standing::Failed(*until),
            What::CertificateStored { .. } => Standing::Wanted,
            _ => return false,
        };
        let mut state = self.state();
        let Some(name) = state.wanted.get(&event.certificate).cloned() else { return false };
        if let Some(known) = state.names.get_mut(&name) {
            known.standing = standing;
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until when there is no certificate.
pub(super) fn until(trouble: &Trouble) -> SystemTime {
    match trouble.class {
        // The manager does not try again by itself.
        Class::Fatal => trouble.at.checked_add(FATAL).unwrap_or(trouble.at),
        _ => trouble.retry_at,
    }
}

/// Refusals, the oldest first.
#[derive(Debug, Default)]
struct Refused {
    until: HashMap<DnsName, SystemTime>,
    order: VecDeque<DnsName>,
}

impl Refused {
    fn holds(&self, name: &DnsName, now: SystemTime) -> bool {
        self.until.get(name).is_some_and(|until| now < *until)
    }

    fn put(&mut self, name: DnsName, until: SystemTime) {
        if self.until.insert(name.clone(), until).is_none() {
            self.order.push_back(name);
        }
        if self.order.len() > REFUSALS
            && let Some(oldest) = self.order.pop_front()
        {
            self.until.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::CertificateSpec;

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    #[test]
    fn one_decides_and_the_others_wait() {
        let (names, now, a) = (Names::default(), UNIX_EPOCH, name("a.example.com"));
        assert!(matches!(names.enter(&a, now), Turn::Decide));
        assert!(matches!(names.enter(&a, now), Turn::Wait));
        // It has gone away without a decision: the next one decides.
        names.decided(&a);
        assert!(matches!(names.enter(&a, now), Turn::Decide));
        let id = CertificateSpec::new(["a.example.com"]).unwrap().id().clone();
        assert!(names.want(&a, &id, now, 1));
        names.decided(&a);
        assert!(matches!(names.enter(&a, now), Turn::Wait), "what is wanted stays so");
        assert!(!names.want(&name("b.example.com"), &"b".parse().unwrap(), now, 1), "there is no room");
    }

    #[test]
    fn refusals_end_and_there_are_only_so_many() {
        let (names, now) = (Names::default(), UNIX_EPOCH);
        let later = now + Duration::from_secs(60);
        for n in 0..REFUSALS + 5 {
            names.refuse(&name(&format!("n{n}.example.com")), later);
        }
        let state = names.state();
        assert_eq!((state.refused.until.len(), state.refused.order.len()), (REFUSALS, REFUSALS));
        drop(state);
        assert!(
            matches!(names.enter(&name("n4.example.com"), now), Turn::Decide),
            "the oldest are forgotten"
        );
        assert!(matches!(names.enter(&name("n9.example.com"), now), Turn::Refused));
        assert!(matches!(names.enter(&name("n9.example.com"), later), Turn::Decide));
    }
}
