//! Renewal at the time the CA suggests (RFC 9773), whatever the CA makes of that.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use acmekit::renewal::{Input, RenewalPolicy};
use acmekit::stores::MemoryStore;
use acmekit::{CertificateSpec, Clock, Expected, Issuance, Pipeline, Secret, Store, StoreKey};
use acmekit::{Condition, Timeouts};
use acmekit_scenarios::{NoProof, Recorder, trusted};
use acmekit_server::faults::{Action, Fault};
use acmekit_server::{Endpoint, MovableClock, RenewalInfo, TestCa};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A CA and a pipeline that live by one clock.
struct World {
    ca: TestCa,
    clock: MovableClock,
    store: Arc<dyn Store>,
    seen: Recorder,
    pipeline: Pipeline,
    spec: CertificateSpec,
}

impl World {
    async fn start() -> Self {
        let clock = MovableClock::new();
        let ca = TestCa::builder().always_valid().clock(clock.clone()).start().await.unwrap();
        let mut timeouts = Timeouts::default();
        timeouts.request = Duration::from_secs(2);
        let authority = trusted(&ca.directory_url(), ca.root_pem()).unwrap().with_timeouts(timeouts);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let seen = Recorder::default();
        let pipeline = Pipeline::builder(authority, Arc::clone(&store))
            .solver(NoProof::default())
            .observer(seen.observer())
            .clock(Arc::new(clock.clone()))
            .build()
            .unwrap();
        let spec = CertificateSpec::new(["example.test", "*.example.test"]).unwrap();
        Self { ca, clock, store, seen, pipeline, spec }
    }

    async fn obtain(&self) -> Issuance {
        self.pipeline.obtain(&self.spec).await.unwrap()
    }

    fn asked(&self) -> u64 {
        self.ca.requests(Endpoint::RenewalInfo)
    }

    fn suggest(&self, of: &Issuance, from: Duration, to: Duration) {
        let now = self.clock.now();
        let window = RenewalInfo::new(now + from, now + to).with_explanation("https://ca.example.test/why");
        self.ca.set_renewal_window(&of.bundle.leaf_pem(), window).unwrap();
    }
}

fn by_lifetime_of(issued: &Issuance) -> std::time::SystemTime {
    RenewalPolicy::default().decide(&Input::of(issued.bundle.id(), issued.bundle.facts())).at
}

#[tokio::test]
async fn the_ca_is_asked_as_often_as_it_wants_and_its_time_is_kept() {
    let world = World::start().await;
    let first = world.obtain().await;
    assert_eq!((first.fresh, world.asked()), (true, 0));
    let second = world.obtain().await;
    assert_eq!((second.fresh, world.asked()), (false, 1));
    // Boulder's window: 2 % of the lifetime around two thirds of it.
    let apart = |one: std::time::SystemTime, other| {
        one.duration_since(other).unwrap_or_else(|error| error.duration())
    };
    assert!(apart(second.renew_at, by_lifetime_of(&first)) < 3 * DAY);
    for _ in 0..3 {
        assert_eq!(world.obtain().await.renew_at, second.renew_at, "the dice are thrown once");
    }
    assert_eq!(world.asked(), 1);
    world.clock.advance(7 * HOUR);
    assert_eq!((world.obtain().await.renew_at, world.asked()), (second.renew_at, 2));
    assert_eq!(world.seen.count("renewal-suggested"), 1);

    let left = second.renew_at.duration_since(world.clock.now()).unwrap();
    world.clock.advance(left - HOUR);
    assert!(!world.obtain().await.fresh);
    world.clock.advance(2 * HOUR);
    let renewed = world.obtain().await;
    assert!(renewed.fresh);
    let replaced = world.ca.state().orders().into_iter().filter_map(|order| order.replaces).next();
    assert_eq!(replaced, first.bundle.facts().ari_id);
    // The new certificate has a window of its own.
    assert!(world.obtain().await.renew_at > renewed.bundle.facts().not_before + 50 * DAY);
}

#[tokio::test]
async fn a_window_that_moves_is_followed_and_one_in_the_past_means_now() {
    let world = World::start().await;
    let first = world.obtain().await;
    world.clock.advance(5 * DAY);
    world.suggest(&first, 10 * DAY, 11 * DAY);
    let told = world.obtain().await;
    let from_now = told.renew_at.duration_since(world.clock.now()).unwrap();
    assert!(!told.fresh && (10 * DAY..11 * DAY).contains(&from_now), "{from_now:?}");
    world.suggest(&first, Duration::ZERO, HOUR);
    assert!(!world.obtain().await.fresh, "the CA is not asked yet");
    // An incident: the window has passed by the time the CA is asked.
    world.clock.advance(7 * HOUR);
    let replaced = world.obtain().await;
    assert!(replaced.fresh);
    assert!(world.seen.all().iter().any(|event| event.contains("https://ca.example.test/why")));
}

