use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::Expected;

fn value(text: &str) -> Secret<Vec<u8>> {
    Secret::new(text.as_bytes().to_vec())
}

fn key(text: &str) -> StoreKey {
    text.parse().unwrap()
}

async fn text(store: &FileStore, at: &str) -> Option<String> {
    store.load(&key(at)).await.unwrap().map(|entry| String::from_utf8(entry.value.expose().clone()).unwrap())
}

async fn put(store: &FileStore, at: &str, text: &str) -> u64 {
    store.save(&key(at), &value(text), &Condition::ANY).await.unwrap().number()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|item| item.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Cuts the entry's current file to nothing, as a full disk does.
fn blank(folder: &Path, at: &str, number: u64) {
    let path = folder.join("entries").join(at.replace('/', "+")).join(number.to_string());
    std::fs::OpenOptions::new().write(true).truncate(true).open(path).unwrap();
}

#[tokio::test]
async fn a_damaged_entry_is_an_error_that_shows_the_way_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).await.unwrap();
    put(&store, "a/b", "one").await;
    put(&store, "a/b", "two").await;
    blank(folder.path(), "a/b", 2);

    let error = store.load(&key("a/b")).await.unwrap_err();
    let path = folder.path().join("entries/a+b/2");
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert_eq!(
        error.to_string(),
        format!("file_store.load: the entry is damaged: it is empty (key=a/b, path={})", path.display())
    );
    assert_eq!(
        error.hint(),
        Some(
            format!("version 1 is intact: `mv '{0}' '{0}.damaged'` goes back to it", path.display()).as_str()
        )
    );

    // What the hint says works, and no version is given away twice.
    std::fs::rename(&path, folder.path().join("entries/a+b/2.damaged")).unwrap();
    assert_eq!(text(&store, "a/b").await.as_deref(), Some("one"));
    assert_eq!(put(&store, "a/b", "three").await, 3);
}

#[tokio::test]
async fn each_flipped_byte_and_each_cut_on_the_disk_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).await.unwrap();
    put(&store, "a", "some value").await;
    let path = folder.path().join("entries/a/1");
    let good = std::fs::read(&path).unwrap();
    let flipped = (0..good.len()).map(|at| {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        bad
    });
    let cut = (0..good.len()).map(|length| good[..length].to_vec());
    for bad in flipped.chain(cut) {
        crate::atomic::write_file(&path, &bad, crate::atomic::FileAttributes::default()).unwrap();
        let error = store.load(&key("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage, "{bad:?}");
        assert!(error.to_string().contains("entries/a/1"), "{error}");
    }
    crate::atomic::write_file(&path, &good, crate::atomic::FileAttributes::default()).unwrap();
    assert_eq!(text(&store, "a").await.as_deref(), Some("some value"));
}

#[tokio::test]
async fn without_an_intact_version_the_hint_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).await.unwrap();
    put(&store, "a", "one").await;
    blank(folder.path(), "a", 1);
    let error = store.load(&key("a")).await.unwrap_err();
    assert!(error.hint().unwrap().starts_with("no older version is intact"), "{error:?}");
}

#[tokio::test]
async fn saving_over_damaged_versions_keeps_the_good_older_ones() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::builder(folder.path()).keep_versions(2).open().await.unwrap();
    for text in ["1", "2", "3"] {
        put(&store, "a", text).await;
    }
    for number in 4..10 {
        assert_eq!(put(&store, "a", "spoilt").await, number);
        blank(folder.path(), "a", number);
    }
    let left = names(&folder.path().join("entries/a"));
    assert!(left.contains(&"2".to_owned()) && left.contains(&"3".to_owned()), "{left:?}");
    put(&store, "a", "good").await;
    put(&store, "a", "better").await;
    put(&store, "a", "best").await;
    assert_eq!(names(&folder.path().join("entries/a")), ["10", "11", "12"]);
}

#[tokio::test]
async fn older_versions_are_kept_by_count() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).await.unwrap();
    for number in 1..=9 {
        put(&store, "a", &number.to_string()).await;
    }
    assert_eq!(names(&folder.path().join("entries/a")), ["6", "7", "8", "9"]);
}

#[tokio::test]
async fn versions_grow_over_a_delete_and_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).await.unwrap();
    put(&store, "a", "1").await;
    put(&store, "a", "2").await;
    store.delete(&key("a"), &Condition::ANY).await.unwrap();
    drop(store);
    let store = FileStore::open(folder.path()).await.unwrap();
    assert_eq!(text(&store, "a").await, None);
    assert_eq!(put(&store, "a", "3").await, 3);
    store.delete(&key("a"), &Condition::expecting(Expected::Version(Version::new(3)))).await.unwrap();
    assert_eq!(names(&folder.path().join("floor")), ["3"]);
    assert!(names(&folder.path().join("tmp")).is_empty() && names(&folder.path().join("entries")).is_empty());
}

