//! The campaign `disk`, as short as a test has to be.

use std::process::Command;

#[test]
fn a_short_campaign_loses_nothing_to_the_disk() {
    let done =
        Command::new(env!("CARGO_BIN_EXE_disk")).args(["--rounds", "25", "--seed", "7"]).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{said}\n{errors}");
}
