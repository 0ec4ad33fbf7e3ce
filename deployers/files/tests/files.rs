//! What is on the disk, without a server.

#![expect(clippy::unwrap_used, reason = "test code: what is impossible here may panic")]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use acmekit_conformance::test_bundle;
use acmekit_core::atomic::{FileAttributes, write_file};
use acmekit_core::{Bundle, Deployer, ErrorKind, Origin, Outcome};
use acmekit_files::{Config, Files};
use tempfile::TempDir;

struct Site {
    _folder: TempDir,
    config: Config,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(folder.path().join("live"));
        Self { _folder: folder, config }
    }

    fn files(&self) -> Files {
        Files::new(self.config.clone()).unwrap()
    }

    fn path(&self, bundle: &Bundle) -> PathBuf {
        self.config.root.join(bundle.id().as_str())
    }

    /// The names in a folder below the root.
    fn names(&self, below: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.config.root.join(below)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn versions(&self, bundle: &Bundle) -> Vec<String> {
        let mut names = self.names(&format!(".versions/{}", bundle.id()));
        names.retain(|name| name.contains('-'));
        names
    }

    fn command(&mut self, script: &str) {
        self.config.reload = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    }
}

fn bundle() -> Bundle {
    test_bundle(&["a.test"]).unwrap()
}

fn mode(path: impl AsRef<Path>) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn the_files_are_where_they_are_documented_to_be() {
    let mut site = Site::new();
    site.config.combined = true;
    let bundle = bundle();
    assert_eq!(site.files().deploy(&bundle).await.unwrap(), Outcome::Applied);
    let path = site.path(&bundle);
    let read = |name| std::fs::read_to_string(path.join(name)).unwrap();
    let key = bundle.key_pem().unwrap();
    assert_eq!(read("fullchain.pem"), bundle.fullchain_pem());
    assert_eq!(read("chain.pem"), bundle.chain_pem());
    assert_eq!(read("cert.pem"), bundle.leaf_pem());
    assert_eq!(&read("privkey.pem"), key.expose());
    assert_eq!(read("combined.pem"), bundle.fullchain_pem() + key.expose());
    for (name, expected) in
        [("privkey.pem", 0o600), ("combined.pem", 0o600), ("fullchain.pem", 0o644), ("", 0o755)]
    {
        assert_eq!(mode(path.join(name)), expected, "{name}");
    }
    let link = std::fs::read_link(&path).unwrap();
    let version = format!("1-{}", bundle.facts().serial);
    assert_eq!(
        link,
        Path::new(".versions").join(bundle.id().as_str()).join(&version),
        "relative: the root can move"
    );
    assert_eq!(site.names(&format!(".versions/{}", bundle.id())), [version.as_str(), "settled"]);
    assert_eq!(site.files().deploy(&bundle).await.unwrap(), Outcome::AlreadyCurrent);
}

#[tokio::test]
async fn owner_group_and_modes_are_as_chosen_and_a_change_is_taken_up() {
    let mut site = Site::new();
    let bundle = bundle();
    site.files().deploy(&bundle).await.unwrap();
    site.config.key_mode = "0640".parse().unwrap();
    site.config.folder_mode = "0750".parse().unwrap();
    let root = is_owned_by_root(&site.config.root);
    if root {
        site.config.owner = Some("nobody".to_owned());
        site.config.group = Some("12345".to_owned());
    }
    assert_eq!(site.files().deploy(&bundle).await.unwrap(), Outcome::Applied);
    let path = site.path(&bundle);
    assert_eq!((mode(path.join("privkey.pem")), mode(&path)), (0o640, 0o750));
    if root {
        for path in [path.join("privkey.pem"), path.join("cert.pem"), path.clone()] {
            let metadata = std::fs::metadata(path).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (65534, 12345));
        }
    }
    assert_eq!(site.files().deploy(&bundle).await.unwrap(), Outcome::AlreadyCurrent);
}

fn is_owned_by_root(root: &Path) -> bool {
    std::fs::metadata(root).unwrap().uid() == 0
}

#[tokio::test]
async fn an_unknown_owner_is_refused_at_once() {
    let mut site = Site::new();
    site.config.group = Some("acmekit-has-no-such-group".to_owned());
    let error = Files::new(site.config).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("acmekit-has-no-such-group"), "{error}");
}

#[tokio::test]
async fn a_bundle_without_key_is_refused_unless_that_is_wanted() {
    let mut site = Site::new();
    site.config.combined = true;
    let with = bundle();
    let without = Bundle::new(with.id().clone(), &with.fullchain_pem(), None, Origin::default()).unwrap();
    let error = site.files().deploy(&without).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(!site.config.root.exists(), "nothing is touched");
    site.config.without_key = true;
    site.files().deploy(&without).await.unwrap();
    assert_eq!(site.names(without.id().as_str()), ["cert.pem", "chain.pem", "fullchain.pem"]);
}

#[tokio::test]
async fn older_versions_are_kept_by_count_and_swept_after_success_only() {
    let mut site = Site::new();
    site.config.keep = 2;
    let bundles: Vec<Bundle> = (0..5).map(|_| bundle()).collect();
    for bundle in &bundles {
        site.files().deploy(bundle).await.unwrap();
    }
    let kept: Vec<String> =
        (2..5).map(|n: usize| format!("{}-{}", n + 1, bundles[n].facts().serial)).collect();
    assert_eq!(site.versions(&bundles[0]), kept);
    site.command("exit 1");
    for _ in 0..3 {
        site.files().deploy(&bundles[0]).await.unwrap_err();
    }
    assert_eq!(site.versions(&bundles[0]).len(), 4, "one attempt, written once");
    site.files().verify(&bundles[4]).await.unwrap();
}

