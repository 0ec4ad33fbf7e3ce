//! Beyond the suite: programs that hang, tell secrets or keep things, and who looks for zones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use acmekit_core::dns::Resolver;
use acmekit_core::{DnsName, DnsProvider, ErrorKind, RecordHandle, Retry, TxtRecord, Zone};
use acmekit_exec::{Config, Dialect, Exec};
use acmekit_testbed::{Bind, wait_for};

const SOON: Duration = Duration::from_secs(30);
const TOKEN: &str = "hunter2-of-the-tests";

fn program(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    folder.join(name).display().to_string()
}

fn zone() -> Zone {
    Zone::new("example.test".parse().unwrap())
}

fn record() -> TxtRecord {
    TxtRecord::new("_acme-challenge.example.test".parse().unwrap(), "value")
}

fn handle() -> RecordHandle {
    RecordHandle::intent("exec", zone(), record())
}

/// A provider whose program is this shell script.
fn script(text: &str) -> Exec {
    let config = Config::new(Dialect::lego(["sh", "-c", text])).zone("example.test".parse().unwrap());
    Exec::new(config.env("TOKEN", TOKEN)).unwrap()
}

fn hanging(folder: &Path, timeout: Duration) -> Exec {
    let mut config = Config::new(Dialect::lego(["sh", &program("hang.sh")]));
    config.zones = vec!["example.test".parse().unwrap()];
    config.timeout = timeout;
    let folder = folder.display().to_string();
    Exec::new(config.env("TOKEN", TOKEN).env("FOLDER", folder)).unwrap()
}

/// The process ids the hanging program has noted.
async fn pids(folder: &Path) -> Vec<String> {
    let look = || async {
        let text = std::fs::read_to_string(folder.join("pids")).ok()?;
        Some(text.split_whitespace().map(str::to_owned).collect())
    };
    wait_for(SOON, "the program runs", look).await.unwrap()
}

async fn gone(pids: &[String]) {
    for pid in pids {
        let look = || async {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z")).then_some(())
        };
        wait_for(SOON, "the process is gone", look).await.unwrap();
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_ended_with_its_children_and_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let exec = hanging(folder.path(), Duration::from_secs(2));
    let (zone, record) = (zone(), record());
    let watching = async {
        let pids = pids(folder.path()).await;
        let look = || async {
            let line = |pid: &String| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok();
            // A child has its parent's arguments until it becomes another program.
            let lines: Vec<String> = pids.iter().filter_map(line).collect();
            lines.last().is_some_and(|last| last.contains("sleep")).then_some(lines)
        };
        let lines = wait_for(SOON, "the child sleeps", look).await.unwrap();
        (pids, lines)
    };
    let (ended, (pids, lines)) = tokio::join!(exec.add_txt(&zone, &record), watching);
    assert!(lines.len() == 2 && lines[0].contains("hang.sh"), "{lines:?}");
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let shown = format!("{} {error:?} {exec:?} {lines:?}", error.report());
    assert!(shown.contains("the token is …") && shown.contains("2s"), "{shown}");
    assert!(!shown.contains(TOKEN), "{shown}");
    gone(&pids).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let exec = hanging(folder.path(), Duration::from_secs(600));
    let handle = handle();
    let running = tokio::select! {
        _ = exec.remove_txt(&handle) => panic!("it ended"),
        pids = pids(folder.path()) => pids,
    };
    gone(&running).await;
}

#[tokio::test]
async fn how_it_ends_says_what_kind_of_error_it_is() {
    for (code, kind, retry) in [
        (1, ErrorKind::Other, Retry::Backoff),
        (75, ErrorKind::Unavailable, Retry::Backoff),
        (77, ErrorKind::Auth, Retry::Never),
        (78, ErrorKind::Config, Retry::Never),
    ] {
        let exec = script(&format!("echo no, $TOKEN; echo oh $TOKEN >&2; exit {code}"));
        let (added, removed) = (
            exec.add_txt(&zone(), &record()).await.unwrap_err(),
            exec.remove_txt(&handle()).await.unwrap_err(),
        );
        for error in [added, removed] {
            assert_eq!((error.kind(), error.retry()), (kind, retry), "{code}");
            assert!(error.hint().is_some());
            let shown = format!("{} {error:?}", error.report());
            assert!(
                shown.contains("no, …") && shown.contains("oh …") && shown.contains("name=_acme"),
                "{shown}"
            );
            assert!(!shown.contains(TOKEN), "{shown}");
        }
    }
    let killed = script("kill -9 $$").add_txt(&zone(), &record()).await.unwrap_err();
    assert!(killed.to_string().contains("signal: 9"), "{killed}");
    let missing = Config::new(Dialect::lego(["/nonexistent/program"])).zone("example.test".parse().unwrap());
    let missing = Exec::new(missing).unwrap().add_txt(&zone(), &record()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Config);
    assert!(missing.to_string().contains("/nonexistent/program"), "{missing}");
}

#[tokio::test]
async fn calls_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let busy = folder.path().join("busy").display().to_string();
    // Two at once, and one of them would find the folder.
    let exec = script(&format!("mkdir {busy} && sleep 0.05 && rmdir {busy}"));
    let (zone, record) = (zone(), record());
    let (one, two, three) = tokio::join!(
        exec.add_txt(&zone, &record),
        exec.add_txt(&zone, &record),
        exec.add_txt(&zone, &record)
    );
    for done in [one, two, three] {
        done.unwrap();
    }
}

