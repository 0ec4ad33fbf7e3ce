//! What was done in this run, as the events tell it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use acmekit::{CertificateId, Event, Outcome, What};

/// Clones see the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeMap<CertificateId, Done>>>);

/// What was done for one certificate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done {
    pub(crate) issued: bool,
    /// The deployers that had something to change.
    pub(crate) applied: BTreeSet<String>,
}

impl Seen {
    pub(crate) fn observer(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let seen = Self::clone(self);
        move |event: &Event| {
            let mut all = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
            let done = all.entry(event.certificate.clone()).or_default();
            match &event.what {
                What::CertificateIssued { .. } => done.issued = true,
                What::Deployed { deployer, outcome: Outcome::Applied } => {
                    done.applied.insert(deployer.clone());
                }
                _ => {}
            }
        }
    }

    pub(crate) fn of(&self, id: &CertificateId) -> Done {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned().unwrap_or_default()
    }
}