#[tokio::test]
async fn a_first_deployment_that_fails_leaves_no_link() {
    let mut site = Site::new();
    site.command("echo no; exit 1");
    let bundle = bundle();
    let error = site.files().deploy(&bundle).await.unwrap_err();
    assert!(error.to_string().contains("no certificate of this deployer is in place"), "{error}");
    assert!(site.path(&bundle).symlink_metadata().is_err());
    site.config.reload.clear();
    assert_eq!(site.files().deploy(&bundle).await.unwrap(), Outcome::Applied);
}

#[tokio::test]
async fn a_deployment_broken_off_in_the_reload_is_set_right_by_the_next() {
    let mut site = Site::new();
    let (old, new) = (bundle(), bundle());
    site.files().deploy(&old).await.unwrap();
    site.command("sleep 300");
    let files = site.files();
    let broken_off = tokio::time::timeout(Duration::from_millis(500), files.deploy(&new)).await;
    assert!(broken_off.is_err(), "{broken_off:?}");
    // The switch was made, and nobody knows whether the server followed.
    site.command("exit 1");
    let error = site.files().deploy(&new).await.unwrap_err();
    assert!(
        error.to_string().contains(&format!("serial {}) is back in place", old.facts().serial)),
        "{error}"
    );
    site.files().verify(&old).await.unwrap();
    // Nor whether it went back.
    let mark = site.config.root.join("reloaded");
    site.command(&format!("echo > {}", mark.display()));
    assert_eq!(site.files().deploy(&old).await.unwrap(), Outcome::Applied);
    assert!(mark.exists(), "the reload that failed is made up for");
    assert_eq!(site.files().deploy(&old).await.unwrap(), Outcome::AlreadyCurrent);
}

#[tokio::test]
async fn leftovers_of_a_crash_are_swept() {
    let site = Site::new();
    let (old, new) = (bundle(), bundle());
    site.files().deploy(&old).await.unwrap();
    let own = site.config.root.join(".versions").join(old.id().as_str());
    std::fs::create_dir(own.join(".unfinished")).unwrap();
    write_file(&own.join(".unfinished/privkey.pem"), b"half", FileAttributes::default()).unwrap();
    symlink("nowhere", own.join(".settled.new")).unwrap();
    symlink("nowhere", site.config.root.join(format!(".{}.new", old.id()))).unwrap();
    site.files().deploy(&new).await.unwrap();
    assert_eq!(site.names(""), [".lock", ".versions", old.id().as_str()]);
    let names = site.names(&format!(".versions/{}", old.id()));
    assert_eq!(names.iter().filter(|name| name.starts_with('.')).count(), 0, "{names:?}");
}

#[tokio::test]
async fn removing_takes_link_and_versions_and_twice_is_ok() {
    let site = Site::new();
    let (bundle, other) = (bundle(), test_bundle(&["b.test"]).unwrap());
    site.files().remove(bundle.id()).await.unwrap();
    assert!(!site.config.root.exists(), "removing makes no folder");
    site.files().deploy(&bundle).await.unwrap();
    site.files().deploy(&other).await.unwrap();
    for _ in 0..2 {
        site.files().remove(bundle.id()).await.unwrap();
    }
    assert_eq!(site.names(""), [".lock", ".versions", other.id().as_str()]);
    assert_eq!(site.names(".versions"), [other.id().as_str()]);
    site.files().verify(&other).await.unwrap();
}

#[tokio::test]
async fn what_others_put_there_is_neither_followed_nor_removed() {
    let bundle = bundle();
    let outside = tempfile::tempdir().unwrap();
    for planted in ["folder", "link", "versions", "own"] {
        let site = Site::new();
        let versions = site.config.root.join(".versions");
        std::fs::create_dir(&site.config.root).unwrap();
        match planted {
            "folder" => std::fs::create_dir(site.path(&bundle)).unwrap(),
            "link" => symlink(outside.path(), site.path(&bundle)).unwrap(),
            "versions" => symlink(outside.path(), &versions).unwrap(),
            _ => {
                std::fs::create_dir(&versions).unwrap();
                symlink(outside.path(), versions.join(bundle.id().as_str())).unwrap();
            }
        }
        let error = site.files().deploy(&bundle).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{planted}: {error}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "{planted}");
        if matches!(planted, "folder" | "link") {
            assert!(site.path(&bundle).symlink_metadata().is_ok(), "{planted}");
        }
    }
}

#[tokio::test]
async fn another_process_that_deploys_is_waited_for_and_then_named() {
    let mut site = Site::new();
    let bundle = bundle();
    site.files().deploy(&bundle).await.unwrap();
    site.config.lock_timeout = Duration::from_millis(200);
    let lock = std::fs::File::open(site.config.root.join(".lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = site.files().deploy(&bundle).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    drop(lock);
    assert_eq!(site.files().deploy(&bundle).await.unwrap(), Outcome::AlreadyCurrent);
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_at_the_same_time_take_turns() {
    let mut site = Site::new();
    site.command("sleep 0.01");
    let (one, two) = (site.files(), site.files());
    let bundles: [Bundle; 8] = std::array::from_fn(|_| bundle());
    let [a, b, c, d, e, f, g, h] = &bundles;
    let outcomes = tokio::join!(
        one.deploy(a),
        two.deploy(b),
        one.deploy(c),
        two.deploy(d),
        one.deploy(e),
        two.deploy(f),
        one.deploy(g),
        two.deploy(h),
    );
    for outcome in <[_; 8]>::from(outcomes) {
        assert_eq!(outcome.unwrap(), Outcome::Applied);
    }
    let mut right = 0;
    for bundle in &bundles {
        right += usize::from(one.verify(bundle).await.is_ok());
    }
    assert_eq!(right, 1);
}
