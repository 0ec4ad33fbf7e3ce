//! The program with openssl as its client.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use acmekit_server::TestCa;
use acmekit_testbed::{Running, free_port, run_program};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

const NAME: &str = "echo.example.test";
const LONG: Duration = Duration::from_secs(60);

fn write(path: &str, text: &str) {
    let attributes = acmekit::atomic::FileAttributes::mode(0o600);
    acmekit::atomic::write_file(Path::new(path), text.as_bytes(), attributes).unwrap();
}

#[tokio::test]
async fn a_line_comes_back_and_who_wants_http_does_not_get_in() {
    let (port, folder) = (free_port().unwrap(), tempfile::tempdir().unwrap());
    let ca = TestCa::builder().tls_port(port.number()).start().await.unwrap();
    let of = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (root, roots, store) = (of("root.pem"), of("roots.pem"), of("store"));
    write(&root, ca.root_pem());
    write(&roots, &ca.issuing_roots_pem().concat());
    let (address, directory) = (port.addr().to_string(), ca.directory_url());
    let arguments = [
        NAME,
        "--listen",
        &address,
        "--store",
        &store,
        "--directory",
        &directory,
        "--root",
        &root,
        "--agree-to-terms",
    ];
    let mut server = Running::start(env!("CARGO_BIN_EXE_tcp-tls"), &arguments).unwrap();
    server.says("serving", LONG).await.unwrap();

    let connect =
        ["s_client", "-connect", &address, "-servername", NAME, "-CAfile", &roots, "-verify_return_error"];
    let mut client = Command::new("openssl")
        .args(connect)
        .arg("-quiet")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    client.stdin.as_mut().unwrap().write_all(b"hello\n").await.unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let line = timeout(LONG, lines.next_line()).await.unwrap().unwrap();
    assert_eq!(line.as_deref(), Some("hello"), "{}", server.log());

    let http = [&connect[..], &["-alpn", "h2"]].concat();
    assert!(!run_program("openssl", "openssl", &http).await.unwrap().success);
    assert!(server.end(LONG).await.unwrap().success(), "{}", server.log());
}
