//! Challenges, and the key authorizations that answer them (RFC 8555 section 8).

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Identifier, Secret};

/// The kind of a challenge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum ChallengeKind {
    /// A TXT record at `_acme-challenge.<name>` (RFC 8555 section 8.4).
    Dns01,
    /// A file under `/.well-known/acme-challenge/` on port 80 (RFC 8555 section 8.3).
    Http01,
    /// A special certificate on port 443 (RFC 8737).
    TlsAlpn01,
    /// A TXT record below a label of the account's own, so that several accounts prove one name side by side
    /// (draft-ietf-acme-dns-account-label).
    DnsAccount01,
    /// A TXT record that names the CA and the account, and stays (draft-ietf-acme-dns-persist).
    DnsPersist01,
    /// A kind this version does not know; the CA's own word for it.
    Other(String),
}

impl ChallengeKind {
    /// The name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Dns01 => "dns-01",
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::DnsAccount01 => "dns-account-01",
            Self::DnsPersist01 => "dns-persist-01",
            Self::Other(name) => name,
        }
    }
}

impl From<String> for ChallengeKind {
    fn from(name: String) -> Self {
        match name.as_str() {
            "dns-01" => Self::Dns01,
            "http-01" => Self::Http01,
            "tls-alpn-01" => Self::TlsAlpn01,
            "dns-account-01" => Self::DnsAccount01,
            "dns-persist-01" => Self::DnsPersist01,
            _ => Self::Other(name),
        }
    }
}

impl From<ChallengeKind> for String {
    fn from(kind: ChallengeKind) -> Self {
        kind.as_str().to_owned()
    }
}

impl fmt::Display for ChallengeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One challenge to answer: for which identifier, by which means, with what proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Challenge {
    /// The identifier to prove control of.
    pub identifier: Identifier,
    /// The kind of proof.
    pub kind: ChallengeKind,
    /// The CA's token: the last part of the http-01 path. Not secret, and in base64url. Empty for a kind that has none,
    /// such as dns-persist-01.
    pub token: String,
    /// The proof.
    pub key_authorization: KeyAuthorization,
    /// The URL of the account that proves: dns-account-01 and dns-persist-01 are about it. Empty where it is not known.
    #[serde(default)]
    pub account: String,
    /// The names the CA goes by in the records of dns-persist-01 (`issuer-domain-names`).
    #[serde(default)]
    pub issuers: Vec<String>,
}

impl Challenge {
    /// Puts one together; the caller has checked that the token is base64url.
    pub fn new(
        identifier: Identifier,
        kind: ChallengeKind,
        token: impl Into<String>,
        key_authorization: KeyAuthorization,
    ) -> Self {
        let (account, issuers) = (String::new(), Vec::new());
        Self { identifier, kind, token: token.into(), key_authorization, account, issuers }
    }

    /// Says which account proves, by its URL.
    #[must_use]
    pub fn with_account(mut self, url: impl Into<String>) -> Self {
        self.account = url.into();
        self
    }

    /// Says by which names the CA goes.
    #[must_use]
    pub fn with_issuers(mut self, issuers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.issuers = issuers.into_iter().map(Into::into).collect();
        self
    }
}

/// Token and account-key thumbprint (RFC 8555 section 8.1). Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyAuthorization(#[serde(with = "crate::secret::stored")] Secret<String>);

impl KeyAuthorization {
    /// Joins a token with the account key's thumbprint (RFC 7638).
    pub fn new(token: &str, thumbprint: &str) -> Self {
        Self(Secret::new(format!("{token}.{thumbprint}")))
    }

    /// The thumbprint of the account's key (RFC 7638).
    pub(crate) fn thumbprint(&self) -> &str {
        self.0.expose().rsplit('.').next().unwrap_or_default()
    }

    /// The text itself: the body of an http-01 answer.
    pub fn as_secret(&self) -> &Secret<String> {
        &self.0
    }

    /// Its SHA-256, as tls-alpn-01 puts into a certificate (RFC 8737 section 3).
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.expose()).into()
    }

    /// The value of the dns-01 TXT record: base64url of the SHA-256 (RFC 8555 section 8.4).
    ///
    /// ```
    /// use acmekit_core::KeyAuthorization;
    /// let proof = KeyAuthorization::new("token", "thumbprint");
    /// assert_eq!(proof.txt_value().len(), 43);
    /// ```
    pub fn txt_value(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.digest())
    }
}

impl fmt::Debug for KeyAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyAuthorization(…)")
    }
}
