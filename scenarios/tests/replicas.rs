//! Several processes' worth of servers on one store: any of them answers the CA, all of them serve what one has got.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acmekit::probe::served_chain;
use acmekit::stores::FileStore;
use acmekit::tls::{AutoTls, AutoTlsBuilder, TlsListener};
use acmekit::{Deadline, Event, Store, What};
use acmekit_scenarios::trusted;
use acmekit_server::faults::{Action, Fault};
use acmekit_server::{Endpoint, TestCa};
use acmekit_testbed::{Port, free_port, wait_for};
use tempfile::TempDir;
use tokio::task::JoinSet;

const NAME: &str = "www.example.test";
const LONG: Duration = Duration::from_secs(60);

/// A CA that turns to the second replica alone.
struct Stage {
    ca: TestCa,
    /// Of both replicas: one that is not asked, one that is.
    ports: [Port; 2],
    folder: TempDir,
}

/// What a replica has done itself.
type Done = Arc<Mutex<Vec<What>>>;

impl Stage {
    async fn set(by_http: bool) -> Self {
        let ports = [free_port().unwrap(), free_port().unwrap()];
        let asked = ports[1].number();
        let ca = TestCa::builder();
        let ca = if by_http { ca.http_port(asked) } else { ca.tls_port(asked) };
        Self { ca: ca.start().await.unwrap(), ports, folder: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> std::path::PathBuf {
        self.folder.path().join("store")
    }

    async fn replica(&self) -> (AutoTlsBuilder, Done) {
        let authority = trusted(&self.ca.directory_url(), self.ca.root_pem()).unwrap();
        let done = Done::default();
        let noted = Arc::clone(&done);
        // Each opens the folder by itself, as a process does.
        let builder = AutoTls::at(authority, [NAME])
            .folder(self.store())
            .follow_every(Duration::from_millis(100))
            .without_waiting()
            .pipeline(move |pipeline| {
                pipeline.observer(move |event: &Event| noted.lock().unwrap().push(event.what.clone()))
            });
        (builder, done)
    }

    async fn answers_left(&self) -> usize {
        let store = FileStore::open(self.store()).await.unwrap();
        store.list(&"answers".parse().unwrap()).await.unwrap().len()
    }
}

fn serve(mut listener: TlsListener) -> JoinSet<()> {
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    serving
}

async fn seen(address: SocketAddr) -> Option<Vec<u8>> {
    let chain = served_chain(address, &NAME.parse().unwrap(), Deadline::after(LONG)).await.ok()?;
    chain.first().cloned()
}

fn has_ordered(done: &Done) -> bool {
    done.lock().unwrap().iter().any(|what| matches!(what, What::OrderCreated { .. }))
}

#[tokio::test]
async fn the_one_that_did_not_order_answers_tls_alpn_01_and_serves_what_the_other_has_got() {
    let stage = Stage::set(false).await;
    // The answer of newOrder is late, so that the second is there before the CA asks, and after the first has ordered.
    stage
        .ca
        .faults()
        .add(Fault::new(Endpoint::NewOrder, Action::Delay(Duration::from_secs(2))).after_effect().times(1));
    let (first, of_first) = stage.replica().await;
    let first = first.start().await.unwrap();
    let one = serve(first.listen("127.0.0.1:0").await.unwrap());
    let ordering = wait_for(LONG, "the first has ordered", || async {
        (stage.ca.requests(Endpoint::NewOrder) == 1).then_some(())
    });
    ordering.await.unwrap();
    let (second, of_second) = stage.replica().await;
    let second = second.start().await.unwrap();
    let two = serve(second.listen(stage.ports[1].addr()).await.unwrap());

    let leaf = wait_for(LONG, "the second serves it", || seen(stage.ports[1].addr())).await.unwrap();
    first.ready(LONG).await.unwrap();
    assert!(has_ordered(&of_first) && !has_ordered(&of_second));
    assert_eq!(stage.ca.certificates_issued(), 1);

    // A renewal by the first: the second answers again, and serves it before long.
    for id in first.resolver().served() {
        assert!(first.manager().force(&id).await.unwrap());
    }
    let renewed = wait_for(LONG, "the second serves the renewed one", || async {
        seen(stage.ports[1].addr()).await.filter(|seen| *seen != leaf)
    });
    renewed.await.unwrap();
    assert!(!has_ordered(&of_second));
    assert_eq!((stage.ca.certificates_issued(), stage.answers_left().await), (2, 0));
    drop((one, two));
}

#[tokio::test]
async fn the_one_that_did_not_order_answers_http_01() {
    let stage = Stage::set(true).await;
    let (second, of_second) = stage.replica().await;
    stage
        .ca
        .faults()
        .add(Fault::new(Endpoint::NewOrder, Action::Delay(Duration::from_secs(2))).after_effect().times(1));
    let (first, of_first) = stage.replica().await;
    let first = first.by_http().start().await.unwrap();
    let _one = serve(first.listen("127.0.0.1:0").await.unwrap());
    let ordering = wait_for(LONG, "the first has ordered", || async {
        (stage.ca.requests(Endpoint::NewOrder) == 1).then_some(())
    });
    ordering.await.unwrap();
    let second = second.by_http().start().await.unwrap();
    let http = tokio::net::TcpListener::bind(stage.ports[1].addr()).await.unwrap();
    let router = second.http_router();
    let mut answering = JoinSet::new();
    answering.spawn(async move { axum::serve(http, router).await });
    let _two = serve(second.listen(stage.ports[0].addr()).await.unwrap());

    wait_for(LONG, "the second serves it", || seen(stage.ports[0].addr())).await.unwrap();
    assert!(has_ordered(&of_first) && !has_ordered(&of_second));
    let cleaned =
        wait_for(LONG, "no answer is left", || async { (stage.answers_left().await == 0).then_some(()) });
    cleaned.await.unwrap();
    assert_eq!(stage.ca.certificates_issued(), 1);
}

#[tokio::test]
async fn what_one_leaves_midway_another_brings_to_its_end() {
    let stage = Stage::set(false).await;
    let (second, of_second) = stage.replica().await;
    let (first, of_first) = stage.replica().await;
    let first = first.start().await.unwrap();
    let one = serve(first.listen(stage.ports[0].addr()).await.unwrap());
    let second = second.start().await.unwrap();
    let two = serve(second.listen(stage.ports[1].addr()).await.unwrap());
    let leaf =
        wait_for(LONG, "the second serves the first one", || seen(stage.ports[1].addr())).await.unwrap();
    wait_for(LONG, "both serve it", || seen(stage.ports[0].addr())).await.unwrap();
    let (first, second) = ((first, one, of_first), (second, two, of_second));
    // Whichever has ordered.
    let ((leader, serving, of_leader), (_replica, _serving, other), address) = match has_ordered(&first.2) {
        true => (first, second, stage.ports[1].addr()),
        false => (second, first, stage.ports[0].addr()),
    };
    of_leader.lock().unwrap().clear();
    other.lock().unwrap().clear();

    // The one that renews is gone the moment the CSR is sent.
    let hanging = stage.ca.faults().add(Fault::new(Endpoint::Finalize, Action::Hang).always());
    for id in leader.resolver().served() {
        assert!(leader.manager().force(&id).await.unwrap());
    }
    let stuck = wait_for(LONG, "it has sent the CSR", || async {
        (stage.ca.faults().hits_of(hanging) == 1).then_some(())
    });
    stuck.await.unwrap();
    drop((leader, serving));
    stage.ca.faults().remove(hanging);
    let finished = wait_for(LONG, "the other has finished it", || async {
        let stored = other.lock().unwrap().iter().any(|what| matches!(what, What::CertificateStored { .. }));
        stored.then_some(())
    });
    finished.await.unwrap();
    assert!(!has_ordered(&other), "it goes on with the same order");
    let renewed =
        wait_for(LONG, "it is served", || async { seen(address).await.filter(|seen| *seen != leaf) });
    renewed.await.unwrap();
    assert_eq!((stage.ca.certificates_issued(), stage.answers_left().await), (2, 0));
}
