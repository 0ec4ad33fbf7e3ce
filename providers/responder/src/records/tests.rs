use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use acmekit_core::stores::MemoryStore;
use acmekit_core::{Entry, Lease, Version, async_trait};
use tokio::sync::Semaphore;

use super::*;
use crate::name::key;

/// A store that counts its listings, hands them out only when told to, and can be out of order.
#[derive(Debug)]
struct Watched {
    store: MemoryStore,
    listings: AtomicUsize,
    broken: AtomicBool,
    /// A listing is made, and then waits for one of these.
    let_go: Semaphore,
}

impl Watched {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            store: MemoryStore::new(),
            listings: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            let_go: Semaphore::new(1000),
        })
    }
}

#[async_trait]
impl Store for Watched {
    async fn load(&self, key: &StoreKey) -> Result<Option<Entry>> {
        self.store.load(key).await
    }
    async fn save(&self, key: &StoreKey, value: &Secret<Vec<u8>>, condition: &Condition) -> Result<Version> {
        self.store.save(key, value, condition).await
    }
    async fn delete(&self, key: &StoreKey, condition: &Condition) -> Result<()> {
        self.store.delete(key, condition).await
    }
    async fn list(&self, prefix: &StoreKey) -> Result<Vec<StoreKey>> {
        self.listings.fetch_add(1, Ordering::SeqCst);
        if self.broken.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Storage, "test", "out of order"));
        }
        let listed = self.store.list(prefix).await;
        self.let_go.acquire().await.unwrap().forget();
        listed
    }
    async fn lease(&self, name: &StoreKey, ttl: Duration) -> Result<Option<Lease>> {
        self.store.lease(name, ttl).await
    }
    async fn renew(&self, lease: &Lease) -> Result<()> {
        self.store.renew(lease).await
    }
}

fn records(store: &Arc<Watched>) -> Arc<Records> {
    let config = Config::new(["acme.test".parse().unwrap()], ["ns.example.test".parse().unwrap()]);
    Arc::new(Records::new(&config, Arc::clone(store) as Arc<dyn Store>).unwrap())
}

fn value(text: &str) -> Value {
    Value::new("www.acme.test".parse().unwrap(), text.to_owned())
}

fn has(records: &Records) -> bool {
    records.with(|tree, _| tree.has_texts(&key(&"www.acme.test".parse().unwrap())))
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_questions_cost_one_look() {
    let store = Watched::new();
    let records = records(&store);
    for _ in 0..10_000 {
        records.freshen().await;
    }
    assert_eq!(store.listings.load(Ordering::SeqCst), 1);
    tokio::time::advance(INTERVAL).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let records = Arc::clone(&records);
        asking.spawn(async move { records.freshen().await });
    }
    asking.join_all().await;
    assert_eq!(store.listings.load(Ordering::SeqCst), 2, "those who ask at the same time share a look");
}

#[tokio::test(start_paused = true)]
async fn a_store_out_of_order_costs_one_look_and_hides_nothing_known() {
    let store = Watched::new();
    let records = records(&store);
    records.add(value("one")).await.unwrap();
    store.broken.store(true, Ordering::SeqCst);
    for _ in 0..100 {
        records.freshen().await;
    }
    assert_eq!(store.listings.load(Ordering::SeqCst), 1);
    assert!(has(&records));
    assert!(!records.with(|_, complete| complete));
    store.broken.store(false, Ordering::SeqCst);
    tokio::time::advance(INTERVAL).await;
    records.freshen().await;
    assert!(records.with(|_, complete| complete));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_costs_a_deadline() {
    let store = Watched::new();
    store.let_go.forget_permits(1000);
    let records = records(&store);
    let began = Instant::now();
    records.freshen().await;
    assert_eq!(began.elapsed(), LOOK);
    assert!(!records.with(|_, complete| complete));
}

/// Begins a look that has made its listing, and has not come back yet.
async fn look_under_way(store: &Arc<Watched>, records: &Arc<Records>) -> tokio::task::JoinHandle<()> {
    store.let_go.forget_permits(1000);
    let before = store.listings.load(Ordering::SeqCst);
    let looking = Arc::clone(records);
    #[expect(clippy::disallowed_methods, reason = "awaited by the test that has called")]
    let look = tokio::spawn(async move { looking.freshen().await });
    while store.listings.load(Ordering::SeqCst) == before {
        tokio::task::yield_now().await;
    }
    look
}

#[tokio::test(start_paused = true)]
async fn a_look_that_began_before_does_not_hide_what_was_added_since() {
    let store = Watched::new();
    let records = records(&store);
    let look = look_under_way(&store, &records).await;
    records.add(value("one")).await.unwrap();
    store.let_go.add_permits(1000);
    look.await.unwrap();
    assert!(has(&records));
}

#[tokio::test(start_paused = true)]
async fn a_look_that_began_before_does_not_bring_back_what_was_removed_since() {
    let store = Watched::new();
    let (one, other) = (records(&store), records(&store));
    one.add(value("one")).await.unwrap();
    let look = look_under_way(&store, &other).await;
    other.remove(&value("one")).await.unwrap();
    store.let_go.add_permits(1000);
    look.await.unwrap();
    assert!(!has(&other));
    // And what the other has removed is gone here, too.
    one.freshen().await;
    assert!(!has(&one));
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_a_newer_version_hides_no_other() {
    let store = Watched::new();
    let records = records(&store);
    let strange = "responder/strange".parse().unwrap();
    store.save(&strange, &Secret::new(b"{\"v\":9}".to_vec()), &Condition::ANY).await.unwrap();
    records.add(value("one")).await.unwrap();
    // The same content under another name is not the entry of that value.
    let copy = Secret::new(serde_json::to_vec(&value("two")).unwrap());
    store.save(&"responder/copy".parse().unwrap(), &copy, &Condition::ANY).await.unwrap();
    records.freshen().await;
    assert!(records.with(|_, complete| complete));
    records.remove(&value("one")).await.unwrap();
    assert!(!has(&records));
}
