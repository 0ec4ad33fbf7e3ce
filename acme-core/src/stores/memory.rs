//! [`MemoryStore`]: a store that forgets everything with its process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::{check, lease_lost};
use crate::{
    Clock, Condition, Entry, Fence, Guard, Lease, Result, Secret, Store, StoreKey, SystemClock, Version,
};

/// A store in memory, for tests: conditions, leases and fencing as everywhere, no durability.
///
/// Clones share their content, as two instances over the same folder would. Its calls never wait,
/// so a dropped future has either done everything or nothing.
///
/// Do not issue from a real CA on top of it: a process that forgets its account and certificates
/// at each start runs into the CA's limits.
///
/// ```
/// use acmekit_core::stores::MemoryStore;
/// use acmekit_core::{Condition, Secret, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> acmekit_core::Result<()> {
/// let store = MemoryStore::new();
/// let key = "certificates/web".parse()?;
/// let version = store.save(&key, &Secret::new(b"value".to_vec()), &Condition::ANY).await?;
/// assert_eq!(store.load(&key).await?.unwrap().version, version);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<StoreKey, Entry>,
    leases: BTreeMap<StoreKey, Taken>,
    /// The last version and the last token given away, over all keys.
    last: u64,
}

#[derive(Debug)]
struct Taken {
    token: u64,
    ttl: Duration,
    expires: SystemTime,
}

impl Taken {
    /// Whether its time has not passed; by a clock that was set back since by more than its time, it has.
    fn is_good(&self, now: SystemTime) -> bool {
        let left = self.expires.duration_since(now).unwrap_or_default();
        !left.is_zero() && left <= self.ttl.saturating_mul(2)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store whose leases expire by the machine's clock.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty store whose leases expire by this clock.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { state: Arc::default(), clock }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expiry(&self, ttl: Duration) -> SystemTime {
        let now = self.clock.now();
        now.checked_add(ttl).unwrap_or(now)
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn check(&self, op: &'static str, key: &StoreKey, condition: &Condition) -> Result<()> {
        if let Some(Fence { name, token }) = condition.fence
            && self.leases.get(name).is_none_or(|taken| taken.token != token)
        {
            return Err(lease_lost(op, name, token).with("key", key));
        }
        check(op, key, self.entries.get(key).map(|entry| entry.version), condition.expected)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, key: &StoreKey) -> Result<Option<Entry>> {
        Ok(self.state().entries.get(key).cloned())
    }

    async fn save(&self, key: &StoreKey, value: &Secret<Vec<u8>>, condition: &Condition) -> Result<Version> {
        let mut state = self.state();
        state.check("memory_store.save", key, condition)?;
        let version = Version::new(state.next());
        state.entries.insert(key.clone(), Entry::new(value.clone(), version));
        Ok(version)
    }

    async fn delete(&self, key: &StoreKey, condition: &Condition) -> Result<()> {
        let mut state = self.state();
        state.check("memory_store.delete", key, condition)?;
        state.entries.remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &StoreKey) -> Result<Vec<StoreKey>> {
        Ok(self.state().entries.keys().filter(|key| key.is_below(prefix)).cloned().collect())
    }

    async fn load_all(&self, prefix: &StoreKey) -> Result<Vec<(StoreKey, Entry)>> {
        let state = self.state();
        let below = state.entries.iter().filter(|(key, _)| key.is_below(prefix));
        Ok(below.map(|(key, entry)| (key.clone(), entry.clone())).collect())
    }

    async fn versions(&self, prefix: &StoreKey) -> Result<Vec<(StoreKey, Version)>> {
        let state = self.state();
        let below = state.entries.iter().filter(|(key, _)| key.is_below(prefix));
        Ok(below.map(|(key, entry)| (key.clone(), entry.version)).collect())
    }

    async fn lease(&self, name: &StoreKey, ttl: Duration) -> Result<Option<Lease>> {
        let now = self.clock.now();
        let mut state = self.state();
        if state.leases.get(name).is_some_and(|taken| taken.is_good(now)) {
            return Ok(None);
        }
        let token = state.next();
        state.leases.insert(name.clone(), Taken { token, ttl, expires: self.expiry(ttl) });
        let guard = Release { state: Arc::clone(&self.state), name: name.clone(), token };
        Ok(Some(Lease::new(name.clone(), token, ttl, Some(Box::new(guard)))))
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        let Fence { name, token } = lease.fence();
        let expires = self.expiry(lease.ttl());
        match self.state().leases.get_mut(name) {
            Some(taken) if taken.token == token => {
                taken.expires = expires;
                Ok(())
            }
            _ => Err(lease_lost("memory_store.renew", name, token)),
        }
    }
}

/// Gives a lease back when dropped, if it is still the one that was taken.
#[derive(Debug)]
struct Release {
    state: Arc<Mutex<State>>,
    name: StoreKey,
    token: u64,
}

impl Guard for Release {}

impl Drop for Release {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.leases.get(&self.name).is_some_and(|taken| taken.token == self.token) {
            state.leases.remove(&self.name);
        }
    }
}
