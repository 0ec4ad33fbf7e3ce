//! A short campaign of crashes: whole, and with kills.

use std::process::Command;

#[test]
fn nothing_is_lost_or_left_over_by_processes_that_are_killed() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_crash")).args(["--rounds", "24", "--seed", "7"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let broken = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{broken}");
    let all = told.lines().find_map(|line| line.strip_prefix("| all | | ")).unwrap();
    let kills: u32 = all.trim_end_matches(" |").parse().unwrap();
    assert!(kills >= 24, "{told}");
}
