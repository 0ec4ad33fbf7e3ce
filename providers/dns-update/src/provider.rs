//! Values, one at a time, by what dns-update has for a vendor.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use acmekit_core::dns::Zones;
use acmekit_core::{
    Deadline, DnsName, DnsProvider, Error, ErrorKind, ProviderLimits, RecordHandle, Result, TxtRecord, Zone,
    async_trait,
};
use dns_update::{DnsRecord, DnsRecordType, DnsUpdater};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use crate::config::Config;
use crate::refusal::{self, Secrets};
use crate::vendors::{Vendor, Way};

/// The provider's id.
pub const ID: &str = "dns-update";

/// How often it is looked, at most, whether a value is to be written.
const LOOKS: u32 = 4;

/// One account at a vendor. Clones change a zone one after the other. See the [crate](crate).
#[derive(Clone)]
pub struct DnsUpdate {
    vendor: &'static Vendor,
    updater: DnsUpdater,
    zones: Zones,
    secrets: Secrets,
    min_ttl: Duration,
    timeout: Duration,
    settle: Duration,
    turns: Arc<Mutex<HashMap<DnsName, Turn>>>,
}

/// Whose turn it is to change a zone.
type Turn = Arc<tokio::sync::Mutex<()>>;

impl DnsUpdate {
    /// Checks the configuration; nothing is sent.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names what is wrong; also if there are neither zones nor a resolver to look for
    /// them, and this machine has none.
    pub fn new(config: Config) -> Result<Self> {
        let vendor = config.check()?;
        let secrets = Secrets::new(config.settings.iter());
        let updater = vendor.connect(&config, &secrets)?;
        let Config { zones, resolver, min_ttl, timeout, settle, .. } = config;
        let zones = Zones::new(zones, resolver)?;
        Ok(Self { vendor, updater, zones, secrets, min_ttl, timeout, settle, turns: Arc::default() })
    }

    fn turn(&self, zone: &DnsName) -> Turn {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(zone.clone()).or_default())
    }
}

#[async_trait]
impl DnsProvider for DnsUpdate {
    fn id(&self) -> &str {
        ID
    }

    fn limits(&self) -> ProviderLimits {
        let mut limits = ProviderLimits::default();
        limits.min_ttl = self.min_ttl;
        // A change ends by itself, and says then what it was waiting for.
        limits.call_timeout = self.timeout + Duration::from_secs(1);
        limits
    }

    async fn zone(&self, name: &DnsName) -> Result<Option<Zone>> {
        self.zones.holding(name, Deadline::after(self.timeout)).await
    }

    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        let deadline = Deadline::after(self.timeout);
        let change = Change { of: self, op: "dns-update.add_txt", zone, record, wanted: true, deadline };
        change.make().await.map_err(|error| change.told(error))?;
        Ok(RecordHandle::intent(ID, zone.clone(), record.clone()))
    }

    async fn remove_txt(&self, handle: &RecordHandle) -> Result<()> {
        let (zone, record, deadline) = (&handle.zone, &handle.record, Deadline::after(self.timeout));
        let change = Change { of: self, op: "dns-update.remove_txt", zone, record, wanted: false, deadline };
        change.make().await.map_err(|error| change.told(error))
    }
}

/// A value that is to be at a name, or not to be there.
struct Change<'a> {
    of: &'a DnsUpdate,
    op: &'static str,
    zone: &'a Zone,
    record: &'a TxtRecord,
    wanted: bool,
    deadline: Deadline,
}

impl Change<'_> {
    /// Looks, writes and looks again, until it is as wanted. What is not there afterwards is told now, not when it
    /// would have to be removed.
    async fn make(&self) -> Result<()> {
        // Some of what is below panics at such a name.
        if !self.record.name.is_within(&self.zone.name) {
            return Err(Error::new(ErrorKind::Config, self.op, "the name is not in the zone"));
        }
        let turn = self.of.turn(&self.zone.name);
        let one_after_the_other = self.of.vendor.way() == Way::WholeRrset;
        let _turn = match one_after_the_other {
            true => {
                let waiting = async { Ok(turn.lock().await) };
                Some(self.deadline.run(self.op, "waiting for other changes of the zone", waiting).await?)
            }
            false => None,
        };
        for look in 0..LOOKS {
            if self.is_there().await? == self.wanted {
                return Ok(());
            }
            // An added value that is not shown yet would be there twice.
            if look == 0 || one_after_the_other || !self.wanted {
                self.write().await?;
            }
            let pauses = if one_after_the_other { look + 1 } else { look };
            self.deadline.sleep(self.of.settle * pauses).await;
            tracing::debug!(name = %self.record.name, look, "the value is written");
        }
        if self.is_there().await? == self.wanted {
            return Ok(());
        }
        let why = format!("the vendor does not show this, {LOOKS} times after it was written");
        Err(Error::new(ErrorKind::Conflict, self.op, why).with_hint(
            "find out what else sets the TXT records of this name; if nothing does, dns-update does not understand this \
             vendor's answers: remove the value by hand, and use another provider",
        ))
    }

    async fn write(&self) -> Result<()> {
        let (updater, kind, value) = (&self.of.updater, DnsRecordType::TXT, self.record.value.clone());
        let (name, zone, values) =
            (self.record.name.as_str(), self.zone.name.as_str(), vec![DnsRecord::TXT(value)]);
        if self.wanted {
            let ttl = self.record.ttl.max(self.of.min_ttl).as_secs().try_into().unwrap_or(u32::MAX);
            return self.call(updater.add_to_rrset(name, kind, ttl, values, zone)).await;
        }
        match self.call(updater.remove_from_rrset(name, kind, values, zone)).await {
            // Somebody else was faster; or it is the zone that the vendor does not know.
            Err(error) if error.kind() == ErrorKind::NotFound && !self.is_there().await? => Ok(()),
            done => done,
        }
    }

    async fn is_there(&self) -> Result<bool> {
        let (name, zone) = (self.record.name.as_str(), self.zone.name.as_str());
        let there = self.call(self.of.updater.list_rrset(name, DnsRecordType::TXT, zone)).await?;
        // Some vendors list values as they stand in a zone file.
        let is_it = |text: &str| text == self.record.value || text.trim_matches('"') == self.record.value;
        Ok(there.iter().any(|record| matches!(record, DnsRecord::TXT(text) if is_it(text))))
    }

    /// Nothing that is below dns-update logs: at their lowest levels some of those crates write down what is sent.
    async fn call<T>(&self, call: impl Future<Output = dns_update::Result<T>>) -> Result<T> {
        let call = async { call.await.map_err(|said| refusal::error(self.op, &said, &self.of.secrets)) };
        let call = call.with_subscriber(Dispatch::none());
        self.deadline.run(self.op, "waiting for the vendor", call).await
    }

    fn told(&self, error: Error) -> Error {
        let error = match error.hint() {
            Some(_) => error,
            None => error.with_hint(refusal::NETWORK),
        };
        let error = error.with("vendor", self.of.vendor.name());
        error.with("zone", &self.zone.name).with("name", &self.record.name)
    }
}

impl fmt::Debug for DnsUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // dns-update's own types show the header with the credential.
        f.debug_struct("DnsUpdate")
            .field("vendor", &self.vendor.name())
            .field("zones", &self.zones)
            .finish_non_exhaustive()
    }
}
