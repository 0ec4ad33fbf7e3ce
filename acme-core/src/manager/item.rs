//! One certificate as the manager knows it, and the pure decision what to do for it next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::status::Task;
use crate::backoff::{Class, Trouble};
use crate::bundle::hex;
use crate::renewal::RenewalPolicy;
use crate::renewal::upkeep::Upkeep;
use crate::{CertificateSpec, Expected, Pipeline};

/// What there is to do, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Now(Task),
    At(SystemTime, Task),
    Never,
}

/// Where a certificate stands in the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Resting,
    /// In line at the gate.
    Waiting(Task),
    Working(Task),
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) spec: Arc<CertificateSpec>,
    pub(super) group: Arc<str>,
    /// The ids of the deployers it is brought to.
    pub(super) deployers: Vec<String>,
    /// All deployers there are: those that end with the process are asked themselves.
    pub(super) pipeline: Arc<Pipeline>,
    /// The ids of the authorities it may be from.
    pub(super) authorities: Vec<String>,
    /// The spec in short, to tell whether what is stored fits it.
    pub(super) wish: String,
    pub(super) upkeep: Upkeep,
    /// What it is in the store, as far as is known here.
    pub(super) expected: Expected,
    pub(super) generation: u32,
    pub(super) phase: Phase,
    pub(super) paused: bool,
    pub(super) forced: bool,
    /// It is to be brought to its deployers, wherever it is known to be served.
    pub(super) looks_again: bool,
    /// A journal says that something was begun before this process was.
    pub(super) begun: bool,
    /// The authority that has an order for it: a certificate may have been issued already.
    pub(super) ordered_from: Option<String>,
    /// Its key is compromised, and it is not revoked yet.
    pub(super) compromised: bool,
    /// Authorities, by position, that have refused it, and until when they are not asked.
    pub(super) avoid: BTreeMap<usize, SystemTime>,
}

/// A spec in short.
pub(crate) fn wish(spec: &CertificateSpec) -> String {
    let text = serde_json::to_vec(spec).unwrap_or_default();
    hex(Sha256::digest(text).get(..16).unwrap_or_default())
}

impl Item {
    /// What to do next: issue before deploying before asking.
    pub(super) fn next(&self, policy: &RenewalPolicy, now: SystemTime) -> Next {
        if self.paused {
            return Next::Never;
        }
        // A rotation issues; until it is done nothing else does.
        let issue = match self.compromised {
            true => self.rotate_at(now).map(|at| (at, Task::Rotate)),
            false => self.issue_at(policy, now).map(|at| (at, Task::Issue)),
        };
        let deploy = self.deploy_at(&self.deployers, now).map(|at| (at, Task::Deploy));
        let ask = self.ask_at(policy, now).map(|at| (at, Task::Ask));
        let all = [issue, deploy, ask].into_iter().flatten();
        if let Some((_, task)) = all.clone().find(|(at, _)| *at <= now) {
            return Next::Now(task);
        }
        all.min_by_key(|(at, _)| *at).map_or(Next::Never, |(at, task)| Next::At(at, task))
    }

    /// When a certificate is to be had; `None` if it cannot be.
    pub(super) fn issue_at(&self, policy: &RenewalPolicy, now: SystemTime) -> Option<SystemTime> {
        if self.forced {
            return Some(now);
        }
        let due = match self.upkeep.decide(self.spec.id(), policy) {
            Some(decision) if self.fits() && !self.begun => {
                self.upkeep.rests_until(now).map_or(decision.at, |rested| decision.at.max(rested))
            }
            _ => now,
        };
        match self.trouble() {
            Some(trouble) if trouble.class == Class::Fatal => None,
            Some(trouble) if trouble.holds(now) => Some(due.max(trouble.retry_at)),
            _ => Some(due),
        }
    }

    /// Whether what is stored is what is wished for.
    fn fits(&self) -> bool {
        self.upkeep.fits == self.wish && self.is_from_ours()
    }

    /// Whether what is stored is from an authority there still is.
    fn is_from_ours(&self) -> bool {
        let authority = self.upkeep.current.as_ref().map(|current| &current.authority);
        authority.is_some_and(|authority| self.authorities.contains(authority))
    }

    /// When to go on with a rotation.
    fn rotate_at(&self, now: SystemTime) -> Option<SystemTime> {
        let held = self.trouble().filter(|trouble| trouble.holds(now) && !self.forced);
        Some(held.map_or(now, |trouble| trouble.retry_at))
    }

    /// What went wrong with this wish; not with another.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.upkeep.trouble.as_ref().filter(|_| self.upkeep.tried == self.wish)
    }

    fn deploy_at(&self, deployers: &[String], now: SystemTime) -> Option<SystemTime> {
        let current = self.upkeep.current.as_ref()?;
        if self.looks_again && !deployers.is_empty() {
            return Some(now);
        }
        let undone = deployers.iter().filter_map(|id| match self.upkeep.deployed.get(id) {
            _ if self.holds(id, &current.sha256) == Some(true) => None,
            Some(known) if known.trouble.is_none() && self.is_deployed(id, &known.sha256) => None,
            Some(known) => {
                let trouble = known.trouble.as_ref().filter(|trouble| trouble.holds(now));
                // Where a person has to act, it is looked at once a day nevertheless.
                Some(trouble.map_or(now, |trouble| trouble.retry_at))
            }
            None => Some(now),
        });
        undone.min()
    }

    /// What a deployer says that ends with the process.
    fn holds(&self, deployer: &str, sha256: &str) -> Option<bool> {
        self.pipeline.deployer(deployer)?.holds(self.spec.id(), sha256)
    }

    /// Whether the certificate in the store is in place, where this one was last brought as far as the store knows.
    pub(super) fn is_deployed(&self, deployer: &str, last: &str) -> bool {
        let Some(current) = &self.upkeep.current else { return false };
        self.holds(deployer, &current.sha256).unwrap_or(current.sha256 == last)
    }

    /// The deployers whose time it is.
    pub(super) fn to_deploy(&self, now: SystemTime) -> Vec<String> {
        let one = |id: &&String| self.deploy_at(std::slice::from_ref(id), now).is_some_and(|at| at <= now);
        self.deployers.iter().filter(one).cloned().collect()
    }

    fn ask_at(&self, policy: &RenewalPolicy, now: SystemTime) -> Option<SystemTime> {
        let ari_id = self.upkeep.current.as_ref()?.ari_id.as_ref();
        let ari_id = ari_id.filter(|_| policy.follow_suggestions && self.is_from_ours())?;
        match self.upkeep.suggestion.as_ref().filter(|known| known.is_of(ari_id)) {
            Some(known) if !known.is_stale(now) => Some(known.ask_again()),
            _ => Some(now),
        }
    }
}
