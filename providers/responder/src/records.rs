//! The values, as the store has them: every process on it answers what any of them has added.
//!
//! One entry a value, named after the hash of name and value: adding at the same time cannot conflict, adding
//! twice is adding once, and what an entry holds never changes. So a look at the store is one listing, and one
//! read for each value not yet known. At most one look is taken in [`INTERVAL`], however many questions come for
//! however many names.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use acmekit_core::{Condition, Deadline, DnsName, Error, ErrorKind, Result, Secret, Store, StoreKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::Config;
use crate::tree::Tree;

/// What another process has added is answered after this time at the latest.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);
/// How long a look at the store may take; a question waits no longer.
const LOOK: Duration = Duration::from_secs(2);
/// How long a change of the store may take.
const CHANGE: Duration = Duration::from_secs(30);
const PREFIX: &str = "responder";

/// One value, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Value {
    name: DnsName,
    value: String,
}

impl Value {
    pub(crate) fn new(name: DnsName, value: String) -> Self {
        Self { name, value }
    }

    /// For the fuzz targets only: into the tree, and out of it again.
    pub(crate) fn put_into(&self, tree: &mut Tree) {
        tree.add_text(&self.name, &self.value);
        tree.remove_text(&self.name, &self.value);
        tree.add_text(&self.name, &self.value);
    }

    fn key(&self) -> Result<StoreKey> {
        let mut hash = Sha256::new();
        hash.update(self.name.as_str());
        hash.update([0]);
        hash.update(&self.value);
        let hex: String = hash.finalize().iter().map(|octet| format!("{octet:02x}")).collect();
        format!("{PREFIX}/{hex}").parse()
    }
}

/// The values, and what is known of the store.
#[derive(Debug)]
pub(crate) struct Records {
    store: Arc<dyn Store>,
    prefix: StoreKey,
    table: RwLock<Table>,
    /// Who has it looks at the store; the others wait for what it finds.
    turn: Mutex<()>,
}

#[derive(Debug)]
struct Table {
    tree: Tree,
    /// What the store's entries hold; `None` for one that this version does not understand.
    known: HashMap<StoreKey, Option<Value>>,
    /// What this process has changed since the look began that is under way: it may not have seen that.
    own: Option<HashSet<StoreKey>>,
    looked: Option<Instant>,
    /// Whether the last look has seen everything.
    complete: bool,
}

impl Table {
    fn put(&mut self, key: StoreKey, value: Option<Value>) {
        // One that could not be read may have been written anew.
        if matches!(self.known.get(&key), Some(Some(_))) {
            return;
        }
        if let Some(value) = &value {
            self.tree.add_text(&value.name, &value.value);
        }
        self.known.insert(key, value);
    }

    fn take(&mut self, key: &StoreKey) {
        if let Some(Some(value)) = self.known.remove(key) {
            self.tree.remove_text(&value.name, &value.value);
        }
    }

    fn is_fresh(&self) -> bool {
        self.looked.is_some_and(|at| at.elapsed() < INTERVAL)
    }
}

impl Records {
    pub(crate) fn new(config: &Config, store: Arc<dyn Store>) -> Result<Self> {
        let table = Table {
            tree: Tree::new(config)?,
            known: HashMap::new(),
            own: None,
            looked: None,
            complete: false,
        };
        Ok(Self { store, prefix: PREFIX.parse()?, table: RwLock::new(table), turn: Mutex::new(()) })
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what is known is young enough to answer with.
    pub(crate) fn is_fresh(&self) -> bool {
        self.read().is_fresh()
    }

    /// Looks at the tree as it is known, and says whether it is certain to be all there is.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Tree, bool) -> T) -> T {
        let table = self.read();
        look(&table.tree, table.complete)
    }

    /// Looks at the store unless that was done a moment ago.
    pub(crate) async fn freshen(&self) {
        if self.is_fresh() {
            return;
        }
        let _turn = self.turn.lock().await;
        if self.is_fresh() {
            return;
        }
        let look = Deadline::after(LOOK).run("responder.look", "reading the store", self.look()).await;
        let mut table = self.write();
        table.own = None;
        // After the look: a slow store is not asked all the time.
        table.looked = Some(Instant::now());
        match look {
            Ok(()) if !table.complete => {
                tracing::debug!(values = table.known.len(), "the store has been read");
                table.complete = true;
            }
            Ok(()) => {}
            Err(error) if table.complete => {
                tracing::warn!(%error, "the store cannot be read: only the values known so far are answered");
                table.complete = false;
            }
            Err(error) => tracing::debug!(%error, "the store still cannot be read"),
        }
    }

    async fn look(&self) -> Result<()> {
        self.write().own = Some(HashSet::new());
        let keys: HashSet<StoreKey> = self.store.list(&self.prefix).await?.into_iter().collect();
        let unknown: Vec<StoreKey> = {
            let table = self.read();
            keys.iter().filter(|key| !table.known.contains_key(*key)).cloned().collect()
        };
        let (mut found, mut failed) = (Vec::new(), None);
        for key in unknown {
            match self.store.load(&key).await {
                Ok(Some(entry)) => found.push((read_value(&key, entry.value.expose()), key)),
                Ok(None) => {}
                // One damaged entry must not hide the others.
                Err(error) => failed = Some(error),
            }
        }
        let mut table = self.write();
        // What was changed while looking is known better than seen.
        let own = table.own.take().unwrap_or_default();
        let gone: Vec<StoreKey> = {
            let is_gone = |key: &&StoreKey| !keys.contains(*key) && !own.contains(*key);
            table.known.keys().filter(is_gone).cloned().collect()
        };
        gone.iter().for_each(|key| table.take(key));
        for (value, key) in found {
            if !own.contains(&key) {
                table.put(key, value);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Adds a value; when this returns, the store has it and this process answers it.
    pub(crate) async fn add(&self, value: Value) -> Result<()> {
        let key = value.key()?;
        let text = serde_json::to_vec(&value).map_err(|e| {
            Error::new(ErrorKind::Other, "responder.add", "the value cannot be written").with_source(e)
        })?;
        let text = Secret::new(text);
        let save = self.store.save(&key, &text, &Condition::ANY);
        Deadline::after(CHANGE).run("responder.add", "writing to the store", save).await?;
        self.changed(key, Some(value));
        Ok(())
    }

    /// Removes exactly this value, if it is there.
    pub(crate) async fn remove(&self, value: &Value) -> Result<()> {
        let key = value.key()?;
        let delete = self.store.delete(&key, &Condition::ANY);
        Deadline::after(CHANGE).run("responder.remove", "deleting from the store", delete).await?;
        self.changed(key, None);
        Ok(())
    }

    fn changed(&self, key: StoreKey, value: Option<Value>) {
        let mut table = self.write();
        if let Some(own) = &mut table.own {
            own.insert(key.clone());
        }
        match value {
            Some(value) => table.put(key, Some(value)),
            None => table.take(&key),
        }
    }
}

/// The value in an entry; `None` if a newer acmekit has written it, or it is at the wrong place.
fn read_value(key: &StoreKey, octets: &[u8]) -> Option<Value> {
    let value = serde_json::from_slice::<Value>(octets).ok();
    let value = value.filter(|value| value.key().is_ok_and(|right| right == *key));
    if value.is_none() {
        tracing::warn!(%key, "the store has a value that is not understood; it is not answered");
    }
    value
}

#[cfg(test)]
mod tests;
