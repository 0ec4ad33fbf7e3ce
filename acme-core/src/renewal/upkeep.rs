//! What is known of one certificate between its renewals: the entry `renewals/<certificate>`.
//!
//! It holds no key and no chain, so that whoever looks after many certificates need not read and check each of them to
//! know when it is due. What it says follows from the bundle, from what the CA suggested, and from what went wrong; one that
//! is lost or cannot be read is made anew.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Decision, HOUR, Input, RenewalPolicy, Suggestion, chance};
use crate::backoff::Trouble;
use crate::clock::rfc3339;
use crate::{
    Bundle, CertificateId, Condition, Entry, Error, ErrorKind, Expected, Lease, Result, Secret, Store,
    StoreKey, Version, metrics,
};

const FOLDER: &str = "renewals";

/// For so long at least a certificate is left alone that has just been got, or for a twentieth of its life.
const SHORTEST_REST: Duration = Duration::from_secs(10 * 60);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Upkeep {
    /// The certificate in the store.
    pub(crate) current: Option<Current>,
    /// When it was got, by this machine's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    got: Option<Time>,
    /// The wish it fits, in short.
    pub(crate) fits: String,
    /// What its CA suggested.
    pub(crate) suggestion: Option<Suggestion>,
    /// What went wrong since it was issued.
    pub(crate) trouble: Option<Trouble>,
    /// The wish that this trouble is with.
    pub(crate) tried: String,
    /// Where it was brought, by the deployers' ids.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) deployed: BTreeMap<String, Deployed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Time(#[serde(with = "rfc3339")] SystemTime);

/// What a decision needs of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Current {
    pub(crate) serial: String,
    pub(crate) sha256: String,
    #[serde(with = "rfc3339")]
    pub(crate) not_before: SystemTime,
    #[serde(with = "rfc3339")]
    pub(crate) not_after: SystemTime,
    pub(crate) authority: String,
    pub(crate) ari_id: Option<String>,
}

/// What became of a deployer's work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Deployed {
    /// The certificate that was last seen served.
    pub(crate) sha256: String,
    pub(crate) trouble: Option<Trouble>,
}

impl Current {
    pub(crate) fn of(bundle: &Bundle) -> Self {
        let facts = bundle.facts();
        Self {
            serial: facts.serial.clone(),
            sha256: facts.sha256.clone(),
            not_before: facts.not_before,
            not_after: facts.not_after,
            authority: bundle.origin().authority.clone(),
            ari_id: facts.ari_id.clone(),
        }
    }
}

impl Upkeep {
    /// What is known once this is in the store. What was known of another is forgotten.
    pub(crate) fn has(&mut self, bundle: &Bundle) {
        let current = Current::of(bundle);
        metrics::expires(bundle.id(), current.not_after);
        if self.current.as_ref().is_none_or(|known| known.sha256 != current.sha256) {
            self.suggestion = None;
            self.trouble = None;
            self.got = None;
        }
        self.current = Some(current);
    }

    /// It has just been got.
    pub(crate) fn is_new(&mut self, now: SystemTime) {
        self.got = Some(Time(now));
    }

    /// Until when it is left alone because it has just been got: by a clock that is far ahead of the CA's each certificate
    /// is due as soon as it comes, and one would be ordered after the other. For an hour or a twentieth of its life then,
    /// but for half of what is left of it at most; not by a clock that was set back since.
    pub(crate) fn rests_until(&self, now: SystemTime) -> Option<SystemTime> {
        let (current, got) = (self.current.as_ref()?, self.got?.0);
        let life = current.not_after.duration_since(current.not_before).unwrap_or_default();
        let left = current.not_after.duration_since(got).unwrap_or_default();
        let rest = (life / 20).max(HOUR).min(left / 2).max(SHORTEST_REST.min(life / 20));
        let until = got.checked_add(rest)?;
        (got <= now && now < until).then_some(until)
    }

    /// What became of a deployment.
    pub(crate) fn deployed(&mut self, id: &str, bundle: &Bundle, error: Option<&Error>, now: SystemTime) {
        let facts = bundle.facts();
        let known = self.deployed.entry(id.to_owned()).or_default();
        known.trouble = error.map(|error| {
            let left = facts.not_after.duration_since(now).unwrap_or_default();
            Trouble::after(known.trouble.as_ref(), error, chance(bundle.id(), now), Some(left), now)
        });
        if error.is_none() {
            known.sha256.clone_from(&facts.sha256);
        }
    }

