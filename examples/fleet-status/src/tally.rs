//! What has happened so far: counted from the events, and from one look after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use acmekit::backoff::Trouble;
use acmekit::manager::Status;
use acmekit::{CertificateId, Event, What};

use crate::view;

/// A kind of trouble: its class, and the hint or else the error.
type Kind = (&'static str, String);

/// The sums.
pub(crate) struct Tally {
    issued: u64,
    missed: u64,
    /// Until when each is valid, as the events say.
    valid: BTreeMap<CertificateId, SystemTime>,
    expired: BTreeSet<CertificateId>,
    troubles: BTreeMap<Kind, BTreeSet<CertificateId>>,
    /// Until when each authority was last left alone.
    down: BTreeMap<String, SystemTime>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            issued: 0,
            missed: 0,
            valid: BTreeMap::new(),
            expired: BTreeSet::new(),
            troubles: BTreeMap::new(),
            down: BTreeMap::new(),
        }
    }

    pub(crate) fn note(&mut self, event: &Event, now: SystemTime) {
        let What::CertificateIssued { not_after, .. } = &event.what else { return };
        self.issued += 1;
        let before = self.valid.insert(event.certificate.clone(), *not_after);
        // Too late by less than the time between two looks is too late.
        if before.is_some_and(|before| before <= now) {
            self.expired.insert(event.certificate.clone());
        }
    }

    pub(crate) fn missed(&mut self, count: u64) {
        self.missed += count;
    }

    /// Takes a look; returns the troubles of a kind not seen before, each with the name it was first seen of.
    pub(crate) fn look<'a>(&mut self, status: &'a Status) -> Vec<(String, &'a Trouble)> {
        for authority in &status.authorities {
            if let Some(until) = authority.down_until {
                self.down.insert(authority.id.clone(), until);
            }
        }
        let mut new = Vec::new();
        for one in &status.certificates {
            if one.not_after.is_some_and(|not_after| not_after <= status.at) {
                self.expired.insert(one.id.clone());
            }
            let Some(trouble) = &one.trouble else { continue };
            let seen = self.troubles.entry(kind(trouble)).or_default();
            if seen.is_empty() {
                new.push((view::name(one), trouble));
            }
            seen.insert(one.id.clone());
        }
        new
    }

    /// How many were issued: for the first time, and to replace another.
    pub(crate) fn issued(&self) -> (u64, u64) {
        let first = self.valid.len() as u64;
        (first, self.issued.saturating_sub(first))
    }

    pub(crate) fn events_missed(&self) -> u64 {
        self.missed
    }

    pub(crate) fn expired(&self) -> &BTreeSet<CertificateId> {
        &self.expired
    }

    /// All of it in short.
    pub(crate) fn line(&self) -> String {
        let (first, renewals) = self.issued();
        let (expired, missed) = (self.expired.len(), self.missed);
        format!("so far: {first} first ones, {renewals} renewals; expired {expired}; events missed {missed}")
    }

    /// Each kind of trouble, and how many certificates have had it.
    pub(crate) fn troubles(&self) -> impl Iterator<Item = (&Kind, usize)> {
        self.troubles.iter().map(|(kind, ids)| (kind, ids.len()))
    }

    /// Until when an authority was last left alone; it may have passed.
    pub(crate) fn down_until(&self, authority: &str) -> Option<SystemTime> {
        self.down.get(authority).copied()
    }
}

/// An error's text names the order it is about: the hint says better what is of one kind.
fn kind(trouble: &Trouble) -> Kind {
    (view::class(trouble.class), trouble.hint.clone().unwrap_or_else(|| "no hint".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_certificate_that_was_renewed_too_late_has_expired() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let issued = |until| {
            let what = What::CertificateIssued { serial: "01".to_owned(), not_after: at(until) };
            Event::new("www.example".parse().unwrap(), what)
        };
        let mut tally = Tally::new();
        tally.note(&issued(100), at(0));
        tally.note(&issued(200), at(99));
        assert_eq!((tally.issued(), tally.expired().len()), ((1, 1), 0));
        tally.note(&issued(300), at(200));
        assert_eq!((tally.issued(), tally.expired().len()), ((1, 2), 1));
    }
}
