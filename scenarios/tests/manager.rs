//! Many certificates in the long run, in time that passes as fast as it can: the CA, the manager and tokio live by one
//! clock, and nothing goes over a network.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use acmekit::backoff::Class;
use acmekit::limits::{Limit, Limits};
use acmekit::manager::{Heard, Managed, State, Status};
use acmekit::renewal::Reason;
use acmekit::stores::MemoryStore;
use acmekit::{
    Authority, Bundle, CertificateId, CertificateSpec, Challenge, ChallengeKind, ChallengeSolver, Clock,
    Condition, Deadline, Deployer, Error, ErrorKind, KeyType, Manager, ManagerBuilder, Outcome, Pipeline,
    PipelineBuilder, Presentation, Result, Store, What, async_trait,
};
use acmekit_scenarios::NoProof;
use acmekit_server::faults::{Fault, presets};
use acmekit_server::{Endpoint, MovableClock, RenewalInfo, TestCa};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// A CA in paused time.
async fn ca(clock: &MovableClock, limits: Limits) -> TestCa {
    TestCa::builder().always_valid().clock(clock.clone()).limits(limits).start().await.unwrap()
}

fn authority(ca: &TestCa, id: &str) -> Authority {
    Authority::custom(&ca.directory_url()).unwrap().with_id(id).agree_to_terms().through(ca.in_process())
}

fn parts(ca: &TestCa, store: &Arc<dyn Store>) -> PipelineBuilder {
    Pipeline::builder(authority(ca, "first"), Arc::clone(store)).clock(Arc::new(ca.clock().clone()))
}

fn plain(ca: &TestCa, store: &Arc<dyn Store>) -> Manager {
    Manager::builder(parts(ca, store).solver(NoProof::default()).build().unwrap()).start()
}