    /// When the certificate there is is due; `None` if there is none.
    pub(crate) fn decide(&self, id: &CertificateId, policy: &RenewalPolicy) -> Option<Decision> {
        let current = self.current.as_ref()?;
        Some(policy.decide(&Input {
            not_before: current.not_before,
            not_after: current.not_after,
            suggested: self.suggestion.as_ref().and_then(Suggestion::picked),
            chance: chance(id, current.not_before),
        }))
    }

    pub(crate) async fn load(store: &dyn Store, id: &CertificateId) -> Result<(Self, Expected)> {
        Ok(Self::of(id, store.load(&key(id)?).await?.as_ref()))
    }

    /// The same, or as if nothing were known where it cannot be read: nothing of it cannot be found out anew.
    pub(crate) async fn known(store: &dyn Store, id: &CertificateId) -> (Self, Expected) {
        Self::load(store, id).await.unwrap_or_else(|error| {
            tracing::warn!(%error, certificate = %id, "what is known of it cannot be read");
            (Self::default(), Expected::Any)
        })
    }

    /// What an entry says; and that entry is expected to be there when this is saved.
    fn of(id: &CertificateId, entry: Option<&Entry>) -> (Self, Expected) {
        let Some(entry) = entry else { return (Self::default(), Expected::Absent) };
        let known: Self = serde_json::from_slice(entry.value.expose()).unwrap_or_else(|error| {
            tracing::warn!(%error, certificate = %id, "what was known of it cannot be read, and is made anew");
            Self::default()
        });
        if let Some(current) = &known.current {
            metrics::expires(id, current.not_after);
        }
        (known, Expected::Version(entry.version))
    }

    pub(crate) async fn save(
        &self,
        store: &dyn Store,
        id: &CertificateId,
        expected: Expected,
        lease: Option<&Lease>,
    ) -> Result<Version> {
        let value = serde_json::to_vec(self).map_err(|e| {
            Error::new(ErrorKind::Storage, "renewal.upkeep", "could not be encoded").with_source(e)
        })?;
        let condition = Condition::expecting(expected);
        let condition = match lease {
            Some(lease) => condition.under(lease),
            None => condition,
        };
        store.save(&key(id)?, &Secret::new(value), &condition).await
    }
}

/// What is known of all certificates, as it was when it was read: an index of them, so that a start reads no bundle.
#[derive(Debug)]
pub(crate) struct Index {
    entries: HashMap<StoreKey, Entry>,
    read_at: SystemTime,
}

impl Index {
    /// For so long it is good enough: who saves what has changed meanwhile is told.
    const FRESH: Duration = Duration::from_secs(60);

    pub(crate) async fn load(store: &dyn Store, now: SystemTime) -> Result<Self> {
        let entries = store.load_all(&FOLDER.parse()?).await?;
        Ok(Self { entries: entries.into_iter().collect(), read_at: now })
    }

    pub(crate) fn is_fresh(&self, now: SystemTime) -> bool {
        now.duration_since(self.read_at).is_ok_and(|age| age < Self::FRESH)
    }

    pub(crate) fn of(&self, id: &CertificateId) -> (Upkeep, Expected) {
        Upkeep::of(id, key(id).ok().and_then(|key| self.entries.get(&key)))
    }
}

fn key(id: &CertificateId) -> Result<StoreKey> {
    format!("{FOLDER}/{id}").parse()
}

/// For the fuzz targets only.
pub(crate) mod fuzzing {
    use super::*;

    /// Reads octets as what is known of a certificate, and decides by it.
    ///
    /// # Panics
    /// If what was read cannot be written, or is read as something else.
    pub(crate) fn upkeep(octets: &[u8]) {
        let (Ok(known), Ok(id)) = (serde_json::from_slice::<Upkeep>(octets), "fuzz".parse()) else { return };
        if let Some(decision) = known.decide(&id, &RenewalPolicy::default()) {
            let end = known.current.as_ref().map(|current| current.not_after);
            assert!(end.is_some_and(|end| decision.at <= end), "it is due after its end");
        }
        let now = SystemTime::UNIX_EPOCH;
        if let Some(trouble) = &known.trouble {
            trouble.holds(now);
        }
        if let Some(suggestion) = &known.suggestion {
            let _ = (suggestion.is_stale(now), suggestion.picked(), suggestion.at());
        }
        let again = serde_json::to_vec(&known).ok().and_then(|octets| serde_json::from_slice(&octets).ok());
        assert!(again == Some(known), "what is known of a certificate does not survive being written");
    }
}
