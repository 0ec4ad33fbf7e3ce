//! The [`Store`] trait: where accounts, journals and certificates are kept.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result, Secret};

/// A small key-value store with compare-and-swap and leases.
///
/// # The typical mistake
/// Half a value. `save` writes whole or not at all, and has reached the disk when it returns: the
/// journal lives here, and a step that is not in it did not happen.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Reads a value; `None` if there is none. (T1)
    ///
    /// # Errors
    /// `Storage` if it is there but damaged or unreadable: never `None` in that case (T8).
    async fn load(&self, key: &StoreKey) -> Result<Option<Entry>>;

    /// Writes a value whole, durably, if the condition holds, and answers its version. (T2, T3, T4)
    ///
    /// A future dropped midway leaves the old value or the new one (T9).
    ///
    /// # Errors
    /// `Conflict` if the entry is not as expected, or the lease of the fence has been taken over
    /// (T5); `Storage` if it could not be written: the old value is then still there (T8);
    /// `Timeout` if other writers left no turn.
    async fn save(&self, key: &StoreKey, value: &Secret<Vec<u8>>, condition: &Condition) -> Result<Version>;

    /// Deletes a value, if the condition holds. `Ok` when there is none, unless a version is
    /// expected. (T6)
    ///
    /// # Errors
    /// As [`save`](Self::save).
    async fn delete(&self, key: &StoreKey, condition: &Condition) -> Result<()>;

    /// The keys below a prefix (`certificates`), sorted; the prefix ends at a `/`. (T7)
    ///
    /// # Errors
    /// `Storage`.
    async fn list(&self, prefix: &StoreKey) -> Result<Vec<StoreKey>>;

    /// The entries below a prefix, sorted by key, each as [`load`](Self::load) answers it. (T7)
    ///
    /// Unless a store knows better, they are loaded one after the other; what comes and goes meanwhile may be there or
    /// not.
    ///
    /// # Errors
    /// As [`load`](Self::load), for the first that cannot be read.
    async fn load_all(&self, prefix: &StoreKey) -> Result<Vec<(StoreKey, Entry)>> {
        let mut entries = Vec::new();
        for key in self.list(prefix).await? {
            let entry = self.load(&key).await?;
            entries.extend(entry.map(|entry| (key, entry)));
        }
        Ok(entries)
    }

    /// The versions of the entries below a prefix, sorted by key: for who looks often whether something is new. (T7)
    ///
    /// Unless a store knows better, all of them are loaded for it.
    ///
    /// # Errors
    /// As [`load_all`](Self::load_all), but a store may leave values unread, and damage unseen.
    async fn versions(&self, prefix: &StoreKey) -> Result<Vec<(StoreKey, Version)>> {
        let entries = self.load_all(prefix).await?;
        Ok(entries.into_iter().map(|(key, entry)| (key, entry.version)).collect())
    }

    /// Takes the lease of this name, or answers `None` while somebody else holds it. (T10)
    ///
    /// It ends when `ttl` passes without [`renew`](Self::renew), when the [`Lease`] is dropped, and
    /// when its process dies. Each taking has a larger fencing token than all before (T11).
    ///
    /// # Errors
    /// `Storage`.
    async fn lease(&self, name: &StoreKey, ttl: Duration) -> Result<Option<Lease>>;

    /// Prolongs a lease by its `ttl` from now. (T12)
    ///
    /// # Errors
    /// `Conflict` if it has been taken over.
    async fn renew(&self, lease: &Lease) -> Result<()>;
}

/// The name of an entry: parts of `a-z 0-9 . - _` separated by `/`, such as `certificates/web`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StoreKey(String);

impl StoreKey {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this key lies below `prefix`.
    pub fn is_below(&self, prefix: &Self) -> bool {
        self.0.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for StoreKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let part = |part: &str| {
            part.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_'))
        };
        if text.len() <= 200 && text.split('/').all(part) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(ErrorKind::Config, "store.key", format!("`{}` is no store key", text.escape_debug()))
            .with_hint("parts of a-z, 0-9, `.`, `-`, `_`, each starting with a letter or digit, separated by `/`, 200 at most"))
    }
}

