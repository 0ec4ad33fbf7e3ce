//! Files that are written whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rand::RngCore;

use crate::{Error, ErrorKind, Result};

/// Who may do what with a file: set **before** its content is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileAttributes {
    /// The permission bits; 0600 by default.
    pub mode: u32,
    /// The owner's user id; the process's own by default.
    pub uid: Option<u32>,
    /// The group id; the process's own by default.
    pub gid: Option<u32>,
}

impl Default for FileAttributes {
    fn default() -> Self {
        Self { mode: 0o600, uid: None, gid: None }
    }
}

impl FileAttributes {
    /// These permission bits, owner and group as the process's own.
    pub fn mode(mode: u32) -> Self {
        Self { mode, ..Self::default() }
    }

    /// Sets owner and group.
    #[must_use]
    pub fn owned_by(mut self, uid: Option<u32>, gid: Option<u32>) -> Self {
        self.uid = uid;
        self.gid = gid;
        self
    }
}

/// Writes a file whole or not at all, and durably: a temporary file in the same folder, its
/// content and then the folder flushed to the disk, one rename between. Blocking.
///
/// A crash may leave a temporary file named `.NAME.RANDOM.tmp`; never half a `path`. A file size
/// limit (`ulimit -f`) is looked at first, because writing past it would not fail but end the
/// process (SIGXFSZ).
///
/// # Errors
/// `Storage` that names the file and the reason; the old content is then still there.
pub fn write_file(path: &Path, content: &[u8], attributes: FileAttributes) -> Result<()> {
    match path.parent() {
        Some(folder) => write_file_via(folder, path, content, attributes),
        None => Err(failed(path, "find the file's folder", io::ErrorKind::InvalidInput.into())),
    }
}

/// As [`write_file`], with the temporary file in `staging`, a folder of the same file system: so
/// that what a crash leaves behind lies in one place.
///
/// # Errors
/// As [`write_file`].
pub fn write_file_via(staging: &Path, path: &Path, content: &[u8], attributes: FileAttributes) -> Result<()> {
    let failed = |step, e| failed(path, step, e);
    let Some(folder) = path.parent() else {
        return Err(failed("find the file's folder", io::ErrorKind::InvalidInput.into()));
    };
    Staged::write(staging, path, content, attributes, Flush::Yes)?.place(path)?;
    sync_folder(folder).map_err(|e| failed("flush its folder to the disk", e))
}

/// Whether a power failure may cost a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    Yes,
    No,
}

/// A file that is written, and not in its place yet; removed if it does not get there.
#[derive(Debug)]
pub(crate) struct Staged(Temporary);

impl Staged {
    /// Writes into `staging` what is going to be at `path`.
    pub(crate) fn write(
        staging: &Path,
        path: &Path,
        content: &[u8],
        attributes: FileAttributes,
        flush: Flush,
    ) -> Result<Self> {
        let failed = |step, e| failed(path, step, e);
        let Some(name) = path.file_name() else {
            return Err(failed("find the file's folder", io::ErrorKind::InvalidInput.into()));
        };
        let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
        if limit.is_some_and(|limit| u64::try_from(content.len()).map_or(true, |length| length > limit)) {
            return Err(failed("write it", io::ErrorKind::FileTooLarge.into()));
        }
        let temporary = Temporary::new(staging.join(format!(
            ".{}.{:016x}.tmp",
            name.to_string_lossy(),
            rand::rng().next_u64()
        )));
        let mut file =
            create(&temporary.path, attributes).map_err(|e| failed("create a temporary file for it", e))?;
        file.write_all(content).map_err(|e| failed("write it", e))?;
        if flush == Flush::Yes {
            file.sync_all().map_err(|e| failed("flush it to the disk", e))?;
        }
        Ok(Self(temporary))
    }

    /// Whether nobody has removed it meanwhile.
    pub(crate) fn is_there(&self) -> bool {
        self.0.path.exists()
    }

    /// Renames it to where it belongs. The folder has yet to be flushed.
    pub(crate) fn place(self, path: &Path) -> Result<()> {
        std::fs::rename(&self.0.path, path).map_err(|e| failed(path, "rename it into place", e))?;
        self.0.keep();
        Ok(())
    }
}

fn failed(path: &Path, step: &'static str, e: io::Error) -> Error {
    let hint = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free some space, then run again: the old content is intact")
        }
        io::ErrorKind::FileTooLarge => {
            Some("a file size limit stands in the way (ulimit -f): the old content is intact")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some("run as a user who may write there")
        }
        io::ErrorKind::NotFound => Some("create the folder first"),
        _ => None,
    };
    let error = Error::new(ErrorKind::Storage, "file.write", format!("could not {step}"))
        .with("path", path.display())
        .with("reason", &e)
        .with_source(e);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Creates a new file with its final owner and mode, empty.
fn create(path: &Path, attributes: FileAttributes) -> io::Result<File> {
    // 0600 until the owner is right: between chmod and chown nobody else may read.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    if attributes.uid.is_some() || attributes.gid.is_some() {
        fchown(&file, attributes.uid, attributes.gid)?;
    }
    file.set_permissions(std::fs::Permissions::from_mode(attributes.mode))?;
    Ok(file)
}

/// Flushes a folder's entries to the disk, so that a rename in it survives a crash. Blocking.
///
/// # Errors
/// Whatever the operating system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// Removes the temporary file again unless it was renamed into place.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    keep: bool,
}

impl Temporary {
    fn new(path: PathBuf) -> Self {
        Self { path, keep: false }
    }

    fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "could not remove a temporary file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        write_file(&path, b"one", FileAttributes::default()).unwrap();
        write_file(&path, b"two", FileAttributes::mode(0o640)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file is left");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = write_file(Path::new("/nonexistent/x"), b"", FileAttributes::default()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/x"), "{error}");
        assert_eq!(error.hint(), Some("create the folder first"));
    }
}
