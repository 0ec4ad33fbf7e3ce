//! The [`State`] trait: where the server keeps what it must not forget.

mod memory;

use std::fmt;

use acmekit_core::Identifier;
use async_trait::async_trait;

use crate::{Account, AccountId, Authorization, Certificate, Jwk, Order, Problem};

pub use memory::MemoryState;

/// A change to a record: it looks at the newest form, and changes it or refuses. *May* be called more than once, by
/// a state that writes only what nobody else has changed meanwhile.
pub type Change<'a, T> = &'a mut (dyn FnMut(&mut T) -> Result<(), Problem> + Send);

/// Keeps accounts, orders, authorizations, certificates and nonces.
///
/// # Errors
/// Every method fails with `serverInternal` when the state cannot be read or written; `change_…` fails with what
/// the change refused with, and with `malformed` (404) when there is no such record.
#[async_trait]
pub trait State: fmt::Debug + Send + Sync {
    /// Makes a nonce that can be spent once.
    async fn new_nonce(&self) -> Result<String, Problem>;
    /// Spends one: whether it was made here and has not been spent.
    async fn spend_nonce(&self, nonce: &str) -> Result<bool, Problem>;

    /// Keeps a new account. If its key has one already, that one is answered and nothing is kept.
    async fn create_account(&self, account: Account) -> Result<Account, Problem>;
    /// The account of this id.
    async fn account(&self, id: &AccountId) -> Result<Option<Account>, Problem>;
    /// The account of this key.
    async fn account_of_key(&self, key: &Jwk) -> Result<Option<Account>, Problem>;
    /// Changes an account, but not its key.
    async fn change_account(&self, id: &AccountId, change: Change<'_, Account>) -> Result<Account, Problem>;
    /// Gives an account another key (RFC 8555 section 7.3.5). If that key has an account, its id is answered and
    /// nothing is changed.
    async fn change_key(&self, id: &AccountId, old: &Jwk, new: &Jwk) -> Result<Option<AccountId>, Problem>;

    /// Keeps a new order, and the authorizations that are new with it.
    async fn create_order(&self, order: Order, authorizations: Vec<Authorization>) -> Result<(), Problem>;
    /// The order of this id.
    async fn order(&self, id: &str) -> Result<Option<Order>, Problem>;
    /// Changes an order.
    async fn change_order(&self, id: &str, change: Change<'_, Order>) -> Result<Order, Problem>;
    /// The ids of an account's orders after `after`, oldest first, at most `count`.
    async fn orders_of(
        &self,
        account: &AccountId,
        after: Option<&str>,
        count: usize,
    ) -> Result<Vec<String>, Problem>;
    /// The newest order of an account for exactly these identifiers.
    async fn order_for(
        &self,
        account: &AccountId,
        identifiers: &[Identifier],
    ) -> Result<Option<Order>, Problem>;

    /// The authorization of this id.
    async fn authorization(&self, id: &str) -> Result<Option<Authorization>, Problem>;
    /// Changes an authorization.
    async fn change_authorization(
        &self,
        id: &str,
        change: Change<'_, Authorization>,
    ) -> Result<Authorization, Problem>;
    /// The newest authorization of an account for an identifier.
    async fn authorization_for(
        &self,
        account: &AccountId,
        identifier: &Identifier,
    ) -> Result<Option<Authorization>, Problem>;

    /// Keeps a new certificate.
    async fn create_certificate(&self, certificate: Certificate) -> Result<(), Problem>;
    /// The certificate of this id.
    async fn certificate(&self, id: &str) -> Result<Option<Certificate>, Problem>;
    /// The certificate with this name in renewal information.
    async fn certificate_of_renewal_id(&self, id: &str) -> Result<Option<Certificate>, Problem>;
    /// The certificate with exactly this leaf.
    async fn certificate_of_leaf(&self, leaf_der: &[u8]) -> Result<Option<Certificate>, Problem>;
    /// Changes a certificate.
    async fn change_certificate(
        &self,
        id: &str,
        change: Change<'_, Certificate>,
    ) -> Result<Certificate, Problem>;
}
