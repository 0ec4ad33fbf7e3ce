//! Two processes on one file store, one of them killed again and again: each certificate is issued once for each renewal.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use acmekit::atomic::{FileAttributes, write_file};
use acmekit::stores::FileStore;
use acmekit::{Clock, Store};
use acmekit_scenarios::fleet::Fleet;
use acmekit_server::{MovableClock, TestCa};

const DAY: Duration = Duration::from_secs(24 * 3600);
const COUNT: usize = 24;

/// Kept until it is killed.
struct Process(Child);

impl Process {
    fn start(task: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_acmekit-fleet"))
            .arg(task)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL: nothing is said and nothing tidied up.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn write(path: &Path, text: &str) {
    write_file(path, text.as_bytes(), FileAttributes::mode(0o600)).unwrap();
}

#[tokio::test]
async fn each_certificate_is_issued_once_for_each_renewal() {
    let clock = MovableClock::new();
    let ca = TestCa::builder().always_valid().clock(clock.clone()).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let fleet = Fleet::new(ca.directory_url(), ca.root_pem().to_owned(), folder.path(), COUNT);
    let task = folder.path().join("task.json");
    write(&task, &serde_json::to_string(&fleet).unwrap());
    let mut ahead = Duration::ZERO;
    write(&fleet.ahead, "0");
    let mut processes = [Process::start(&task), Process::start(&task)];
    let (mut kills, mut pause) = (0usize, 7u64);
    for round in 1..=3u64 {
        let wanted = u64::try_from(COUNT).unwrap() * round;
        let all = async {
            while ca.certificates_issued() < wanted {
                // Somewhere in the work: from 20 to 400 ms after the last.
                pause = (pause * 73 + 41) % 380;
                tokio::time::sleep(Duration::from_millis(20 + pause)).await;
                let victim = &mut processes[kills % 2];
                *victim = Process::start(&task);
                kills += 1;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), all).await.unwrap();
        // What was begun last is brought to its end: no journal is left.
        let store = FileStore::open(&fleet.store).await.unwrap();
        let settled = async {
            while !store.list(&"journals".parse().unwrap()).await.unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), settled).await.unwrap();
        assert_eq!(ca.certificates_issued(), wanted, "in round {round}, after {kills} kills");
        // Two thirds of ninety days, and a window of two.
        ahead += 63 * DAY;
        clock.advance(63 * DAY);
        write(&fleet.ahead, &ahead.as_secs().to_string());
        // Sleeping processes see that the time has jumped at their next look: new ones look at once.
        processes = [Process::start(&task), Process::start(&task)];
    }
    assert!(kills >= 6, "{kills} kills");
    assert!(clock.now() > MovableClock::new().now() + 180 * DAY);
}
