//! What happens when a file store is opened.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use super::disk::{Disk, io_error};
use crate::atomic::{FileAttributes, write_file_via};
use crate::{Error, ErrorKind, Result};

const FORMAT: &str = "acmekit file store, format 1\n";

impl Disk {
    /// Creates and checks the folders, and sweeps what writers left that did not get to the end.
    pub(super) fn prepare(&self) -> Result<()> {
        let folder = self.folder.as_path();
        let failed = |e| io_error("file_store.open", "could not open the store's folder", folder, e);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let mode = std::fs::metadata(folder).map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            if !is_empty(folder).map_err(failed)? {
                return Err(open_to_others(folder, mode));
            }
            std::fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed)?;
        }
        self.check_format()?;
        for part in [self.entries(), self.leases(), self.floor(), self.tmp()] {
            self.create_folder(&part)?;
        }
        self.sweep()
    }

    fn check_format(&self) -> Result<()> {
        let path = self.folder.join("format");
        match std::fs::read_to_string(&path) {
            Ok(text) if text == FORMAT => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // By way of `tmp`, in turn with others: what a crash leaves of it is swept like everything else.
                self.create_folder(&self.tmp())?;
                let _lock = self.lock()?;
                write_file_via(&self.tmp(), &path, FORMAT.as_bytes(), FileAttributes::default())
            }
            Err(e) if e.kind() != io::ErrorKind::InvalidData => {
                Err(io_error("file_store.open", "could not read the store's format", &path, e))
            }
            _ => Err(Error::new(ErrorKind::Config, "file_store.open", "the folder is of another format")
                .with("path", path.display())
                .with("wanted", FORMAT.trim_end())
                .with_hint("a newer acmekit has written it, or the folder belongs to another program")),
        }
    }

    /// Empties `tmp`. Who misses a draft there writes it again; while somebody works, sweeping is left to the next who
    /// opens.
    fn sweep(&self) -> Result<()> {
        let Some(_lock) = self.try_lock()? else { return Ok(()) };
        let tmp = self.tmp();
        let failed = |e| io_error("file_store.open", "could not sweep the folder", &tmp, e);
        for item in std::fs::read_dir(&tmp).map_err(failed)? {
            let item = item.map_err(failed)?;
            let is_folder = item.file_type().map_err(failed)?.is_dir();
            let path = item.path();
            let removed =
                if is_folder { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            match removed {
                Ok(()) => tracing::info!(path = %path.display(), "removed what a crashed writer left"),
                Err(error) => tracing::warn!(path = %path.display(), %error, "could not remove a leftover"),
            }
        }
        Ok(())
    }
}

/// Whether nobody can rely on this folder yet. A fresh file system has a `lost+found`.
fn is_empty(folder: &Path) -> io::Result<bool> {
    for item in std::fs::read_dir(folder)? {
        if item?.file_name() != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn open_to_others(folder: &Path, mode: u32) -> Error {
    Error::new(ErrorKind::Config, "file_store.open", "group or others may access the folder of private keys")
        .with("path", folder.display())
        .with("mode", format!("{:04o}", mode & 0o7777))
        .with_hint(format!(
            "if it is a store: `chmod 700 '{}'`; if it holds other things: use a folder of its own",
            folder.display()
        ))
}