impl TryFrom<String> for StoreKey {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<StoreKey> for String {
    fn from(key: StoreKey) -> Self {
        key.0
    }
}

impl fmt::Display for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreKey({})", self.0)
    }
}

/// The version of an entry: it grows with each save of the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(u64);

impl Version {
    /// A version by its number; stores make them, callers pass them on.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A stored value and its version.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Entry {
    /// The value.
    pub value: Secret<Vec<u8>>,
    /// Its version.
    pub version: Version,
}

impl Entry {
    /// A value at a version.
    pub fn new(value: Secret<Vec<u8>>, version: Version) -> Self {
        Self { value, version }
    }
}

/// What must hold for a write to take place.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Condition<'a> {
    /// What the entry must be like.
    pub expected: Expected,
    /// The lease that must still be the writer's.
    pub fence: Option<Fence<'a>>,
}

impl<'a> Condition<'a> {
    /// Writes whatever is there.
    pub const ANY: Self = Self { expected: Expected::Any, fence: None };

    /// Writes only if the entry is as expected.
    pub const fn expecting(expected: Expected) -> Self {
        Self { expected, fence: None }
    }

    /// Writes only while this lease is held.
    #[must_use]
    pub fn under(mut self, lease: &'a Lease) -> Self {
        self.fence = Some(lease.fence());
        self
    }
}

/// What an entry must be like for a write to take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Expected {
    /// Whatever it is.
    #[default]
    Any,
    /// Not there.
    Absent,
    /// At this version.
    Version(Version),
}

/// A lease's name and token, as a write carries them.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Fence<'a> {
    /// The lease's name.
    pub name: &'a StoreKey,
    /// The token its holder got.
    pub token: u64,
}

/// The right to work on something alone, for a while. Dropping it gives it back.
#[derive(Debug)]
pub struct Lease {
    name: StoreKey,
    token: u64,
    ttl: Duration,
    _guard: Option<Box<dyn Guard>>,
}

/// What a store keeps inside a [`Lease`]; dropped with it.
pub trait Guard: fmt::Debug + Send + Sync {}

impl Lease {
    /// For stores: a lease with its token; `guard` gives it back when dropped.
    pub fn new(name: StoreKey, token: u64, ttl: Duration, guard: Option<Box<dyn Guard>>) -> Self {
        Self { name, token, ttl, _guard: guard }
    }

    /// What it is for.
    pub fn name(&self) -> &StoreKey {
        &self.name
    }

    /// How long it lasts without renewal.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// What a write under this lease carries.
    pub fn fence(&self) -> Fence<'_> {
        Fence { name: &self.name, token: self.token }
    }
}

macro_rules! forward {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: Store + ?Sized> Store for $pointer<T> {
            async fn load(&self, key: &StoreKey) -> Result<Option<Entry>> {
                (**self).load(key).await
            }
            async fn save(
                &self,
                key: &StoreKey,
                value: &Secret<Vec<u8>>,
                condition: &Condition,
            ) -> Result<Version> {
                (**self).save(key, value, condition).await
            }
            async fn delete(&self, key: &StoreKey, condition: &Condition) -> Result<()> {
                (**self).delete(key, condition).await
            }
            async fn list(&self, prefix: &StoreKey) -> Result<Vec<StoreKey>> {
                (**self).list(prefix).await
            }
            async fn load_all(&self, prefix: &StoreKey) -> Result<Vec<(StoreKey, Entry)>> {
                (**self).load_all(prefix).await
            }
            async fn versions(&self, prefix: &StoreKey) -> Result<Vec<(StoreKey, Version)>> {
                (**self).versions(prefix).await
            }
            async fn lease(&self, name: &StoreKey, ttl: Duration) -> Result<Option<Lease>> {
                (**self).lease(name, ttl).await
            }
            async fn renew(&self, lease: &Lease) -> Result<()> {
                (**self).renew(lease).await
            }
        }
    };
}
forward!(Arc);
forward!(Box);
