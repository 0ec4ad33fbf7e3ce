//! The program as a person runs it: months pass, a CA fails, a token is revoked, and no certificate expires.

#![expect(clippy::unwrap_used, reason = "test code: what is impossible here may panic")]

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// Ten seconds on an idle machine.
const LONG: Duration = Duration::from_secs(240);

async fn fleet_status(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleet-status"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    timeout(LONG, command.output()).await.unwrap().unwrap()
}

/// What the summary says of this.
fn summed<'a>(told: &'a str, what: &str) -> Vec<&'a str> {
    let (_, summary) = told.split_once("After 100 days:").unwrap();
    summary.lines().filter_map(|line| line.strip_prefix(what)).map(str::trim).collect()
}

#[tokio::test]
async fn no_certificate_expires_while_a_ca_is_down_and_a_token_is_revoked() {
    let output = fleet_status(&["--certificates", "30", "--days", "100", "--plain"]).await;
    let (told, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), errors.as_str()), (Some(0), ""), "{told}");

    assert!(told.contains("After 100 days: 30 of 30 certificates are there."), "{told}");
    assert_eq!(summed(&told, "expired"), ["none"]);
    assert_eq!(summed(&told, "events missed"), ["0"]);

    // Both CAs have issued, and what the events say is what the CAs say.
    let by = summed(&told, "by authority");
    let by: Vec<u64> =
        by[0].split(", ").map(|one| one.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
    assert!(by.len() == 2 && by.iter().all(|count| *count > 0), "{by:?}");
    let issued = format!("{}: 30 first ones, {} renewals", by[0] + by[1], by[0] + by[1] - 30);
    assert_eq!(summed(&told, "issued"), [issued.as_str()]);

    // The first issuance waits for the budget, and is all there some days later.
    assert!(told.contains("day   0  issued 6/30") && told.contains("waiting  24"), "{told}");
    assert!(told.contains("day   5  issued 30/30"), "{told}");

    // A trouble is told when it is first seen, with what to do about it.
    let hinted = |line: &&str| line.starts_with("!!! n0001.") && line.contains("hint: make a new token");
    assert_eq!(told.lines().filter(hinted).count(), 1, "{told}");
    assert!(told.contains("was down until"), "{told}");
    assert_eq!(told.lines().filter(|line| line.starts_with("day ")).count(), 101);
}

#[tokio::test]
async fn what_makes_no_fleet_is_refused() {
    let output = fleet_status(&["--certificates", "3"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--certificates"));
}
