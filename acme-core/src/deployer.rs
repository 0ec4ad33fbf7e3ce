//! The [`Deployer`] trait: who gets a certificate served.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Bundle, CertificateId, Result};

/// Brings a certificate to where it is served, and makes sure that it is.
///
/// # The typical mistake
/// Calling it done when the file is written or the API said yes. A deployment counts when a client
/// sees the new certificate; if that does not come true, the old one is put back and the error says
/// which of the two is served now.
///
/// A deployer is called again with the same bundle after a crash at any point, and after errors on
/// its own schedule; it never causes a certificate to be ordered.
///
/// # Conformance
/// `acmekit_conformance::deployer_suite!` tests each clause named here (Y1 to Y10) by what TLS
/// clients see. For all methods: no error and no `Debug` shows a private key (Y9), and behind `Arc`
/// and `Box` it is the same deployer (Y10).
#[async_trait]
pub trait Deployer: fmt::Debug + Send + Sync {
    /// The deployer's id in kebab-case; unique within a pipeline. By default its folder's name.
    fn id(&self) -> &str;

    /// Puts the bundle in place, has it taken up, and sees that it is served. (Y1)
    ///
    /// *Must* be `AlreadyCurrent`, touching nothing, when the bundle is in place and served (Y2).
    /// *Must* never let a reader see the new key beside the old chain (Y3). On an error *must* have
    /// put the previous certificate back, or say in the error that it could not (Y4, Y5).
    ///
    /// A future dropped midway leaves either version in place, whole; the next call sets it right.
    ///
    /// # Errors
    /// `Deploy` that says what is served now; `Config` if the bundle cannot be used here (no key,
    /// too large); `Conflict` if somebody else is changing the same target.
    async fn deploy(&self, bundle: &Bundle) -> Result<Outcome>;

    /// Looks whether this bundle is what is served, without changing anything. (Y6, Y7)
    ///
    /// # Errors
    /// `Deploy` that says what is served instead; `Unavailable` if it cannot be seen.
    async fn verify(&self, bundle: &Bundle) -> Result<()>;

    /// Whether this very certificate, by the SHA-256 of its leaf in hexadecimal, is in place: for a deployer whose target
    /// ends with the process, such as a table in memory. It must not wait for anything.
    ///
    /// `None`, the default, is for targets that outlive the process: what was brought to them is in the store.
    fn holds(&self, certificate: &CertificateId, sha256: &str) -> Option<bool> {
        let _ = (certificate, sha256);
        None
    }

    /// Takes the certificate away from the target. `Ok` when it is not there. (Y8)
    ///
    /// # Errors
    /// `Conflict` if the target still needs it.
    async fn remove(&self, id: &CertificateId) -> Result<()>;
}

/// What a successful deployment did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Outcome {
    /// The certificate was put in place and is served.
    Applied,
    /// It was served already.
    AlreadyCurrent,
}

macro_rules! forward {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: Deployer + ?Sized> Deployer for $pointer<T> {
            fn id(&self) -> &str {
                (**self).id()
            }
            async fn deploy(&self, bundle: &Bundle) -> Result<Outcome> {
                (**self).deploy(bundle).await
            }
            async fn verify(&self, bundle: &Bundle) -> Result<()> {
                (**self).verify(bundle).await
            }
            fn holds(&self, certificate: &CertificateId, sha256: &str) -> Option<bool> {
                (**self).holds(certificate, sha256)
            }
            async fn remove(&self, id: &CertificateId) -> Result<()> {
                (**self).remove(id).await
            }
        }
    };
}
forward!(Arc);
forward!(Box);