#[tokio::test]
async fn a_ca_that_always_says_now_gets_no_order_after_the_other() {
    let world = World::start().await;
    let always = Fault::preset("renewal-in-the-past").unwrap().always();
    let struck = world.ca.faults().add(always);
    world.obtain().await;
    let young = world.obtain().await;
    assert!(!young.fresh, "it has not lived a twentieth of its life");
    world.clock.advance(5 * DAY);
    assert!(world.obtain().await.fresh);
    for _ in 0..10 {
        world.clock.advance(HOUR);
        assert!(!world.obtain().await.fresh);
    }
    assert_eq!(world.ca.certificates_issued(), 2);
    assert!(world.ca.faults().hits_of(struck) >= 2);
}

#[tokio::test]
async fn a_ca_that_says_nothing_sensible_leaves_it_to_the_lifetime() {
    let mut faults: Vec<(String, Fault)> = Fault::all_named()
        .into_iter()
        .filter(|(name, _)| name.starts_with("renewal-") && *name != "renewal-in-the-past")
        .map(|(name, fault)| (name.to_owned(), fault))
        .collect();
    let at = |action| Fault::new(Endpoint::RenewalInfo, action).always();
    for (name, action) in [
        ("502 in HTML", acmekit_server::faults::presets::html_502()),
        ("a reset", Action::Reset),
        ("a hang", Action::Hang),
        ("a flood", Action::Flood(1 << 30)),
        ("half an answer", Action::Cut(50)),
    ] {
        faults.push((name.to_owned(), at(action)));
    }
    for (name, fault) in faults {
        let world = World::start().await;
        let first = world.obtain().await;
        let by_lifetime = by_lifetime_of(&first);
        let struck = world.ca.faults().add(fault);
        let next = tokio::time::timeout(Duration::from_secs(10), world.obtain()).await.unwrap();
        assert!(!next.fresh, "{name}");
        assert!(world.ca.faults().hits_of(struck) > 0, "{name} never struck");
        if name != "renewal-without-retry-after" {
            assert_eq!(next.renew_at, by_lifetime, "{name}");
        }
        // It is left alone for a while.
        let asked = world.ca.faults().hits_of(struck);
        world.obtain().await;
        assert_eq!(world.ca.faults().hits_of(struck), asked, "{name}");
        let left = next.renew_at.duration_since(world.clock.now()).unwrap();
        world.clock.advance(left + 2 * DAY);
        assert!(world.obtain().await.fresh, "{name}");
    }
}

#[tokio::test]
async fn what_was_kept_and_cannot_be_read_is_asked_for_anew() {
    let world = World::start().await;
    world.obtain().await;
    world.obtain().await;
    let key: StoreKey = format!("renewals/{}", world.spec.id()).parse().unwrap();
    let kept = world.store.load(&key).await.unwrap().unwrap();
    let damaged = Secret::new(b"{\"certificate\":7".to_vec());
    world.store.save(&key, &damaged, &Condition::expecting(Expected::Version(kept.version))).await.unwrap();
    assert!(!world.obtain().await.fresh);
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn the_status_says_what_the_next_run_would_do_and_asks_nobody() {
    let world = World::start().await;
    let nothing = world.pipeline.status(&world.spec).await.unwrap();
    assert!(nothing.bundle.is_none() && nothing.renewal.is_none() && !nothing.fit && !nothing.under_way);
    world.obtain().await;
    let second = world.obtain().await;
    let asked = (world.asked(), world.ca.requests(Endpoint::Directory));
    world.clock.advance(7 * HOUR);
    let status = world.pipeline.status(&world.spec).await.unwrap();
    assert_eq!(status.renewal.unwrap().at, second.renew_at, "as the CA suggested when it was asked");
    assert!(status.fit && !status.under_way);
    assert_eq!(status.bundle.unwrap().facts(), second.bundle.facts());
    assert_eq!((world.asked(), world.ca.requests(Endpoint::Directory)), asked);
    let more = CertificateSpec::new(["example.test", "*.example.test", "other.test"]).unwrap();
    let more = more.named(world.spec.id().as_str()).unwrap();
    assert!(!world.pipeline.status(&more).await.unwrap().fit, "a name is missing");
    // An order that fails at its end is gone on with.
    world.ca.faults().add(Fault::new(Endpoint::Finalize, Action::Reset).always());
    world.pipeline.renew(&world.spec).await.unwrap_err();
    assert!(world.pipeline.status(&world.spec).await.unwrap().under_way);
}
