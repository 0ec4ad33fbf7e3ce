//! [`FileStore`]: a store in a folder, safe to share between processes of one machine.

mod disk;
mod entry;
mod lease;
mod lock;
mod prepare;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::{
    Clock, Condition, Entry, Error, ErrorKind, Fence, Lease, Result, Secret, Store, StoreKey, SystemClock,
    Version,
};
use disk::Disk;

// For the fuzz targets.
pub(crate) use entry::{decode as decode_entry, encode as encode_entry};
pub(crate) use lease::fuzz as lease_record;

/// A store in a folder. Several processes of one machine may use the same folder at once.
///
/// # On the disk
/// ```text
/// <folder>/                              0700; every file is 0600
///   format                               says what this folder is
///   lock                                 flock: who holds it may write
///   entries/certificates+web/16          an older version of the entry `certificates/web`, intact
///   entries/certificates+web/17          the current one: the largest number
///   leases/certificates+web/4            who has the lease with token 4, and until when
///   leases/certificates+web/4.alive      flock: held for as long as the holder lives
///   floor/12                             an empty file: new keys start above version 12
///   tmp/                                 files not yet in place; emptied at open
/// ```
/// - A save writes a **new** file and never touches an older one: `tmp/…`, flush, rename, flush of the
///   folder. Only the rename is made alone, so many flush at once. After a crash the entry has its old value or
///   its new one. The older versions are then thinned out to
///   [`keep_versions`](FileStoreBuilder::keep_versions), where only intact ones count.
/// - Each file begins with one line, `acmekit-entry <format> <version> <length> <sha256>`, where the
///   checksum covers the line and the value. A flipped bit, a cut or an empty file is a `Storage`
///   error that names the file and the newest intact version. To go back to it, rename the damaged
///   file to `<number>.damaged`: nothing does so by itself, and only a delete removes it.
/// - A delete renames the entry's folder away, older versions included, after raising the floor: so the
///   versions of a key grow also over a delete.
///
/// # Between processes
/// Changes take turns by `flock` on `lock`, which the kernel gives back when a process dies: there
/// are no stale locks. Who does not get it within
/// [`lock_timeout`](FileStoreBuilder::lock_timeout) fails with `Timeout`. Reads take no lock.
///
/// A lease whose holder has died is free at once; one whose holder hangs is free when its time has
/// passed. The holder may wake up and write all the same: writes that carry its
/// [`Fence`] are refused (`Conflict`) from then on.
///
/// # Network file systems
/// Use it from **one machine** only. NFS passes `flock` on to its server (Linux, NFSv4) or keeps it
/// local (`nolock`, `local_lock=flock`), and a server that is rebooted may forget it; besides, the
/// clocks of two machines differ. Several machines want a store in a database.
///
/// # Dropped futures
/// The work runs to its end on a blocking thread even when the future is dropped: what is found
/// afterwards is the old value or the new one. A lease taken by a dropped future is given back.
///
/// ```
/// use acmekit_core::stores::FileStore;
/// use acmekit_core::{Condition, Expected, Secret, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> acmekit_core::Result<()> {
/// # let parent = tempfile::tempdir().unwrap();
/// # let folder = parent.path().join("acme");
/// let store = FileStore::open(folder).await?;
/// let key = "certificates/web".parse()?;
/// let first = store.save(&key, &Secret::new(b"one".to_vec()), &Condition::ANY).await?;
///
/// let unchanged = Condition::expecting(Expected::Version(first));
/// store.save(&key, &Secret::new(b"two".to_vec()), &unchanged).await?;
/// assert_eq!(store.load(&key).await?.unwrap().value.expose(), b"two");
///
/// // The entry has moved on: the same condition does not hold a second time.
/// assert!(store.save(&key, &Secret::new(b"three".to_vec()), &unchanged).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FileStore {
    disk: Arc<Disk>,
    /// Callers of this instance wait here, in order; only one at a time polls the file lock.
    turn: Arc<Mutex<()>>,
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("folder", &self.disk.folder).finish_non_exhaustive()
    }
}

/// How a [`FileStore`] is opened; from [`FileStore::builder`].
#[derive(Debug, Clone)]
pub struct FileStoreBuilder {
    folder: PathBuf,
    keep: usize,
    lock_timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl FileStoreBuilder {
    /// How many intact older versions of each entry are kept beside the current one: 3 by default,
    /// at least 1.
    #[must_use]
    pub fn keep_versions(mut self, count: usize) -> Self {
        self.keep = count.max(1);
        self
    }

    /// How long a write waits for other processes: 10 seconds by default.
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// The clock by which leases expire: the machine's own by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the store, creates its folder where there is none, and sweeps what crashed writers left.
    ///
    /// # Errors
    /// `Config` if the folder holds something and group or others may access it, or if a newer
    /// acmekit has written it; `Storage` if it cannot be created or written. An empty folder is
    /// closed to others instead: nobody relies on it yet. One with content is never changed, since
    /// it may be another program's.
    pub async fn open(self) -> Result<FileStore> {
        let disk = Arc::new(Disk {
            folder: self.folder,
            keep: self.keep,
            lock_timeout: self.lock_timeout,
            clock: self.clock,
            free: AtomicU64::new(1),
        });
        let store = FileStore { disk, turn: Arc::default() };
        store.blocking(Disk::prepare).await?;
        Ok(store)
    }
}

impl FileStore {
    /// Opens the store in this folder, with the defaults of the [`builder`](Self::builder).
    ///
    /// # Errors
    /// As [`FileStoreBuilder::open`].
    pub async fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        Self::builder(folder).open().await
    }

