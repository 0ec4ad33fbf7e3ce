//! What happens on the way of a certificate, as typed values.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::backoff::Trouble;
use crate::{CertificateId, ChallengeKind, Identifier, Outcome};

/// Something that has happened to one certificate. Past tense, no secrets.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// Which certificate.
    pub certificate: CertificateId,
    /// What happened.
    pub what: What,
}

impl Event {
    /// Something that happened to a certificate.
    pub fn new(certificate: CertificateId, what: What) -> Self {
        Self { certificate, what }
    }
}

/// What happened; in the order in which it happens to a new certificate.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum What {
    /// The account at the CA is ready to be used.
    AccountReady {
        /// The authority's id.
        authority: String,
        /// Whether it was made just now.
        created: bool,
    },
    /// The CA made an order.
    OrderCreated {
        /// Its URL.
        order: String,
    },
    /// An order from before a crash or an error goes on.
    OrderResumed {
        /// Its URL.
        order: String,
    },
    /// An answer stands where the CA will look.
    ChallengePresented {
        /// For which identifier.
        identifier: Identifier,
        /// By which means.
        kind: ChallengeKind,
    },
    /// All answers can be seen.
    ChallengesReady {
        /// How long that took.
        after: Duration,
    },
    /// The CA is convinced of all identifiers.
    Authorized,
    /// An answer was taken away.
    ChallengeCleaned {
        /// For which identifier.
        identifier: Identifier,
    },
    /// An answer could not be taken away; it stays in the journal.
    CleanupFailed {
        /// For which identifier.
        identifier: Identifier,
        /// Why.
        error: String,
    },
    /// The CA issued the certificate.
    CertificateIssued {
        /// Its serial number, in hexadecimal.
        serial: String,
        /// Until when it is valid.
        #[serde(with = "crate::clock::rfc3339")]
        not_after: SystemTime,
    },
    /// The certificate is in the store.
    CertificateStored {
        /// Its serial number, in hexadecimal.
        serial: String,
    },
    /// A client sees the certificate.
    Deployed {
        /// The deployer's id.
        deployer: String,
        /// Whether anything was changed.
        outcome: Outcome,
    },
    /// A deployer could not get the certificate served.
    DeployFailed {
        /// The deployer's id.
        deployer: String,
        /// Why, and what is served now.
        error: String,
    },
    /// It could not be had: told by a [`Manager`](crate::Manager), which tries again when it says.
    Failed {
        /// What went wrong, how often, and when it is tried again.
        trouble: Trouble,
    },
    /// The limits of its authority allow no order for it before this: told by a [`Manager`](crate::Manager).
    BudgetSpent {
        /// When it is tried again.
        #[serde(with = "crate::clock::rfc3339")]
        until: SystemTime,
    },
    /// The CA suggests when to renew (RFC 9773), or suggests another time than before.
    RenewalSuggested {
        /// The time picked in the window it suggests.
        #[serde(with = "crate::clock::rfc3339")]
        at: SystemTime,
        /// A page that says why, where there is a reason.
        explanation_url: Option<String>,
    },
    /// After a failed validation, the same was tried at the authority's staging directory.
    Rehearsed {
        /// The staging authority's id.
        authority: String,
        /// Why it failed there, too.
        error: Option<String>,
    },
    /// The key of the stored certificate is compromised: it will never be certified again.
    KeyBlocked {
        /// The certificate's serial number, in hexadecimal.
        serial: String,
    },
    /// The CA has revoked a certificate whose key is compromised.
    Revoked {
        /// Its serial number, in hexadecimal.
        serial: String,
    },
    /// When the certificate is due.
    RenewalScheduled {
        /// The time.
        #[serde(with = "crate::clock::rfc3339")]
        at: SystemTime,
    },
}

/// Who is told. Called on the way; must return quickly and never panic.
///
/// Any `Fn(&Event)` is one.
pub trait Observer: Send + Sync {
    /// Takes note of an event.
    fn observe(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync> Observer for F {
    fn observe(&self, event: &Event) {
        self(event);
    }
}

impl fmt::Debug for dyn Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
