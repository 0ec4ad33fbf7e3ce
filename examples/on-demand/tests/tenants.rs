//! The program with a file of tenants that grows.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::time::Duration;

use acmekit_server::{Endpoint, TestCa};
use acmekit_testbed::{Running, free_port, handshake, wait_for};

const LONG: Duration = Duration::from_secs(60);

fn write(path: &Path, text: &str) {
    let attributes = acmekit::atomic::FileAttributes::mode(0o600);
    acmekit::atomic::write_file(path, text.as_bytes(), attributes).unwrap();
}

#[tokio::test]
async fn who_becomes_a_tenant_is_served_and_nobody_else() {
    let (port, folder) = (free_port().unwrap(), tempfile::tempdir().unwrap());
    let ca = TestCa::builder().tls_port(port.number()).start().await.unwrap();
    let of = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (root, tenants, store) = (of("root.pem"), of("tenants"), of("store"));
    write(root.as_ref(), ca.root_pem());
    write(tenants.as_ref(), "shop.example.test\n");
    let (listen, directory) = (port.addr().to_string(), ca.directory_url());
    let arguments = [
        "--tenants",
        &tenants,
        "--any-name",
        "--listen",
        &listen,
        "--store",
        &store,
        "--directory",
        &directory,
        "--root",
        &root,
        "--agree-to-terms",
    ];
    let mut service = Running::start(env!("CARGO_BIN_EXE_on-demand"), &arguments).unwrap();
    service.says("serving", LONG).await.unwrap();

    handshake(port.addr(), "shop.example.test").await.unwrap();
    handshake(port.addr(), "cafe.example.test").await.unwrap_err();
    assert_eq!(ca.requests(Endpoint::NewOrder), 1);
    write(tenants.as_ref(), "shop.example.test\nCafe.Example.Test.\n");
    let served = wait_for(LONG, "the new tenant is served", || async {
        handshake(port.addr(), "cafe.example.test").await.ok()
    });
    served.await.unwrap();
    assert_eq!((ca.requests(Endpoint::NewOrder), ca.certificates_issued()), (2, 2));
    assert!(service.end(LONG).await.unwrap().success(), "{}", service.log());
}
