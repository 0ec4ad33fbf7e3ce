//! The program as a script uses it: start, wait for the URL, use, end.

#![expect(clippy::unwrap_used, reason = "test code: what is impossible here may panic")]

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use acmekit_core::atomic::FileAttributes;
use acmekit_core::{Authority, CertificateSpec, Pipeline, solvers::Http01, stores::MemoryStore};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(60);

fn testca(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testca"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

/// Starts it on a free port and answers it with its directory URL.
async fn started(root: &Path, more: &[&str]) -> (Child, String) {
    let root = root.to_str().unwrap();
    let arguments = ["--listen", "127.0.0.1:0", "--root-out", root, "--always-valid"];
    let mut child = testca(&[&arguments, more].concat()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = timeout(SOON, lines.next_line()).await.unwrap().unwrap().unwrap();
    (child, url)
}

/// A client that trusts it.
fn client(url: &str, root: &Path) -> Pipeline {
    let trust = std::fs::read_to_string(root).unwrap();
    let authority = Authority::custom(url).unwrap().extra_roots_pem(&trust).unwrap().agree_to_terms();
    Pipeline::builder(authority, Arc::new(MemoryStore::new()))
        .solver(Http01::webroot(root.parent().unwrap()))
        .build()
        .unwrap()
}

async fn ends_well_on(signal: Signal, mut child: Child) {
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
    let status = timeout(SOON, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test]
async fn a_client_gets_a_certificate_from_it_and_sigterm_ends_it_well() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.pem");
    let of = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (roots, chain) = (of("roots.pem"), of("chain.pem"));
    let (child, url) = started(&root, &["--issuing-roots-out", &roots]).await;

    let pipeline = client(&url, &root);
    let spec = CertificateSpec::new(["www.example.test"]).unwrap();
    let issuance = pipeline.obtain(&spec).await.unwrap();
    assert_eq!(&issuance.bundle.facts().identifiers, spec.identifiers());
    let text = issuance.bundle.fullchain_pem();
    acmekit_core::atomic::write_file(chain.as_ref(), text.as_bytes(), FileAttributes::mode(0o600)).unwrap();
    let verify =
        ["verify", "-CAfile", &roots, "-untrusted", &chain, "-verify_hostname", "www.example.test", &chain];
    let verified = Command::new("openssl").args(verify).output().await.unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));

    ends_well_on(Signal::TERM, child).await;
}

#[tokio::test]
async fn sigint_ends_it_well() {
    let folder = tempfile::tempdir().unwrap();
    let (child, _) = started(&folder.path().join("root.pem"), &[]).await;
    ends_well_on(Signal::INT, child).await;
}

#[tokio::test]
async fn what_is_wrong_is_one_line_that_names_the_option_and_never_the_key() {
    for (arguments, option) in [
        (&["--listen", "127.0.0.1:0", "--eab", "kid:k%y-of-an-account"][..], "--eab"),
        (&["--listen", "127.0.0.1:0", "--root-out", "/nowhere/at/all/root.pem"][..], "--root-out"),
        // TEST-NET-1 (RFC 5737): no machine has this address.
        (&["--listen", "192.0.2.1:1"][..], "--listen"),
    ] {
        let output = timeout(SOON, testca(arguments).output()).await.unwrap().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(output.stdout.is_empty(), "a script would take it for the URL");
        assert!(told.contains(option) && told.lines().count() == 1, "{told}");
        assert!(!told.contains("k%y-of-an-account"), "{told}");
    }
}

#[tokio::test]
async fn it_misbehaves_and_limits_as_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (root, script) = (folder.path().join("root.pem"), folder.path().join("faults.json"));
    let text = br#"[{ "endpoint": "new-order", "action": "problem", "type": "serverInternal", "status": 500, "detail": "as told" }]"#;
    acmekit_core::atomic::write_file(&script, text, FileAttributes::mode(0o600)).unwrap();
    let more = ["--limits", "letsencrypt", "--faults", script.to_str().unwrap()];
    let (child, url) = started(&root, &more).await;

    let pipeline = client(&url, &root);
    let spec = CertificateSpec::new(["www.example.test"]).unwrap();
    let error = pipeline.obtain(&spec).await.unwrap_err();
    assert!(error.to_string().contains("as told"), "{error}");
    // Let's Encrypt's five for one set of names, and then no more.
    pipeline.obtain(&spec).await.unwrap();
    for _ in 1..5 {
        pipeline.renew(&spec).await.unwrap();
    }
    let error = pipeline.renew(&spec).await.unwrap_err();
    assert!(error.to_string().contains("this exact set of identifiers"), "{error}");

    ends_well_on(Signal::TERM, child).await;
}
