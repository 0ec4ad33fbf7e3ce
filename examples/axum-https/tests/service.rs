//! The program as its users have it: curl, openssl, a browser and ten thousand handshakes against it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use acmekit_server::TestCa;
use acmekit_testbed::{Bind, Pebble, Port, Running, free_port, handshake, run_program, wait_for};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

const NAME: &str = "www.example.test";
const LONG: Duration = Duration::from_secs(60);

/// The service, and what it needs.
struct Service {
    running: Running,
    port: Port,
    http: Port,
    folder: TempDir,
}

impl Service {
    /// Starts it at a CA that connects to `port`.
    async fn start(directory: &str, root_pem: &str, port: Port) -> Self {
        let (folder, http) = (tempfile::tempdir().unwrap(), free_port().unwrap());
        write(&folder.path().join("root.pem"), root_pem);
        let running = run(directory, folder.path(), &port, &http);
        running.says("serving", LONG).await.unwrap();
        Self { running, port, http, folder }
    }

    /// What curl gets from it, trusting the CA's roots.
    async fn curl(&self, roots: &Path, url: &str, more: &[&str]) -> String {
        let resolve = [&self.port, &self.http].map(|port| format!("{NAME}:{}:127.0.0.1", port.number()));
        let mut arguments = vec!["--silent", "--show-error", "--max-time", "20", "--cacert"];
        arguments.push(roots.to_str().unwrap());
        arguments.extend(["--resolve", &resolve[0], "--resolve", &resolve[1]]);
        arguments.extend(more);
        arguments.push(url);
        let done = run_program("curl", "curl", &arguments).await.unwrap();
        assert!(done.success, "{}", done.stderr);
        done.stdout
    }

    fn url(&self) -> String {
        format!("https://{NAME}:{}/", self.port.number())
    }

    async fn serial(&self) -> String {
        handshake(self.port.addr(), NAME).await.unwrap().serial().unwrap()
    }
}

fn run(directory: &str, folder: &Path, port: &Port, http: &Port) -> Running {
    let (listen, http) = (port.addr().to_string(), http.addr().to_string());
    let (root, store) = (folder.join("root.pem"), folder.join("store"));
    let arguments = [
        NAME,
        "--listen",
        &listen,
        "--http",
        &http,
        "--directory",
        directory,
        "--root",
        root.to_str().unwrap(),
        "--store",
        store.to_str().unwrap(),
        "--agree-to-terms",
    ];
    Running::start(env!("CARGO_BIN_EXE_axum-https"), &arguments).unwrap()
}

fn write(path: &Path, text: &str) {
    let attributes = acmekit::atomic::FileAttributes::mode(0o600);
    acmekit::atomic::write_file(path, text.as_bytes(), attributes).unwrap();
}

/// The roots that clients of the service trust.
fn roots(ca: &TestCa, folder: &TempDir) -> PathBuf {
    let path = folder.path().join("roots.pem");
    write(&path, &ca.issuing_roots_pem().concat());
    path
}

async fn with_test_ca() -> (TestCa, Service) {
    let port = free_port().unwrap();
    let ca = TestCa::builder().tls_port(port.number()).start().await.unwrap();
    let service = Service::start(&ca.directory_url(), ca.root_pem(), port).await;
    (ca, service)
}

