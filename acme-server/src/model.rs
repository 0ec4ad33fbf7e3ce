//! What the server keeps: accounts, orders, authorizations, certificates (RFC 8555 section 7.1).

use std::fmt;
use std::time::SystemTime;

use acmekit_core::{ChallengeKind, Identifier};
use serde_json::{Value, json};

use crate::{Jwk, Problem};

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

/// An account (RFC 8555 section 7.1.2).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Who may act for it.
    pub key: Jwk,
    /// Contact URLs.
    pub contacts: Vec<String>,
    /// Whether it may still act.
    pub status: AccountStatus,
    /// Whether the terms of service were agreed to.
    pub terms_agreed: bool,
    /// The external account it is bound to, as the client sent it.
    pub external_binding: Option<Value>,
    /// When it was created.
    pub created: SystemTime,
}

/// Whether an account may act (RFC 8555 section 7.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccountStatus {
    /// It may.
    Valid,
    /// Its owner has ended it.
    Deactivated,
    /// The server has ended it.
    Revoked,
}

impl AccountStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Deactivated => "deactivated",
            Self::Revoked => "revoked",
        }
    }
}

/// An order (RFC 8555 section 7.1.3).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Order {
    /// Its id: the last part of its URL.
    pub id: String,
    /// Whose it is.
    pub account: AccountId,
    /// For what: sorted, each once.
    pub identifiers: Vec<Identifier>,
    /// The authorizations it needs, one for each identifier.
    pub authorizations: Vec<String>,
    /// When it was asked for.
    pub created: SystemTime,
    /// Until when it can be finalized.
    pub expires: SystemTime,
    /// The validity asked for.
    pub not_before: Option<SystemTime>,
    /// The validity asked for.
    pub not_after: Option<SystemTime>,
    /// By which profile.
    pub profile: Option<String>,
    /// The certificate it replaces, in the form of RFC 9773 section 4.1.
    pub replaces: Option<String>,
    /// How far it is.
    pub state: OrderState,
}

/// How far an order is. Whether an open one is `pending` or `ready` follows from its authorizations.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum OrderState {
    /// Not finalized yet.
    Open,
    /// The certificate is being made.
    Processing,
    /// The certificate of this id is there.
    Valid(String),
    /// It came to nothing.
    Invalid(Problem),
}

/// An authorization (RFC 8555 section 7.1.4).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Authorization {
    /// Its id: the last part of its URL.
    pub id: String,
    /// Whose it is.
    pub account: AccountId,
    /// For what. On the wire a wildcard is its domain and a flag.
    pub identifier: Identifier,
    /// Until when it can become valid, then until when it is.
    pub expires: SystemTime,
    /// How far it is.
    pub state: AuthorizationState,
    /// The ways to prove control.
    pub challenges: Vec<OfferedChallenge>,
}

/// How far an authorization is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthorizationState {
    /// Control has not been proved yet.
    Pending,
    /// Control has been proved.
    Valid,
    /// A proof has failed.
    Invalid,
    /// Its owner has given it back.
    Deactivated,
}

/// One way to prove control (RFC 8555 section 7.1.5).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OfferedChallenge {
    /// Which.
    pub kind: ChallengeKind,
    /// Its token.
    pub token: String,
    /// How far it is.
    pub state: ChallengeState,
}

/// How far a challenge is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ChallengeState {
    /// The client has not said that it is ready.
    Pending,
    /// It is being checked.
    Processing,
    /// It was met, then.
    Valid(SystemTime),
    /// It was not.
    Invalid(Problem),
}

/// A certificate.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Certificate {
    /// Its id: the last part of its URL.
    pub id: String,
    /// For whom.
    pub account: AccountId,
    /// For what.
    pub identifiers: Vec<Identifier>,
    /// The chains in DER, leaf first: the default one first, then the alternates. Never empty.
    pub chains: Vec<Vec<Vec<u8>>>,
    /// Its name in renewal information (RFC 9773 section 4.1).
    pub renewal_id: Option<String>,
    /// Its end.
    pub not_after: SystemTime,
    /// Whether it was revoked.
    pub revoked: bool,
    /// The order that replaces it.
    pub replaced_by: Option<String>,
}

impl Certificate {
    /// The certificate itself.
    pub fn leaf_der(&self) -> &[u8] {
        self.chains.first().and_then(|chain| chain.first()).map(Vec::as_slice).unwrap_or_default()
    }
}

/// `{"type": "dns", "value": "…"}` (RFC 8555 section 9.7.7, RFC 8738).
pub(crate) fn identifier_json(identifier: &Identifier) -> Value {
    let kind = if matches!(identifier, Identifier::Ip(_)) { "ip" } else { "dns" };
    json!({ "type": kind, "value": identifier.to_string() })
}