/// A manager that falls back to the second CA.
fn over_two(first: &TestCa, second: &TestCa) -> ManagerBuilder {
    let parts = parts(first, &memory()).fall_back_to(authority(second, "second"));
    Manager::builder(parts.solver(NoProof::default()).build().unwrap())
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

fn spec(name: &str) -> CertificateSpec {
    CertificateSpec::new([name]).unwrap()
}

async fn status_of(manager: &Manager, id: &CertificateId) -> acmekit::manager::CertificateStatus {
    let status = manager.status().await.unwrap();
    status.certificates.into_iter().find(|one| one.id == *id).unwrap()
}

/// Waits, in paused time, until a status fits.
async fn until(manager: &Manager, limit: Duration, fits: impl Fn(&Status) -> bool + Send + Sync) -> Status {
    let reached = async {
        loop {
            let status = manager.status().await.unwrap();
            if fits(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(limit, reached).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn certificates_are_got_and_renewed_in_their_time() {
    let clock = MovableClock::paced(start());
    let ca = ca(&clock, Limits::none()).await;
    let manager = plain(&ca, &memory());
    for n in 0..20 {
        manager.add(spec(&format!("n{n}.example"))).await.unwrap();
    }
    manager.settled().await.unwrap();
    let status = manager.status().await.unwrap();
    assert_eq!((status.certificates.len(), ca.certificates_issued()), (20, 20));
    for one in &status.certificates {
        assert_eq!((one.state, one.trouble.is_none()), (State::Resting, true), "{one:?}");
        assert!(
            one.next.is_some() && one.renewal.is_some_and(|decision| decision.reason == Reason::Suggested)
        );
    }
    tokio::time::sleep(50 * DAY).await;
    assert_eq!(ca.certificates_issued(), 20);
    tokio::time::sleep(20 * DAY).await;
    assert_eq!(ca.certificates_issued(), 40);
    let replaced = ca.state().orders().into_iter().filter(|order| order.replaces.is_some()).count();
    assert_eq!(replaced, 20, "each renewal says what it replaces");
    tokio::time::sleep(300 * DAY).await;
    assert_eq!(ca.certificates_issued(), 20 * 7);
    manager.shutdown().await;
}

/// Says no for some names, and may be told to say yes; counts how often it was asked.
#[derive(Debug, Clone, Default)]
struct Picky {
    bad: Arc<Mutex<BTreeSet<String>>>,
    asked: Arc<AtomicUsize>,
}

impl Picky {
    fn change<T>(&self, change: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
        change(&mut self.bad.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl ChallengeSolver for Picky {
    fn kind(&self) -> ChallengeKind {
        ChallengeKind::Dns01
    }
    async fn prepare(&self, challenge: &Challenge, _: Deadline) -> Result<Presentation> {
        let bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        if bad.contains(&challenge.identifier.to_string()) {
            self.asked.fetch_add(1, Ordering::SeqCst);
            return Err(
                Error::new(ErrorKind::Auth, "picky.prepare", "the token is wrong").with_hint("renew it")
            );
        }
        Ok(Presentation::new(challenge.clone()))
    }
    async fn present(&self, presentation: &Presentation, _: Deadline) -> Result<Presentation> {
        Ok(presentation.clone())
    }
    async fn ready(&self, _: &Presentation, _: Deadline) -> Result<()> {
        Ok(())
    }
    async fn cleanup(&self, _: &Presentation, _: Deadline) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_fails_holds_nobody_back_and_is_tried_less_and_less_often() {
    let clock = MovableClock::paced(start());
    let ca = ca(&clock, Limits::none()).await;
    let picky = Picky::default();
    picky.change(|bad| bad.insert("bad.example".to_owned()));
    let manager = Manager::builder(parts(&ca, &memory()).solver(picky.clone()).build().unwrap()).start();
    let bad = spec("bad.example");
    manager.add(bad.clone()).await.unwrap();
    for n in 0..5 {
        manager.add(spec(&format!("n{n}.example"))).await.unwrap();
    }
    manager.settled().await.unwrap();
    assert_eq!(ca.certificates_issued(), 5);
    let status = status_of(&manager, bad.id()).await;
    let trouble = status.trouble.clone().unwrap();
    assert_eq!(
        (trouble.failures, trouble.class, trouble.hint.as_deref()),
        (1, Class::NeedsPerson, Some("renew it"))
    );
    assert!(status.needs_person());
    // 1, 10 and 100 minutes, each a little longer, then days.
    tokio::time::sleep(3 * HOUR).await;
    assert_eq!(picky.asked.load(Ordering::SeqCst), 4);
    tokio::time::sleep(5 * DAY).await;
    let asked = picky.asked.load(Ordering::SeqCst);
    assert!((8..=9).contains(&asked), "{asked}");
    // A person has mended it, and does not want to wait.
    picky.change(BTreeSet::clear);
    assert!(manager.force(bad.id()).await.unwrap());
    manager.settled().await.unwrap();
    let status = status_of(&manager, bad.id()).await;
    assert!(status.trouble.is_none() && status.serial.is_some(), "{status:?}");
    assert_eq!(ca.certificates_issued(), 6);
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn certificates_are_added_changed_paused_forced_and_removed_at_any_time() {
    let clock = MovableClock::paced(start());
    let ca = ca(&clock, Limits::none()).await;
    let manager = plain(&ca, &memory());
    let before = spec("www.example").named("web").unwrap();
    let after = CertificateSpec::new(["www.example", "new.example"]).unwrap().named("web").unwrap();
    let id = before.id().clone();
    assert!(!manager.force(&id).await.unwrap() && !manager.remove(&id).await.unwrap());
    manager.add(before.clone()).await.unwrap();
    manager.add(before).await.unwrap();
    manager.settled().await.unwrap();
    assert_eq!(ca.certificates_issued(), 1);

    manager.add(after).await.unwrap();
    manager.settled().await.unwrap();
    assert_eq!(ca.certificates_issued(), 2);
    assert_eq!(status_of(&manager, &id).await.names.len(), 2);

    assert!(manager.force(&id).await.unwrap());
    manager.settled().await.unwrap();
    assert_eq!(ca.certificates_issued(), 3);

    assert!(manager.pause(&id).await.unwrap());
    tokio::time::sleep(80 * DAY).await;
    let paused = status_of(&manager, &id).await;
    assert_eq!((paused.state, paused.next.is_none(), ca.certificates_issued()), (State::Paused, true, 3));
    assert!(manager.resume(&id).await.unwrap());
    manager.settled().await.unwrap();
    assert_eq!(ca.certificates_issued(), 4);

    assert!(manager.remove(&id).await.unwrap());
    tokio::time::sleep(200 * DAY).await;
    assert_eq!((ca.certificates_issued(), manager.status().await.unwrap().certificates.len()), (4, 0));
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn more_than_the_limits_allow_is_got_as_early_as_they_allow_and_never_refused() {
    let clock = MovableClock::paced(start());
    let limits = Limits::none()
        .with_orders_per_account(Limit::new(10, HOUR))
        .with_certificates_per_domain(Limit::new(5, DAY));
    let ca = ca(&clock, limits.clone()).await;
    let authority = authority(&ca, "first").with_limits(limits);
    let pipeline = Pipeline::builder(authority, memory())
        .clock(Arc::new(clock.clone()))
        .solver(NoProof::default())
        .build()
        .unwrap();
    let specs: Vec<CertificateSpec> = (0..60)
        .map(|n| spec(&if n % 5 == 0 { format!("n{n}.example.com") } else { format!("n{n}.example") }))
        .collect();
    let plan = pipeline.plan(&specs).await.unwrap();
    let manager = Manager::builder(pipeline).start();
    for spec in specs {
        manager.add(spec).await.unwrap();
    }
    let all = |status: &Status| status.certificates.iter().all(|one| one.serial.is_some());
    let status = until(&manager, 30 * DAY, all).await;
    let late = status.at.duration_since(plan.done_at).unwrap_or_default();
    assert!(late < HOUR, "{late:?} later than planned");
    assert!(status.at + Duration::from_secs(600) > plan.done_at, "earlier than planned");
    assert_eq!(ca.requests(Endpoint::NewOrder), 60, "no order was refused");
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_before_a_restart_goes_on_and_nothing_is_ordered_twice() {
    let clock = MovableClock::paced(start());
    let ca = ca(&clock, Limits::none()).await;
    let store = memory();
    for round in 0..40 {
        let manager = plain(&ca, &store);
        for n in 0..30 {
            manager.add(spec(&format!("n{n}.example"))).await.unwrap();
        }
        // In paused time what is under way only ends when all rests: it is dropped at some point of the way.
        for _ in 0..round * 7 {
            tokio::task::yield_now().await;
        }
        drop(manager);
    }
    let manager = plain(&ca, &store);
    for n in 0..30 {
        manager.add(spec(&format!("n{n}.example"))).await.unwrap();
    }
    manager.settled().await.unwrap();
    assert_eq!(ca.certificates_issued(), 30);
    assert!(store.list(&"journals".parse().unwrap()).await.unwrap().is_empty());
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn two_managers_on_one_store_issue_each_certificate_once() {
    let clock = MovableClock::paced(start());
    let ca = ca(&clock, Limits::none()).await;
    let store = memory();
    let build = || plain(&ca, &store);
    let managers = [build(), build(), build()];
    for n in 0..30 {
        for manager in &managers {
            manager.add(spec(&format!("n{n}.example"))).await.unwrap();
        }
    }
    tokio::time::sleep(HOUR).await;
    assert_eq!(ca.certificates_issued(), 30);
    tokio::time::sleep(200 * DAY).await;
    assert_eq!(ca.certificates_issued(), 30 * 4);
    for manager in managers {
        let status = manager.status().await.unwrap();
        assert!(status.certificates.iter().all(|one| one.trouble.is_none()), "{status:?}");
        manager.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_no_more_often_by_several_managers_than_by_one() {
    let clock = MovableClock::paced(start());
    let ca = ca(&clock, Limits::none()).await;
    let (store, picky) = (memory(), Picky::default());
    picky.change(|bad| bad.insert("bad.example".to_owned()));
    let build = || Manager::builder(parts(&ca, &store).solver(picky.clone()).build().unwrap()).start();
    let managers = [build(), build(), build(), build()];
    for manager in &managers {
        manager.add(spec("bad.example")).await.unwrap();
    }
    // At once, and after 1, 10 and 100 minutes, as one manager does.
    for (minutes, asked) in [(1, 1), (5, 2), (20, 3), (180, 4)] {
        let so_far = clock.now().duration_since(start()).unwrap();
        tokio::time::sleep(Duration::from_secs(60 * minutes).saturating_sub(so_far)).await;
        assert_eq!(picky.asked.load(Ordering::SeqCst), asked, "after {minutes} minutes");
    }
    for manager in managers {
        manager.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_ca_is_down_the_next_one_issues_and_then_the_first_again() {
    let clock = MovableClock::paced(start());
    let (first, second) = (ca(&clock, Limits::none()).await, ca(&clock, Limits::none()).await);
    let manager = over_two(&first, &second).start();
    first.faults().add(Fault::everywhere(presets::html_502()).always());
    for n in 0..20 {
        manager.add(spec(&format!("n{n}.example"))).await.unwrap();
    }
    // But for those by which it was found out nobody waits.
    manager.settled().await.unwrap();
    assert!(second.certificates_issued() >= 17, "{}", second.certificates_issued());
    let all = |status: &Status| status.certificates.iter().all(|one| one.serial.is_some());
    let status = until(&manager, HOUR, all).await;
    assert_eq!((first.certificates_issued(), second.certificates_issued()), (0, 20));
    assert!(status.authorities[0].down_until.is_some() && status.authorities[1].down_until.is_none());
    first.faults().clear();
    tokio::time::sleep(90 * DAY).await;
    assert_eq!((first.certificates_issued(), second.certificates_issued()), (20, 20));
    let status = manager.status().await.unwrap();
    assert!(status.certificates.iter().all(|one| one.authority.as_deref() == Some("first")));
    assert!(status.authorities[0].down_until.is_none());
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_certificate_all_alone_turns_to_the_next_ca_soon_too() {
    let clock = MovableClock::paced(start());
    let (first, second) = (ca(&clock, Limits::none()).await, ca(&clock, Limits::none()).await);
    let manager = over_two(&first, &second).start();
    first.faults().add(Fault::everywhere(presets::html_502()).always());
    manager.add(spec("www.example")).await.unwrap();
    let had =
        |status: &Status| status.certificates.iter().all(|one| one.authority.as_deref() == Some("second"));
    until(&manager, HOUR, had).await;
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_certificate_whose_validation_failed_is_tried_at_staging_first() {
    let clock = MovableClock::paced(start());
    let (live, staging) = (ca(&clock, Limits::none()).await, ca(&clock, Limits::none()).await);
    let authority = authority(&live, "live").with_staging(authority(&staging, "staging"));
    let pipeline = Pipeline::builder(authority, memory())
        .clock(Arc::new(clock.clone()))
        .solver(NoProof::default())
        .build()
        .unwrap();
    let manager = Manager::builder(pipeline).start();
    live.faults().add(Fault::preset("order-invalid").unwrap().always());
    staging.faults().add(Fault::preset("order-invalid").unwrap().always());
    manager.add(spec("www.example")).await.unwrap();
    manager.settled().await.unwrap();
    let (live_orders, staging_orders) = (live.state().orders().len(), staging.state().orders().len());
    assert_eq!((live_orders, staging_orders), (1, 0));
    tokio::time::sleep(DAY).await;
    assert_eq!(live.state().orders().len(), 1, "failures go to staging");
    assert!((2..=4).contains(&staging.state().orders().len()), "{}", staging.state().orders().len());
    live.faults().clear();
    staging.faults().clear();
    tokio::time::sleep(3 * DAY).await;
    let status = status_of(&manager, spec("www.example").id()).await;
    assert_eq!(status.authority.as_deref(), Some("live"));
    manager.shutdown().await;
}

/// A server that is out of order for a while.
#[derive(Debug, Clone, Default)]
struct Flaky {
    broken: Arc<AtomicBool>,
    tried: Arc<AtomicUsize>,
    served: Arc<Mutex<String>>,
}

#[async_trait]
impl Deployer for Flaky {
    fn id(&self) -> &str {
        "flaky"
    }
    async fn deploy(&self, bundle: &Bundle) -> Result<Outcome> {
        self.tried.fetch_add(1, Ordering::SeqCst);
        if self.broken.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Deploy, "flaky.deploy", "out of order"));
        }
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&bundle.facts().serial);
        Ok(Outcome::Applied)
    }
    async fn verify(&self, _: &Bundle) -> Result<()> {
        Ok(())
    }
    async fn remove(&self, _: &CertificateId) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployer_that_fails_is_tried_again_without_a_new_certificate() {
    let clock = MovableClock::paced(start());
    let ca = ca(&clock, Limits::none()).await;
    let flaky = Flaky::default();
    flaky.broken.store(true, Ordering::SeqCst);
    let store = memory();
    let build = || parts(&ca, &store).solver(NoProof::default()).deployer(flaky.clone()).build().unwrap();
    let manager = Manager::builder(build()).start();
    let id = spec("www.example").id().clone();
    manager.add(spec("www.example")).await.unwrap();
    manager.settled().await.unwrap();
    let status = status_of(&manager, &id).await;
    let deployment = &status.deployments["flaky"];
    assert!(!deployment.current && deployment.trouble.is_some() && status.trouble.is_none(), "{status:?}");
    tokio::time::sleep(3 * HOUR).await;
    assert_eq!(flaky.tried.load(Ordering::SeqCst), 4);
    // Its schedule survives a restart.
    manager.shutdown().await;
    let manager = Manager::builder(build()).start();
    manager.add(spec("www.example")).await.unwrap();
    manager.settled().await.unwrap();
    assert_eq!(flaky.tried.load(Ordering::SeqCst), 4);
    flaky.broken.store(false, Ordering::SeqCst);
    tokio::time::sleep(2 * DAY).await;
    let status = status_of(&manager, &id).await;
    assert!(status.deployments["flaky"].current, "{status:?}");
    assert_eq!(Some(flaky.served.lock().unwrap().clone()), status.serial);
    assert_eq!(ca.certificates_issued(), 1);
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_served_is_looked_at_again_only_where_that_is_asked_for() {
    let clock = MovableClock::paced(start());
    let ca = ca(&clock, Limits::none()).await;
    let (flaky, store) = (Flaky::default(), memory());
    let builder = || {
        let parts = parts(&ca, &store).solver(NoProof::default()).deployer(flaky.clone());
        Manager::builder(parts.build().unwrap())
    };
    for (manager, tried) in [
        (builder(), 1),
        (builder(), 1),
        (builder().deploy_when_added(), 2),
        (builder().deploy_when_added(), 3),
    ] {
        let manager = manager.start();
        manager.add(spec("www.example")).await.unwrap();
        manager.settled().await.unwrap();
        assert_eq!(flaky.tried.load(Ordering::SeqCst), tried);
        manager.shutdown().await;
    }
    // Also while a renewal fails.
    ca.faults().add(Fault::everywhere(presets::html_502()).always());
    let manager = builder().deploy_when_added().start();
    manager.add(Managed::new(spec("www.example")).at_once()).await.unwrap();
    manager.settled().await.unwrap();
    assert_eq!((flaky.tried.load(Ordering::SeqCst), ca.certificates_issued()), (4, 1));
    assert!(status_of(&manager, spec("www.example").id()).await.trouble.is_some());
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_had_at_once_is_ordered_once() {
    let clock = MovableClock::paced(start());
    let ca = ca(&clock, Limits::none()).await;
    let store = memory();
    for issued in 1..=3 {
        let manager = plain(&ca, &store);
        manager.add(Managed::new(spec("www.example")).at_once()).await.unwrap();
        manager.settled().await.unwrap();
        assert_eq!(ca.certificates_issued(), issued);
        manager.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_forced_while_somebody_else_is_at_it_is_done_afterwards() {
    let clock = MovableClock::paced(start());
    let ca = ca(&clock, Limits::none()).await;
    let (store, id) = (memory(), spec("www.example").id().clone());
    let manager = plain(&ca, &store);
    manager.add(spec("www.example")).await.unwrap();
    manager.settled().await.unwrap();
    let lease = store.lease(&format!("certificates/{id}").parse().unwrap(), HOUR).await.unwrap().unwrap();
    manager.force(&id).await.unwrap();
    manager.settled().await.unwrap();
    tokio::time::sleep(HOUR / 2).await;
    assert_eq!(ca.certificates_issued(), 1);
    drop(lease);
    tokio::time::sleep(HOUR / 2).await;
    assert_eq!(ca.certificates_issued(), 2);
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_as_an_event() {
    let clock = MovableClock::paced(start());
    let ca = ca(&clock, Limits::none()).await;
    ca.faults().add(Fault::everywhere(presets::html_502()).always());
    let manager = plain(&ca, &memory());
    let mut events = manager.events();
    manager.add(spec("www.example")).await.unwrap();
    manager.settled().await.unwrap();
    let status = status_of(&manager, spec("www.example").id()).await;
    manager.shutdown().await;
    let mut failures = Vec::new();
    while let Some(heard) = events.next().await {
        if let Heard::Event(event) = heard
            && let What::Failed { trouble } = event.what
        {
            failures.push(trouble);
        }
    }
    assert_eq!(failures, [status.trouble.unwrap()]);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_the_ca_wants_replaced_is_replaced_within_hours() {
    let clock = MovableClock::paced(start());
    let ca = ca(&clock, Limits::none()).await;
    let store = memory();
    let pipeline = parts(&ca, &store).solver(NoProof::default()).build().unwrap();
    let leaf = pipeline.obtain(&spec("www.example")).await.unwrap().bundle.leaf_pem();
    let manager = Manager::builder(pipeline).start();
    let mut events = manager.events();
    manager.add(spec("www.example")).await.unwrap();
    tokio::time::sleep(10 * DAY).await;
    let past =
        RenewalInfo::new(clock.now() - 2 * HOUR, clock.now() - HOUR).with_explanation("https://ca.test/why");
    ca.set_renewal_window(&leaf, past).unwrap();
    tokio::time::sleep(7 * HOUR).await;
    assert_eq!(ca.certificates_issued(), 2);
    manager.shutdown().await;
    let mut explained = false;
    while let Some(heard) = events.next().await {
        if let Heard::Event(event) = heard {
            explained |= serde_json::to_string(&event).unwrap().contains("https://ca.test/why");
        }
    }
    assert!(explained);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_spends_what_the_backoff_allows() {
    let clock = MovableClock::paced(start());
    let ca = ca(&clock, Limits::none()).await;
    ca.faults().add(Fault::preset("order-invalid").unwrap().always());
    let store = memory();
    let begun = clock.now();
    for _ in 0..200 {
        let manager = plain(&ca, &store);
        manager.add(spec("www.example")).await.unwrap();
        manager.settled().await.unwrap();
        drop(manager);
        tokio::time::sleep(Duration::from_secs(15)).await;
    }
    let passed = clock.now().duration_since(begun).unwrap();
    assert!(passed >= 50 * Duration::from_secs(60), "{passed:?}");
    // At once, after a minute, after ten more; the next one only after another hundred.
    assert_eq!(ca.requests(Endpoint::NewOrder), 3, "in {passed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_compromised_certificate_is_revoked_once_the_new_one_is_served_everywhere() {
    for kind in [KeyType::EcdsaP256, KeyType::EcdsaP384] {
        let clock = MovableClock::paced(start());
        let ca = ca(&clock, Limits::none()).await;
        let (flaky, store) = (Flaky::default(), memory());
        let build = || parts(&ca, &store).solver(NoProof::default()).deployer(flaky.clone()).build().unwrap();
        let wish = spec("www.example").key_type(kind);
        let old = build().obtain(&wish).await.unwrap().bundle;
        let manager = Manager::builder(build()).start();
        manager.add(wish.clone()).await.unwrap();
        manager.settled().await.unwrap();
        flaky.broken.store(true, Ordering::SeqCst);
        assert!(manager.rotate_compromised(wish.id()).await.unwrap());
        manager.settled().await.unwrap();
        assert_eq!(ca.certificates_issued(), 2);
        assert!(!ca.is_revoked(&old.leaf_pem()).unwrap(), "the old one is still served");
        // What is left to do survives a restart.
        drop(manager);
        flaky.broken.store(false, Ordering::SeqCst);
        let manager = Manager::builder(build()).start();
        manager.add(wish.clone()).await.unwrap();
        tokio::time::sleep(DAY).await;
        assert!(ca.is_revoked(&old.leaf_pem()).unwrap());
        assert_eq!(ca.certificates_issued(), 2);
        let new = build().load(wish.id()).await.unwrap().unwrap();
        assert_ne!(new.public_key_info(), old.public_key_info());
        let serial = status_of(&manager, wish.id()).await.serial;
        assert_eq!(Some(flaky.served.lock().unwrap().clone()), serial);
        assert!(store.list(&"compromised".parse().unwrap()).await.unwrap().is_empty());
        assert_eq!(store.list(&"blocked-keys".parse().unwrap()).await.unwrap().len(), 1);
        manager.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_for_five_thousand_names_is_what_the_ca_grants() {
    let clock = MovableClock::paced(start());
    let ca = ca(&clock, Limits::lets_encrypt()).await;
    let store = memory();
    let build = |limits| {
        let authority = authority(&ca, "first").with_limits(limits);
        let parts = Pipeline::builder(authority, Arc::clone(&store)).solver(NoProof::default());
        parts.clock(Arc::new(clock.clone())).build().unwrap()
    };
    let (careful, careless) = (build(Limits::lets_encrypt()), build(Limits::none()));
    // A thousand of them share ten registered domains.
    let specs: Vec<CertificateSpec> = (0..5000)
        .map(|n| {
            spec(&if n % 5 == 0 { format!("n{n}.d{}.example", n % 50) } else { format!("n{n}.example") })
        })
        .collect();
    let plan = careful.plan(&specs).await.unwrap();
    let mut in_time: Vec<_> = plan.orders.iter().zip(&specs).collect();
    in_time.sort_by_key(|(planned, _)| planned.at);
    let (mut tried_early, mut waits) = (0, 0);
    for (position, (planned, spec)) in in_time.into_iter().enumerate() {
        let left = planned.at.duration_since(clock.now()).unwrap_or_default();
        waits += usize::from(planned.waits_for.is_some());
        // Longer before than what is added for the CA's spending later than we do: 2 s for orders, 2 min for domains.
        let early = Duration::from_secs(if planned.waits_for.iter().any(|why| why.contains("orders")) {
            3
        } else {
            150
        });
        if position % 100 == 99 && left > early {
            tokio::time::sleep(left - early).await;
            let error = careless.obtain(spec).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RateLimited, "{planned:?}: {}", error.report());
            tried_early += 1;
        }
        tokio::time::sleep(planned.at.duration_since(clock.now()).unwrap_or_default()).await;
        careful.obtain(spec).await.unwrap_or_else(|error| panic!("{planned:?}: {}", error.report()));
    }
    assert_eq!(ca.certificates_issued(), 5000);
    assert!(tried_early > 20 && waits > 4000, "{tried_early} tried early, {waits} wait");
    assert!(clock.now() <= plan.done_at + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_an_authority_that_is_no_more_is_had_anew() {
    let clock = MovableClock::paced(start());
    let (first, second) = (ca(&clock, Limits::none()).await, ca(&clock, Limits::none()).await);
    let store = memory();
    let old = parts(&first, &store).solver(NoProof::default()).build().unwrap();
    old.obtain(&spec("www.example")).await.unwrap();
    let new = Pipeline::builder(authority(&second, "second"), Arc::clone(&store)).solver(NoProof::default());
    let manager = Manager::builder(new.clock(Arc::new(clock.clone())).build().unwrap()).start();
    manager.add(spec("www.example")).await.unwrap();
    manager.settled().await.unwrap();
    assert_eq!(second.certificates_issued(), 1);
    tokio::time::sleep(DAY).await;
    assert!(second.requests(Endpoint::RenewalInfo) < 10);
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_was_deleted_is_had_anew() {
    let clock = MovableClock::paced(start());
    let ca = ca(&clock, Limits::none()).await;
    let (flaky, store) = (Flaky::default(), memory());
    flaky.broken.store(true, Ordering::SeqCst);
    let build = || parts(&ca, &store).solver(NoProof::default()).deployer(flaky.clone()).build().unwrap();
    let manager = Manager::builder(build()).start();
    manager.add(spec("www.example")).await.unwrap();
    manager.settled().await.unwrap();
    let entry = format!("certificates/{}", spec("www.example").id()).parse().unwrap();
    store.delete(&entry, &Condition::ANY).await.unwrap();
    flaky.broken.store(false, Ordering::SeqCst);
    tokio::time::sleep(DAY).await;
    assert_eq!(ca.certificates_issued(), 2);
    assert!(status_of(&manager, spec("www.example").id()).await.deployments["flaky"].current);
    manager.shutdown().await;
}
