//! A short campaign of faults.

use std::process::Command;

#[test]
fn a_certificate_comes_as_soon_as_the_ca_is_well_again() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_hostile")).args(["--rounds", "60", "--seed", "7"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let broken = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{broken}");
    let struck = told.lines().find_map(|line| line.strip_prefix("faults struck ")).unwrap();
    let struck: u64 = struck.split(' ').next().unwrap().parse().unwrap();
    assert!(struck >= 60, "{told}");
}
