//! Two processes of the program on one store, one of them killed in the middle of a renewal.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::time::Duration;

use acmekit_server::faults::{Action, Fault};
use acmekit_server::{Endpoint, TestCa};
use acmekit_testbed::{Port, Running, free_port, handshake, wait_for};
use rustix::process::Signal;

const NAME: &str = "www.example.test";
const LONG: Duration = Duration::from_secs(90);

fn start(ca: &TestCa, folder: &Path, replica: &str, port: &Port) -> Running {
    let (listen, directory) = (port.addr().to_string(), ca.directory_url());
    let (root, store) = (folder.join("root.pem"), folder.join("store"));
    let arguments = [
        NAME,
        "--replica",
        replica,
        "--listen",
        &listen,
        "--directory",
        &directory,
        "--root",
        root.to_str().unwrap(),
        "--store",
        store.to_str().unwrap(),
        "--agree-to-terms",
    ];
    Running::start(env!("CARGO_BIN_EXE_replicas"), &arguments).unwrap()
}

async fn serial(port: &Port) -> String {
    handshake(port.addr(), NAME).await.unwrap().serial().unwrap()
}

/// Whether this replica has done such a thing itself.
fn has(replica: &Running, event: &str) -> bool {
    replica.said().iter().any(|line| line.contains(&format!("\"{event}\"")))
}

#[tokio::test]
async fn what_one_was_killed_over_the_other_brings_to_its_end_and_serves() {
    let ports = [free_port().unwrap(), free_port().unwrap()];
    // The CA turns to the second alone, as if a load balancer had chosen it.
    let ca = TestCa::builder().tls_port(ports[1].number()).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let attributes = acmekit::atomic::FileAttributes::mode(0o600);
    acmekit::atomic::write_file(&folder.path().join("root.pem"), ca.root_pem().as_bytes(), attributes)
        .unwrap();

    // The second is there before the first has ordered: its listener is what the CA asks.
    let slow = Fault::new(Endpoint::NewOrder, Action::Delay(Duration::from_secs(3)));
    let delayed = ca.faults().add(slow.times(1));
    let two = start(&ca, folder.path(), "two", &ports[1]);
    let asked = wait_for(LONG, "the second listens and has begun", || async {
        let is_there = handshake(ports[1].addr(), "nobody.example.test").await;
        let refused = is_there.is_err_and(|error| error.to_string().contains("alert"));
        (refused && ca.faults().hits_of(delayed) > 0).then_some(())
    });
    asked.await.unwrap();
    let mut one = start(&ca, folder.path(), "one", &ports[0]);
    one.says("serving", LONG).await.unwrap();
    two.says("serving", LONG).await.unwrap();
    let old = serial(&ports[0]).await;
    assert_eq!(serial(&ports[1]).await, old);

    // The first renews, and is killed when the CSR is on its way.
    let hanging = ca.faults().add(Fault::new(Endpoint::Finalize, Action::Hang).always());
    one.signal(Signal::HUP).unwrap();
    let stuck =
        wait_for(LONG, "the CSR is sent", || async { (ca.faults().hits_of(hanging) > 0).then_some(()) });
    stuck.await.unwrap();
    assert!(has(&one, "order-created"), "{}", one.log());
    let orders = ca.requests(Endpoint::NewOrder);
    one.kill().await.unwrap();
    ca.faults().remove(hanging);

    // Clients of the other notice nothing, and get the new one before long.
    let renewed = wait_for(LONG, "the other serves the new one", || async {
        let seen = serial(&ports[1]).await;
        (seen != old).then_some(seen)
    });
    let renewed = renewed.await.unwrap_or_else(|error| panic!("{error}\n{}", two.log()));
    assert!(has(&two, "order-resumed"), "{}", two.log());
    assert_eq!((ca.requests(Endpoint::NewOrder), ca.certificates_issued()), (orders, 2));

    // The one that was killed serves the same when it starts again.
    let one = start(&ca, folder.path(), "one", &ports[0]);
    one.says("serving", LONG).await.unwrap();
    assert_eq!(serial(&ports[0]).await, renewed);
}
