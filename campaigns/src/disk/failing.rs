//! A store that fails as it is told.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acmekit::{
    Condition, Entry, Error, ErrorKind, Lease, Result, Secret, Store, StoreKey, Version, async_trait,
};
use tokio::time::Instant;

use crate::world::{Dice, lock};

/// The slowest a call may be: slower than all deadlines of a run but that of waiting for a lease.
const SLOWEST: Duration = Duration::from_secs(6 * 60);
/// How long leases cannot be renewed, once they cannot.
const NO_RENEWAL: Duration = Duration::from_secs(150);

/// What is wrong with a store, each in so many of a hundred calls.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Ills {
    /// Writes fail and have done nothing: the disk is full.
    pub full: u64,
    /// Writes fail after they were done: the flush of the folder went wrong, or the answer was lost.
    pub late: u64,
    /// Reads fail: the disk does not give back what is there.
    pub unreadable: u64,
    /// Reads find a damaged value, and say so.
    pub damaged: u64,
    /// Calls take up to six minutes, before or after what they do.
    pub slow: u64,
    /// A lease is somebody else's, or cannot be taken.
    pub leases: u64,
    /// A lease cannot be renewed, nor any other for two minutes and a half.
    pub renewals: u64,
    /// Reads give back altered values as if they were right.
    pub altered: u64,
}

/// A store that fails as it is told, over one that does not.
#[derive(Clone)]
pub struct Failing {
    inner: Arc<dyn Store>,
    dice: Dice,
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failing").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    ills: Ills,
    /// How long all calls together have been slow.
    delay: Duration,
    no_renewal_until: Option<Instant>,
    failed: u64,
    /// How many altered values of a key were given back.
    altered: BTreeMap<String, u64>,
}

impl Failing {
    /// A store that works until it is told otherwise.
    pub fn new(inner: Arc<dyn Store>, dice: Dice) -> Self {
        Self { inner, dice, state: Arc::default() }
    }

    /// The same, failing together with this one, over another way to what is stored: as another process has it.
    #[must_use]
    pub fn over(&self, inner: Arc<dyn Store>) -> Self {
        Self { inner, ..self.clone() }
    }

    /// From now on it fails like this.
    pub fn suffer(&self, ills: Ills) {
        let mut state = lock(&self.state);
        state.ills = ills;
        state.no_renewal_until = None;
    }

    /// How long all calls together were slow so far.
    pub fn delay(&self) -> Duration {
        lock(&self.state).delay
    }

    /// How many calls have failed, or answered something wrong.
    pub fn failed(&self) -> u64 {
        lock(&self.state).failed
    }

    /// How many altered values were given back of the keys that end like this.
    pub fn altered(&self, end: &str) -> u64 {
        let state = lock(&self.state);
        state.altered.iter().filter(|(key, _)| key.ends_with(end)).map(|(_, count)| count).sum()
    }

    fn ills(&self) -> Ills {
        lock(&self.state).ills
    }

    fn strikes(&self, percent: u64) -> bool {
        let strikes = percent > 0 && self.dice.percent(percent);
        if strikes {
            lock(&self.state).failed += 1;
        }
        strikes
    }

    async fn may_be_slow(&self) {
        if self.strikes(self.ills().slow) {
            let delay = self.dice.up_to(SLOWEST);
            lock(&self.state).delay += delay;
            tokio::time::sleep(delay).await;
        }
    }

    /// One write: it may fail before or after it is done.
    async fn write<T: Send>(
        &self,
        op: &'static str,
        key: &StoreKey,
        write: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.may_be_slow().await;
        if self.strikes(self.ills().full) {
            return Err(no_space(op, key));
        }
        let done = write.await;
        self.may_be_slow().await;
        if done.is_ok() && self.strikes(self.ills().late) {
            return Err(input_output(op, key));
        }
        done
    }

