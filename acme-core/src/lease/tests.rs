use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::*;
use crate::stores::MemoryStore;
use crate::{Condition, Entry, Secret, Version};

const TTL: Duration = Duration::from_secs(60);

/// A store that does one thing at a time, in the order it is asked, and fails to renew as often as told.
#[derive(Debug, Default)]
struct OneAtATime {
    store: MemoryStore,
    turn: Mutex<()>,
    failures: AtomicUsize,
}

#[async_trait]
impl Store for OneAtATime {
    async fn load(&self, key: &StoreKey) -> Result<Option<Entry>> {
        let _turn = self.turn.lock().await;
        self.store.load(key).await
    }
    async fn save(&self, key: &StoreKey, value: &Secret<Vec<u8>>, condition: &Condition) -> Result<Version> {
        let _turn = self.turn.lock().await;
        self.store.save(key, value, condition).await
    }
    async fn delete(&self, key: &StoreKey, condition: &Condition) -> Result<()> {
        self.store.delete(key, condition).await
    }
    async fn list(&self, prefix: &StoreKey) -> Result<Vec<StoreKey>> {
        self.store.list(prefix).await
    }
    async fn lease(&self, name: &StoreKey, ttl: Duration) -> Result<Option<Lease>> {
        self.store.lease(name, ttl).await
    }
    async fn renew(&self, lease: &Lease) -> Result<()> {
        let _turn = self.turn.lock().await;
        let left = self.failures.load(Ordering::SeqCst);
        if left > 0 {
            self.failures.store(left - 1, Ordering::SeqCst);
            return Err(Error::new(ErrorKind::Storage, "test.renew", "not now"));
        }
        self.store.renew(lease).await
    }
}

async fn leased(store: &OneAtATime) -> Lease {
    store.lease(&"work".parse().unwrap(), TTL).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn work_that_waits_in_line_before_the_renewal_gets_its_turn() {
    let store = OneAtATime::default();
    let lease = leased(&store).await;
    let key: StoreKey = "entry".parse().unwrap();
    let occupied = async {
        let _turn = store.turn.lock().await;
        sleep(Duration::from_secs(25)).await;
    };
    // In line before the renewal, which comes after a third of the lease.
    let work = holding(&store, &lease, async {
        sleep(Duration::from_secs(15)).await;
        store.load(&key).await?;
        sleep(Duration::from_secs(200)).await;
        Ok(7)
    });
    let (_, done) = timeout(Duration::from_secs(1000), async { tokio::join!(occupied, work) }).await.unwrap();
    assert_eq!(done.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_moment_does_not_end_the_work_and_one_that_goes_on_does() {
    let store = OneAtATime::default();
    let lease = leased(&store).await;
    let work = async {
        sleep(Duration::from_secs(100)).await;
        Ok(())
    };
    store.failures.store(5, Ordering::SeqCst);
    holding(&store, &lease, work).await.unwrap();
    store.failures.store(usize::MAX, Ordering::SeqCst);
    let lost = holding(&store, &lease, std::future::pending::<Result<()>>());
    let error = timeout(TTL, lost).await.expect("it ends while the lease is still good").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
}

#[tokio::test(start_paused = true)]
async fn work_stands_still_while_the_lease_may_be_anothers() {
    let store = OneAtATime::default();
    let lease = leased(&store).await;
    let steps = AtomicUsize::new(0);
    let work = async {
        loop {
            sleep(Duration::from_secs(1)).await;
            steps.fetch_add(1, Ordering::SeqCst);
        }
    };
    // The renewal hangs from its first time on.
    let _turn = store.turn.lock().await;
    let lost = holding::<()>(&store, &lease, work);
    let error =
        timeout(Duration::from_secs(300), lost).await.expect("a renewal that hangs is cut off").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let steps = steps.load(Ordering::SeqCst);
    assert!((55..=60).contains(&steps), "{steps} steps in a lease of a minute");
}
