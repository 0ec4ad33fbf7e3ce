//! What the campaigns have found, each as small as it can be said. Those of plug-ins are in their own tests.

use std::sync::Arc;

use acmekit::atomic::{FileAttributes, write_file};
use acmekit::stores::{FileStore, MemoryStore};
use acmekit::{CertificateSpec, ErrorKind, Pipeline};
use acmekit_scenarios::{NoProof, trusted};
use acmekit_server::faults::{Action, Fault};
use acmekit_server::{Endpoint, TestCa};
use tokio::task::JoinSet;

/// `crash --seed 1 --round 104`: killed while it notes the format of a new store, a process left `.format.….tmp` beside
/// it for good. Everything goes by way of `tmp`, which the next one sweeps: where that is no folder, nothing is written.
#[tokio::test]
async fn a_new_store_writes_nothing_that_the_next_open_does_not_sweep() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("store");
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&folder).unwrap();
    write_file(&folder.join("tmp"), b"", FileAttributes::default()).unwrap();
    FileStore::open(&folder).await.unwrap_err();
    assert!(!folder.join("format").exists(), "the format was written by another way");

    std::fs::remove_file(folder.join("tmp")).unwrap();
    FileStore::open(&folder).await.unwrap();
    write_file(&folder.join("tmp/.format.0123456789abcdef.tmp"), b"acmekit", FileAttributes::default())
        .unwrap();
    FileStore::open(&folder).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.join("tmp")).unwrap().count(), 0);
}

/// `hostile --seed 2 --round 285`: of a chain that was cut off amid the intermediate, the leaf alone was stored and served.
#[tokio::test]
async fn a_chain_that_was_cut_off_is_not_stored_and_comes_whole_the_next_time() {
    for percent in [60, 73, 94, 99] {
        let ca = TestCa::builder().always_valid().start().await.unwrap();
        let authority = trusted(&ca.directory_url(), ca.root_pem()).unwrap();
        let acme = Pipeline::builder(authority, Arc::new(MemoryStore::new()))
            .solver(NoProof::default())
            .build()
            .unwrap();
        let spec = CertificateSpec::new(["www.example.test"]).unwrap();
        ca.faults().add(Fault::new(Endpoint::Certificate, Action::Cut(percent)));
        let error = acme.obtain(&spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{percent} %: {}", error.report());
        assert!(acme.load(spec.id()).await.unwrap().is_none());
        let issued = acme.obtain(&spec).await.unwrap();
        assert_eq!((issued.bundle.chain_der().len(), ca.certificates_issued()), (2, 1), "{percent} %");
    }
}

/// `crash --seed 3 --round 130`: of two requests that had each asked for a nonce, one took both, and the other said that
/// the CA gives none.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_nonce_that_was_asked_for_is_not_taken_by_another_request() {
    let ca = TestCa::builder().always_valid().start().await.unwrap();
    // So that each request has to ask for one.
    ca.faults().add(Fault::preset("missing-nonce").unwrap());
    let authority = trusted(&ca.directory_url(), ca.root_pem()).unwrap();
    let acme = Pipeline::builder(authority, Arc::new(MemoryStore::new())).solver(NoProof::default());
    let acme = Arc::new(acme.build().unwrap());
    let mut all = JoinSet::new();
    for place in 0..64 {
        let acme = Arc::clone(&acme);
        let spec = CertificateSpec::new([format!("n{place}.example.test")]).unwrap();
        all.spawn(async move { acme.obtain(&spec).await });
    }
    for done in all.join_all().await {
        done.unwrap();
    }
}
