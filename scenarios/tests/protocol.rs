//! The CA side alone: accounts, orders, chains and profiles on a Pebble that believes everything.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use acmekit::stores::{FileStore, MemoryStore};
use acmekit::{Authority, CertificateSpec, Csr, ErrorKind, KeyType, Pipeline, PrivateKey, Retry, Store};
use acmekit_scenarios::{NoProof, Recorder, authority};
use acmekit_testbed::{Pebble, PebbleBuilder};

fn credulous() -> PebbleBuilder {
    Pebble::builder().always_valid(true)
}

fn pipeline(authority: Authority, store: Arc<dyn Store>, seen: &Recorder) -> Pipeline {
    Pipeline::builder(authority, store).solver(NoProof::default()).observer(seen.observer()).build().unwrap()
}

fn spec(names: &[&str]) -> CertificateSpec {
    CertificateSpec::new(names).unwrap()
}

#[tokio::test]
async fn one_certificate_is_ordered_once_and_renewed_on_demand() {
    let ca = credulous().start().await.unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let seen = Recorder::default();
    let acme = pipeline(authority(&ca).unwrap(), store, &seen);
    let spec = spec(&["example.test", "*.example.test"]);
    let first = acme.obtain(&spec).await.unwrap();
    assert!(first.fresh);
    let again = acme.obtain(&spec).await.unwrap();
    assert!(!again.fresh);
    assert_eq!(again.bundle.facts(), first.bundle.facts());
    assert_eq!(ca.issued_certificates(), 1);
    let renewed = acme.renew(&spec).await.unwrap();
    assert_ne!(renewed.bundle.facts().serial, first.bundle.facts().serial);
    assert_ne!(renewed.bundle.public_key_info(), first.bundle.public_key_info(), "the key is new, too");
    assert_eq!((ca.issued_certificates(), ca.accounts()), (2, 1));
    assert_eq!(seen.count("certificate-issued"), 2, "{:#?}", seen.all());
}

#[tokio::test]
async fn half_of_all_nonces_rejected_is_no_obstacle() {
    let ca = credulous().nonce_reject(50).start().await.unwrap();
    let acme = pipeline(authority(&ca).unwrap(), Arc::new(MemoryStore::new()), &Recorder::default());
    for number in 0..5 {
        acme.obtain(&spec(&[&format!("h{number}.example.test")])).await.unwrap();
    }
    assert_eq!(ca.issued_certificates(), 5);
}

#[tokio::test]
async fn reused_authorizations_need_no_challenge() {
    let ca = credulous().authz_reuse(100).start().await.unwrap();
    let seen = Recorder::default();
    let acme = pipeline(authority(&ca).unwrap(), Arc::new(MemoryStore::new()), &seen);
    let spec = spec(&["a.example.test", "b.example.test"]);
    acme.obtain(&spec).await.unwrap();
    assert_eq!(seen.count("challenge-presented"), 2);
    acme.renew(&spec).await.unwrap();
    assert_eq!(seen.count("challenge-presented"), 2, "{:#?}", seen.all());
}

#[tokio::test]
async fn processes_that_start_together_make_one_account() {
    let ca = credulous().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..4).map(|i| format!("h{i}.example.test")).collect();
    let mut running = tokio::task::JoinSet::new();
    for name in names {
        let store = Arc::new(FileStore::open(folder.path()).await.unwrap());
        let acme = pipeline(authority(&ca).unwrap(), store, &Recorder::default());
        running.spawn(async move { acme.obtain(&spec(&[&name])).await.map(|issued| issued.fresh) });
    }
    while let Some(done) = running.join_next().await {
        assert!(done.unwrap().unwrap());
    }
    assert_eq!((ca.accounts(), ca.issued_certificates()), (1, 4));
}

#[tokio::test]
async fn the_same_certificate_wanted_twice_at_once_is_ordered_once() {
    let ca = credulous().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let store = Arc::new(FileStore::open(folder.path()).await.unwrap());
        let acme = pipeline(authority(&ca).unwrap(), store, &Recorder::default());
        running.spawn(async move { acme.obtain(&spec(&["example.test"])).await.map(|issued| issued.fresh) });
    }
    let mut fresh = 0;
    while let Some(done) = running.join_next().await {
        fresh += usize::from(done.unwrap().unwrap());
    }
    assert_eq!((fresh, ca.issued_certificates()), (1, 1));
}

