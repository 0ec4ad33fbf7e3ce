//! Problem documents (RFC 7807) with ACME's error types (RFC 8555 section 6.7).

use std::fmt;
use std::time::SystemTime;

use acmekit_core::Identifier;
use serde_json::{Value, json};

/// What ACME calls a failure, without the prefix `urn:ietf:params:acme:error:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemType {
    /// The account does not exist.
    AccountDoesNotExist,
    /// The certificate has been revoked already.
    AlreadyRevoked,
    /// The certificate has a replacement, or one is under way (RFC 9773 section 7.4).
    AlreadyReplaced,
    /// The CSR is unacceptable.
    BadCsr,
    /// The nonce was not issued here, or has been used.
    BadNonce,
    /// The key is unacceptable.
    BadPublicKey,
    /// The revocation reason is not allowed.
    BadRevocationReason,
    /// The JWS is signed by an algorithm that is not supported.
    BadSignatureAlgorithm,
    /// CAA records forbid issuance.
    Caa,
    /// Several failures; see the subproblems.
    Compound,
    /// The server could not connect to the validation target.
    Connection,
    /// A DNS query failed during validation.
    Dns,
    /// The account must be bound to an external one.
    ExternalAccountRequired,
    /// The response to the challenge is not the right one.
    IncorrectResponse,
    /// A contact URL is invalid.
    InvalidContact,
    /// The profile is not offered.
    InvalidProfile,
    /// The request message was malformed.
    Malformed,
    /// The order is not ready to be finalized.
    OrderNotReady,
    /// A rate limit was exceeded.
    RateLimited,
    /// The server will not issue for the identifier.
    RejectedIdentifier,
    /// The server had an internal error.
    ServerInternal,
    /// A TLS error during validation.
    Tls,
    /// The client lacks authorization.
    Unauthorized,
    /// A contact URL has an unsupported scheme.
    UnsupportedContact,
    /// The type of an identifier is not supported.
    UnsupportedIdentifier,
    /// A person must visit a URL.
    UserActionRequired,
}

impl ProblemType {
    /// The name after `urn:ietf:params:acme:error:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccountDoesNotExist => "accountDoesNotExist",
            Self::AlreadyRevoked => "alreadyRevoked",
            Self::AlreadyReplaced => "alreadyReplaced",
            Self::BadCsr => "badCSR",
            Self::BadNonce => "badNonce",
            Self::BadPublicKey => "badPublicKey",
            Self::BadRevocationReason => "badRevocationReason",
            Self::BadSignatureAlgorithm => "badSignatureAlgorithm",
            Self::Caa => "caa",
            Self::Compound => "compound",
            Self::Connection => "connection",
            Self::Dns => "dns",
            Self::ExternalAccountRequired => "externalAccountRequired",
            Self::IncorrectResponse => "incorrectResponse",
            Self::InvalidContact => "invalidContact",
            Self::InvalidProfile => "invalidProfile",
            Self::Malformed => "malformed",
            Self::OrderNotReady => "orderNotReady",
            Self::RateLimited => "rateLimited",
            Self::RejectedIdentifier => "rejectedIdentifier",
            Self::ServerInternal => "serverInternal",
            Self::Tls => "tls",
            Self::Unauthorized => "unauthorized",
            Self::UnsupportedContact => "unsupportedContact",
            Self::UnsupportedIdentifier => "unsupportedIdentifier",
            Self::UserActionRequired => "userActionRequired",
        }
    }

    /// The HTTP status it is usually sent with.
    pub fn status(self) -> u16 {
        match self {
            Self::Unauthorized
            | Self::Caa
            | Self::ExternalAccountRequired
            | Self::OrderNotReady
            | Self::UserActionRequired => 403,
            Self::AlreadyReplaced => 409,
            Self::RateLimited => 429,
            Self::ServerInternal => 500,
            _ => 400,
        }
    }
}

/// Why a request, a validation or an order failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(Box<Content>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    kind: ProblemType,
    detail: String,
    status: u16,
    identifier: Option<Identifier>,
    subproblems: Vec<Problem>,
    retry_at: Option<SystemTime>,
    algorithms: Vec<&'static str>,
}

impl Problem {
    /// A failure of this type, and what a person is told.
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self(Box::new(Content {
            kind,
            detail: detail.into(),
            status: kind.status(),
            identifier: None,
            subproblems: Vec::new(),
            retry_at: None,
            algorithms: Vec::new(),
        }))
    }

    /// The request is not one this server understands.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(ProblemType::Malformed, detail)
    }

    /// There is nothing of that name (404, `malformed`, as Boulder says it).
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::malformed(detail).with_status(404)
    }

    /// The client may not do this.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(ProblemType::Unauthorized, detail)
    }

    /// Something in here is broken.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(ProblemType::ServerInternal, detail)
    }

    /// Sent with this HTTP status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.0.status = status;
        self
    }

    /// About this identifier.
    #[must_use]
    pub fn with_identifier(mut self, identifier: Identifier) -> Self {
        self.0.identifier = Some(identifier);
        self
    }

    /// With one problem for each identifier that failed (RFC 8555 section 6.7.1).
    #[must_use]
    pub fn with_subproblems(mut self, subproblems: Vec<Self>) -> Self {
        self.0.subproblems = subproblems;
        self
    }

    /// The same request may be tried again then: `Retry-After`.
    #[must_use]
    pub fn with_retry_at(mut self, at: SystemTime) -> Self {
        self.0.retry_at = Some(at);
        self
    }

    /// The signature algorithms that would have been accepted (RFC 8555 section 6.2).
    #[must_use]
    pub fn with_algorithms(mut self, algorithms: &[&'static str]) -> Self {
        self.0.algorithms = algorithms.to_vec();
        self
    }

    /// The type.
    pub fn kind(&self) -> ProblemType {
        self.0.kind
    }

    /// What a person is told.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// The identifier it is about.
    pub fn identifier(&self) -> Option<&Identifier> {
        self.0.identifier.as_ref()
    }

    /// One problem for each identifier that failed.
    pub fn subproblems(&self) -> &[Self] {
        &self.0.subproblems
    }

    /// When to try again.
    pub fn retry_at(&self) -> Option<SystemTime> {
        self.0.retry_at
    }

    /// The document (`application/problem+json`).
    pub fn to_json(&self) -> Value {
        let mut document = json!({
            "type": format!("urn:ietf:params:acme:error:{}", self.0.kind.as_str()),
            "detail": self.0.detail,
            "status": self.0.status,
        });
        if let Some(identifier) = &self.0.identifier {
            document["identifier"] = crate::model::identifier_json(identifier);
        }
        if !self.0.subproblems.is_empty() {
            document["subproblems"] = self.0.subproblems.iter().map(Self::to_json).collect();
        }
        if !self.0.algorithms.is_empty() {
            document["algorithms"] = json!(self.0.algorithms);
        }
        document
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.as_str(), self.0.detail)
    }
}

impl std::error::Error for Problem {}
