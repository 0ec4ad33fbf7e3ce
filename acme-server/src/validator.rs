//! The [`Validator`] trait: who checks that a client controls an identifier.

use std::fmt;
use std::sync::Arc;

use acmekit_core::{ChallengeKind, Identifier, KeyAuthorization};
use async_trait::async_trait;

use crate::Problem;

/// Checks challenges (RFC 8555 section 8).
#[async_trait]
pub trait Validator: fmt::Debug + Send + Sync {
    /// The kinds of challenge it can check for an identifier. *Must not* be empty for an identifier an order may
    /// hold: an authorization without a challenge can never become valid.
    fn kinds(&self, identifier: &Identifier) -> Vec<ChallengeKind>;

    /// Checks one challenge. *Must* end within a deadline of its own.
    ///
    /// # Errors
    /// What the client is told in `challenge.error`: `connection`, `dns`, `tls`, `unauthorized`,
    /// `incorrectResponse`, `caa`.
    async fn validate(&self, validation: &Validation) -> Result<(), Problem>;
}

/// What is to be checked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Validation {
    /// The identifier. For a wildcard this is [`Identifier::Wildcard`]; what is looked at is its domain.
    pub identifier: Identifier,
    /// The kind of challenge the client chose.
    pub kind: ChallengeKind,
    /// The challenge's token.
    pub token: String,
    /// The key authorization the client is to show.
    pub key_authorization: KeyAuthorization,
    /// The account's URL: dns-account-01 and dns-persist-01 are about it.
    pub account_url: String,
    /// The names by which this CA is known in CAA and dns-persist-01 records.
    pub issuer_domains: Vec<String>,
}

impl Validation {
    /// A check of `identifier` by `kind`.
    pub fn new(
        identifier: Identifier,
        kind: ChallengeKind,
        token: impl Into<String>,
        key_authorization: KeyAuthorization,
        account_url: impl Into<String>,
    ) -> Self {
        Self {
            identifier,
            kind,
            token: token.into(),
            key_authorization,
            account_url: account_url.into(),
            issuer_domains: Vec::new(),
        }
    }

    /// Adds the CA's names.
    #[must_use]
    pub fn with_issuer_domains(mut self, domains: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.issuer_domains = domains.into_iter().map(Into::into).collect();
        self
    }
}

#[async_trait]
impl<T: Validator + ?Sized> Validator for Arc<T> {
    fn kinds(&self, identifier: &Identifier) -> Vec<ChallengeKind> {
        (**self).kinds(identifier)
    }
    async fn validate(&self, validation: &Validation) -> Result<(), Problem> {
        (**self).validate(validation).await
    }
}
