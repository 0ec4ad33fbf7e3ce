//! The folder in which acme.sh's scripts keep things: one call at a time, since they rewrite its files in place.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use acmekit_core::{Deadline, Error, ErrorKind, Result, Retry};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

const FILE: &str = ".lock";
const PAUSE: Duration = Duration::from_millis(20);

/// The right to use the folder, against other providers and other processes; given back on drop.
#[derive(Debug)]
pub(crate) struct Home {
    _file: File,
}

impl Home {
    /// Makes the folder if it is not there, and waits for it.
    pub(crate) async fn lock(op: &'static str, folder: &Path, deadline: Deadline) -> Result<Self> {
        let refuse = |e: io::Error| {
            Error::new(ErrorKind::Config, op, "the folder for what scripts keep cannot be used")
                .with("home", folder.display())
                .with("reason", &e)
                .with_hint("this program's user must be able to write there")
                .with_source(e)
        };
        let path = folder.to_owned();
        let opened = tokio::task::spawn_blocking(move || open(path)).await;
        let file = opened.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(refuse)?;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(e) => return Err(refuse(e.into())),
            }
            if !deadline.sleep(PAUSE).await {
                return Err(deadline
                    .missed(op, "waiting for another call in the same folder")
                    .with_retry(Retry::Backoff)
                    .with("home", folder.display()));
            }
        }
    }
}

fn open(folder: PathBuf) -> io::Result<File> {
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(folder.join(FILE))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn the_folder_is_private_and_for_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let first = Home::lock("x", &home, Deadline::after(Duration::from_secs(20))).await.unwrap();
        assert_eq!(std::fs::metadata(&home).unwrap().permissions().mode() & 0o777, 0o700);
        let error = Home::lock("x", &home, Deadline::after(Duration::from_millis(50))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        drop(first);
        Home::lock("x", &home, Deadline::after(Duration::from_secs(20))).await.unwrap();
        let error = Home::lock("x", &home.join("a/b"), Deadline::after(Duration::from_secs(20))).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Config);
    }
}
