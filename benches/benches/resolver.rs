//! What looking up a certificate costs in a handshake: by name, wildcard and in vain, among 1, 1,000 and 100,000 names, alone
//! and while another thread swaps certificates without a pause; beside rustls' own resolver and a map behind a lock.
//! And the memory a certificate takes.

#![expect(clippy::unwrap_used, reason = "a benchmark whose input cannot be made has nothing to measure")]
#![expect(missing_docs, reason = "`criterion_group!` makes a public function")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use acmekit_conformance::test_bundle;
use acmekit_core::Bundle;
use acmekit_core::tls::CertResolver;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as crypto;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use rustls::crypto::ring as crypto;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{Accepted, Acceptor, ClientHello, ResolvesServerCert, ResolvesServerCertUsingSni};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// How many names a certificate has, of many.
const NAMES: usize = 50;

/// Certificates with so many names together; each has a wildcard, too.
fn bundles(names: usize) -> Vec<Bundle> {
    let each = names.min(NAMES);
    let one = |at: usize| {
        let own = (0..each).map(|name| format!("n{name}.c{at}.test"));
        let names: Vec<String> = own.chain([format!("*.w.c{at}.test")]).collect();
        test_bundle(&names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap()
    };
    (0..names / each).map(one).collect()
}

fn certified(bundle: &Bundle) -> CertifiedKey {
    let chain = bundle.chain_der().iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivatePkcs8KeyDer::from(bundle.key().unwrap().to_pkcs8().expose().clone());
    let key = crypto::default_provider().key_provider.load_private_key(PrivateKeyDer::from(key)).unwrap();
    CertifiedKey::new(chain, key)
}

/// What a client says first, as a server has it.
fn hello(name: &str) -> Accepted {
    let provider = Arc::new(crypto::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut said = Vec::new();
    ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut said).unwrap();
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut said.as_slice()).unwrap();
    acceptor.accept().ok().flatten().unwrap()
}

/// What many write first: one map, one lock, and a text for each wildcard that is looked for.
#[derive(Debug, Default)]
struct Locked(RwLock<HashMap<String, Arc<CertifiedKey>>>);

impl Locked {
    fn serve(&self, bundle: &Bundle) {
        let certified = Arc::new(certified(bundle));
        let mut map = self.0.write().unwrap();
        for name in &bundle.facts().identifiers {
            map.insert(name.to_string(), Arc::clone(&certified));
        }
    }
}

impl ResolvesServerCert for Locked {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (name, map) = (hello.server_name()?, self.0.read().unwrap());
        let wildcard = || map.get(&format!("*.{}", name.split_once('.')?.1));
        map.get(name).or_else(wildcard).cloned()
    }
}

fn lookups(c: &mut Criterion) {
    for names in [1, 1_000, 100_000] {
        let bundles = bundles(names);
        let (ours, locked) = (CertResolver::new(), Locked::default());
        let mut by_sni = ResolvesServerCertUsingSni::new();
        for bundle in &bundles {
            ours.serve(bundle).unwrap();
            locked.serve(bundle);
            for name in bundle.facts().identifiers.iter().filter(|name| !name.is_wildcard()) {
                by_sni.add(&name.to_string(), certified(bundle)).unwrap();
            }
        }
        let asked = [("exact", "n0.c0.test"), ("wildcard", "any.w.c0.test"), ("miss", "www.other.test")];
        for (what, name) in asked {
            let hello = hello(name);
            let mut group = c.benchmark_group(format!("resolve_{what}"));
            let mut measure = |who: &str, resolver: &dyn ResolvesServerCert| {
                // rustls' own has no wildcards.
                assert_eq!(
                    resolver.resolve(hello.client_hello()).is_some(),
                    what == "exact" || (what == "wildcard" && who != "rustls_using_sni")
                );
                group.bench_function(BenchmarkId::new(who, names), |b| {
                    b.iter(|| black_box(resolver.resolve(hello.client_hello())));
                });
            };
            measure("acmekit", &ours);
            measure("rustls_using_sni", &by_sni);
            measure("rwlock_hashmap", &locked);
            // The certificates that are swapped are made beforehand.
            while_swapping(
                || drop(bundles.iter().try_for_each(|bundle| ours.serve(bundle))),
                || {
                    measure("acmekit_while_swapping", &ours);
                },
            );
            while_swapping(
                || bundles.iter().for_each(|bundle| locked.serve(bundle)),
                || {
                    measure("rwlock_hashmap_while_swapping", &locked);
                },
            );
            group.finish();
        }
    }
}

/// Swaps on another thread, without a pause, while it is measured.
fn while_swapping(swap: impl Fn() + Sync, measured: impl FnOnce()) {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                swap();
            }
        });
        measured();
        ended.store(true, Ordering::Relaxed);
    });
}

/// The memory this process has, in octets.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[expect(clippy::print_stderr, reason = "criterion measures time only")]
fn memory(c: &mut Criterion) {
    let bundles: Vec<Bundle> = (0..5_000).map(|at| test_bundle(&[&format!("c{at}.test")]).unwrap()).collect();
    let (before, resolver) = (resident(), CertResolver::new());
    for bundle in &bundles {
        resolver.serve(bundle).unwrap();
    }
    let each = resident().saturating_sub(before) / 5_000;
    eprintln!("{each} octets of memory a certificate of one name, parsed, with its chain of two");
    let mut group = c.benchmark_group("resolver");
    let mut at = 0;
    group.bench_function("swap_one_of_5000", |b| {
        b.iter(|| {
            at = (at + 1) % bundles.len();
            resolver.serve(&bundles[at]).unwrap();
        });
    });
    group.finish();
}

criterion_group!(benches, memory, lookups);
criterion_main!(benches);