#[tokio::test]
async fn a_key_may_be_the_prefix_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).await.unwrap();
    put(&store, "a", "1").await;
    put(&store, "a/b", "2").await;
    put(&store, "a/b/c", "3").await;
    store.delete(&key("a/b"), &Condition::ANY).await.unwrap();
    assert_eq!(text(&store, "a").await.as_deref(), Some("1"));
    assert_eq!(text(&store, "a/b/c").await.as_deref(), Some("3"));
    assert_eq!(store.list(&key("a")).await.unwrap(), [key("a/b/c")]);
}

#[tokio::test]
async fn the_longest_key_fits() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).await.unwrap();
    let long = format!("a/{}", "b".repeat(198));
    put(&store, &long, "1").await;
    assert_eq!(text(&store, &long).await.as_deref(), Some("1"));
    assert!(store.lease(&key(&long), Duration::from_secs(1)).await.unwrap().is_some());
    store.delete(&key(&long), &Condition::ANY).await.unwrap();
}

#[tokio::test]
async fn nobody_else_may_read_anything() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("new/store");
    let store = FileStore::open(&folder).await.unwrap();
    put(&store, "a/b", "1").await;
    put(&store, "c", "1").await;
    store.delete(&key("c"), &Condition::ANY).await.unwrap();
    let _lease = store.lease(&key("a"), Duration::from_secs(9)).await.unwrap().unwrap();
    let (mut files, mut open) = (0, vec![folder]);
    while let Some(folder) = open.pop() {
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700, "{folder:?}");
        for item in std::fs::read_dir(folder).unwrap() {
            let item = item.unwrap();
            if item.file_type().unwrap().is_dir() {
                open.push(item.path());
                continue;
            }
            files += 1;
            assert_eq!(item.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{item:?}");
        }
    }
    assert_eq!(files, 6, "format, lock, floor, one entry, one lease and its holder");
}

#[tokio::test]
async fn an_empty_folder_open_to_others_is_closed_a_full_one_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    drop(FileStore::open(folder.path()).await.unwrap());
    assert_eq!(std::fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);

    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o750)).unwrap();
    let error = FileStore::open(folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("mode=0750"), "{error}");
    assert!(error.hint().unwrap().contains("chmod 700"), "{error:?}");
    assert_eq!(std::fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o750, "not touched");
}

#[tokio::test]
async fn a_folder_of_a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(FileStore::open(folder.path()).await.unwrap());
    std::fs::remove_file(folder.path().join("format")).unwrap();
    std::os::unix::fs::symlink("/proc/version", folder.path().join("format")).unwrap();
    let error = FileStore::open(folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[tokio::test]
async fn leftovers_are_swept_at_open_but_not_under_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).await.unwrap();
    let tmp = folder.path().join("tmp");
    std::fs::create_dir_all(tmp.join("deleted.0123/4")).unwrap();
    std::fs::copy(folder.path().join("format"), tmp.join(".17.0123.tmp")).unwrap();

    let writing = store.disk.lock().unwrap();
    drop(FileStore::open(folder.path()).await.unwrap());
    assert_eq!(names(&tmp).len(), 2, "swept under a writer");
    drop(writing);
    drop(FileStore::open(folder.path()).await.unwrap());
    assert!(names(&tmp).is_empty());
}

#[tokio::test]
async fn a_writer_waits_for_the_lock_but_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let patience = Duration::from_millis(60);
    let store = FileStore::builder(folder.path()).lock_timeout(patience).open().await.unwrap();
    let other = FileStore::open(folder.path()).await.unwrap();
    let lock = other.disk.lock().unwrap();
    let error = store.save(&key("a"), &value("1"), &Condition::ANY).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains(&folder.path().join("lock").display().to_string()), "{error}");
    assert_eq!(text(&store, "a").await, None, "reading needs no lock");
    drop(lock);
    put(&store, "a", "1").await;
}

#[tokio::test]
async fn removing_the_lock_file_lets_nobody_in_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).await.unwrap();
    let first = store.disk.lock().unwrap();
    std::fs::remove_file(folder.path().join("lock")).unwrap();
    let second = store.disk.lock().unwrap();
    assert!(store.disk.try_lock().unwrap().is_none());
    drop((first, second));
}

#[tokio::test]
async fn a_damaged_lease_of_a_dead_holder_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).await.unwrap();
    let lease = store.lease(&key("web"), Duration::from_secs(60)).await.unwrap().unwrap();
    let record = folder.path().join("leases/web/1");
    std::fs::OpenOptions::new().write(true).truncate(true).open(&record).unwrap();
    let error = store.lease(&key("web"), Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.to_string().contains("the lease is damaged: it is empty"), "{error}");
    drop(lease);
    let next = store.lease(&key("web"), Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(next.fence().token, 2);
    assert_eq!(names(&folder.path().join("leases/web")), ["2", "2.alive"]);
}

#[tokio::test]
async fn an_unusable_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::copy("/proc/self/comm", &file).unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = FileStore::open(&path).await.unwrap_err();
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[tokio::test]
async fn debug_shows_no_value() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).await.unwrap();
    put(&store, "a", "very-secret").await;
    let entry = store.load(&key("a")).await.unwrap();
    assert!(!format!("{store:?} {entry:?}").contains("very-secret"));
}
