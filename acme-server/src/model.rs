//! What the server keeps: accounts, orders, authorizations, certificates.

use std::fmt;

use acmekit_core::Identifier;
use serde_json::{Value, json};

/// An account's id: the last part of its URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(String);

impl AccountId {
    /// This id.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An account.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Account {
    /// Its id.
    pub id: AccountId,
}

/// `{"type": "dns", "value": "…"}` (RFC 8555 section 9.7.7, RFC 8738).
pub(crate) fn identifier_json(identifier: &Identifier) -> Value {
    let kind = if matches!(identifier, Identifier::Ip(_)) { "ip" } else { "dns" };
    json!({ "type": kind, "value": identifier.to_string() })
}