#[tokio::test]
async fn a_ca_that_has_forgotten_everything_gets_the_same_key_again() {
    let ca = credulous().start().await.unwrap();
    let seen = Recorder::default();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let acme = pipeline(authority(&ca).unwrap(), store, &seen);
    acme.obtain(&spec(&["a.example.test"])).await.unwrap();
    ca.restart().await.unwrap();
    acme.obtain(&spec(&["b.example.test"])).await.unwrap();
    assert_eq!(seen.count("account-ready"), 2);
    assert_eq!(ca.issued_certificates(), 2);
}

#[tokio::test]
async fn an_external_account_is_bound_and_a_wrong_one_says_so() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let ca = credulous().eab("kid-1", key).start().await.unwrap();
    let with = |kid: &str, key: &str| authority(&ca).unwrap().external_account(kid, &key.into()).unwrap();
    let order = async |authority| {
        let acme = pipeline(authority, Arc::new(MemoryStore::new()), &Recorder::default());
        acme.obtain(&spec(&["example.test"])).await
    };
    let none = order(authority(&ca).unwrap()).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Config, "{}", none.report());
    assert!(none.hint().unwrap().contains("external_account"));
    for wrong in [with("kid-2", key), with("kid-1", "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc")] {
        let error = order(wrong).await.unwrap_err();
        assert!(error.hint().unwrap().contains("external account binding"), "{}", error.report());
        assert!(!error.report().contains("d3Jvbmc"));
    }
    order(with("kid-1", key)).await.unwrap();
}

