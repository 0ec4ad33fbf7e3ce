//! Readers that never stop, processes that are killed, and disks that are full.
//!
//! Some tests start this program again as a child: a test named `child_…` does nothing unless the
//! environment says that it is one.

#![expect(clippy::unwrap_used, reason = "test code: what is impossible here may panic")]

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use acmekit_conformance::test_bundle;
use acmekit_core::{Bundle, CertificateSpec, Deadline, Deployer, ErrorKind, Origin, Outcome, PrivateKey};
use acmekit_files::{Config, Files};
use rustix::fs::{Mode, OFlags};

const ROOT: &str = "ACMEKIT_FILES_TEST_ROOT";
const NAMES: [&str; 1] = ["a.test"];

fn files(root: &Path) -> Files {
    let mut config = Config::new(root);
    config.combined = true;
    Files::new(config).unwrap()
}

/// What programs read, or `None` if there is nothing: always a pair that belongs together.
fn pair_in_place(root: &Path) -> Option<Bundle> {
    let id = CertificateSpec::new(NAMES).unwrap().id().clone();
    let folder = root.join(id.as_str());
    folder.symlink_metadata().ok()?;
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let (chain, key) = (read("fullchain.pem"), read("privkey.pem"));
    assert_eq!(read("combined.pem"), format!("{chain}{key}"));
    Some(Bundle::new(id, &chain, Some(PrivateKey::from_pem(&key).unwrap()), Origin::default()).unwrap())
}

fn read_at(folder: &OwnedFd, name: &str) -> std::io::Result<String> {
    let mut text = String::new();
    File::from(rustix::fs::openat(folder, name, OFlags::RDONLY, Mode::empty())?).read_to_string(&mut text)?;
    Ok(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reader_of_the_folder_ever_sees_a_key_beside_a_foreign_chain() {
    const SWITCHES: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("live");
    let bundles: Vec<Bundle> = (0..10).map(|_| test_bundle(&NAMES).unwrap()).collect();
    let files = files(&root);
    files.deploy(&bundles[0]).await.unwrap();
    let link = root.join(bundles[0].id().as_str());
    let texts: Vec<(String, String)> =
        bundles.iter().map(|b| (b.fullchain_pem(), b.key_pem().unwrap().expose().clone())).collect();
    let over = AtomicBool::new(false);
    let (reads, seen) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut reads, mut seen) = (0, std::collections::BTreeSet::new());
            while !over.load(Ordering::Relaxed) {
                let combined = std::fs::read_to_string(link.join("combined.pem"));
                let open = rustix::fs::open(&link, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
                let both = open.map_err(std::io::Error::from).and_then(|folder| {
                    Ok((read_at(&folder, "fullchain.pem")?, read_at(&folder, "privkey.pem")?))
                });
                // A reader that was slow may find its version swept: nothing is not a wrong pair.
                let gone = std::io::ErrorKind::NotFound;
                match (combined, both) {
                    (Ok(combined), Ok(both)) => {
                        assert!(texts.iter().any(|(chain, key)| combined == format!("{chain}{key}")));
                        seen.insert(texts.iter().position(|pair| *pair == both).unwrap());
                        reads += 1;
                    }
                    (Err(e), _) | (_, Err(e)) => assert_eq!(e.kind(), gone, "{e}"),
                }
            }
            (reads, seen)
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for turn in 1..=SWITCHES {
                    let outcome = files.deploy(&bundles[turn % bundles.len()]).await.unwrap();
                    assert_eq!(outcome, Outcome::Applied);
                }
            });
        });
        over.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(reads > SWITCHES && seen.len() == bundles.len(), "{reads} reads saw {seen:?}");
}

