//! The file store between processes that race, stop, die, and meet limits.
//!
//! Children are this test binary itself, started again with the ignored test `child`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test: it fails loudly, talks to its parent by stdout, and measures time"
)]

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use acmekit_core::stores::FileStore;
use acmekit_core::{Condition, ErrorKind, Expected, Secret, Store, StoreKey};
use rand::Rng;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};

const LONG: Duration = Duration::from_secs(600);

fn key(text: &str) -> StoreKey {
    text.parse().unwrap()
}

fn value(text: impl AsRef<[u8]>) -> Secret<Vec<u8>> {
    Secret::new(text.as_ref().to_vec())
}

async fn open(folder: &Path) -> FileStore {
    FileStore::open(folder).await.unwrap()
}

/// A child process; killed when dropped.
struct Other {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start(role: &str, folder: &Path) -> Self {
        Self::from(&mut command(role, folder))
    }

    fn from(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// What the child says next, without the test harness's own words.
    fn hears(&mut self) -> String {
        loop {
            let line = self.lines.next().expect("the child has ended").unwrap();
            if let Some((_, said)) = line.split_once("> ") {
                return said.to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(role: &str, folder: &Path) -> Command {
    command_of(&std::env::current_exe().unwrap(), role, folder)
}

fn command_of(binary: &Path, role: &str, folder: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env("ACMEKIT_TEST_ROLE", role)
        .env("ACMEKIT_TEST_FOLDER", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

#[tokio::test]
#[ignore = "not a test: what the children of the others do"]
async fn child() {
    let Ok(role) = std::env::var("ACMEKIT_TEST_ROLE") else { return };
    let folder = std::env::var("ACMEKIT_TEST_FOLDER").unwrap();
    if role == "limited" {
        setrlimit(Resource::Fsize, Rlimit { current: Some(4096), maximum: Some(4096) }).unwrap();
    }
    let store = match FileStore::open(&folder).await {
        Ok(store) => store,
        Err(error) => return println!("> {:?} {error}", error.kind()),
    };
    match role.as_str() {
        "race" => race(&store).await,
        "save" => save_for_ever(&store).await,
        "lease" => hold(&store, LONG).await,
        "short-lease" => hold(&store, Duration::from_millis(300)).await,
        "limited" => save_too_much(&store).await,
        "full" => fill_the_disk(&store).await,
        "open" => println!("> opened"),
        other => panic!("no role {other}"),
    }
}

/// Adds one to a number, by compare-and-swap, 25 times.
async fn race(store: &FileStore) {
    println!("> ready");
    let mut lost = 0;
    for _ in 0..25 {
        loop {
            let entry = store.load(&key("count")).await.unwrap().unwrap();
            let count: u64 = std::str::from_utf8(entry.value.expose()).unwrap().parse().unwrap();
            let unchanged = Condition::expecting(Expected::Version(entry.version));
            match store.save(&key("count"), &value((count + 1).to_string()), &unchanged).await {
                Ok(_) => break,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
            lost += 1;
        }
    }
    println!("> done, lost {lost}");
}

/// Saves 1, 2, 3 … in values of changing length, and tells each before and after.
async fn save_for_ever(store: &FileStore) {
    let mut number = match store.load(&key("a")).await.unwrap() {
        Some(entry) => number_in(entry.value.expose()),
        None => 0,
    };
    loop {
        number += 1;
        println!("> saving {number}");
        store.save(&key("a"), &value(text_of(number)), &Condition::ANY).await.unwrap();
        println!("> saved {number}");
    }
}

fn text_of(number: u64) -> String {
    format!("{number:<width$}|", width = 20 + usize::try_from(number % 50).unwrap() * 997)
}

fn number_in(bytes: &[u8]) -> u64 {
    let text = std::str::from_utf8(bytes).unwrap();
    let number = text.trim_end_matches('|').trim().parse().unwrap();
    assert_eq!(text, text_of(number), "half a value");
    number
}

/// Takes a lease, then saves under it again and again.
async fn hold(store: &FileStore, ttl: Duration) {
    let lease = store.lease(&key("web"), ttl).await.unwrap().unwrap();
    println!("> token {}", lease.fence().token);
    loop {
        match store.save(&key("a"), &value("by the first"), &Condition::ANY.under(&lease)).await {
            Ok(_) => println!("> saved"),
            Err(error) => return println!("> {:?} {error}", error.kind()),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn save_too_much(store: &FileStore) {
    let error = store.save(&key("a"), &value([1; 10_000]), &Condition::ANY).await.unwrap_err();
    println!("> {:?} {}", error.kind(), error.report().replace('\n', " "));
    let after = store.load(&key("a")).await.unwrap().unwrap();
    println!("> {}", String::from_utf8_lossy(after.value.expose()));
    store.save(&key("a"), &value("small"), &Condition::ANY).await.unwrap();
    println!("> small saved");
}

/// Saves other keys until there is no space left, then sees what can still be done.
async fn fill_the_disk(store: &FileStore) {
    store.save(&key("a"), &value("old"), &Condition::ANY).await.unwrap();
    let mut count = 0;
    let error = loop {
        match store.save(&key(&format!("fill/{count}")), &value([1; 20_000]), &Condition::ANY).await {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    println!("> {:?} {}", error.kind(), error.report().replace('\n', " "));
    let error = store.save(&key("a"), &value([2; 20_000]), &Condition::ANY).await.unwrap_err();
    println!("> {:?}", error.kind());
    let old = store.load(&key("a")).await.unwrap().unwrap();
    println!("> {}", String::from_utf8_lossy(old.value.expose()));
    assert!(store.load(&key(&format!("fill/{count}"))).await.unwrap().is_none(), "half a new one");
    for number in 0..count {
        store.delete(&key(&format!("fill/{number}")), &Condition::ANY).await.unwrap();
    }
    store.save(&key("a"), &value([2; 20_000]), &Condition::ANY).await.unwrap();
    println!("> space again after deleting {count}");
}

#[tokio::test]
async fn processes_that_race_lose_no_update() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.save(&key("count"), &value("0"), &Condition::ANY).await.unwrap();
    let mut others: Vec<Other> = (0..4).map(|_| Other::start("race", folder.path())).collect();
    for other in &mut others {
        assert_eq!(other.hears(), "ready");
        assert!(other.hears().starts_with("done"));
    }
    let entry = store.load(&key("count")).await.unwrap().unwrap();
    assert_eq!(entry.value.expose(), b"100", "an update was lost");
    assert_eq!(entry.version.number(), 101, "two won the same round");
}

#[tokio::test]
async fn of_many_instances_that_expect_the_same_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..16 {
        let store = open(folder.path()).await;
        tasks.spawn(async move {
            let absent = Condition::expecting(Expected::Absent);
            store.save(&key("a"), &value(number.to_string()), &absent).await.is_ok()
        });
    }
    let won = tasks.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_lease_of_a_killed_process_is_free_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    for round in 0..3 {
        let mut holder = Other::start("lease", folder.path());
        assert_eq!(holder.hears(), format!("token {}", 2 * round + 1));
        assert!(store.lease(&key("web"), LONG).await.unwrap().is_none(), "held by a living process");
        drop(holder);
        let lease = store.lease(&key("web"), LONG).await.unwrap().expect("its holder is dead");
        assert_eq!(lease.fence().token, 2 * round + 2);
    }
}

#[tokio::test]
async fn a_stopped_holder_loses_its_lease_and_may_not_write_when_it_wakes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let mut holder = Other::start("short-lease", folder.path());
    assert_eq!(holder.hears(), "token 1");
    assert_eq!(holder.hears(), "saved");
    // It sleeps after each save, so it is stopped outside the lock.
    holder.signal(Signal::STOP);
    let started = Instant::now();
    let lease = loop {
        assert!(started.elapsed() < Duration::from_secs(20), "never free");
        match store.lease(&key("web"), LONG).await.unwrap() {
            Some(lease) => break lease,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(lease.fence().token, 2);
    store.save(&key("a"), &value("by the second"), &Condition::ANY.under(&lease)).await.unwrap();

    holder.signal(Signal::CONT);
    let said = holder.hears();
    assert!(said.starts_with("Conflict file_store.save: lease lost"), "{said}");
    holder.child.wait().unwrap();
    let entry = store.load(&key("a")).await.unwrap().unwrap();
    assert_eq!(entry.value.expose(), b"by the second");
    assert!(store.lease(&key("web"), LONG).await.unwrap().is_none(), "its end freed the lease of another");
}

#[tokio::test]
async fn a_process_killed_while_saving_leaves_the_old_value_or_the_new() {
    let folder = tempfile::tempdir().unwrap();
    let (mut last, mut midway) = (0, 0);
    for _ in 0..120 {
        let mut writer = Other::start("save", folder.path());
        assert_eq!(writer.hears(), format!("saving {}", last + 1));
        std::thread::sleep(Duration::from_micros(rand::rng().random_range(0..12_000)));
        writer.signal(Signal::KILL);
        // What it said before it died is still to be read.
        let (mut saved, mut saving) = (last, last + 1);
        for line in writer.lines.by_ref() {
            match line.unwrap().split_once("> ").and_then(|(_, said)| said.split_once(' ')) {
                Some(("saved", number)) => saved = number.parse().unwrap(),
                Some(("saving", number)) => saving = number.parse().unwrap(),
                _ => {}
            }
        }
        drop(writer);
        let store = open(folder.path()).await;
        let found = store.load(&key("a")).await.unwrap().map_or(0, |entry| number_in(entry.value.expose()));
        assert!((saved..=saving).contains(&found), "saved {saved}, saving {saving}, found {found}");
        assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0, "not swept");
        midway += u32::from(saved != saving);
        last = found;
    }
    assert!(midway > 20, "only {midway} of 120 were killed while saving: the test has lost its point");
}

#[tokio::test]
async fn a_file_size_limit_costs_neither_the_old_value_nor_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.save(&key("a"), &value("old"), &Condition::ANY).await.unwrap();
    let mut limited = Other::start("limited", folder.path());
    let said = limited.hears();
    assert!(said.starts_with("Storage file.write: could not write it"), "{said}");
    assert!(said.contains("entries/a/2") && said.contains("ulimit -f"), "{said}");
    assert_eq!(limited.hears(), "old");
    assert_eq!(limited.hears(), "small saved");
    for _ in limited.lines.by_ref() {}
    assert!(limited.child.wait().unwrap().success(), "killed by SIGXFSZ");
    assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_full_disk_leaves_the_old_value_and_lets_entries_be_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size=128k,mode=700 none "$0" && exec "$@""#;
    let small = |binary: &Path| {
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", mount])
            .arg(folder.path())
            .arg(binary);
        command
    };
    if !small(Path::new("true")).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        println!("no file system can be mounted here: only the file size limit is tested");
        return;
    }
    let like = command("full", folder.path());
    let mut full = small(Path::new(like.get_program()));
    full.args(like.get_args()).stdin(Stdio::null()).stdout(Stdio::piped());
    full.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut full = Other::from(&mut full);
    let said = full.hears();
    assert!(said.starts_with("Storage file.write") && said.contains("free some space"), "{said}");
    assert_eq!(full.hears(), "Storage");
    assert_eq!(full.hears(), "old");
    assert!(full.hears().starts_with("space again"));
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let binaries = tempfile::tempdir().unwrap();
    let mut command = command("open", &folder.path().join("store"));
    if rustix::process::geteuid().is_root() {
        // Root may write everywhere: let nobody try, from a copy of this binary they may read.
        let copy = binaries.path().join("child");
        std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        std::fs::set_permissions(binaries.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        command = command_of(&copy, "open", &folder.path().join("store"));
        command.current_dir("/").uid(65534).gid(65534);
    } else {
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
    }
    let said = Other::from(&mut command).hears();
    assert!(said.starts_with("Storage file_store.open"), "{said}");
    assert!(said.contains(&folder.path().display().to_string()), "{said}");
}
