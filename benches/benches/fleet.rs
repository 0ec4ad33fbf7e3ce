//! What many certificates cost: the due queue with a million entries, and a start that reads what is known of each
//! certificate beside one that reads all bundles.

#![expect(clippy::unwrap_used, reason = "a benchmark whose input cannot be made has nothing to measure")]
#![expect(missing_docs, reason = "`criterion_group!` makes a public function")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use acmekit_core::manager::queue::DueQueue;
use acmekit_core::stores::FileStore;
use acmekit_core::{Authority, CertificateSpec, Manager, Pipeline, Store};
use acmekit_server::{NoProof, TestCa};
use criterion::{Criterion, criterion_group, criterion_main};

fn at(slot: u32) -> SystemTime {
    // Scattered over ninety days.
    UNIX_EPOCH + Duration::from_secs(u64::from(slot.wrapping_mul(2_654_435_761)) % 7_776_000)
}

fn filled(count: u32) -> DueQueue {
    let mut queue = DueQueue::new();
    for slot in 0..count {
        queue.schedule(slot, at(slot));
    }
    queue
}

/// The memory this process has, in octets.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[expect(clippy::print_stderr, reason = "criterion measures time only")]
fn queue(c: &mut Criterion) {
    let before = resident();
    let million = filled(1_000_000);
    let grown = resident().saturating_sub(before);
    eprintln!("due queue: {} octets of memory an entry, of {}", grown / 1_000_000, million.len());
    drop(million);

    let mut group = c.benchmark_group("due_queue");
    for count in [1_000, 100_000, 1_000_000] {
        let mut queue = filled(count);
        // The next one is taken, and comes again in ninety days.
        group.bench_function(format!("next_of_{count}"), |b| {
            b.iter(|| {
                let due = queue.next_at().unwrap();
                let slot = queue.pop_due(due).unwrap();
                queue.schedule(slot, due + Duration::from_secs(7_776_000));
                black_box(slot)
            });
        });
    }
    group.finish();
}

const FLEET: usize = 300;

fn start(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = runtime.block_on(TestCa::builder().always_valid().start()).unwrap();
    let store: Arc<dyn Store> = Arc::new(runtime.block_on(FileStore::open(folder.path())).unwrap());
    let pipeline = || {
        let authority =
            Authority::custom(&ca.directory_url()).unwrap().agree_to_terms().through(ca.in_process());
        Pipeline::builder(authority, Arc::clone(&store)).solver(NoProof::default()).build().unwrap()
    };
    let specs: Vec<CertificateSpec> =
        (0..FLEET).map(|n| CertificateSpec::new([format!("n{n}.example")]).unwrap()).collect();
    runtime.block_on(async {
        let manager = Manager::builder(pipeline()).start();
        for spec in &specs {
            manager.add(spec.clone()).await.unwrap();
        }
        manager.settled().await.unwrap();
        manager.shutdown().await;
    });
    let mut group = c.benchmark_group("start");
    group.sample_size(10);
    group.bench_function(format!("index_of_{FLEET}"), |b| {
        b.to_async(&runtime).iter(|| async {
            let manager = Manager::builder(pipeline()).start();
            for spec in &specs {
                manager.add(spec.clone()).await.unwrap();
            }
            manager.shutdown().await;
        });
    });
    group.bench_function(format!("bundles_of_{FLEET}"), |b| {
        b.to_async(&runtime).iter(|| async {
            let pipeline = pipeline();
            for spec in &specs {
                black_box(pipeline.load(spec.id()).await.unwrap().unwrap());
            }
        });
    });
    group.finish();
}

criterion_group!(benches, queue, start);
criterion_main!(benches);
