//! One deployment at a time: within the process in turn, between processes by a lock file.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use acmekit_core::{Deadline, Error, ErrorKind, Result, Retry};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::contents::Attributes;
use crate::problem::{conflict, failed};

const FILE: &str = ".lock";
const PAUSE: Duration = Duration::from_millis(20);

/// The right to change what is below the root; given back on drop.
///
/// Every piece of blocking work holds it, so that work a dropped future leaves running still has it.
#[derive(Debug)]
pub(crate) struct Lock {
    root: OwnedFd,
    _file: OwnedFd,
    _turn: OwnedMutexGuard<()>,
}

impl Lock {
    /// Waits for it, at most `patience`. The root is made if `make` says how.
    pub(crate) async fn take(
        turn: &Arc<Mutex<()>>,
        root: &Path,
        make: Option<Attributes>,
        patience: Duration,
    ) -> Result<Option<Self>> {
        let deadline = Deadline::after(patience);
        let waiting = deadline.run("files.lock", "waiting for an earlier deployment", async {
            Ok(Arc::clone(turn).lock_owned().await)
        });
        let turn = waiting.await.map_err(|_| busy(root))?;
        let path = root.to_owned();
        let opened = blocking(move || open(&path, make)).await?;
        let Some((root_folder, file)) = opened else { return Ok(None) };
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Self { root: root_folder, _file: file, _turn: turn })),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(e) => return Err(failed("lock the root folder", e.into())),
            }
            if !deadline.sleep(PAUSE).await {
                return Err(busy(root));
            }
        }
    }

    /// The root folder, once more.
    pub(crate) fn root(&self) -> Result<OwnedFd> {
        self.root.try_clone().map_err(|e| failed("open the root folder", e))
    }
}

fn busy(root: &Path) -> Error {
    Error::new(ErrorKind::Conflict, "files.lock", "somebody else is deploying into the same root")
        .with("root", root.display())
        .with_hint("another process holds the file `.lock` in it; it is freed when that process ends")
}

fn open(path: &Path, make: Option<Attributes>) -> Result<Option<(OwnedFd, OwnedFd)>> {
    let at = |e: Error| e.with("root", path.display());
    if let Some(attributes) = make {
        make_root(path, attributes).map_err(at)?;
    }
    let Some(root) = open_root(path)? else { return Ok(None) };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match openat(&root, FILE, flags, Mode::from_raw_mode(0o600)) {
        Ok(file) => Ok(Some((root, file))),
        Err(Errno::LOOP) => Err(at(conflict("a link stands where the lock file belongs"))),
        Err(e) => Err(at(failed("open the lock file", e.into()))),
    }
}

/// The root itself is the administrator's choice: links in its path are followed.
pub(crate) fn open_root(path: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(root) => Ok(Some(root)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(failed("open the root folder", e.into()).with("root", path.display())),
    }
}

fn make_root(path: &Path, attributes: Attributes) -> Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o700)) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(e) => return Err(failed("create the root folder", e.into())),
    }
    let Some(root) = open_root(path)? else { return Ok(()) };
    attributes.give(&root).map_err(|e| failed("set owner and mode of the root folder", e))?;
    let parent = path.parent().unwrap_or(Path::new("."));
    acmekit_core::atomic::sync_folder(parent).map_err(|e| failed("flush the root's parent to the disk", e))
}

/// Runs file work off the async threads and waits for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| {
        Error::new(ErrorKind::Deploy, "files.work", "the file work was broken off")
            .with_retry(Retry::Backoff)
            .with_source(e)
    })?
}
