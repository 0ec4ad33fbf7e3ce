//! What is left half done is gone on with, in ways the crash matrix does not come by: other solvers, later clocks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use acmekit::stores::MemoryStore;
use acmekit::{
    Authority, Bundle, CertificateId, CertificateSpec, Challenge, ChallengeKind, ChallengeSolver, Condition,
    Deadline, Deployer, Entry, Error, ErrorKind, KeyType, Lease, Outcome, Pipeline, Presentation, Result,
    Secret, Store, StoreKey, Timeouts, Version, async_trait,
};
use acmekit_scenarios::{NoProof, Recorder, trusted};
use acmekit_server::faults::{Fault, presets};
use acmekit_server::{Endpoint, MovableClock, TestCa};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn spec() -> CertificateSpec {
    CertificateSpec::new(["www.example.test"]).unwrap()
}

fn authority(ca: &TestCa) -> Authority {
    trusted(&ca.directory_url(), ca.root_pem()).unwrap()
}

#[tokio::test]
async fn an_order_is_written_down_before_its_authorizations_are_read() {
    let ca = TestCa::builder()
        .always_valid()
        .settings(|settings| settings.reuse_orders = false)
        .start()
        .await
        .unwrap();
    let acme = Pipeline::builder(authority(&ca), Arc::new(MemoryStore::new()))
        .solver(NoProof::default())
        .build()
        .unwrap();
    ca.faults().add(Fault::new(Endpoint::Authorization, presets::html_502()).always());
    for _ in 0..3 {
        acme.obtain(&spec()).await.unwrap_err();
    }
    assert_eq!(ca.state().orders().len(), 1, "each run has ordered anew");
    ca.faults().clear();
    acme.obtain(&spec()).await.unwrap();
    assert_eq!(ca.state().orders().len(), 1);
}

/// A store in which, while told so, no journal can be deleted: as if the process were killed just before.
#[derive(Debug, Default)]
struct Sticky {
    store: MemoryStore,
    sticks: AtomicBool,
    /// Somebody else has taken over every lease.
    taken: AtomicBool,
}

#[async_trait]
impl Store for Sticky {
    async fn load(&self, key: &StoreKey) -> Result<Option<Entry>> {
        self.store.load(key).await
    }
    async fn save(&self, key: &StoreKey, value: &Secret<Vec<u8>>, condition: &Condition) -> Result<Version> {
        self.store.save(key, value, condition).await
    }
    async fn delete(&self, key: &StoreKey, condition: &Condition) -> Result<()> {
        if self.sticks.load(Ordering::SeqCst) && key.as_str().starts_with("journals/") {
            return Err(Error::new(ErrorKind::Storage, "test.delete", "killed here"));
        }
        self.store.delete(key, condition).await
    }
    async fn list(&self, prefix: &StoreKey) -> Result<Vec<StoreKey>> {
        self.store.list(prefix).await
    }
    async fn lease(&self, name: &StoreKey, ttl: Duration) -> Result<Option<Lease>> {
        self.store.lease(name, ttl).await
    }
    async fn renew(&self, lease: &Lease) -> Result<()> {
        if self.taken.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Conflict, "test.renew", "taken over"));
        }
        self.store.renew(lease).await
    }
}

#[tokio::test]
async fn a_run_that_ended_before_its_journal_did_is_no_renewal_later() {
    let clock = MovableClock::new();
    let ca = TestCa::builder().always_valid().clock(clock.clone()).start().await.unwrap();
    let store = Arc::new(Sticky::default());
    let acme = Pipeline::builder(authority(&ca), store.clone())
        .solver(NoProof::default())
        .clock(Arc::new(clock.clone()))
        .build()
        .unwrap();
    store.sticks.store(true, Ordering::SeqCst);
    acme.obtain(&spec()).await.unwrap_err();
    let first = acme.load(spec().id()).await.unwrap().expect("it was stored");
    store.sticks.store(false, Ordering::SeqCst);
    // Nobody asks again before the certificate is due.
    clock.advance(70 * DAY);
    let renewed = acme.obtain(&spec()).await.unwrap();
    assert!(renewed.fresh);
    assert_ne!(
        renewed.bundle.facts().serial,
        first.facts().serial,
        "the old certificate was downloaded again"
    );
    assert_eq!(ca.certificates_issued(), 2);
    assert_eq!(store.list(&"journals".parse().unwrap()).await.unwrap(), []);
}

