//! The [`DnsProvider`] trait: who can put a TXT record into a zone and take it out again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{DnsName, Result};

/// A DNS service that holds zones and can add and remove TXT values in them.
///
/// It knows nothing of ACME: the `dns-01` solver computes the value, follows CNAMEs, waits for
/// propagation and keeps the journal. A provider is three calls against one vendor.
///
/// # The typical mistake
/// Setting the whole RRset. `example.com` and `*.example.com` share the name
/// `_acme-challenge.example.com`, and another program may keep a value there too: `add_txt`
/// **adds one value**, `remove_txt` **removes exactly that value**. An API that has nothing but whole
/// RRsets is read, written and read again: `acmekit-desec` shows how.
///
/// # All methods
/// *Must not* show a credential in an error or in `Debug` (D10), and *must* bear being called at
/// the same time: eight values added at once at one name are all there afterwards (D11).
///
/// Whatever name of the zone it is, however deep, and whatever the value, to the octet. (D13, D14) A future may be
/// dropped at any moment, and a provider must be of use after that. (D16) Whatever an API answers is told for what it
/// is, with the vendor's time if it limits, and what is no answer of its own is no success. (D17) All this in a real
/// zone, too. (D18)
///
/// # Wrappers
/// `Arc<T>`, `Box<T>` and every decorator forward all methods, also those with a default. (D12)
#[async_trait]
pub trait DnsProvider: fmt::Debug + Send + Sync {
    /// The provider's id in kebab-case, the same as its folder and feature: `rfc2136`.
    fn id(&self) -> &str;

    /// What the vendor's API bears. The default suits an own name server.
    fn limits(&self) -> ProviderLimits {
        ProviderLimits::default()
    }

    /// Finds the zone of this provider that holds `name`: the longest one of which `name` is part.
    ///
    /// *Must* answer `None`, not an error, when no zone fits. *Must not* change anything. (D1, D2, D15)
    ///
    /// # Errors
    /// `Auth` if the credential is refused, `Unavailable`/`Timeout` if the vendor cannot be reached.
    async fn zone(&self, name: &DnsName) -> Result<Option<Zone>>;

    /// Adds one TXT value beside those already there, and answers what removes it.
    ///
    /// *Must* leave every other value and record in place (D3, D4, D7). *Must* succeed, without a
    /// second copy, when the value is already there (D5): a crash between call and answer makes
    /// acmekit repeat it. *May* return before secondaries have the value.
    ///
    /// A future dropped midway may leave the record behind; the journal's intent removes it.
    ///
    /// # Errors
    /// `Auth` (credential refused, or not for this name), `NotFound` (zone gone),
    /// `RateLimited` with the vendor's time, `Unavailable`, `Timeout`, `Protocol`. dns-01 makes
    /// no call a second time.
    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle>;

    /// Removes exactly the value the handle names.
    ///
    /// *Must* be `Ok` when the value is absent (D6), *must* leave others in place (D7), and *must*
    /// work with a handle read back from a file by another process (D8), also one made by
    /// [`RecordHandle::intent`], which has no record id because the answer never came (D9).
    ///
    /// # Errors
    /// As [`add_txt`](Self::add_txt).
    async fn remove_txt(&self, handle: &RecordHandle) -> Result<()>;
}

/// What a vendor's API bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderLimits {
    /// How many calls may be under way at once (default 4); dns-01 lets the others wait their turn.
    pub concurrency: usize,
    /// The smallest TTL the vendor accepts (default none); records come with no smaller one. Where it
    /// differs by zone, the smallest of all: the provider raises it.
    pub min_ttl: Duration,
    /// How long one call may take (default 60 s).
    pub call_timeout: Duration,
}

impl Default for ProviderLimits {
    fn default() -> Self {
        Self { concurrency: 4, min_ttl: Duration::ZERO, call_timeout: Duration::from_secs(60) }
    }
}

/// A zone as its provider knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Zone {
    /// The zone's apex.
    pub name: DnsName,
    /// The vendor's own id for it, where there is one.
    pub id: Option<String>,
}

impl Zone {
    /// A zone known by its name alone.
    pub fn new(name: DnsName) -> Self {
        Self { name, id: None }
    }

    /// Adds the vendor's id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }
}

/// One TXT value to be added.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TxtRecord {
    /// The owner name, in full.
    pub name: DnsName,
    /// The value, unquoted; at most 255 octets.
    pub value: String,
    /// How long resolvers may cache it.
    pub ttl: Duration,
}

impl TxtRecord {
    /// A value at a name, with a TTL of 60 seconds.
    pub fn new(name: DnsName, value: impl Into<String>) -> Self {
        Self { name, value: value.into(), ttl: Duration::from_secs(60) }
    }

    /// Sets the TTL.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }
}

/// What is needed to remove one TXT value, also after a restart and by another process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordHandle {
    /// The [`DnsProvider::id`] of who added it.
    pub provider: String,
    /// The zone it lies in.
    pub zone: Zone,
    /// The record itself.
    pub record: TxtRecord,
    /// The vendor's id of the record, once the vendor has told one.
    pub id: Option<String>,
}

impl RecordHandle {
    /// The handle as it is journaled before [`DnsProvider::add_txt`] is called.
    pub fn intent(provider: &str, zone: Zone, record: TxtRecord) -> Self {
        Self { provider: provider.to_owned(), zone, record, id: None }
    }

    /// Adds the vendor's record id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }
}

macro_rules! forward {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: DnsProvider + ?Sized> DnsProvider for $pointer<T> {
            fn id(&self) -> &str {
                (**self).id()
            }
            fn limits(&self) -> ProviderLimits {
                (**self).limits()
            }
            async fn zone(&self, name: &DnsName) -> Result<Option<Zone>> {
                (**self).zone(name).await
            }
            async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
                (**self).add_txt(zone, record).await
            }
            async fn remove_txt(&self, handle: &RecordHandle) -> Result<()> {
                (**self).remove_txt(handle).await
            }
        }
    };
}
forward!(Arc);
forward!(Box);