#[tokio::test]
async fn curl_and_openssl_trust_it() {
    let (ca, mut service) = with_test_ca().await;
    let roots = roots(&ca, &service.folder);
    let page = service.curl(&roots, &service.url(), &[]).await;
    assert!(page.contains("Hello over TLS") && page.contains(NAME), "{page}");
    let version = ["--output", "/dev/null", "--write-out", "%{http_version}"];
    assert_eq!(service.curl(&roots, &service.url(), &version).await, "2");
    let health = service.curl(&roots, &format!("{}health", service.url()), &[]).await;
    assert!(health.contains(r#""standing":"valid""#), "{health}");
    let moved = format!("http://{NAME}:{}/x?y=z", service.http.number());
    let status = ["--output", "/dev/null", "--write-out", "%{http_code} %{redirect_url}"];
    let answer = service.curl(&roots, &moved, &status).await;
    assert_eq!(answer, format!("308 {}x?y=z", service.url()));

    let (address, trust) = (service.port.addr().to_string(), roots.to_str().unwrap());
    let client =
        ["s_client", "-connect", &address, "-servername", NAME, "-CAfile", trust, "-verify_return_error"];
    let seen = run_program("openssl", "openssl", &client).await.unwrap();
    assert!(seen.success && seen.stdout.contains("Verify return code: 0 (ok)"), "{}", seen.stderr);
    assert!(service.running.end(LONG).await.unwrap().success(), "{}", service.running.log());
}

#[tokio::test]
async fn pebble_connects_to_its_port_and_is_convinced() {
    let port = free_port().unwrap();
    let dns = Bind::builder().zone("example.test").loopback(NAME).start().await.unwrap();
    let ca = Pebble::builder().dns_server(dns.addr()).tls_port(port.number()).start().await.unwrap();
    let service = Service::start(&ca.directory_url(), ca.root_pem(), port).await;
    service.serial().await;
}

#[tokio::test]
async fn it_serves_what_it_has_when_it_starts_without_a_ca() {
    let (ca, mut service) = with_test_ca().await;
    let first = service.serial().await;
    service.running.kill().await.unwrap();
    let directory = ca.directory_url();
    ca.shutdown().await;
    service.running = run(&directory, service.folder.path(), &service.port, &service.http);
    service.running.says("serving", LONG).await.unwrap();
    assert_eq!(service.serial().await, first);
}

/// One handshake: when it began, when it had ended, and which certificate it saw.
type Seen = (Instant, Instant, String);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_thousand_handshakes_none_fails_and_all_after_the_swap_see_the_new_certificate() {
    const HANDSHAKES: usize = 10_000;
    let (_ca, service) = with_test_ca().await;
    let (address, old) = (service.port.addr(), service.serial().await);
    let begun = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let begun = Arc::clone(&begun);
        clients.spawn(async move {
            let mut seen: Vec<Seen> = Vec::new();
            while begun.fetch_add(1, Ordering::SeqCst) < HANDSHAKES {
                let start = Instant::now();
                let serial = handshake(address, NAME).await.unwrap().serial().unwrap();
                seen.push((start, Instant::now(), serial));
            }
            seen
        });
    }
    let some = wait_for(LONG, "the clients are busy", || async {
        (begun.load(Ordering::SeqCst) > HANDSHAKES / 4).then_some(())
    });
    some.await.unwrap();
    service.running.signal(Signal::HUP).unwrap();
    let seen = clients.join_all().await.concat();

    assert_eq!(seen.len(), HANDSHAKES);
    let swapped = seen.iter().filter(|(_, _, serial)| *serial != old).map(|(_, end, _)| *end).min();
    let swapped = swapped.expect("it was not renewed in time");
    let after: Vec<_> = seen.iter().filter(|(start, _, _)| *start > swapped).collect();
    assert!(after.len() > HANDSHAKES / 10, "too few handshakes after the swap: {}", after.len());
    assert!(after.iter().all(|(_, _, serial)| *serial != old), "a client saw the old one after the swap");
    println!("{} handshakes, 0 failed, {} after the swap", seen.len(), after.len());
}

/// A browser with a profile of its own, which trusts these roots or none.
async fn browse(url: &str, roots: Option<&Path>, more: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let database = home.path().join(".pki/nssdb");
    std::fs::create_dir_all(&database).unwrap();
    let database = format!("sql:{}", database.display());
    let certutil = async |arguments: &[&str]| {
        let all = [&["-d", &database], arguments].concat();
        let done = run_program("certutil", "libnss3-tools", &all).await.unwrap();
        assert!(done.success, "{}", done.stderr);
    };
    certutil(&["-N", "--empty-password"]).await;
    if let Some(roots) = roots {
        certutil(&["-A", "-t", "C,,", "-n", "test", "-i", roots.to_str().unwrap()]).await;
    }
    let profile = format!("--user-data-dir={}", home.path().join("profile").display());
    let resolve = format!("--host-resolver-rules=MAP {NAME} 127.0.0.1");
    let environment = format!("HOME={}", home.path().display());
    let mut arguments = vec![environment.as_str(), "chromium", "--headless", "--no-sandbox", "--disable-gpu"];
    arguments.extend(["--disable-quic", "--no-first-run", "--disable-background-networking"]);
    arguments.extend(["--disable-component-update", "--disable-sync", &profile, &resolve]);
    arguments.extend(more);
    arguments.push(url);
    let done = run_program("env", "coreutils", &arguments).await.unwrap();
    done.stdout
}

#[tokio::test]
async fn a_browser_shows_the_page_if_it_trusts_the_ca_and_only_then() {
    let (ca, service) = with_test_ca().await;
    // Of several, certutil takes the first.
    let roots = roots(&ca, &service.folder);
    let shown = browse(&service.url(), Some(&roots), &["--dump-dom"]).await;
    assert!(shown.contains("Hello over TLS"), "{shown}");
    let refused = browse(&service.url(), None, &["--dump-dom"]).await;
    assert!(!refused.contains("Hello over TLS"), "{refused}");
    // The picture in the README.
    if let Some(path) = std::env::var_os("ACMEKIT_SCREENSHOT") {
        let option = format!("--screenshot={}", Path::new(&path).display());
        browse(&service.url(), Some(&roots), &[&option, "--window-size=800,400", "--hide-scrollbars"]).await;
        assert!(Path::new(&path).is_file());
    }
}
