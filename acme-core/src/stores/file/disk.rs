//! The folders of a file store, and what is done in them. Everything here blocks.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngCore;
use zeroize::Zeroizing;

use super::{OwnedCondition, entry};
use crate::atomic::{FileAttributes, Flush, Staged, sync_folder};
use crate::stores::check;
use crate::{Clock, Entry, Error, ErrorKind, Result, Secret, StoreKey, Version};

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) folder: PathBuf,
    pub(super) keep: usize,
    pub(super) lock_timeout: Duration,
    pub(super) clock: Arc<dyn Clock>,
    /// The lowest version that this process has not reserved for a new key yet.
    pub(super) free: AtomicU64,
}

/// How many versions a new key gets for itself: more than a journal ever has.
const RESERVED: u64 = 64;

/// A value on the disk that is not in its place yet.
pub(super) struct Draft {
    file: Staged,
    path: PathBuf,
    number: u64,
}

/// A value in its place that may still be lost with the power.
pub(super) struct Placed {
    folder: PathBuf,
    path: PathBuf,
    number: u64,
    /// What was there before.
    older: Numbers,
}

impl Disk {
    pub(super) fn entries(&self) -> PathBuf {
        self.folder.join("entries")
    }

    /// The folder of a key's versions.
    fn entry(&self, key: &StoreKey) -> PathBuf {
        self.entries().join(file_name(key))
    }

    pub(super) fn leases(&self) -> PathBuf {
        self.folder.join("leases")
    }

    pub(super) fn floor(&self) -> PathBuf {
        self.folder.join("floor")
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    /// Reads the current version. Without a lock: if another writer removes the file between
    /// finding and reading it, there is a newer one by then, or none.
    pub(super) fn load(&self, key: &StoreKey) -> Result<Option<Entry>> {
        let folder = self.entry(key);
        for _ in 0..100 {
            let numbers = self.numbers(&folder)?;
            let Some(number) = numbers.latest() else { return Ok(None) };
            let path = folder.join(number.to_string());
            let content = match std::fs::read(&path) {
                Ok(content) => Zeroizing::new(content),
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => {
                    return Err(io_error("file_store.load", "could not read the entry", &path, e));
                }
            };
            return match entry::decode(number, &content) {
                Ok(value) => Ok(Some(Entry::new(value, Version::new(number)))),
                Err(why) => Err(damaged(key, &folder, &numbers, number, &why)),
            };
        }
        Err(Error::new(ErrorKind::Storage, "file_store.load", "the entry changes faster than it can be read")
            .with("key", key)
            .with("path", folder.display()))
    }

    /// Writes a value beside the entries, flushed: all that is missing is its place. Takes no lock, so that many flush
    /// at once.
    pub(super) fn draft(
        &self,
        key: &StoreKey,
        value: &Secret<Vec<u8>>,
        condition: &OwnedCondition,
    ) -> Result<Draft> {
        let folder = self.entry(key);
        let numbers = self.numbers(&folder)?;
        // What is refused already need not be written. It is looked at again under the lock.
        check("file_store.save", key, numbers.latest().map(Version::new), condition.expected)?;
        if !numbers.is_new() {
            return self.write_draft(key, value, numbers.next()?);
        }
        // The folder is on the disk before anything is in it: whoever finds something in it may rely on that.
        self.create_folder(&folder)?;
        self.write_draft(key, value, self.reserve()?)
    }

    fn write_draft(&self, key: &StoreKey, value: &Secret<Vec<u8>>, number: u64) -> Result<Draft> {
        let path = self.entry(key).join(number.to_string());
        let content = entry::encode(number, value.expose());
        let file = Staged::write(&self.tmp(), &path, &content, FileAttributes::default(), Flush::Yes);
        Ok(Draft { file: file.map_err(|e| e.with("key", key))?, path, number })
    }

    /// The first version of a new key: above all that any key ever had. Each takes some of its own, so that one that is
    /// deleted meanwhile does not make another's number too small.
    fn reserve(&self) -> Result<u64> {
        let lowest = self.numbers(&self.floor())?.next()?;
        let taken = |free: u64| Some(free.max(lowest).saturating_add(RESERVED));
        let free =
            self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).unwrap_or_else(|free| free);
        Ok(free.max(lowest))
    }

    /// Puts a draft where it belongs, under the lock. It counts once it is [settled](Self::settle).
    pub(super) fn place(
        &self,
        key: &StoreKey,
        value: &Secret<Vec<u8>>,
        condition: &OwnedCondition,
        draft: Draft,
    ) -> Result<Placed> {
        self.check_fence("file_store.save", condition).map_err(|e| e.with("key", key))?;
        let folder = self.entry(key);
        let older = self.numbers(&folder)?;
        check("file_store.save", key, older.latest().map(Version::new), condition.expected)?;
        let lowest = match older.is_new() {
            true => self.numbers(&self.floor())?.next()?,
            false => older.next()?,
        };
        if older.is_new() && !folder.exists() {
            self.create_folder(&folder)?;
        }
        // Somebody else was quicker, or has opened the store and swept: it is written again.
        let draft = match draft.number >= lowest && draft.file.is_there() {
            true => draft,
            false => self.write_draft(key, value, lowest)?,
        };
        draft.file.place(&draft.path).map_err(|e| e.with("key", key))?;
        Ok(Placed { folder, path: draft.path, number: draft.number, older })
    }

