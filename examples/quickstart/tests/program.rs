//! The program as a person runs it.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_main_job_ends_with_the_new_serial_served_and_no_failed_handshake() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_quickstart"));
    program.arg("--store").arg(folder.path().join("store"));
    // Nothing but itself: no other program can be found, and no proxy is asked.
    program.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(DEADLINE, program.output()).await.unwrap().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains(" 0 failed"), "{told}");

    let serials: Vec<&str> = told
        .lines()
        .filter_map(|line| line.split_once("a client sees serial "))
        .filter_map(|(_, serial)| serial.split(',').next())
        .collect();
    let [first, second] = serials[..] else { panic!("two serials are told:\n{told}") };
    assert_ne!(first, second);
}
