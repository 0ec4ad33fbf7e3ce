//! What was found out lately, so that a hundred names of one zone do not ask for it a hundred times.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Deadline;

/// Nothing is believed for longer, whatever its TTL: who delegates a name anew should not have to wait.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);
/// More than this is forgotten: names come from outside.
const MOST: usize = 4096;

/// Values that are believed for a while.
#[derive(Debug)]
pub(crate) struct Memo<K, V>(Mutex<HashMap<K, (Deadline, V)>>);

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Memo<K, V> {
    pub(crate) fn recall(&self, key: &K) -> Option<V> {
        let known = self.lock();
        known.get(key).filter(|(until, _)| !until.is_over()).map(|(_, value)| value.clone())
    }

    /// Keeps a value for its TTL, but a minute at most.
    pub(crate) fn keep(&self, key: K, value: V, ttl: Duration) {
        let mut known = self.lock();
        if known.len() >= MOST {
            known.retain(|_, (until, _)| !until.is_over());
        }
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, (Deadline::after(ttl.min(LONGEST)), value));
    }

    /// What is known, or this from now on.
    pub(crate) fn recall_or(&self, key: &K, value: V) -> V
    where
        K: Clone,
    {
        self.recall(key).unwrap_or_else(|| {
            self.keep(key.clone(), value.clone(), LONGEST);
            value
        })
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, (Deadline, V)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_value_is_believed_for_its_ttl_and_a_minute_at_most() {
        let memo = Memo::default();
        memo.keep("short", 1, Duration::from_secs(5));
        memo.keep("long", 2, Duration::from_secs(86_400));
        assert_eq!(
            (memo.recall(&"short"), memo.recall(&"long"), memo.recall(&"other")),
            (Some(1), Some(2), None)
        );
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!((memo.recall(&"short"), memo.recall(&"long")), (None, Some(2)));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(memo.recall(&"long"), None);
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let memo = Memo::default();
        for name in 0..3 * MOST {
            memo.keep(name, (), LONGEST);
        }
        assert!(memo.lock().len() <= MOST);
        assert!(memo.recall(&(3 * MOST - 1)).is_some());
    }
}
