//! The lock that lets one process at a time write. The kernel gives it back when a process dies.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::disk::{Disk, io_error};
use crate::{Error, ErrorKind, Result};

const PAUSE: Duration = Duration::from_millis(5);

/// Locks this open file if nobody else has; says whether it did.
pub(super) fn try_flock(file: &File) -> io::Result<bool> {
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

impl Disk {
    fn lock_path(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// Waits for the lock, but no longer than the time set. Closing the file unlocks.
    pub(super) fn lock(&self) -> Result<File> {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(file) = self.try_lock()? {
                return Ok(file);
            }
            if waited >= self.lock_timeout {
                return Err(self.lock_missed());
            }
            // Counted in pauses, not by a clock: a test may hold the clock still.
            std::thread::sleep(PAUSE);
            waited += PAUSE;
        }
    }

    /// The lock if it is free.
    pub(super) fn try_lock(&self) -> Result<Option<File>> {
        let path = self.lock_path();
        let failed = |e| io_error("file_store.lock", "could not lock the store", &path, e);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        Ok((try_flock(&file).map_err(failed)? && is_at(&file, &path)).then_some(file))
    }

    pub(super) fn lock_missed(&self) -> Error {
        let path = self.lock_path();
        let hint = format!("`fuser -v '{}'` shows which process holds it", path.display());
        Error::new(ErrorKind::Timeout, "file_store.lock", "others have kept the store locked all the time")
            .with("lock", path.display())
            .with("deadline", format!("{:?}", self.lock_timeout))
            .with_hint(hint)
    }
}

/// Whether the file at this path is still the one opened: somebody may have removed it.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(here), Ok(there)) => (here.dev(), here.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}
