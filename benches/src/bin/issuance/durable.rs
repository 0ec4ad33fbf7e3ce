//! acmekit with all that keeps certificates from being lost: journal, flushes, budget, events; and a store that notes
//! how long it is waited for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use acmekit_core::limits::Limits;
use acmekit_core::stores::FileStore;
use acmekit_core::{
    Authority, CertificateSpec, Condition, Entry, Event, Lease, Pipeline, Result, Secret, Store, StoreKey,
    Version, async_trait,
};
use tokio::time::Instant;

use crate::job::{Job, Part};
use crate::txt::Txt;

/// More than any run spends; each order and issuance is looked up and charged all the same.
const LIMITS: &str = r#"{
    "orders_per_account": { "count": 1000000, "period": "3h" },
    "certificates_per_domain": { "count": 1000000, "period": "168h" },
    "certificates_per_set": { "count": 1000000, "period": "168h" },
    "failures": { "count": 1000000, "period": "1h" }
}"#;

pub(crate) struct Durable {
    pipeline: Pipeline,
    /// How many events came. There are some for each certificate, or they are not on.
    pub(crate) events: Arc<AtomicU64>,
    pub(crate) clock: Stopwatch,
}

impl Durable {
    pub(crate) async fn new(job: &Job, root_pem: &str, txt: Txt) -> Result<Self> {
        let authority = Authority::custom(&job.directory)?
            .with_id("bench")
            .extra_roots_pem(root_pem)?
            .agree_to_terms()
            .with_limits(Limits::from_json(LIMITS)?);
        let (clock, events) = (Stopwatch::default(), Arc::<AtomicU64>::default());
        let file = FileStore::open(job.folder.join("store")).await?;
        let store: Arc<dyn Store> = match job.dissect {
            true => Arc::new(Timed { store: file, clock: clock.clone() }),
            false => Arc::new(file),
        };
        let counting = Arc::clone(&events);
        let pipeline = Pipeline::builder(authority, store)
            .solver(txt)
            .observer(move |_: &Event| {
                counting.fetch_add(1, Ordering::Relaxed);
            })
            .build()?;
        Ok(Self { pipeline, events, clock })
    }

    pub(crate) async fn obtain(&self, names: &[String]) -> Result<()> {
        self.pipeline.obtain(&CertificateSpec::new(names)?).await.map(drop)
    }
}

/// How often something was done, and how long it took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stopwatch(Arc<Mutex<BTreeMap<String, (u64, Duration)>>>);

impl Stopwatch {
    pub(crate) fn add(&self, name: &str, time: Duration) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let part = parts.entry(name.to_owned()).or_default();
        *part = (part.0 + 1, part.1 + time);
    }

    pub(crate) fn reset(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn parts(&self) -> Vec<Part> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let part = |(name, (times, time)): (&String, &(u64, Duration))| Part {
            name: name.clone(),
            times: *times,
            milliseconds: time.as_secs_f64() * 1000.0,
        };
        parts.iter().map(part).collect()
    }

    async fn time<T>(&self, name: &str, work: impl Future<Output = T> + Send) -> T {
        let begun = Instant::now();
        let done = work.await;
        self.add(name, begun.elapsed());
        done
    }
}

#[derive(Debug)]
struct Timed {
    store: FileStore,
    clock: Stopwatch,
}

#[async_trait]
impl Store for Timed {
    async fn load(&self, key: &StoreKey) -> Result<Option<Entry>> {
        self.clock.time("store: read", self.store.load(key)).await
    }
    async fn save(&self, key: &StoreKey, value: &Secret<Vec<u8>>, condition: &Condition) -> Result<Version> {
        self.clock.time("store: save, flushed", self.store.save(key, value, condition)).await
    }
    async fn delete(&self, key: &StoreKey, condition: &Condition) -> Result<()> {
        self.clock.time("store: delete, flushed", self.store.delete(key, condition)).await
    }
    async fn list(&self, prefix: &StoreKey) -> Result<Vec<StoreKey>> {
        self.clock.time("store: read", self.store.list(prefix)).await
    }
    async fn lease(&self, name: &StoreKey, ttl: Duration) -> Result<Option<Lease>> {
        self.clock.time("store: lease", self.store.lease(name, ttl)).await
    }
    async fn renew(&self, lease: &Lease) -> Result<()> {
        self.clock.time("store: lease", self.store.renew(lease)).await
    }
}
