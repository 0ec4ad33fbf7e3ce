//! When each of many certificates can be had, told before anything starts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::SystemTime;

use serde::Serialize;

use super::{Ledger, Wish};
use crate::CertificateId;
use crate::clock::rfc3339;
use crate::limits::Limits;

/// When each of several certificates can be ordered under the CA's limits; see
/// [`Pipeline::plan`](crate::Pipeline::plan).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// One for each certificate, in the order they were asked for.
    pub orders: Vec<Planned>,
    /// When the last can be ordered; the time of the plan if there is none.
    #[serde(with = "rfc3339")]
    pub done_at: SystemTime,
}

/// When one certificate can be ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Planned {
    /// Which one.
    pub certificate: CertificateId,
    /// The first instant.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
    /// What it has to wait for, if it has to.
    pub waits_for: Option<String>,
}

/// Plays the orders through, each as early as the limits let it: those of one registered domain in line, the lines side
/// by side, and whoever has been in the list earlier goes first.
pub(crate) fn plan(
    ledger: Ledger,
    limits: &Limits,
    wishes: &[(CertificateId, Wish)],
    now: SystemTime,
) -> Plan {
    let mut play = Play::new(ledger, limits, wishes, now);
    while play.step() {}
    let Play { granted, why, .. } = play;
    let orders: Vec<Planned> = wishes
        .iter()
        .zip(granted)
        .zip(why)
        .map(|(((certificate, _), at), waits_for)| Planned {
            certificate: certificate.clone(),
            at,
            waits_for,
        })
        .collect();
    let done_at = orders.iter().map(|planned| planned.at).max().unwrap_or(now);
    Plan { orders, done_at }
}

struct Play<'a> {
    ledger: Ledger,
    limits: &'a Limits,
    wishes: &'a [(CertificateId, Wish)],
    now: SystemTime,
    granted: Vec<SystemTime>,
    why: Vec<Option<String>>,
    /// The rest of each line, by what its wishes have in common.
    lines: BTreeMap<String, VecDeque<usize>>,
    /// The heads of lines that can go now …
    ready: BinaryHeap<Reverse<usize>>,
    /// … once the account has an order left …
    in_line_for_account: BinaryHeap<Reverse<usize>>,
    /// … or later.
    waiting: BinaryHeap<Reverse<(SystemTime, usize)>>,
}

impl<'a> Play<'a> {
    fn new(ledger: Ledger, limits: &'a Limits, wishes: &'a [(CertificateId, Wish)], now: SystemTime) -> Self {
        let mut lines: BTreeMap<String, VecDeque<usize>> = BTreeMap::new();
        for (position, (_, wish)) in wishes.iter().enumerate() {
            lines.entry(wish.first_page()).or_default().push_back(position);
        }
        let ready = lines.values_mut().filter_map(|line| line.pop_front().map(Reverse)).collect();
        Self {
            ledger,
            limits,
            wishes,
            now,
            granted: vec![now; wishes.len()],
            why: vec![None; wishes.len()],
            lines,
            ready,
            in_line_for_account: BinaryHeap::new(),
            waiting: BinaryHeap::new(),
        }
    }

    /// Grants one order, or moves the time on; `false` once all are granted.
    fn step(&mut self) -> bool {
        while self.waiting.peek().is_some_and(|Reverse((at, _))| *at <= self.now) {
            if let Some(Reverse((_, position))) = self.waiting.pop() {
                self.ready.push(Reverse(position));
            }
        }
        if let Some(Reverse(position)) = self.ready.pop() {
            self.try_one(position);
            return true;
        }
        let account = self.ledger.refusal_of_account(self.limits, self.now).map(|refusal| refusal.retry_at);
        match (self.in_line_for_account.is_empty(), account) {
            (false, None) => {
                self.ready.extend(self.in_line_for_account.pop());
                true
            }
            (in_no_line, account) => {
                let next = self.waiting.peek().map(|Reverse((at, _))| *at);
                let next = next.into_iter().chain(account.filter(|_| !in_no_line)).min();
                next.is_some_and(|next| {
                    self.now = next;
                    true
                })
            }
        }
    }

    fn try_one(&mut self, position: usize) {
        let Some((_, wish)) = self.wishes.get(position) else { return };
        let mut wait = |why: String| {
            if let Some(reason) = self.why.get_mut(position) {
                *reason = Some(why);
            }
        };
        if let Some(refusal) = self.ledger.refusal_of_names(self.limits, wish, self.now) {
            wait(refusal.why);
            self.waiting.push(Reverse((refusal.retry_at, position)));
            return;
        }
        let needs_order = self.ledger.refusal(self.limits, wish, self.now);
        if let Some(refusal) = needs_order {
            wait(refusal.why);
            match self.ledger.is_renewal(wish, self.now) {
                // Only a CA that wants nothing at all keeps a renewal waiting here.
                true => self.waiting.push(Reverse((refusal.retry_at, position))),
                false => self.in_line_for_account.push(Reverse(position)),
            }
            return;
        }
        self.ledger.spend_order(self.limits, wish, self.now);
        self.ledger.spend_issuance(self.limits, wish, "", self.now);
        if let Some(granted) = self.granted.get_mut(position) {
            *granted = self.now;
        }
        let next = self.lines.get_mut(&wish.first_page()).and_then(VecDeque::pop_front);
        self.ready.extend(next.map(Reverse));
    }
}
