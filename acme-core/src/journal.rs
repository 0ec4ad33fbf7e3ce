//! The write-ahead record of one certificate: what is under way, so that a crash loses nothing.
//!
//! | written | before |
//! |---|---|
//! | key and CSR | the order is made |
//! | the order's URL | anything is presented |
//! | what is going to be presented | it is presented |
//! | by what it can be taken away, and that the CA is going to be told | the CA is told |
//! | nothing left to take away | the CSR is sent |
//!
//! The entry `journals/<certificate>` disappears when the bundle is stored and nothing is left to
//! take away.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::bundle::position;
use crate::effect::effect;
use crate::{
    CertificateId, CertificateSpec, Condition, Csr, Error, ErrorKind, Expected, Lease, Presentation,
    PrivateKey, Result, Store, StoreKey, Version, key, secret,
};

/// An open journal, with the lease under which it is written.
#[derive(Debug)]
pub(crate) struct Journal<'a> {
    store: &'a dyn Store,
    lease: &'a Lease,
    entry: StoreKey,
    version: Option<Version>,
    pub(crate) record: Record,
}

/// What is under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    pub(crate) certificate: CertificateId,
    /// What is being made; `None` if all that is left is to take something away.
    pub(crate) attempt: Option<Attempt>,
    /// What stands, or may stand, where a CA would look.
    pub(crate) presented: Vec<Presented>,
}

/// One attempt at a certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) spec: CertificateSpec,
    pub(crate) authority: String,
    #[serde(with = "key::stored")]
    pub(crate) key: Option<PrivateKey>,
    pub(crate) csr: Csr,
    /// The order's URL, once the CA has told it.
    pub(crate) order: Option<String>,
}

impl Attempt {
    /// Whether it is for this wish, at this authority.
    pub(crate) fn is_for(&self, spec: &CertificateSpec, authority: &str) -> bool {
        self.spec == *spec && self.authority == authority
    }
}

/// One answer to a challenge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Presented {
    pub(crate) authorization: String,
    pub(crate) presentation: Presentation,
    /// When the CA was told, or was about to be: from then on it may look at any moment. Or when presenting was given
    /// up midway: from then on it may come to stand.
    #[serde(default, with = "told")]
    pub(crate) told_at: Option<SystemTime>,
}

impl Presented {
    pub(crate) fn new(authorization: String, presentation: Presentation) -> Self {
        Self { authorization, presentation, told_at: None }
    }

    /// Whether a CA that was told may still be looking. A clock that was set back says no.
    pub(crate) fn may_be_needed(&self, now: SystemTime, patience: Duration) -> bool {
        self.told_at.is_some_and(|at| now.duration_since(at).is_ok_and(|since| since < patience))
    }
}

/// An optional time as RFC 3339 text.
mod told {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Time(#[serde(with = "crate::clock::rfc3339")] SystemTime);

    pub(super) fn serialize<S: Serializer>(time: &Option<SystemTime>, out: S) -> Result<S::Ok, S::Error> {
        time.map(Time).serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<SystemTime>, D::Error> {
        Ok(Option::<Time>::deserialize(input)?.map(|time| time.0))
    }
}

/// Whether there is an attempt to go on with. Only looks: no lease is needed.
pub(crate) async fn is_under_way(store: &dyn Store, id: &CertificateId) -> Result<bool> {
    let entry = key_of(id)?;
    let Some(found) = store.load(&entry).await? else { return Ok(false) };
    Ok(decode(&entry, found.value.expose())?.attempt.is_some())
}

/// The authority that has an order for it which may be gone on with. Only looks: no lease is needed.
pub(crate) async fn ordered_from(store: &dyn Store, id: &CertificateId) -> Result<Option<String>> {
    let entry = key_of(id)?;
    let Some(found) = store.load(&entry).await? else { return Ok(None) };
    let attempt = decode(&entry, found.value.expose())?.attempt;
    Ok(attempt.filter(|attempt| attempt.order.is_some()).map(|attempt| attempt.authority))
}

impl<'a> Journal<'a> {
    /// Opens the journal of a certificate; an empty one if there is none.
    pub(crate) async fn open(store: &'a dyn Store, lease: &'a Lease, id: &CertificateId) -> Result<Self> {
        let entry = key_of(id)?;
        let (record, version) = match store.load(&entry).await? {
            Some(found) => (decode(&entry, found.value.expose())?, Some(found.version)),
            None => {
                (Record { format: 1, certificate: id.clone(), attempt: None, presented: Vec::new() }, None)
            }
        };
        Ok(Self { store, lease, entry, version, record })
    }

    /// Writes the record; `what` names the step for whoever reads the log.
    pub(crate) async fn write(&mut self, what: &'static str) -> Result<()> {
        let value = secret::json(&self.record).map_err(|e| {
            Error::new(ErrorKind::Storage, "journal.write", "could not encode the journal").with_source(e)
        })?;
        let expected = self.version.map_or(Expected::Absent, Expected::Version);
        let condition = Condition::expecting(expected).under(self.lease);
        self.version = Some(effect(what, self.store.save(&self.entry, &value, &condition)).await?);
        Ok(())
    }

    /// Ends the attempt: the journal disappears, unless something is left to take away.
    pub(crate) async fn close(&mut self) -> Result<()> {
        self.record.attempt = None;
        if !self.record.presented.is_empty() {
            return self.write("journal.leftovers").await;
        }
        let Some(version) = self.version.take() else { return Ok(()) };
        let condition = Condition::expecting(Expected::Version(version)).under(self.lease);
        effect("journal.close", self.store.delete(&self.entry, &condition)).await
    }
}

fn key_of(id: &CertificateId) -> Result<StoreKey> {
    format!("journals/{id}").parse()
}

fn decode(entry: &StoreKey, bytes: &[u8]) -> Result<Record> {
    let damaged = |why: String| {
        Error::new(ErrorKind::Storage, "journal.open", format!("the journal is damaged: {why}"))
            .with("entry", entry)
            .with_hint(
                "the store keeps older versions; deleting it orders anew and may leave a TXT record behind",
            )
    };
    let record: Record = serde_json::from_slice(bytes)
        .map_err(|e| damaged(format!("it is not what acmekit wrote, {}", position(&e))))?;
    if record.format != 1 {
        return Err(damaged(format!("its format {} is newer than this program", record.format)));
    }
    Ok(record)
}

/// For the fuzz targets only.
pub(crate) mod fuzzing {
    use super::decode;

    /// Reads octets as a journal, and what was read again.
    ///
    /// # Panics
    /// If a journal that can be read cannot be written and read again.
    pub(crate) fn record(octets: &[u8]) {
        let Ok(entry) = "journals/fuzz".parse() else { return };
        if let Ok(record) = decode(&entry, octets) {
            let again = serde_json::to_vec_pretty(&record).map(|bytes| decode(&entry, &bytes).is_ok());
            assert!(matches!(again, Ok(true)), "a journal does not survive being written");
        }
    }
}
