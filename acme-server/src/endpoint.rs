//! The URLs of the server, as paths.

use std::fmt;

/// A resource of the server (RFC 8555 section 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Endpoint {
    /// `/directory`
    Directory,
    /// `/acme/new-nonce`
    NewNonce,
    /// `/acme/new-account`
    NewAccount,
    /// `/acme/new-order`
    NewOrder,
    /// `/acme/revoke-cert`
    RevokeCert,
    /// `/acme/key-change`
    KeyChange,
    /// `/acme/renewal-info/<id>` (RFC 9773)
    RenewalInfo,
    /// `/acme/account/<id>`
    Account,
    /// `/acme/account/<id>/orders`
    Orders,
    /// `/acme/order/<id>`
    Order,
    /// `/acme/order/<id>/finalize`
    Finalize,
    /// `/acme/authorization/<id>`
    Authorization,
    /// `/acme/challenge/<authorization>/<kind>`
    Challenge,
    /// `/acme/certificate/<id>`, `/acme/certificate/<id>/<alternate>`
    Certificate,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Directory,
        Self::NewNonce,
        Self::NewAccount,
        Self::NewOrder,
        Self::RevokeCert,
        Self::KeyChange,
        Self::RenewalInfo,
        Self::Account,
        Self::Orders,
        Self::Order,
        Self::Finalize,
        Self::Authorization,
        Self::Challenge,
        Self::Certificate,
    ];

    /// Which one a path belongs to; `None` for a path nothing is at.
    pub fn of_path(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        Some(match parts.as_slice() {
            ["directory"] => Self::Directory,
            ["acme", "new-nonce"] => Self::NewNonce,
            ["acme", "new-account"] => Self::NewAccount,
            ["acme", "new-order"] => Self::NewOrder,
            ["acme", "revoke-cert"] => Self::RevokeCert,
            ["acme", "key-change"] => Self::KeyChange,
            ["acme", "renewal-info", _] => Self::RenewalInfo,
            ["acme", "account", _] => Self::Account,
            ["acme", "account", _, "orders"] => Self::Orders,
            ["acme", "order", _] => Self::Order,
            ["acme", "order", _, "finalize"] => Self::Finalize,
            ["acme", "authorization", _] => Self::Authorization,
            ["acme", "challenge", _, _] => Self::Challenge,
            ["acme", "certificate", _] | ["acme", "certificate", _, _] => Self::Certificate,
            _ => return None,
        })
    }

    /// The name in configuration and output: `new-order`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::NewNonce => "new-nonce",
            Self::NewAccount => "new-account",
            Self::NewOrder => "new-order",
            Self::RevokeCert => "revoke-cert",
            Self::KeyChange => "key-change",
            Self::RenewalInfo => "renewal-info",
            Self::Account => "account",
            Self::Orders => "orders",
            Self::Order => "order",
            Self::Finalize => "finalize",
            Self::Authorization => "authorization",
            Self::Challenge => "challenge",
            Self::Certificate => "certificate",
        }
    }

    /// The endpoint of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.as_str() == name)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
