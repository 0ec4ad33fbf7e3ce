//! No server outlives the test process, however that ends.

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use acmekit_testbed::{Pebble, wait_for};
use common::is_gone;

/// Run as another process by the test below; does nothing otherwise.
#[tokio::test]
async fn helper_that_is_killed() {
    let Some(report) = std::env::var_os("TESTBED_REPORT_PID_TO") else { return };
    let ca = Pebble::start().await.unwrap();
    std::os::unix::fs::symlink(ca.pid().unwrap().to_string(), report).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_server_ends_when_its_test_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("pid");
    let mut helper = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_that_is_killed"])
        .env("TESTBED_REPORT_PID_TO", &report)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let within = Duration::from_secs(30);
    let pid =
        wait_for(within, "the helper's server runs", || async { std::fs::read_link(&report).ok() }).await;
    let pid: u32 = pid.unwrap().to_str().unwrap().parse().unwrap();
    assert!(!is_gone(pid));
    let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    helper.kill().unwrap();
    helper.wait().unwrap();
    wait_for(within, "the server is gone", || async { is_gone(pid).then_some(()) }).await.unwrap();
    wait_for(within, "its folder is gone", || async { (!folder.exists()).then_some(()) }).await.unwrap();
}
