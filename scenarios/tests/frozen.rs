//! A CA that freezes (SIGSTOP) in any phase costs an error that names phase and deadline, in time;
//! after SIGCONT the next run goes on with the same order.

#![expect(clippy::disallowed_methods, reason = "the test measures by the wall")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use acmekit::stores::MemoryStore;
use acmekit::{CertificateSpec, ErrorKind, Pipeline, Store};
use acmekit_scenarios::{Recorder, World, authority, dns01};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Freezes the CA when the first request of one phase is about to be sent.
struct Freezer {
    phase: &'static str,
    ca: Arc<World>,
    done: Arc<AtomicBool>,
}

#[derive(Default)]
struct Phase(String);

impl Visit for Phase {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "phase" {
            self.0 = format!("{value:?}");
        }
    }
}

impl<S: tracing::Subscriber> Layer<S> for Freezer {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        _: &tracing::span::Id,
        _: Context<'_, S>,
    ) {
        if attributes.metadata().name() != "exchange" {
            return;
        }
        let mut phase = Phase::default();
        attributes.record(&mut phase);
        if phase.0 == self.phase && !self.done.swap(true, Ordering::SeqCst) {
            if self.phase == "validation" {
                // A CA that is stopped in the middle of its own DNS lookup finds, when it wakes up,
                // that the lookup has timed out, and fails the order by itself: wait until it is done.
                self.wait_until_validated();
            }
            self.ca.ca.freeze().unwrap();
        }
    }
}

impl Freezer {
    fn wait_until_validated(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.ca.ca.log().matches("set VALID by completed challenge").count() < 2 {
            assert!(Instant::now() < deadline, "the CA did not validate: {}", self.ca.ca.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

async fn frozen_in(phase: &'static str) {
    let world = Arc::new(World::start().await.unwrap());
    let frozen = Arc::new(AtomicBool::new(false));
    let freezer = Freezer { phase, ca: Arc::clone(&world), done: Arc::clone(&frozen) };
    let _guard = tracing::subscriber::set_default(
        tracing_subscriber::registry().with(freezer).with(acmekit_testbed::log_layer()),
    );

    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let seen = Recorder::default();
    let acme = || {
        Pipeline::builder(authority(&world.ca).unwrap(), Arc::clone(&store))
            .solver(dns01(&world.dns).unwrap())
            .observer(seen.observer())
            .build()
            .unwrap()
    };
    let spec = CertificateSpec::new(["example.test", "*.example.test"]).unwrap();
    let started = Instant::now();
    let error = acme().obtain(&spec).await.unwrap_err();
    let took = started.elapsed();
    assert!(frozen.load(Ordering::SeqCst), "the run never came to {phase}");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    let told = error.to_string();
    assert!(told.contains(&format!("phase={phase}")) && told.contains("deadline=3s"), "{told}");
    // One request's deadline of 3 s, and what came before.
    assert!(took < Duration::from_secs(8), "it took {took:?}");
    // What the CA was told of must still stand when it wakes up; nothing else may.
    let told = matches!(phase, "challenge" | "validation");
    assert_eq!(world.leftovers().await.unwrap().len(), if told { 2 } else { 0 });

    world.ca.thaw().unwrap();
    let orders = seen.count("order-created");
    let issued = acme().obtain(&spec).await.unwrap();
    assert!(issued.fresh);
    assert_eq!(seen.count("order-resumed"), orders, "an order that was known goes on: {:#?}", seen.all());
    assert_eq!(seen.count("order-created"), 1);
    assert_eq!((world.ca.issued_certificates(), world.ca.accounts()), (1, 1));
    assert_eq!(world.leftovers().await.unwrap(), []);
}

macro_rules! phases {
    ($($test:ident: $phase:literal),* $(,)?) => {
        $(#[tokio::test]
        async fn $test() {
            frozen_in($phase).await;
        })*
    };
}

phases! {
    in_the_directory: "directory",
    in_new_nonce: "newNonce",
    in_new_account: "newAccount",
    in_new_order: "newOrder",
    in_an_authorization: "authorization",
    in_a_challenge: "challenge",
    in_validation: "validation",
    in_finalize: "finalize",
    in_issuance: "issuance",
    in_the_download: "certificate",
}
