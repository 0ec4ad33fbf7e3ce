//! Whether clients are served, as values to be shown.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::CertificateId;
use crate::backoff::Trouble;
use crate::clock::rfc3339;
use crate::manager::{CertificateStatus, State};
use crate::tls::CertResolver;

/// A certificate with less than this left of its life should have been renewed by now.
const LATE: u32 = 10;
/// The life that a certificate is taken to have at least, where it is not known.
const SOON: Duration = Duration::from_secs(24 * 3600);

/// How the certificates of an [`AutoTls`](super::AutoTls) stand.
///
/// As JSON it is an answer to whoever monitors the service.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// When this was so.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
    /// Each certificate, by its id.
    pub certificates: Vec<CertificateHealth>,
}

impl Health {
    /// Whether every certificate is served and valid, but for those that clients have asked for: what a load balancer wants
    /// to know.
    pub fn is_serving(&self) -> bool {
        use Standing::{Expiring, Valid};
        let own = self.certificates.iter().filter(|one| !one.on_demand);
        own.into_iter().all(|one| matches!(one.standing, Valid | Expiring))
    }

    /// Whether nothing is wrong at all: what a person who is on call wants to know.
    pub fn is_well(&self) -> bool {
        self.certificates.iter().all(|one| one.standing == Standing::Valid && one.trouble.is_none())
    }
}

/// How one certificate stands.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct CertificateHealth {
    /// Which one.
    pub id: CertificateId,
    /// Its names, as text.
    pub names: Vec<String>,
    /// Whether a client has asked for it, and not the program.
    pub on_demand: bool,
    /// What clients get now.
    pub standing: Standing,
    /// The serial number of what they get, in hexadecimal.
    pub serial: Option<String>,
    /// Until when that is valid.
    #[serde(serialize_with = "rfc3339::serialize_option")]
    pub not_after: Option<SystemTime>,
    /// What is done with it now.
    pub state: State,
    /// What went wrong, as long as it has not gone well since.
    pub trouble: Option<Trouble>,
}

/// What clients get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Standing {
    /// A valid certificate.
    Valid,
    /// A valid certificate that should have been renewed by now: less than a tenth of its life is left, or a day.
    Expiring,
    /// A certificate that is no longer valid.
    Expired,
    /// A placeholder that no CA has signed.
    Placeholder,
    /// None: handshakes end with an alert.
    Missing,
}

impl CertificateHealth {
    pub(super) fn of(
        status: CertificateStatus,
        on_demand: bool,
        resolver: &CertResolver,
        now: SystemTime,
    ) -> Self {
        let served = resolver.of(&status.id);
        let standing = match &served {
            None => Standing::Missing,
            Some(served) if served.is_placeholder() => Standing::Placeholder,
            Some(served) => {
                let left = served.not_after.duration_since(now).unwrap_or_default();
                let soon = (served.life() / LATE).min(SOON);
                match left {
                    Duration::ZERO => Standing::Expired,
                    left if left < soon => Standing::Expiring,
                    _ => Standing::Valid,
                }
            }
        };
        let served = served.filter(|served| !served.is_placeholder());
        Self {
            id: status.id,
            names: status.names,
            on_demand,
            standing,
            serial: served.as_ref().map(|served| served.serial.clone()),
            not_after: served.map(|served| served.not_after),
            state: status.state,
            trouble: status.trouble,
        }
    }
}
