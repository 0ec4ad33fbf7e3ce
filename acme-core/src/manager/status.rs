//! How everything stands, as values to be shown.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use crate::backoff::Trouble;
use crate::clock::rfc3339;
use crate::renewal::Decision;
use crate::{CertificateId, Left};

/// How all certificates of a [`Manager`](super::Manager) stand.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// When this was so.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
    /// Each certificate, by its id.
    pub certificates: Vec<CertificateStatus>,
    /// Each authority, as they are preferred.
    pub authorities: Vec<AuthorityStatus>,
}

/// How one certificate stands.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct CertificateStatus {
    /// Which one.
    pub id: CertificateId,
    /// Its names, as text.
    pub names: Vec<String>,
    /// The group it was added to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// What is done with it now.
    pub state: State,
    /// The serial number of the certificate in the store, in hexadecimal.
    pub serial: Option<String>,
    /// The authority it is from.
    pub authority: Option<String>,
    /// Until when it is valid.
    #[serde(serialize_with = "rfc3339::serialize_option")]
    pub not_after: Option<SystemTime>,
    /// When it is to be renewed, and why then.
    pub renewal: Option<Decision>,
    /// What went wrong, as long as it has not gone well since.
    pub trouble: Option<Trouble>,
    /// Where it was brought, by the deployers' ids.
    pub deployments: BTreeMap<String, DeploymentStatus>,
    /// What is done next; nothing while it is paused, or when nothing but a change of the wish can help.
    pub next: Option<NextTask>,
}

impl CertificateStatus {
    /// Whether a person has to do something about it.
    pub fn needs_person(&self) -> bool {
        use crate::backoff::Class;
        let needs = |trouble: &Trouble| matches!(trouble.class, Class::NeedsPerson | Class::Fatal);
        let deployments = self.deployments.values().filter_map(|one| one.trouble.as_ref());
        self.trouble.iter().chain(deployments).any(needs)
    }
}

/// What became of one deployment.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct DeploymentStatus {
    /// Whether the certificate in the store is the one that was last seen served.
    pub current: bool,
    /// What went wrong.
    pub trouble: Option<Trouble>,
}

/// How one authority stands.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct AuthorityStatus {
    /// Its id.
    pub id: String,
    /// Until when it is left alone because it does not answer, or nothing sensible.
    #[serde(serialize_with = "rfc3339::serialize_option")]
    pub down_until: Option<SystemTime>,
    /// What is left of its limits.
    pub budget: Left,
}

/// What is done with a certificate now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum State {
    /// Nothing until its next task.
    Resting,
    /// It is its turn, but others are before it, or the budget is spent.
    Waiting,
    /// It is being issued.
    Issuing,
    /// It is being deployed.
    Deploying,
    /// The CA is asked when to renew it.
    Asking,
    /// Nothing, because somebody said so.
    Paused,
}

/// What there is to do for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Task {
    /// To get it, or get it anew, and deploy it.
    Issue,
    /// To replace it because its key is compromised, and then to revoke it.
    Rotate,
    /// To deploy it again where that failed.
    Deploy,
    /// To ask the CA when to renew it.
    Ask,
}

/// The next task, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NextTask {
    /// What is done.
    pub task: Task,
    /// When; it may be that others come first then.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
}

impl NextTask {
    pub(super) fn new(task: Task, at: SystemTime) -> Self {
        Self { task, at }
    }
}
