//! The crash matrix: killed with SIGKILL before and after every side effect, and started again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use acmekit::Store;
use acmekit::stores::FileStore;
use acmekit_scenarios::World;
use acmekit_scenarios::child::Task;
use acmekit_testbed::{HaProxy, handshake};
use tempfile::TempDir;

/// CA, DNS, HAProxy and a store's folder, with a task for the child.
struct Stage {
    world: World,
    haproxy: HaProxy,
    folder: TempDir,
    task: Task,
}

struct Ended {
    killed: bool,
    ok: bool,
    stdout: String,
    stderr: String,
}

impl Stage {
    async fn set() -> Self {
        let world = World::start().await.unwrap();
        let haproxy = HaProxy::builder().names(&["example.test", "*.example.test"]).start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let task = serde_json::json!({
            "directory": world.ca.directory_url(),
            "root_pem": world.ca.root_pem(),
            "store": at("store"),
            "dns": world.dns.addr(),
            "tsig_name": world.dns.tsig_name(),
            "tsig_secret": world.dns.tsig_secret_base64(),
            "names": ["example.test", "*.example.test"],
            "haproxy_socket": haproxy.socket_path(),
            "haproxy_file": haproxy.cert_path(),
            "haproxy_address": haproxy.tls_addrs()[0],
            "points": at("points"),
            "log": at("log"),
        });
        let task = serde_json::from_value(task).unwrap();
        Self { world, haproxy, folder, task }
    }

    async fn run(&mut self, die_at: Option<&str>) -> Ended {
        self.task.die_at = die_at.map(str::to_owned);
        let path = self.folder.path().join("task.json");
        let bytes = serde_json::to_vec(&self.task).unwrap();
        acmekit::atomic::write_file(&path, &bytes, acmekit::atomic::FileAttributes::default()).unwrap();
        let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_acmekit-child"))
            .arg(&path)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(90), child).await.unwrap().unwrap();
        Ended {
            killed: output.status.signal() == Some(9),
            ok: output.status.success(),
            stdout: String::from_utf8(output.stdout).unwrap().trim().to_owned(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn points(&self) -> Vec<String> {
        std::fs::read_to_string(&self.task.points).unwrap().lines().map(str::to_owned).collect()
    }

    /// The certificate is there, once, and nothing else is.
    async fn assert_whole(&self, serial: &str) {
        let (ca, dns) = (&self.world.ca, &self.world.dns);
        assert_eq!(ca.issued_certificates(), 1, "finalized orders; points passed: {:#?}", self.points());
        assert_eq!(ca.accounts(), 1, "accounts");
        assert_eq!(self.world.leftovers().await.unwrap(), [], "TXT records at {}", dns.addr());
        let store = FileStore::open(&self.task.store).await.unwrap();
        assert_eq!(store.list(&"journals".parse().unwrap()).await.unwrap(), [], "open journals");
        assert_eq!(
            store.list(&"certificates".parse().unwrap()).await.unwrap().len(),
            1,
            "stored certificates"
        );
        // Both runs have logged everything at trace level.
        let log = std::fs::read_to_string(&self.task.log).unwrap();
        assert!(log.contains("TRACE"), "the log is not at trace level");
        assert!(!log.contains(dns.tsig_secret_base64()), "the TSIG secret is in the log");
        assert!(!log.contains("PRIVATE KEY"), "a private key is in the log");
        for name in ["example.test", "any.example.test"] {
            let served = handshake(self.haproxy.tls_addrs()[0], name).await.unwrap().serial().unwrap();
            assert_eq!(
                served,
                serial.to_lowercase().trim_start_matches('0'),
                "what HAProxy serves for {name}"
            );
        }
    }
}

async fn killed_at(point: &str) {
    let mut stage = Stage::set().await;
    let first = stage.run(Some(point)).await;
    assert!(first.killed, "the child passed {point} without dying: {}{}", first.stdout, first.stderr);
    let second = stage.run(None).await;
    assert!(second.ok, "started again after {point}: {}", second.stderr);
    stage.assert_whole(&second.stdout).await;
}

/// Each side effect of one certificate, in the order in which they happen, and how often.
macro_rules! matrix {
    ($($test:ident: $effect:literal $nth:literal),* $(,)?) => {
        $(mod $test {
            #[tokio::test]
            async fn killed_before() {
                super::killed_at(concat!($effect, ":begin:", $nth)).await;
            }
            #[tokio::test]
            async fn killed_after() {
                super::killed_at(concat!($effect, ":end:", $nth)).await;
            }
        })*

        /// What the matrix covers is all there is: a run that nobody kills passes these points and
        /// no others.
        #[tokio::test]
        async fn the_matrix_has_every_side_effect() {
            let mut stage = Stage::set().await;
            let run = stage.run(None).await;
            assert!(run.ok, "{}", run.stderr);
            stage.assert_whole(&run.stdout).await;
            let mut want = vec![$(
                concat!($effect, ":begin:", $nth).to_owned(),
                concat!($effect, ":end:", $nth).to_owned(),
            )*];
            let mut passed = stage.points();
            want.sort();
            passed.sort();
            assert_eq!(passed, want);
        }
    };
}

matrix! {
    account_key: "account.key" 1,
    account_new: "account.new" 1,
    account_url: "account.url" 1,
    journal_key: "journal.key" 1,
    order_new: "order.new" 1,
    journal_order: "journal.order" 1,
    journal_intents: "journal.intents" 1,
    first_challenge_present: "challenge.present" 1,
    second_challenge_present: "challenge.present" 2,
    journal_told: "journal.told" 1,
    first_challenge_respond: "challenge.respond" 1,
    second_challenge_respond: "challenge.respond" 2,
    first_challenge_cleanup: "challenge.cleanup" 1,
    second_challenge_cleanup: "challenge.cleanup" 2,
    journal_cleaned: "journal.cleaned" 1,
    order_finalize: "order.finalize" 1,
    certificate_store: "certificate.store" 1,
    journal_close: "journal.close" 1,
    certificate_deploy: "certificate.deploy" 1,
}

#[tokio::test]
async fn killed_while_the_ca_is_validating() {
    let mut stage = Stage::set().await;
    // The kill falls between the answer and the poll, with both TXT records in place.
    let first = stage.run(Some("challenge.respond:end:2")).await;
    assert!(first.killed);
    assert_eq!(stage.world.leftovers().await.unwrap().len(), 2, "both answers stand when the process dies");
    let second = stage.run(None).await;
    assert!(second.ok, "{}", second.stderr);
    stage.assert_whole(&second.stdout).await;
}

#[tokio::test]
async fn a_second_run_after_success_orders_and_changes_nothing() {
    let mut stage = Stage::set().await;
    let first = stage.run(None).await;
    let second = stage.run(None).await;
    assert!(first.ok && second.ok, "{}{}", first.stderr, second.stderr);
    assert_eq!(first.stdout, second.stdout);
    stage.assert_whole(&second.stdout).await;
    assert_eq!(stage.world.ca.orders(), 1);
}
