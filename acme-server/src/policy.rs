//! The [`Policy`] trait: may this account have these names now?

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use acmekit_core::Identifier;
use async_trait::async_trait;

use crate::{AccountId, Problem};

/// Says what an account may have, and hears what became of it.
///
/// The server asks at the points where Boulder checks its limits, and tells at the points where Boulder spends
/// them. Each method's default allows everything.
#[async_trait]
pub trait Policy: fmt::Debug + Send + Sync {
    /// Before an account is created. Not asked for an existing account.
    ///
    /// # Errors
    /// What the client is told.
    async fn new_account(&self, from: Option<IpAddr>) -> Result<(), Problem> {
        let _ = from;
        Ok(())
    }

    /// Before an order is stored: check, and spend what is spent at this point.
    ///
    /// # Errors
    /// What the client is told: `rateLimited`, `rejectedIdentifier`, …
    async fn new_order(&self, order: &NewOrder<'_>) -> Result<(), Problem> {
        let _ = order;
        Ok(())
    }

    /// The order that [`new_order`](Self::new_order) allowed was not stored after all: what it spent is given back.
    async fn order_refused(&self, order: &NewOrder<'_>) {
        let _ = order;
    }

    /// A validation failed.
    async fn validation_failed(&self, account: &AccountId, identifier: &Identifier) {
        let _ = (account, identifier);
    }

    /// A validation succeeded.
    async fn validation_succeeded(&self, account: &AccountId, identifier: &Identifier) {
        let _ = (account, identifier);
    }

    /// A certificate was issued.
    async fn issued(&self, account: &AccountId, identifiers: &[Identifier]) {
        let _ = (account, identifiers);
    }
}

/// An order that is asked for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct NewOrder<'a> {
    /// Who asks.
    pub account: &'a AccountId,
    /// For what: sorted, each once.
    pub identifiers: &'a [Identifier],
    /// By which profile.
    pub profile: Option<&'a str>,
    /// Whether the CA itself has asked for this renewal.
    pub renewal: Renewal,
}

impl<'a> NewOrder<'a> {
    /// An order that replaces nothing, by the default profile.
    pub fn new(account: &'a AccountId, identifiers: &'a [Identifier]) -> Self {
        Self { account, identifiers, profile: None, renewal: Renewal::No }
    }

    /// By this profile.
    #[must_use]
    pub fn with_profile(mut self, profile: Option<&'a str>) -> Self {
        self.profile = profile;
        self
    }

    /// As this kind of renewal.
    #[must_use]
    pub fn with_renewal(mut self, renewal: Renewal) -> Self {
        self.renewal = renewal;
        self
    }
}

/// Whether an order renews at the time the CA suggested (RFC 9773).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Renewal {
    /// It does not name a certificate it replaces, or not inside that one's suggested window.
    No,
    /// It names a certificate of the same account with a name in common that nothing has replaced yet, and now lies
    /// in its suggested window: Boulder exempts such an order from all limits.
    Suggested,
}

/// Allows everything.
#[async_trait]
impl Policy for () {}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Policy + ?Sized> Policy for Arc<T> {
    async fn new_account(&self, from: Option<IpAddr>) -> Result<(), Problem> {
        (**self).new_account(from).await
    }
    async fn new_order(&self, order: &NewOrder<'_>) -> Result<(), Problem> {
        (**self).new_order(order).await
    }
    async fn order_refused(&self, order: &NewOrder<'_>) {
        (**self).order_refused(order).await;
    }
    async fn validation_failed(&self, account: &AccountId, identifier: &Identifier) {
        (**self).validation_failed(account, identifier).await;
    }
    async fn validation_succeeded(&self, account: &AccountId, identifier: &Identifier) {
        (**self).validation_succeeded(account, identifier).await;
    }
    async fn issued(&self, account: &AccountId, identifiers: &[Identifier]) {
        (**self).issued(account, identifiers).await;
    }
}
