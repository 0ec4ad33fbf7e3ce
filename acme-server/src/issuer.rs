//! The [`Issuer`] trait: who makes a certificate out of a CSR.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use acmekit_core::{Csr, Identifier};
use async_trait::async_trait;

use crate::Problem;

/// Signs certificates, revokes them, and says when they should be renewed.
///
/// It knows nothing of ACME: control of the names has been proved, and the CSR fits the order.
#[async_trait]
pub trait Issuer: fmt::Debug + Send + Sync {
    /// The profiles offered, with what a person is told about each. Empty: the server knows no profiles.
    fn profiles(&self) -> BTreeMap<String, String>;

    /// Issues a certificate. *Must* end within a deadline of its own.
    ///
    /// # Errors
    /// What the client is told in `order.error`: `badCSR`, `caa`, `serverInternal`, …
    async fn issue(&self, request: &IssueRequest) -> Result<Issued, Problem>;

    /// Revokes a certificate; `reason` is a code of RFC 5280 section 5.3.1.
    ///
    /// # Errors
    /// What the client is told: `badRevocationReason`, `alreadyRevoked`, …
    async fn revoke(&self, leaf_der: &[u8], reason: Option<u8>) -> Result<(), Problem>;

    /// When a certificate should be renewed (RFC 9773); `None` if nothing is known about it.
    ///
    /// # Errors
    /// What the client is told.
    async fn renewal_info(&self, leaf_der: &[u8]) -> Result<Option<RenewalInfo>, Problem>;
}

/// A certificate to be issued.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IssueRequest {
    /// The CSR: its signature is checked, and its names are those of the order.
    pub csr: Csr,
    /// The order's identifiers, sorted.
    pub identifiers: Vec<Identifier>,
    /// The profile, one of [`Issuer::profiles`].
    pub profile: Option<String>,
    /// The validity the client asked for.
    pub not_before: Option<SystemTime>,
    /// The validity the client asked for.
    pub not_after: Option<SystemTime>,
}

/// A certificate with its chains.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Issued {
    /// The chains in DER, leaf first, without the root: the default one first, then the alternates.
    pub chains: Vec<Vec<Vec<u8>>>,
}

impl Issued {
    /// These chains, the default one first.
    pub fn new(chains: Vec<Vec<Vec<u8>>>) -> Self {
        Self { chains }
    }
}

/// When a certificate should be renewed (RFC 9773 section 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RenewalInfo {
    /// The window's start.
    pub start: SystemTime,
    /// The window's end.
    pub end: SystemTime,
    /// A page that says why.
    pub explanation_url: Option<String>,
}

impl RenewalInfo {
    /// A window.
    pub fn new(start: SystemTime, end: SystemTime) -> Self {
        Self { start, end, explanation_url: None }
    }

    /// With a page that says why.
    #[must_use]
    pub fn with_explanation(mut self, url: impl Into<String>) -> Self {
        self.explanation_url = Some(url.into());
        self
    }
}

#[async_trait]
impl<T: Issuer + ?Sized> Issuer for Arc<T> {
    fn profiles(&self) -> BTreeMap<String, String> {
        (**self).profiles()
    }
    async fn issue(&self, request: &IssueRequest) -> Result<Issued, Problem> {
        (**self).issue(request).await
    }
    async fn revoke(&self, leaf_der: &[u8], reason: Option<u8>) -> Result<(), Problem> {
        (**self).revoke(leaf_der, reason).await
    }
    async fn renewal_info(&self, leaf_der: &[u8]) -> Result<Option<RenewalInfo>, Problem> {
        (**self).renewal_info(leaf_der).await
    }
}