    /// One read: it may fail.
    async fn read<T: Send>(
        &self,
        op: &'static str,
        key: &StoreKey,
        read: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.may_be_slow().await;
        let ills = self.ills();
        if self.strikes(ills.unreadable) {
            return Err(input_output(op, key));
        }
        if self.strikes(ills.damaged) {
            return Err(damaged(op, key));
        }
        read.await
    }

    /// As it is, or cut, or with a flipped bit.
    fn as_read(&self, key: &StoreKey, entry: Entry) -> Entry {
        if !self.strikes(self.ills().altered) {
            return entry;
        }
        let mut value = entry.value.expose().clone();
        let length = u64::try_from(value.len()).unwrap_or_default();
        let at = usize::try_from(self.dice.below(length)).unwrap_or_default();
        match self.dice.below(3) {
            0 => value.truncate(at),
            1 => value.get_mut(at..).into_iter().flatten().take(16).for_each(|octet| *octet = 0),
            _ => {
                let bit = 1 << self.dice.below(8);
                value.get_mut(at).into_iter().for_each(|octet| *octet ^= bit);
            }
        }
        if value != *entry.value.expose() {
            *lock(&self.state).altered.entry(key.to_string()).or_default() += 1;
        }
        Entry::new(Secret::new(value), entry.version)
    }
}

fn no_space(op: &'static str, key: &StoreKey) -> Error {
    Error::new(ErrorKind::Storage, op, "no space left on device (os error 28)")
        .with("key", key)
        .with_hint("free some space, then run again")
}

fn input_output(op: &'static str, key: &StoreKey) -> Error {
    Error::new(ErrorKind::Storage, op, "input/output error (os error 5)")
        .with("key", key)
        .with_hint("see what the kernel says of the disk")
}

fn damaged(op: &'static str, key: &StoreKey) -> Error {
    Error::new(ErrorKind::Storage, op, "the checksum does not fit")
        .with("key", key)
        .with_hint("read it again, or restore it")
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Failing {
    async fn load(&self, key: &StoreKey) -> Result<Option<Entry>> {
        let entry = self.read("failing.load", key, self.inner.load(key)).await?;
        Ok(entry.map(|entry| self.as_read(key, entry)))
    }

    async fn save(&self, key: &StoreKey, value: &Secret<Vec<u8>>, condition: &Condition) -> Result<Version> {
        self.write("failing.save", key, self.inner.save(key, value, condition)).await
    }

    async fn delete(&self, key: &StoreKey, condition: &Condition) -> Result<()> {
        self.write("failing.delete", key, self.inner.delete(key, condition)).await
    }

    async fn list(&self, prefix: &StoreKey) -> Result<Vec<StoreKey>> {
        self.read("failing.list", prefix, self.inner.list(prefix)).await
    }

    async fn load_all(&self, prefix: &StoreKey) -> Result<Vec<(StoreKey, Entry)>> {
        let entries = self.read("failing.load_all", prefix, self.inner.load_all(prefix)).await?;
        let as_read = entries.into_iter().map(|(key, entry)| {
            let entry = self.as_read(&key, entry);
            (key, entry)
        });
        Ok(as_read.collect())
    }

    async fn versions(&self, prefix: &StoreKey) -> Result<Vec<(StoreKey, Version)>> {
        self.read("failing.versions", prefix, self.inner.versions(prefix)).await
    }

    async fn lease(&self, name: &StoreKey, ttl: Duration) -> Result<Option<Lease>> {
        if self.strikes(self.ills().leases) {
            return match self.dice.percent(50) {
                true => Ok(None),
                false => Err(no_space("failing.lease", name)),
            };
        }
        self.write("failing.lease", name, self.inner.lease(name, ttl)).await
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        let now = Instant::now();
        if lock(&self.state).no_renewal_until.is_some_and(|until| now < until) {
            return Err(input_output("failing.renew", lease.name()));
        }
        if self.strikes(self.ills().renewals) {
            lock(&self.state).no_renewal_until = Some(now + NO_RENEWAL);
            return Err(input_output("failing.renew", lease.name()));
        }
        self.write("failing.renew", lease.name(), self.inner.renew(lease)).await
    }
}
