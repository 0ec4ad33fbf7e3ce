//! One change at a time for each HAProxy: two of them would meet in its one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use crate::config::Instance;

/// By endpoint; shared by every `HaProxy` value of this program, which often has one for each
/// certificate.
static TURNS: Mutex<BTreeMap<String, Weak<Turn<()>>>> = Mutex::new(BTreeMap::new());

/// Waits until nobody else changes any of these.
pub(crate) async fn take(instances: &[Instance]) -> Vec<OwnedMutexGuard<()>> {
    // In the order of their names, so that two who want the same ones cannot block each other.
    let names: BTreeSet<String> = instances.iter().map(|instance| instance.endpoint.to_string()).collect();
    let mut taken = Vec::new();
    for name in names {
        taken.push(turn(name).lock_owned().await);
    }
    taken
}

fn turn(name: String) -> Arc<Turn<()>> {
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    turns.retain(|_, turn| turn.strong_count() > 0);
    let known = turns.get(&name).and_then(Weak::upgrade);
    known.unwrap_or_else(|| {
        let turn = Arc::new(Turn::new(()));
        turns.insert(name, Arc::downgrade(&turn));
        turn
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Endpoint;

    #[tokio::test(start_paused = true)]
    async fn the_same_endpoint_is_one_turn_and_others_do_not_wait() {
        let one = [Instance::new(Endpoint::unix("/turns/one"), "/a")];
        let both = [Instance::new(Endpoint::unix("/turns/two"), "/a"), one[0].clone()];
        let other = [Instance::new(Endpoint::unix("/turns/three"), "/a")];
        let held = take(&one).await;
        tokio::time::timeout(Duration::from_secs(1), take(&both)).await.unwrap_err();
        tokio::time::timeout(Duration::from_secs(1), take(&other)).await.unwrap();
        drop(held);
        tokio::time::timeout(Duration::from_secs(1), take(&both)).await.unwrap();
    }
}
