//! The campaign `soak`, as short as a test has to be.

use std::process::Command;

#[test]
fn a_short_campaign_lets_nothing_expire_or_grow() {
    let done = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["--hours", "120", "--certificates", "30", "--seed", "7"])
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{said}\n{errors}");
}