    /// Flushes what was placed, and removes what is too old. Takes no lock: whoever saves on top of it flushes the same
    /// folder. One that was deleted meanwhile was there.
    pub(super) fn settle(&self, key: &StoreKey, placed: &Placed) -> Result<Version> {
        let Placed { folder, path, number, older } = placed;
        if let Err(e) = sync_folder(folder)
            && e.kind() != io::ErrorKind::NotFound
        {
            // In place although its folder could not be flushed: what has failed shall not be read.
            remove_stray(path);
            let why = "could not flush the entry's folder to the disk";
            return Err(io_error("file_store.save", why, folder, e).with("key", key));
        }
        self.thin_out(folder, older);
        Ok(Version::new(*number))
    }

    /// Removes older versions until only as many intact ones are left as are to be kept. A damaged
    /// one does not count, so saving over it costs no good one.
    fn thin_out(&self, folder: &Path, older: &Numbers) {
        if older.live.len() <= self.keep {
            return;
        }
        let mut intact = 0;
        for &number in older.live.iter().rev() {
            if intact >= self.keep {
                remove_stray(&folder.join(number.to_string()));
            } else if is_intact(folder, number) {
                intact += 1;
            }
        }
    }

    /// Notes, before a delete, which versions the key has had. Answers the highest one, or nothing if there is nothing
    /// to delete. Under the lock; the note counts once the [floor](Self::floor) is flushed.
    pub(super) fn mark(&self, key: &StoreKey, condition: &OwnedCondition) -> Result<Option<u64>> {
        let numbers = self.deletable(key, condition)?;
        if numbers.latest().is_none() {
            return Ok(None);
        }
        let failed = |e| io_error("file_store.delete", "could not delete the entry", &self.entry(key), e);
        self.raise_floor(numbers.highest).map_err(failed)?;
        Ok(Some(numbers.highest))
    }

    /// Moves an entry out of the way, under the lock. Answers where it is now.
    pub(super) fn move_aside(
        &self,
        key: &StoreKey,
        condition: &OwnedCondition,
        marked: u64,
    ) -> Result<PathBuf> {
        let numbers = self.deletable(key, condition)?;
        let folder = self.entry(key);
        let failed = |e| io_error("file_store.delete", "could not delete the entry", &folder, e);
        // Somebody has saved since it was marked.
        if numbers.highest > marked {
            self.raise_floor(numbers.highest).map_err(failed)?;
            self.sync_floor()?;
        }
        let aside = self.tmp().join(format!("deleted.{:016x}", rand::rng().next_u64()));
        match std::fs::rename(&folder, &aside) {
            // Or has deleted it.
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(e)),
            _ => Ok(aside),
        }
    }

    /// Flushes that an entry is gone, and removes what it was.
    pub(super) fn remove(&self, aside: &Path) -> Result<()> {
        let entries = self.entries();
        let failed = |e| io_error("file_store.delete", "could not delete the entry", &entries, e);
        sync_folder(&entries).map_err(failed)?;
        match std::fs::remove_dir_all(aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %aside.display(), %error, "could not remove a deleted entry");
            }
            _ => {}
        }
        Ok(())
    }

    fn deletable(&self, key: &StoreKey, condition: &OwnedCondition) -> Result<Numbers> {
        self.check_fence("file_store.delete", condition).map_err(|e| e.with("key", key))?;
        let numbers = self.numbers(&self.entry(key))?;
        check("file_store.delete", key, numbers.latest().map(Version::new), condition.expected)?;
        Ok(numbers)
    }

    /// Notes that versions up to this one have been given away. The note is a file's name: it
    /// cannot be half written, and renaming works on a full disk.
    fn raise_floor(&self, number: u64) -> io::Result<()> {
        let floor = self.floor();
        let old = read_numbers(&floor)?.highest;
        if number <= old {
            return Ok(());
        }
        let new = floor.join(number.to_string());
        if let Err(e) = std::fs::rename(floor.join(old.to_string()), &new) {
            if e.kind() != io::ErrorKind::NotFound {
                return Err(e);
            }
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        }
        Ok(())
    }

    pub(super) fn sync_floor(&self) -> Result<()> {
        let floor = self.floor();
        let failed = |e| io_error("file_store.delete", "could not flush the folder to the disk", &floor, e);
        sync_folder(&floor).map_err(failed)
    }

    pub(super) fn load_all(&self, prefix: &StoreKey) -> Result<Vec<(StoreKey, Entry)>> {
        let mut entries = Vec::new();
        for key in self.keys_below(prefix)? {
            let entry = self.load(&key)?;
            entries.extend(entry.map(|entry| (key, entry)));
        }
        Ok(entries)
    }

    pub(super) fn list(&self, prefix: &StoreKey) -> Result<Vec<StoreKey>> {
        Ok(self.versions(prefix)?.into_iter().map(|(key, _)| key).collect())
    }

    pub(super) fn versions(&self, prefix: &StoreKey) -> Result<Vec<(StoreKey, Version)>> {
        let mut versions = Vec::new();
        for key in self.keys_below(prefix)? {
            let latest = self.numbers(&self.entry(&key))?.latest();
            versions.extend(latest.map(|number| (key, Version::new(number))));
        }
        Ok(versions)
    }

    /// The keys there are folders of, sorted; the folders may be empty.
    fn keys_below(&self, prefix: &StoreKey) -> Result<Vec<StoreKey>> {
        let entries = self.entries();
        let failed = |e| io_error("file_store.list", "could not read the folder", &entries, e);
        let mut keys = Vec::new();
        for item in std::fs::read_dir(&entries).map_err(failed)? {
            let name = item.map_err(failed)?.file_name();
            let key = name.to_str().and_then(|name| name.replace('+', "/").parse::<StoreKey>().ok());
            keys.extend(key.filter(|key| key.is_below(prefix)));
        }
        keys.sort();
        Ok(keys)
    }

    pub(super) fn numbers(&self, folder: &Path) -> Result<Numbers> {
        read_numbers(folder).map_err(|e| io_error("file_store.read", "could not read the folder", folder, e))
    }

    /// Creates a folder of the store, durably, unless it is there.
    pub(super) fn create_folder(&self, folder: &Path) -> Result<()> {
        make_folder(folder)?;
        let flushed = folder.parent().map_or(Ok(()), sync_folder);
        flushed.map_err(|e| io_error("file_store.create", "could not create the folder", folder, e))
    }
}