#[tokio::test]
async fn terms_are_agreed_to_only_by_an_explicit_call() {
    let ca = credulous().start().await.unwrap();
    let silent = Authority::custom(&ca.directory_url()).unwrap().extra_roots_pem(ca.root_pem()).unwrap();
    let acme = pipeline(silent, Arc::new(MemoryStore::new()), &Recorder::default());
    let error = acme.obtain(&spec(&["example.test"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.hint().unwrap().contains("agree_to_terms"), "{}", error.report());
    assert_eq!(ca.accounts(), 0);
}

#[tokio::test]
async fn the_chain_to_the_preferred_root_is_taken() {
    let ca = credulous().alternate_roots(2).start().await.unwrap();
    let acme = pipeline(authority(&ca).unwrap(), Arc::new(MemoryStore::new()), &Recorder::default());
    let mut roots = std::collections::BTreeSet::new();
    let default = acme.obtain(&spec(&["a.example.test"])).await.unwrap().bundle.facts().root.clone();
    roots.insert(default.clone());
    for (number, pem) in ca.issuing_roots_pem().await.unwrap().iter().enumerate() {
        let root = common_name(pem);
        let wanted = spec(&[&format!("h{number}.example.test")]).preferred_chain(&root);
        let got = acme.obtain(&wanted).await.unwrap();
        assert_eq!(got.bundle.facts().root, root);
        roots.insert(root);
    }
    assert_eq!(roots.len(), 3, "{roots:?}");
    let other = spec(&["z.example.test"]).preferred_chain("No Such Root");
    assert_eq!(acme.obtain(&other).await.unwrap().bundle.facts().root, default);
}

fn common_name(pem: &str) -> String {
    let id = "root".parse().unwrap();
    acmekit::Bundle::new(id, pem, None, acmekit::Origin::default()).unwrap().facts().issuer.clone()
}

#[tokio::test]
async fn profiles_are_sent_and_unknown_ones_refused_before_ordering() {
    let day = Duration::from_secs(86_400);
    let ca = credulous().profile("long", 90 * day).profile("short", 6 * day).start().await.unwrap();
    if ca.offers_profiles().is_empty() {
        return eprintln!("skipped: this Pebble knows no profiles");
    }
    let acme = pipeline(authority(&ca).unwrap(), Arc::new(MemoryStore::new()), &Recorder::default());
    for (profile, days) in [("long", 90), ("short", 6)] {
        let spec = spec(&[&format!("{profile}.example.test")]).profile(profile);
        let issued = acme.obtain(&spec).await.unwrap();
        let facts = issued.bundle.facts();
        let life = facts.not_after.duration_since(facts.not_before).unwrap();
        assert_eq!(life.as_secs().div_ceil(86_400), days, "{profile}");
    }
    let error = acme.obtain(&spec(&["x.example.test"]).profile("eternal")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.hint().unwrap().contains("long"), "{}", error.report());
    assert_eq!(ca.orders(), 2);
}

#[tokio::test]
async fn with_the_callers_csr_no_private_key_is_kept() {
    let ca = credulous().start().await.unwrap();
    let acme = pipeline(authority(&ca).unwrap(), Arc::new(MemoryStore::new()), &Recorder::default());
    let key = PrivateKey::generate(KeyType::EcdsaP384).await.unwrap();
    let csr = Csr::generate(&key, spec(&["example.test", "www.example.test"]).identifiers()).unwrap();
    let wanted = CertificateSpec::from_csr(Csr::from_pem(&csr.to_pem()).unwrap()).unwrap();
    let issued = acme.obtain(&wanted).await.unwrap();
    assert!(issued.bundle.key().is_none());
    assert_eq!(issued.bundle.public_key_info(), key.public_key_info());
    assert!(!acme.obtain(&wanted).await.unwrap().fresh);
}

#[tokio::test]
async fn a_ca_that_wants_to_be_asked_much_later_is_left_alone() {
    let ca = credulous().retry_after(Duration::from_secs(3600)).start().await.unwrap();
    if !ca.offers_renewal_info() {
        return eprintln!("skipped: a Pebble this old sends no Retry-After");
    }
    let seen = Recorder::default();
    let acme = pipeline(authority(&ca).unwrap(), Arc::new(MemoryStore::new()), &seen);
    let wanted = spec(&["example.test"]);
    // Once while it validates, perhaps, and once while it issues; each run goes on where it was.
    let mut runs = 0;
    let issued = loop {
        runs += 1;
        let error = match acme.obtain(&wanted).await {
            Ok(issued) => break issued,
            Err(error) => error,
        };
        assert!(runs < 10, "{}", error.report());
        assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
        assert!(matches!(error.retry(), Retry::After(wait) if wait > Duration::from_secs(3000)), "{error:?}");
    };
    assert!(issued.fresh && runs > 1);
    assert_eq!((ca.orders(), ca.issued_certificates()), (1, 1), "{:#?}", seen.all());
}

#[tokio::test]
async fn another_key_type_for_a_named_certificate_is_ordered_at_once() {
    let ca = credulous().start().await.unwrap();
    let acme = pipeline(authority(&ca).unwrap(), Arc::new(MemoryStore::new()), &Recorder::default());
    let web = spec(&["example.test"]).named("web").unwrap();
    acme.obtain(&web).await.unwrap();
    let stronger = web.key_type(KeyType::EcdsaP384);
    assert!(acme.obtain(&stronger).await.unwrap().fresh);
    assert!(!acme.obtain(&stronger).await.unwrap().fresh);
}

#[tokio::test]
async fn an_address_can_be_certified_where_a_solver_fits() {
    let ca = credulous().start().await.unwrap();
    let acme = pipeline(authority(&ca).unwrap(), Arc::new(MemoryStore::new()), &Recorder::default());
    let error = acme.obtain(&spec(&["127.0.0.1"])).await.unwrap_err();
    assert!(error.hint().unwrap().contains("addresses need http-01"), "{}", error.report());
}

#[tokio::test]
async fn a_name_the_ca_refuses_is_told_with_its_reason() {
    let ca = credulous().block("blocked.test").start().await.unwrap();
    let acme = pipeline(authority(&ca).unwrap(), Arc::new(MemoryStore::new()), &Recorder::default());
    let error = acme.obtain(&spec(&["www.blocked.test"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected, "{}", error.report());
    assert!(error.to_string().contains("blocked.test"));
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_told_as_such() {
    let gone = Authority::custom("https://127.0.0.1:1/dir").unwrap().agree_to_terms();
    let acme = pipeline(gone, Arc::new(MemoryStore::new()), &Recorder::default());
    let error = acme.obtain(&spec(&["example.test"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.to_string().contains("directory") && error.to_string().contains("refused"),
        "{}",
        error.report()
    );
}

#[tokio::test]
async fn a_ca_that_is_not_trusted_is_told_as_such() {
    let ca = credulous().start().await.unwrap();
    let stranger = Authority::custom(&ca.directory_url()).unwrap().agree_to_terms();
    let acme = pipeline(stranger, Arc::new(MemoryStore::new()), &Recorder::default());
    let error = acme.obtain(&spec(&["example.test"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("certificate"), "{}", error.report());
    assert!(error.hint().unwrap().contains("extra roots"));
}
