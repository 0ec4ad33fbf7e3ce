//! What the caller wants: a [`CertificateSpec`], valid by construction.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{ChallengeKind, Csr, Error, ErrorKind, Identifier, KeyType, Result};

/// The wish for one certificate. Names are normalised and duplicates merged on construction.
///
/// ```
/// use acmekit_core::CertificateSpec;
/// let spec = CertificateSpec::new(["Example.com", "*.example.com"])?.profile("tlsserver");
/// assert_eq!(spec.identifiers().len(), 2);
/// # Ok::<(), acmekit_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateSpec {
    id: CertificateId,
    identifiers: BTreeSet<Identifier>,
    key_type: KeyType,
    csr: Option<Csr>,
    profile: Option<String>,
    preferred_chain: Option<String>,
    authority: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    challenge: Option<ChallengeKind>,
}

impl CertificateSpec {
    /// The most names one certificate may carry here; Let's Encrypt allows as many.
    pub const MAX_IDENTIFIERS: usize = 100;

    /// A certificate for these names.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a name is not valid, if there is none, or if there are too many.
    pub fn new<T>(names: impl IntoIterator<Item = T>) -> Result<Self>
    where
        T: AsRef<str>,
    {
        let identifiers =
            names.into_iter().map(|name| name.as_ref().parse()).collect::<Result<BTreeSet<_>>>()?;
        Self::of(identifiers, None)
    }

    /// A certificate for the caller's own CSR: its names, its key. acmekit never sees the key.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it has too many names.
    pub fn from_csr(csr: Csr) -> Result<Self> {
        Self::of(csr.identifiers().clone(), Some(csr))
    }

    fn of(identifiers: BTreeSet<Identifier>, csr: Option<Csr>) -> Result<Self> {
        let refuse = |why: String| {
            Err(Error::new(ErrorKind::Config, "spec.names", why)
                .with_hint("a certificate carries 1 to 100 names; split larger sets"))
        };
        let Some(id) = CertificateId::of(&identifiers, KeyType::default(), csr.as_ref()) else {
            return refuse("there is no name to certify".to_owned());
        };
        if identifiers.len() > Self::MAX_IDENTIFIERS {
            return refuse(format!("{} names are too many for one certificate", identifiers.len()));
        }
        Ok(Self {
            id,
            identifiers,
            key_type: KeyType::default(),
            csr,
            profile: None,
            preferred_chain: None,
            authority: None,
            challenge: None,
        })
    }

    /// Chooses the key type (default: [`KeyType::EcdsaP256`]). Part of the derived id.
    ///
    /// Without effect on a spec made from a CSR, whose key is what it is.
    #[must_use]
    pub fn key_type(mut self, kind: KeyType) -> Self {
        let derived = CertificateId::of(&self.identifiers, self.key_type, self.csr.as_ref());
        if self.csr.is_none() {
            if derived.as_ref() == Some(&self.id)
                && let Some(id) = CertificateId::of(&self.identifiers, kind, None)
            {
                self.id = id;
            }
            self.key_type = kind;
        }
        self
    }

    /// Asks the CA for one of its profiles, by name (draft-ietf-acme-profiles).
    #[must_use]
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.profile = Some(name.into());
        self
    }

    /// Prefers the chain whose topmost issuer has this common name, where the CA offers several
    /// (RFC 8555 section 7.4.2). Without a match the CA's default chain is taken.
    #[must_use]
    pub fn preferred_chain(mut self, root_common_name: impl Into<String>) -> Self {
        self.preferred_chain = Some(root_common_name.into());
        self
    }

    /// Asks for one authority of the pipeline by its id, rather than its first.
    #[must_use]
    pub fn authority(mut self, id: impl Into<String>) -> Self {
        self.authority = Some(id.into());
        self
    }

    /// Has control of the names proved by this kind of challenge alone, rather than by whichever the CA offers and the
    /// pipeline has a solver for.
    #[must_use]
    pub fn challenge(mut self, kind: ChallengeKind) -> Self {
        self.challenge = Some(kind);
        self
    }

    /// Names the certificate, so that it stays the same when its names change.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is no valid [`CertificateId`].
    pub fn named(mut self, id: &str) -> Result<Self> {
        self.id = id.parse()?;
        Ok(self)
    }

    /// The stable identity: by default derived from names and key.
    pub fn id(&self) -> &CertificateId {
        &self.id
    }

    /// The names, sorted.
    pub fn identifiers(&self) -> &BTreeSet<Identifier> {
        &self.identifiers
    }

    /// The key type wanted.
    pub fn wanted_key_type(&self) -> KeyType {
        self.key_type
    }

    /// The caller's CSR, if there is one.
    pub fn csr(&self) -> Option<&Csr> {
        self.csr.as_ref()
    }

    /// The CA profile wanted.
    pub fn wanted_profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// The common name of the root whose chain is preferred.
    pub fn wanted_chain(&self) -> Option<&str> {
        self.preferred_chain.as_deref()
    }

    /// The authority asked for.
    pub fn wanted_authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// The kind of challenge asked for.
    pub fn wanted_challenge(&self) -> Option<&ChallengeKind> {
        self.challenge.as_ref()
    }
}