/// Creates a folder unless it is there.
pub(super) fn make_folder(folder: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            Err(io_error("file_store.create", "could not create the folder", folder, e))
        }
        _ => Ok(()),
    }
}

/// The files of a folder that are named by a number.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The plain numbers, ascending.
    pub(super) live: Vec<u64>,
    /// The largest number that begins a file's name, also with something behind it.
    pub(super) highest: u64,
    /// All names that begin with a number.
    pub(super) files: Vec<String>,
}

impl Numbers {
    pub(super) fn latest(&self) -> Option<u64> {
        self.live.last().copied()
    }

    /// Whether nothing was there, perhaps not even the folder.
    pub(super) fn is_new(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn next(&self) -> Result<u64> {
        self.highest.checked_add(1).ok_or_else(|| {
            Error::new(ErrorKind::Storage, "file_store.save", "a file bears the largest number there is")
        })
    }
}

fn read_numbers(folder: &Path) -> io::Result<Numbers> {
    let mut numbers = Numbers::default();
    let items = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(numbers),
        items => items?,
    };
    for item in items {
        let Ok(name) = item?.file_name().into_string() else { continue };
        let (digits, plain) =
            name.split_once('.').map_or((name.as_str(), true), |(digits, _)| (digits, false));
        let Some(number) = digits.parse::<u64>().ok().filter(|number| number.to_string() == digits) else {
            continue;
        };
        numbers.highest = numbers.highest.max(number);
        if plain {
            numbers.live.push(number);
        }
        numbers.files.push(name);
    }
    numbers.live.sort_unstable();
    Ok(numbers)
}

fn is_intact(folder: &Path, number: u64) -> bool {
    std::fs::read(folder.join(number.to_string()))
        .is_ok_and(|content| entry::decode(number, &Zeroizing::new(content)).is_ok())
}

fn damaged(key: &StoreKey, folder: &Path, numbers: &Numbers, number: u64, why: &str) -> Error {
    let path = folder.join(number.to_string());
    let older = numbers.live.iter().rev().find(|&&older| older < number && is_intact(folder, older));
    let aside = format!("`mv '{0}' '{0}.damaged'`", path.display());
    let hint = match older {
        Some(older) => format!("version {older} is intact: {aside} goes back to it"),
        None => format!(
            "no older version is intact: {aside} makes the entry absent, so that it is made anew, or put a backup in place"
        ),
    };
    Error::new(ErrorKind::Storage, "file_store.load", format!("the entry is damaged: {why}"))
        .with("key", key)
        .with("path", path.display())
        .with_hint(hint)
}

/// The name of a key's folder: flat, so that a key may be the prefix of another.
pub(super) fn file_name(key: &StoreKey) -> String {
    key.as_str().replace('/', "+")
}

/// Removes a file nobody needs any more; the next writer tries again.
pub(super) fn remove_stray(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "could not remove a file");
    }
}

pub(super) fn io_error(op: &'static str, message: &'static str, path: &Path, e: io::Error) -> Error {
    let hint = match e.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some("run as a user who may write there")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some("free some space, then run again"),
        io::ErrorKind::Unsupported => Some("the file system has no flock: use one of this machine"),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Some("the store's folder is gone or no folder: has somebody moved it?")
        }
        _ => None,
    };
    let error = Error::new(ErrorKind::Storage, op, message)
        .with("path", path.display())
        .with("reason", &e)
        .with_source(e);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}