#[tokio::test]
async fn the_zone_is_the_longest_that_is_named_or_else_what_the_dns_says() {
    let bind = Bind::builder().zone("example.test").zone("deep.example.test").start().await.unwrap();
    let name = |text: &str| text.parse::<DnsName>().unwrap();
    let mut config = Config::new(Dialect::lego(["true"])).zone(name("example.test"));
    config.zones.extend([name("deep.example.test"), name("test.example")]);
    let given = Exec::new(config.clone()).unwrap();
    config.zones.clear();
    config.resolver = Some(Resolver::new([bind.addr()]).unwrap());
    let asking = Exec::new(config).unwrap();
    for (at, zone) in [
        ("_acme-challenge.a.deep.example.test", Some("deep.example.test")),
        ("_acme-challenge.example.test", Some("example.test")),
        ("example.test", Some("example.test")),
        ("notexample.test", None),
    ] {
        let want = zone.map(|zone| Zone::new(name(zone)));
        assert_eq!(given.zone(&name(at)).await.unwrap(), want, "{at}");
        if zone.is_some() {
            assert_eq!(asking.zone(&name(at)).await.unwrap(), want, "{at}");
        }
    }
}

#[tokio::test]
async fn what_an_auth_hook_says_is_kept_without_secrets() {
    let hooks = |auth: &str| {
        let config = Config::new(Dialect::certbot(
            ["sh", "-c", auth],
            ["sh", "-c", "test \"$CERTBOT_AUTH_OUTPUT\" = 'id 7'"],
        ));
        Exec::new(config.zone("example.test".parse().unwrap()).env("TOKEN", TOKEN)).unwrap()
    };
    let said = hooks("echo; echo id 7; echo no >&2").add_txt(&zone(), &record()).await.unwrap();
    assert_eq!(said.id.as_deref(), Some("id 7"));
    hooks("true").remove_txt(&said).await.unwrap();
    assert!(hooks("true").remove_txt(&handle()).await.is_err(), "it was given something else");
    let told = hooks("echo id of $TOKEN").add_txt(&zone(), &record()).await.unwrap();
    assert_eq!(told.id.as_deref(), Some("id of …"));
    let error = hooks("seq 10000").add_txt(&zone(), &record()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn a_script_of_acme_sh_has_its_helpers_and_keeps_things_in_its_own_folder() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let acme_sh = acmekit_testbed::acme_sh().unwrap_or_else(|error| panic!("{error}"));
    let made = |script: String| {
        Config::new(Dialect::acme_sh(&acme_sh, script, &home)).zone("example.test".parse().unwrap())
    };
    let exec = Exec::new(made(program("dns_own.sh")).env("OWN_Token", TOKEN)).unwrap();
    let error = exec.add_txt(&zone(), &record()).await.unwrap_err();
    let shown = format!("{} {error:?} {exec:?}", error.report());
    assert!(shown.contains("asking for _acme-challenge.example.test"), "{shown}");
    assert!(shown.contains("the token … is refused"), "{shown}");
    assert!(!shown.contains("not shown") && !shown.contains(TOKEN), "{shown}");

    let kept = home.join("account.conf");
    assert!(std::fs::read_to_string(&kept).unwrap().contains(TOKEN));
    assert_eq!(std::fs::metadata(kept).unwrap().permissions().mode() & 0o077, 0);
    assert!(!home.join(".acme.sh").exists(), "acme.sh has gone to its default folder");
    Exec::new(made(program("dns_own.sh"))).unwrap().remove_txt(&handle()).await.unwrap();

    let none = Exec::new(made("dns_of_nobody".to_owned())).unwrap().remove_txt(&handle()).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Config);
    assert!(none.to_string().contains("dnsapi/dns_of_nobody.sh"), "{none}");
}