    /// Sets more than the folder before opening.
    pub fn builder(folder: impl Into<PathBuf>) -> FileStoreBuilder {
        FileStoreBuilder {
            folder: folder.into(),
            keep: 3,
            lock_timeout: Duration::from_secs(10),
            clock: Arc::new(SystemClock),
        }
    }

    /// Runs `work` where it may block.
    async fn blocking<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&Disk) -> Result<T> + Send + 'static,
    {
        let disk = Arc::clone(&self.disk);
        match tokio::task::spawn_blocking(move || work(&disk)).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(error) => Err(Error::new(
                ErrorKind::Cancelled,
                "file_store.run",
                "the runtime is shutting down, nothing was done",
            )
            .with_source(error)),
        }
    }

    /// Runs `work` alone: no other task and no other process changes anything meanwhile.
    async fn alone<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&Disk) -> Result<T> + Send + 'static,
    {
        self.alone_then(work, |_, done| Ok(done)).await
    }

    /// Runs `work` alone, and then, beside others, what has to be waited for: the disk.
    async fn alone_then<P, T, W, A>(&self, work: W, and_then: A) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&Disk) -> Result<P> + Send + 'static,
        A: FnOnce(&Disk, P) -> Result<T> + Send + 'static,
    {
        let turn = tokio::time::timeout(self.disk.lock_timeout, Arc::clone(&self.turn).lock_owned())
            .await
            .map_err(|_| self.disk.lock_missed())?;
        self.blocking(move |disk| {
            let lock = disk.lock()?;
            let done = work(disk);
            drop(lock);
            drop(turn);
            and_then(disk, done?)
        })
        .await
    }
}

/// A [`Condition`] a blocking thread can own.
struct OwnedCondition {
    expected: crate::Expected,
    fence: Option<(StoreKey, u64)>,
}

impl From<&Condition<'_>> for OwnedCondition {
    fn from(condition: &Condition<'_>) -> Self {
        let fence = condition.fence.map(|Fence { name, token }| (name.clone(), token));
        Self { expected: condition.expected, fence }
    }
}

#[async_trait]
impl Store for FileStore {
    async fn load(&self, key: &StoreKey) -> Result<Option<Entry>> {
        let key = key.clone();
        self.blocking(move |disk| disk.load(&key)).await
    }

    async fn save(&self, key: &StoreKey, value: &Secret<Vec<u8>>, condition: &Condition) -> Result<Version> {
        let (key, value, condition) = (key.clone(), value.clone(), OwnedCondition::from(condition));
        let (again, draft) = self
            .blocking(move |disk| {
                let draft = disk.draft(&key, &value, &condition)?;
                Ok(((key, value, condition), draft))
            })
            .await?;
        let (key, value, condition) = again;
        let name = key.clone();
        self.alone_then(
            move |disk| disk.place(&key, &value, &condition, draft),
            move |disk, placed| disk.settle(&name, &placed),
        )
        .await
    }

    async fn delete(&self, key: &StoreKey, condition: &Condition) -> Result<()> {
        let wanted = Arc::new((key.clone(), OwnedCondition::from(condition)));
        let of = Arc::clone(&wanted);
        let mark = move |disk: &Disk| disk.mark(&of.0, &of.1);
        let flushed = |disk: &Disk, marked: Option<u64>| disk.sync_floor().map(|()| marked);
        let Some(marked) = self.alone_then(mark, flushed).await? else { return Ok(()) };
        let move_aside = move |disk: &Disk| disk.move_aside(&wanted.0, &wanted.1, marked);
        self.alone_then(move_aside, |disk, aside| disk.remove(&aside)).await
    }

    async fn list(&self, prefix: &StoreKey) -> Result<Vec<StoreKey>> {
        let prefix = prefix.clone();
        self.blocking(move |disk| disk.list(&prefix)).await
    }

    /// In one go: to hand each to a thread that may block takes longer than to read it.
    async fn load_all(&self, prefix: &StoreKey) -> Result<Vec<(StoreKey, Entry)>> {
        let prefix = prefix.clone();
        self.blocking(move |disk| disk.load_all(&prefix)).await
    }

    /// Reads no file: a version is a file's name.
    async fn versions(&self, prefix: &StoreKey) -> Result<Vec<(StoreKey, Version)>> {
        let prefix = prefix.clone();
        self.blocking(move |disk| disk.versions(&prefix)).await
    }

    async fn lease(&self, name: &StoreKey, ttl: Duration) -> Result<Option<Lease>> {
        let name = name.clone();
        self.alone(move |disk| disk.take_lease(&name, ttl)).await
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        let Fence { name, token } = lease.fence();
        let (name, ttl) = (name.clone(), lease.ttl());
        self.alone(move |disk| disk.renew_lease(&name, token, ttl)).await
    }
}

#[cfg(test)]
mod tests;
