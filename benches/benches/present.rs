//! What the names of one order cost until the CA can be told, where each call to the DNS provider takes 50 ms: at a
//! vendor that bears all of them at once, and at one that bears four (the default of `ProviderLimits`).

#![expect(clippy::unwrap_used, reason = "a benchmark whose input cannot be made has nothing to measure")]
#![expect(missing_docs, reason = "`criterion_group!` makes a public function")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use acmekit_core::dns::Resolver;
use acmekit_core::solvers::Dns01;
use acmekit_core::stores::MemoryStore;
use acmekit_core::{
    Authority, CertificateSpec, DnsName, DnsProvider, Event, Pipeline, ProviderLimits, RecordHandle, Result,
    TxtRecord, What, Zone, async_trait,
};
use acmekit_server::TestCa;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// How long the vendor takes for each call.
const LATENCY: Duration = Duration::from_millis(50);

/// Has every zone and forgets what it is told.
#[derive(Debug)]
struct Vendor {
    bears: usize,
}

#[async_trait]
impl DnsProvider for Vendor {
    fn id(&self) -> &str {
        "vendor"
    }
    fn limits(&self) -> ProviderLimits {
        let mut limits = ProviderLimits::default();
        limits.concurrency = self.bears;
        limits
    }
    async fn zone(&self, name: &DnsName) -> Result<Option<Zone>> {
        tokio::time::sleep(LATENCY).await;
        Ok(Some(Zone::new(name.clone())))
    }
    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        tokio::time::sleep(LATENCY).await;
        Ok(RecordHandle::intent("vendor", zone.clone(), record.clone()))
    }
    async fn remove_txt(&self, _: &RecordHandle) -> Result<()> {
        tokio::time::sleep(LATENCY).await;
        Ok(())
    }
}

/// From the order to the moment when the CA can be told.
#[derive(Debug, Default)]
struct Stopwatch {
    since: Option<Instant>,
    measured: Duration,
}

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    fn observe(&mut self, event: &Event) {
        match event.what {
            What::OrderCreated { .. } => self.since = Some(Instant::now()),
            What::ChallengesReady { .. } => {
                self.measured += self.since.take().map(|since| since.elapsed()).unwrap_or_default();
            }
            _ => {}
        }
    }
}

fn present(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let ca = runtime.block_on(TestCa::builder().always_valid().start()).unwrap();
    let order = AtomicUsize::new(0);
    let mut group = c.benchmark_group("present");
    group.sample_size(10);
    for bears in [128, 4] {
        for names in [1, 10, 100] {
            group.bench_function(BenchmarkId::new(format!("{bears}_at_once"), names), |b| {
                b.iter_custom(|rounds| {
                    let watch = Arc::new(Mutex::new(Stopwatch::default()));
                    for _ in 0..rounds {
                        let run = order.fetch_add(1, Ordering::Relaxed);
                        let of_one = |at| format!("n{at}.run{run}.example");
                        let spec = CertificateSpec::new((0..names).map(of_one)).unwrap();
                        // No DNS is asked: what is measured are the calls to the vendor.
                        let nobody = Resolver::new([([127, 0, 0, 1], 53).into()]).unwrap();
                        let mut dns = Dns01::with_resolver(Vendor { bears }, nobody)
                            .wait_instead_of_asking(Duration::ZERO);
                        for identifier in spec.identifiers() {
                            let domain = identifier.domain().unwrap().clone();
                            dns = dns.alias(domain.clone(), domain.child("_acme-challenge").unwrap());
                        }
                        let authority = Authority::custom(&ca.directory_url()).unwrap();
                        let authority = authority.agree_to_terms().through(ca.in_process());
                        let observer = Arc::clone(&watch);
                        let pipeline = Pipeline::builder(authority, Arc::new(MemoryStore::new()))
                            .solver(dns)
                            .observer(move |event: &Event| observer.lock().unwrap().observe(event))
                            .build()
                            .unwrap();
                        runtime.block_on(pipeline.obtain(&spec)).unwrap();
                    }
                    watch.lock().unwrap().measured
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, present);
criterion_main!(benches);