#[tokio::test]
async fn child_deploys_until_it_is_killed() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let files = files(Path::new(&root));
    loop {
        files.deploy(&test_bundle(&NAMES).unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn killed_at_any_point_a_whole_version_is_in_place_and_the_next_deployment_works() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("live");
    let link = root.join(CertificateSpec::new(NAMES).unwrap().id().as_str());
    for round in 0..40 {
        let before = std::fs::read_link(&link).ok();
        let mut child = again("child_deploys_until_it_is_killed", &root);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The first few die before they get far, the others somewhere in a deployment after their first.
        let deadline = Deadline::after(Duration::from_secs(20));
        while round >= 5 && std::fs::read_link(&link).ok() == before {
            assert!(deadline.sleep(Duration::from_micros(200)).await, "the child deploys nothing");
        }
        // Steps of less than one deployment's length, so that every phase is hit.
        tokio::time::sleep(Duration::from_micros(round * 1_370)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(pair_in_place(&root).is_some() || round < 5, "nothing is in place");
    }
    let bundle = test_bundle(&NAMES).unwrap();
    assert_eq!(files(&root).deploy(&bundle).await.unwrap(), Outcome::Applied);
    assert_eq!(pair_in_place(&root).unwrap().facts(), bundle.facts());
    assert_eq!(leftovers(&root), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn killed_while_it_settles_leaves_no_second_mark() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("live");
    let bundle = test_bundle(&NAMES).unwrap();
    files(&root).deploy(&bundle).await.unwrap();
    let own = root.join(".versions").join(CertificateSpec::new(NAMES).unwrap().id().as_str());
    // As if the version before had just been superseded.
    let mark = own.join("unsettled");
    std::os::unix::fs::symlink(std::fs::read_link(own.join("settled")).unwrap(), &mark).unwrap();
    assert_eq!(files(&root).deploy(&bundle).await.unwrap(), Outcome::Applied);
    assert!(std::fs::symlink_metadata(&mark).is_err());
    assert_eq!(files(&root).deploy(&bundle).await.unwrap(), Outcome::AlreadyCurrent);
}

fn leftovers(root: &Path) -> Vec<PathBuf> {
    let own = root.join(".versions").join(CertificateSpec::new(NAMES).unwrap().id().as_str());
    let entries = [root, &own].map(|folder| std::fs::read_dir(folder).unwrap()).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.filter(|path| name(path).ends_with(".new") || name(path) == ".unfinished").collect()
}

/// This program, to run one child test.
fn again(test: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(ROOT, root).stdin(Stdio::null());
    command
}

/// Deploys until that fails, then says how.
#[tokio::test]
async fn child_deploys_until_it_fails() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let root = Path::new(&root);
    let mut config = Config::new(root);
    config.combined = true;
    config.keep = 1000;
    let files = Files::new(config).unwrap();
    let mut last = pair_in_place(root);
    for _ in 0..100 {
        let bundle = test_bundle(&NAMES).unwrap();
        match files.deploy(&bundle).await {
            Ok(_) => last = Some(bundle),
            Err(error) => {
                let last = last.unwrap();
                assert_eq!(error.kind(), ErrorKind::Deploy);
                assert!(
                    error.to_string().contains(&last.facts().serial),
                    "what is in place is not named: {error}"
                );
                assert_eq!(pair_in_place(root).unwrap().facts(), last.facts());
                files.verify(&last).await.unwrap();
                assert_eq!(leftovers(root), Vec::<PathBuf>::new());
                println!("FAILED AS IT SHOULD: {}", error.report());
                return;
            }
        }
    }
    panic!("a hundred deployments and no failure");
}

/// Whether the child failed as it should, for this reason; skipped if it could not be started.
#[expect(clippy::print_stderr, reason = "a test that skips itself says why")]
fn must_have_failed(output: &Output, reason: &str) {
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if !text.contains("running 1 test") {
        eprintln!("skipped, the child cannot be run like this here: {text}");
        return;
    }
    assert!(output.status.success() && text.contains("FAILED AS IT SHOULD"), "{text}");
    assert!(text.contains(reason), "{text}");
}

/// The same child, behind a shell that first does something to itself.
fn behind(shell: &[&str], child: &Command) -> Output {
    let (program, arguments) = shell.split_first().unwrap();
    let mut command = Command::new(program);
    command.args(arguments).arg(child.get_program()).args(child.get_args());
    command.envs(child.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_full_disk_leaves_the_previous_version() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=100k tmpfs \"$0\" && exec \"$@\"";
    let path = folder.path().to_str().unwrap().to_owned();
    let shell = ["unshare", "--mount", "/bin/sh", "-c", script, &path];
    let child = again("child_deploys_until_it_fails", &folder.path().join("live"));
    must_have_failed(&behind(&shell, &child), "No space left on device");
}

#[tokio::test]
async fn a_file_size_limit_leaves_the_previous_version() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("live");
    files(&root).deploy(&test_bundle(&NAMES).unwrap()).await.unwrap();
    let shell = ["/bin/sh", "-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh"];
    must_have_failed(&behind(&shell, &again("child_deploys_until_it_fails", &root)), "File too large");
}

#[tokio::test]
async fn a_root_that_cannot_be_written_leaves_the_previous_version() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("live");
    files(&root).deploy(&test_bundle(&NAMES).unwrap()).await.unwrap();
    // Root may write anywhere; without that capability the mode counts for it as for others.
    let shell: &[&str] = match std::fs::metadata(&root).unwrap().uid() {
        0 => &["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override", "--"],
        _ => &["env"],
    };
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o555)).unwrap();
    let output = behind(shell, &again("child_deploys_until_it_fails", &root));
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
    must_have_failed(&output, "Permission denied");
}