/// Keeps what stands here, and may wait for ever until it can be seen.
#[derive(Debug, Clone)]
struct Board {
    kind: ChallengeKind,
    standing: Arc<Mutex<BTreeSet<String>>>,
    waits: bool,
}

impl Board {
    fn new(kind: ChallengeKind) -> Self {
        Self { kind, standing: Arc::default(), waits: false }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<String>)) {
        change(&mut self.standing.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn count(&self) -> usize {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[async_trait]
impl ChallengeSolver for Board {
    fn kind(&self) -> ChallengeKind {
        self.kind.clone()
    }
    async fn prepare(&self, challenge: &Challenge, _: Deadline) -> Result<Presentation> {
        Ok(Presentation::new(challenge.clone()))
    }
    async fn present(&self, presentation: &Presentation, _: Deadline) -> Result<Presentation> {
        let token = presentation.challenge().token.clone();
        self.change(|standing| {
            standing.insert(token);
        });
        Ok(presentation.clone())
    }
    async fn ready(&self, _: &Presentation, _: Deadline) -> Result<()> {
        if self.waits {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
    async fn cleanup(&self, presentation: &Presentation, _: Deadline) -> Result<()> {
        let token = presentation.challenge().token.clone();
        self.change(|standing| {
            standing.remove(&token);
        });
        Ok(())
    }
}

#[tokio::test]
async fn what_another_solver_put_up_before_a_crash_is_taken_away() {
    let ca = TestCa::builder().always_valid().start().await.unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let dns = Board::new(ChallengeKind::Dns01);
    let http = Board::new(ChallengeKind::Http01);
    let killed = Pipeline::builder(authority(&ca), Arc::clone(&store))
        .solver(Board { waits: true, ..dns.clone() })
        .build()
        .unwrap();
    // Dropped where it waits: like being killed.
    let dropped = tokio::time::timeout(Duration::from_secs(2), killed.obtain(&spec())).await;
    assert!(dropped.is_err());
    assert_eq!(dns.count(), 1);
    // The next release of the program proves by http-01, and can still take away what dns-01 left.
    let next = Pipeline::builder(authority(&ca), Arc::clone(&store))
        .solver(http.clone())
        .solver(dns.clone())
        .build()
        .unwrap();
    next.obtain(&spec()).await.unwrap();
    assert_eq!((dns.count(), http.count()), (0, 0));
    assert_eq!(ca.state().orders().len(), 1, "the same order went on");
}

#[tokio::test]
async fn what_no_solver_can_take_away_any_more_stays_in_the_journal() {
    let ca = TestCa::builder().always_valid().start().await.unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let dns = Board::new(ChallengeKind::Dns01);
    let http = Board::new(ChallengeKind::Http01);
    let build = |solver: &Board| {
        Pipeline::builder(authority(&ca), Arc::clone(&store)).solver(solver.clone()).build().unwrap()
    };
    let killed = build(&Board { waits: true, ..dns.clone() });
    let dropped = tokio::time::timeout(Duration::from_secs(2), killed.obtain(&spec())).await;
    assert!(dropped.is_err());
    build(&http).obtain(&spec()).await.unwrap();
    assert_eq!((dns.count(), http.count()), (1, 0));
    // Once the solver is back, the sweep finds it.
    assert_eq!(build(&dns).sweep().await.unwrap(), 1);
    assert_eq!(dns.count(), 0);
    assert_eq!(store.list(&"journals".parse().unwrap()).await.unwrap(), []);
}

/// Counts what it is given, and may never end.
#[derive(Debug, Clone, Default)]
struct Counting(Arc<AtomicUsize>, bool);

#[async_trait]
impl Deployer for Counting {
    fn id(&self) -> &str {
        "counting"
    }
    async fn deploy(&self, _: &Bundle) -> Result<Outcome> {
        self.0.fetch_add(1, Ordering::SeqCst);
        if self.1 {
            std::future::pending::<()>().await;
        }
        Ok(Outcome::Applied)
    }
    async fn verify(&self, _: &Bundle) -> Result<()> {
        Ok(())
    }
    async fn remove(&self, _: &CertificateId) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn who_has_lost_the_lease_deploys_nothing() {
    let ca = TestCa::builder().always_valid().start().await.unwrap();
    let store = Arc::new(Sticky::default());
    let deployed = Counting::default();
    let acme = Pipeline::builder(authority(&ca), store.clone())
        .solver(NoProof::default())
        .deployer(deployed.clone())
        .build()
        .unwrap();
    acme.obtain(&spec()).await.unwrap();
    store.taken.store(true, Ordering::SeqCst);
    let error = acme.obtain(&spec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(deployed.0.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_deployer_that_does_not_end_says_that_what_is_served_is_not_known() {
    let ca = TestCa::builder().always_valid().start().await.unwrap();
    let mut timeouts = Timeouts::default();
    timeouts.deploy = Duration::from_millis(200);
    let acme = Pipeline::builder(authority(&ca).with_timeouts(timeouts), Arc::new(MemoryStore::new()))
        .solver(NoProof::default())
        .deployer(Counting(Arc::default(), true))
        .build()
        .unwrap();
    let issued = acme.obtain(&spec()).await.unwrap();
    let error = issued.served().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.report().contains("what is served now is not known"), "{}", error.report());
}

#[tokio::test]
async fn an_order_that_another_certificate_of_the_account_has_used_up_is_not_waited_for() {
    let ca = TestCa::builder().always_valid().start().await.unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let board = Board::new(ChallengeKind::Dns01);
    let build =
        |solver: Board| Pipeline::builder(authority(&ca), Arc::clone(&store)).solver(solver).build().unwrap();
    let (small, large) = (spec(), spec().key_type(KeyType::EcdsaP384));
    let killed = build(Board { waits: true, ..board.clone() });
    assert!(tokio::time::timeout(Duration::from_secs(2), killed.obtain(&large)).await.is_err());
    let acme = build(board.clone());
    acme.obtain(&small).await.unwrap();
    assert_eq!(ca.state().orders().len(), 1, "the CA gives the account its open order again");
    assert!(acme.obtain(&large).await.unwrap().fresh);
    assert!(!acme.obtain(&large).await.unwrap().fresh, "what is stored is what was wished for");
    assert_eq!((ca.certificates_issued(), board.count()), (2, 0));
}

#[tokio::test]
async fn an_order_is_not_given_up_for_what_a_proxy_says() {
    for endpoint in [Endpoint::Directory, Endpoint::NewNonce, Endpoint::Order, Endpoint::Authorization] {
        let ca = TestCa::builder()
            .always_valid()
            .settings(|settings| settings.reuse_orders = false)
            .start()
            .await
            .unwrap();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let build = |waits| {
            let board = Board { waits, ..Board::new(ChallengeKind::Dns01) };
            Pipeline::builder(authority(&ca), Arc::clone(&store)).solver(board).build().unwrap()
        };
        assert!(tokio::time::timeout(Duration::from_secs(2), build(true).obtain(&spec())).await.is_err());
        let struck = ca.faults().add(Fault::new(endpoint, presets::html_404()).always());
        build(false).obtain(&spec()).await.unwrap_err();
        assert!(ca.faults().hits_of(struck) > 0, "{endpoint}");
        ca.faults().clear();
        build(false).obtain(&spec()).await.unwrap();
        assert_eq!(ca.state().orders().len(), 1, "{endpoint}");
    }
}

#[tokio::test]
async fn a_wish_that_comes_back_is_served_from_the_store() {
    let ca = TestCa::builder().always_valid().start().await.unwrap();
    let acme = Pipeline::builder(authority(&ca), Arc::new(MemoryStore::new()))
        .solver(NoProof::default())
        .build()
        .unwrap();
    let before = spec().named("web").unwrap();
    let after = CertificateSpec::new(["www.example.test", "new.example.test"]).unwrap().named("web").unwrap();
    acme.obtain(&before).await.unwrap();
    ca.faults().add(Fault::new(Endpoint::Authorization, presets::html_502()).always());
    acme.obtain(&after).await.unwrap_err();
    ca.faults().clear();
    assert!(!acme.obtain(&before).await.unwrap().fresh);
    assert_eq!(ca.certificates_issued(), 1);
}

/// Never says that it has put anything up, and does so after the call was given up.
#[derive(Debug, Clone)]
struct Late(Board);

#[async_trait]
impl ChallengeSolver for Late {
    fn kind(&self) -> ChallengeKind {
        self.0.kind()
    }
    async fn prepare(&self, challenge: &Challenge, deadline: Deadline) -> Result<Presentation> {
        self.0.prepare(challenge, deadline).await
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "awaited at once, unless it is dropped: that is what is tested"
    )]
    async fn present(&self, presentation: &Presentation, deadline: Deadline) -> Result<Presentation> {
        let (board, presentation) = (self.0.clone(), presentation.clone());
        // What the far side does when it finds the time to.
        let work = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            board.present(&presentation, deadline).await
        });
        work.await.unwrap()
    }
    async fn ready(&self, _: &Presentation, _: Deadline) -> Result<()> {
        Ok(())
    }
    async fn cleanup(&self, presentation: &Presentation, deadline: Deadline) -> Result<()> {
        self.0.cleanup(presentation, deadline).await
    }
}

#[tokio::test]
async fn what_comes_to_stand_after_presenting_was_given_up_is_taken_away_later() {
    let clock = MovableClock::new();
    let ca = TestCa::builder().always_valid().clock(clock.clone()).start().await.unwrap();
    let mut timeouts = Timeouts::default();
    timeouts.present = Duration::from_secs(1);
    let board = Board::new(ChallengeKind::Dns01);
    let acme = Pipeline::builder(authority(&ca).with_timeouts(timeouts), Arc::new(MemoryStore::new()))
        .solver(Late(board.clone()))
        .clock(Arc::new(clock.clone()))
        .build()
        .unwrap();
    assert_eq!(acme.obtain(&spec()).await.unwrap_err().kind(), ErrorKind::Timeout);
    let came = async {
        while board.count() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), came).await.unwrap();
    clock.advance(timeouts.poll);
    assert_eq!(acme.sweep().await.unwrap(), 1);
    assert_eq!(board.count(), 0);
}

#[tokio::test]
async fn the_kind_of_challenge_that_is_asked_for_is_the_only_one() {
    let ca = TestCa::builder().always_valid().start().await.unwrap();
    let seen = Recorder::default();
    let acme = Pipeline::builder(authority(&ca), Arc::new(MemoryStore::new()))
        .solver(Board::new(ChallengeKind::Http01))
        .solver(Board::new(ChallengeKind::Dns01))
        .observer(seen.observer())
        .build()
        .unwrap();
    for kind in [ChallengeKind::Dns01, ChallengeKind::Http01] {
        let named = CertificateSpec::new([format!("{kind}.test")]).unwrap();
        acme.obtain(&named.challenge(kind.clone())).await.unwrap();
        let presented = seen.all().into_iter().rfind(|event| event.contains("challenge-presented")).unwrap();
        assert!(presented.contains(&format!("\"kind\":\"{kind}\"")), "{presented}");
    }
    let error = acme.obtain(&spec().challenge(ChallengeKind::TlsAlpn01)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("wanted=tls-alpn-01"), "{error}");
}

#[tokio::test]
async fn a_run_that_does_not_reach_the_ca_takes_away_what_a_crash_has_left() {
    let ca = TestCa::builder().always_valid().start().await.unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let board = Board::new(ChallengeKind::Dns01);
    let build =
        |solver: Board| Pipeline::builder(authority(&ca), Arc::clone(&store)).solver(solver).build().unwrap();
    let killed = build(Board { waits: true, ..board.clone() });
    assert!(tokio::time::timeout(Duration::from_secs(2), killed.obtain(&spec())).await.is_err());
    assert_eq!(board.count(), 1);
    ca.faults().add(Fault::new(Endpoint::Order, presets::html_502()).always());
    build(board.clone()).obtain(&spec()).await.unwrap_err();
    assert_eq!(board.count(), 0);
    ca.faults().clear();
    build(board.clone()).obtain(&spec()).await.unwrap();
    assert_eq!((ca.state().orders().len(), board.count()), (1, 0));
}