/// The identity of a certificate over all its renewals. Safe as a file name.
///
/// Derived ones read `www.example.com-1f0c9a52c4d3`: the first name, and a hash over all names
/// and the key type (or the CSR's key). The same wish always has the same id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateId(String);

impl CertificateId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of(identifiers: &BTreeSet<Identifier>, kind: KeyType, csr: Option<&Csr>) -> Option<Self> {
        let first = identifiers.first()?;
        let label: String = first
            .to_string()
            .replace('*', "wildcard")
            .chars()
            .map(|c| if c == ':' { '-' } else { c })
            .take(80)
            .collect();
        let mut hash = Sha256::new();
        for identifier in identifiers {
            hash.update(identifier.to_string());
            hash.update(b"\n");
        }
        match csr {
            Some(csr) => hash.update(csr.public_key_info()),
            None => hash.update(kind.as_str()),
        }
        let digest: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let label = match label.trim_matches(['-', '.']) {
            // Nothing is left of `::`, and an id starts with a letter or digit.
            "" => "unspecified",
            label => label,
        };
        Some(Self(format!("{label}-{digest}")))
    }
}

impl FromStr for CertificateId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fits = !text.is_empty()
            && text.len() <= 128
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_'))
            && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if fits {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(
            ErrorKind::Config,
            "spec.id",
            format!("`{}` is no certificate id", text.escape_debug()),
        )
        .with_hint("1 to 128 of a-z, 0-9, `.`, `-`, `_`, starting with a letter or digit"))
    }
}

impl TryFrom<String> for CertificateId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<CertificateId> for String {
    fn from(id: CertificateId) -> Self {
        id.0
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_names_in_any_spelling_have_the_same_id() {
        let one = CertificateSpec::new(["b.example.com", "A.example.com.", "b.example.com"]).unwrap();
        let two = CertificateSpec::new(["a.example.com", "B.EXAMPLE.COM"]).unwrap();
        assert_eq!(one, two);
        assert!(one.id().as_str().starts_with("a.example.com-"), "{}", one.id());
        assert_ne!(one.id(), CertificateSpec::new(["a.example.com"]).unwrap().id());
    }

    #[test]
    fn every_derived_id_is_one_that_can_be_read() {
        for name in ["::", "::1", "1::", "192.0.2.1", "*.example.com"] {
            let spec = CertificateSpec::new([name]).unwrap();
            assert_eq!(spec.id().as_str().parse::<CertificateId>().unwrap(), *spec.id(), "{name}");
        }
    }

    #[test]
    fn the_key_type_is_part_of_a_derived_id_but_not_of_a_given_one() {
        let spec = CertificateSpec::new(["example.com"]).unwrap();
        assert_ne!(spec.clone().key_type(KeyType::EcdsaP384).id(), spec.id());
        let named = spec.clone().named("web").unwrap().key_type(KeyType::EcdsaP384);
        assert_eq!(named.id().as_str(), "web");
        assert_eq!(spec.clone().key_type(KeyType::EcdsaP384).key_type(KeyType::EcdsaP256), spec);
    }

    #[test]
    fn ids_are_safe_as_file_names() {
        for name in ["*.example.com", "2001:db8::1", "::1", "192.0.2.1"] {
            let id = CertificateSpec::new([name]).unwrap().id().clone();
            assert_eq!(id.as_str().parse::<CertificateId>().unwrap(), id);
        }
        for bad in ["", "../x", "a/b", "A", ".hidden", "a b", &"a".repeat(129)] {
            assert!(bad.parse::<CertificateId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn no_name_and_too_many_names_are_refused() {
        assert!(CertificateSpec::new(Vec::<String>::new()).is_err());
        assert!(CertificateSpec::new((0..101).map(|i| format!("h{i}.example.com"))).is_err());
    }
}
