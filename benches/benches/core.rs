//! What acmekit itself costs around a certificate; the CA and the network are left out.

#![expect(clippy::unwrap_used, reason = "a benchmark whose input cannot be made has nothing to measure")]
#![expect(missing_docs, reason = "`criterion_group!` makes a public function")]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::{Duration, SystemTime};

use acmekit_conformance::test_bundle;
use acmekit_core::order::{
    AuthorizationSnapshot, AuthorizationStatus, ChallengeSnapshot, ChallengeStatus, OrderSnapshot,
    OrderStatus, next_step,
};
use acmekit_core::renewal::{Input, RenewalPolicy, Window};
use acmekit_core::stores::{FileStore, MemoryStore};
use acmekit_core::{
    Bundle, ChallengeKind, Condition, DnsName, Expected, Identifier, Origin, PrivateKey, Problem, Secret,
    Store,
};
use criterion::{Criterion, criterion_group, criterion_main};

fn names(c: &mut Criterion) {
    let mut group = c.benchmark_group("names");
    for (what, text) in [
        ("ascii", "www.shop.example.com"),
        ("wildcard", "*.Shop.Example.COM."),
        ("a_label", "xn--bcher-kva.example"),
        ("idna", "bücher.müller.example"),
        ("refused", "https://example.com"),
    ] {
        group.bench_function(what, |b| b.iter(|| black_box(text).parse::<Identifier>().is_ok()));
    }
    let address = "2001:db8::1";
    group.bench_function("address", |b| b.iter(|| black_box(address).parse::<Identifier>().is_ok()));
    let record = "_acme-challenge.www.shop.example.com";
    group.bench_function("record", |b| b.iter(|| black_box(record).parse::<DnsName>().is_ok()));
    group.finish();
}

/// An order for a hundred names, each with three challenges.
fn order(status: OrderStatus, failed: bool) -> OrderSnapshot {
    let mut order = OrderSnapshot::new("https://ca.test/order/1", status);
    order.finalize = "https://ca.test/finalize/1".to_owned();
    for number in 0..100 {
        let name: Identifier = format!("host-{number}.example.com").parse().unwrap();
        let url = format!("https://ca.test/authz/{number}");
        let mut authorization = AuthorizationSnapshot::new(url, AuthorizationStatus::Pending, name.clone());
        for kind in [ChallengeKind::Http01, ChallengeKind::Dns01, ChallengeKind::TlsAlpn01] {
            let url = format!("https://ca.test/challenge/{number}/{kind}");
            let mut challenge = ChallengeSnapshot::new(kind, url, ChallengeStatus::Pending);
            challenge.token = Some("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA".to_owned());
            if failed {
                let mut problem = Problem::default();
                problem.kind = "urn:ietf:params:acme:error:dns".to_owned();
                problem.detail = "no TXT record".to_owned();
                challenge.error = Some(problem);
            }
            authorization.challenges.push(challenge);
        }
        order.identifiers.insert(name);
        order.authorizations.push(authorization);
    }
    order
}

fn decision(c: &mut Criterion) {
    let mut group = c.benchmark_group("next_step_100_names");
    let pending = order(OrderStatus::Pending, false);
    let every: BTreeSet<String> = pending.authorizations.iter().map(|a| a.url.clone()).collect();
    let half: BTreeSet<String> = every.iter().step_by(2).cloned().collect();
    let none = BTreeSet::new();
    let failed = order(OrderStatus::Invalid, true);
    for (what, order, answered) in [
        ("prove_all", &pending, &none),
        ("prove_half", &pending, &half),
        ("wait", &pending, &every),
        ("failed", &failed, &none),
    ] {
        group.bench_function(what, |b| {
            b.iter(|| next_step(black_box(order), black_box(answered), SystemTime::UNIX_EPOCH));
        });
    }
    group.finish();
}

/// When a certificate is due: by its life alone, and with what the CA suggests.
fn due(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide");
    let made = test_bundle(&["www.example.com"]).unwrap();
    let policy = RenewalPolicy::default();
    let plain = Input::of(made.id(), made.facts());
    let mut suggested = plain.clone();
    let start = plain.not_before + Duration::from_secs(60 * 24 * 3600);
    let window = Window::new(start, start + Duration::from_secs(2 * 24 * 3600)).unwrap();
    suggested.suggested = Some((window.clone(), window.pick(0.5, start)));
    for (what, input) in [("by_life", &plain), ("as_suggested", &suggested)] {
        group.bench_function(what, |b| b.iter(|| policy.decide(black_box(input))));
    }
    group.bench_function("input_of_a_certificate", |b| {
        b.iter(|| Input::of(made.id(), black_box(made.facts())))
    });
    group.finish();
}

fn bundle(c: &mut Criterion) {
    let mut group = c.benchmark_group("bundle");
    for count in [1, 100] {
        let names: Vec<String> = (0..count).map(|n| format!("host-{n}.example.com")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let made = test_bundle(&names).unwrap();
        let pem = made.fullchain_pem();
        let key = PrivateKey::from_pem(made.key_pem().unwrap().expose()).unwrap();
        group.bench_function(format!("new_{count}_names"), |b| {
            b.iter(|| {
                let key = Some(key.clone());
                Bundle::new(made.id().clone(), black_box(&pem), key, Origin::default()).unwrap()
            });
        });
        let wanted = made.facts().identifiers.clone();
        group.bench_function(format!("check_against_{count}_names"), |b| {
            b.iter(|| made.check_against(black_box(&wanted), SystemTime::UNIX_EPOCH).unwrap());
        });
    }
    group.finish();
}

/// Saves a value as large as a bundle with key and two certificates, over and over to one key.
fn stores(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = runtime.block_on(FileStore::open(folder.path().join("store"))).unwrap();
    let memory = MemoryStore::new();
    let made = test_bundle(&["www.example.com", "example.com"]).unwrap();
    let text = made.key_pem().unwrap().expose().clone() + &made.fullchain_pem();
    let value = Secret::new(text.into_bytes());
    let key = "certificates/web".parse().unwrap();

    let mut group = c.benchmark_group("store");
    let both: [(&str, &dyn Store); 2] = [("file", &file), ("memory", &memory)];
    for (what, store) in both {
        group.bench_function(format!("save_{what}"), |b| {
            b.iter(|| runtime.block_on(store.save(&key, &value, &Condition::ANY)).unwrap());
        });
        group.bench_function(format!("load_{what}"), |b| {
            b.iter(|| runtime.block_on(store.load(&key)).unwrap().unwrap());
        });
        // As the journal writes: on top of what it wrote before, and only while its lease is good.
        let name = "certificates/leased".parse().unwrap();
        let lease = runtime.block_on(store.lease(&name, Duration::from_secs(3600))).unwrap().unwrap();
        let journal = format!("journals/{what}").parse().unwrap();
        let mut expected = Expected::Absent;
        group.bench_function(format!("journal_step_{what}"), |b| {
            b.iter(|| {
                let condition = Condition::expecting(expected).under(&lease);
                expected =
                    Expected::Version(runtime.block_on(store.save(&journal, &value, &condition)).unwrap());
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = names, decision, due, bundle, stores
}
criterion_main!(benches);
