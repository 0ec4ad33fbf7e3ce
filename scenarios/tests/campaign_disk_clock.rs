//! What the campaigns `disk` and `clock` have found, each as the shortest story that shows it. The CA's clock is right;
//! the client's is what a machine without a battery or with a bad time server has.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use acmekit::limits::{Limit, Limits};
use acmekit::stores::{FileStore, MemoryStore};
use acmekit::{Authority, CertificateSpec, Clock, Manager, Pipeline, Store};
use acmekit_scenarios::NoProof;
use acmekit_server::faults::{Fault, RetryAfter, presets};
use acmekit_server::{Endpoint, MovableClock, TestCa};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The client's clock: ahead of the CA's by so much.
#[derive(Debug, Clone)]
struct Ahead(MovableClock, Arc<Mutex<Duration>>);

impl Ahead {
    fn by(&self, ahead: Duration) {
        *self.1.lock().unwrap_or_else(PoisonError::into_inner) = ahead;
    }
}

impl Clock for Ahead {
    fn now(&self) -> SystemTime {
        self.0.now() + *self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct World {
    ca: TestCa,
    clock: Ahead,
    store: Arc<dyn Store>,
    limits: Limits,
}

impl World {
    async fn start() -> Self {
        let truth = MovableClock::paced(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let ca = TestCa::builder().always_valid().clock(truth.clone()).profile("day", "a day", DAY);
        let clock = Ahead(truth, Arc::default());
        let store = Arc::new(MemoryStore::with_clock(Arc::new(clock.clone())));
        Self { ca: ca.start().await.unwrap(), clock, store, limits: Limits::none() }
    }

    fn pipeline(&self) -> Pipeline {
        let authority = Authority::custom(&self.ca.directory_url()).unwrap().with_id("test").agree_to_terms();
        let authority = authority.with_limits(self.limits.clone()).through(self.ca.in_process());
        Pipeline::builder(authority, Arc::clone(&self.store))
            .solver(NoProof::default())
            .clock(Arc::new(self.clock.clone()))
            .build()
            .unwrap()
    }

    async fn manager(&self, spec: CertificateSpec) -> Manager {
        let manager = Manager::builder(self.pipeline()).start();
        manager.add(spec).await.unwrap();
        manager.settled().await.unwrap();
        manager
    }
}

fn spec(name: &str) -> CertificateSpec {
    CertificateSpec::new([name]).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_was_put_off_while_the_clock_was_ahead_is_done_once_it_is_right() {
    let world = World::start().await;
    let manager = world.manager(spec("www.example")).await;
    // The CA does not answer, either: it is left alone until some time of next year.
    world.ca.faults().add(Fault::everywhere(presets::unavailable(RetryAfter::Seconds(600))).always());
    world.clock.by(365 * DAY);
    tokio::time::sleep(2 * HOUR).await;
    world.ca.faults().clear();
    world.clock.by(Duration::ZERO);
    tokio::time::sleep(70 * DAY).await;
    assert_eq!(world.ca.certificates_issued(), 2, "it was not renewed");
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn by_a_clock_that_is_far_ahead_no_certificate_is_ordered_after_the_other() {
    let world = World::start().await;
    let wanted = spec("www.example").profile("day");
    let manager = world.manager(wanted.clone()).await;
    // Nearly a lifetime: each new one is due as soon as it comes.
    world.clock.by(20 * HOUR);
    tokio::time::sleep(6 * HOUR).await;
    let issued = world.ca.certificates_issued();
    assert!((2..=7).contains(&issued), "{issued} issued in six hours");
    manager.shutdown().await;
    let (pipeline, mut fresh) = (world.pipeline(), 0);
    for _ in 0..10 {
        fresh += usize::from(pipeline.obtain(&wanted).await.unwrap().fresh);
    }
    assert!(fresh <= 1, "{fresh} of ten calls ordered one");
}

#[tokio::test(start_paused = true)]
async fn certificates_that_have_expired_by_this_clock_are_not_ordered_one_after_the_other() {
    let world = World::start().await;
    world.clock.by(2 * DAY);
    let manager = world.manager(spec("www.example").profile("day")).await;
    tokio::time::sleep(6 * HOUR).await;
    let issued = world.ca.certificates_issued();
    assert!((1..=7).contains(&issued), "{issued} issued in six hours");
    world.clock.by(Duration::ZERO);
    tokio::time::sleep(10 * MINUTE).await;
    let status = manager.status().await.unwrap();
    assert!(status.certificates.iter().all(|one| one.serial.is_some()), "{status:?}");
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_spent_while_the_clock_was_ahead_is_not_spent_for_as_long() {
    let mut world = World::start().await;
    world.limits = Limits::none().with_orders_per_account(Limit::new(2, 10 * DAY));
    world.clock.by(365 * DAY);
    for n in 0..3 {
        // Orders have expired by this clock before they begin.
        world.pipeline().obtain(&spec(&format!("n{n}.example"))).await.unwrap_err();
    }
    world.clock.by(Duration::ZERO);
    tokio::time::sleep(11 * DAY).await;
    assert!(world.pipeline().obtain(&spec("www.example")).await.unwrap().fresh);
}

#[tokio::test(start_paused = true)]
async fn a_date_that_has_passed_by_this_clock_does_not_mean_at_once_again_and_again() {
    let world = World::start().await;
    world.clock.by(DAY);
    let busy = presets::rate_limited(RetryAfter::Date(10 * MINUTE));
    let busy = world.ca.faults().add(Fault::new(Endpoint::NewOrder, busy).always());
    let manager = Manager::builder(world.pipeline()).start();
    manager.add(spec("www.example")).await.unwrap();
    tokio::time::sleep(HOUR).await;
    let asked = world.ca.faults().hits_of(busy);
    assert!((1..=400).contains(&asked), "asked {asked} times in an hour");
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn who_hangs_on_a_lease_taken_while_the_clock_was_ahead_does_not_keep_it_for_as_long() {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(world.clock.clone());
    let files = FileStore::builder(folder.path().join("store")).clock(clock).open().await.unwrap();
    for store in [Arc::clone(&world.store), Arc::new(files)] {
        let name = "certificates/web".parse().unwrap();
        world.clock.by(365 * DAY);
        let hanging = store.lease(&name, MINUTE).await.unwrap().unwrap();
        assert!(store.lease(&name, MINUTE).await.unwrap().is_none());
        world.clock.by(Duration::ZERO);
        tokio::time::sleep(2 * MINUTE).await;
        let taken = store.lease(&name, MINUTE).await.unwrap();
        assert!(taken.is_some(), "{store:?}: it is still the one of who hangs");
        assert!(store.renew(&hanging).await.is_err(), "it has been taken over");
    }
}
