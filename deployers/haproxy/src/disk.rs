//! The files HAProxy reads when it starts: written whole, and put back if it came to nothing.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use acmekit_core::atomic::{self, FileAttributes};
use acmekit_core::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

/// The files of one deployment as they were before it.
#[derive(Default)]
pub(crate) struct Disk {
    files: Vec<Changed>,
}

struct Changed {
    path: PathBuf,
    before: Option<(Zeroizing<Vec<u8>>, FileAttributes)>,
    /// Somebody serves the new content: it must not be taken away any more.
    settled: bool,
}

impl Disk {
    /// Writes a file, remembering what it was.
    pub(crate) async fn write(
        &mut self,
        path: &Path,
        content: &[u8],
        attributes: FileAttributes,
    ) -> Result<()> {
        let before = read_with_attributes(path).await?;
        let same = before.as_ref().is_some_and(|(bytes, _)| bytes.as_slice() == content);
        if !self.files.iter().any(|changed| changed.path == path) {
            self.files.push(Changed { path: path.to_owned(), before, settled: false });
        }
        if same { Ok(()) } else { write(path, content.to_vec(), attributes).await }
    }

    /// An earlier attempt was cut off after it had written the file: this is what it held before.
    pub(crate) fn adopt(&mut self, path: &Path, bytes: Zeroizing<Vec<u8>>, attributes: FileAttributes) {
        if !self.files.iter().any(|changed| changed.path == path) {
            self.files.push(Changed {
                path: path.to_owned(),
                before: Some((bytes, attributes)),
                settled: false,
            });
        }
    }

    /// What the file held before this deployment.
    pub(crate) async fn before(&self, path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>> {
        match self.files.iter().find(|changed| changed.path == path) {
            Some(changed) => Ok(changed.before.as_ref().map(|(bytes, _)| bytes.clone())),
            None => read(path).await,
        }
    }

    /// The file's new content is served by somebody.
    pub(crate) fn settle(&mut self, path: &Path) {
        for changed in self.files.iter_mut().filter(|changed| changed.path == path) {
            changed.settled = true;
        }
    }

    /// Puts the file back as it was. `false` if it must stay, because somebody serves what is in it.
    pub(crate) async fn restore(&mut self, path: &Path) -> Result<bool> {
        let Some(position) = self.files.iter().position(|changed| changed.path == path) else {
            return Ok(true);
        };
        let Some(changed) = self.files.get(position).filter(|changed| !changed.settled) else {
            return Ok(false);
        };
        match &changed.before {
            Some((bytes, attributes)) => write(path, bytes.to_vec(), *attributes).await?,
            None => remove(path).await?,
        }
        self.files.remove(position);
        Ok(true)
    }
}

/// Adds a line to a crt-list unless it names the path already. `None`: nothing to do.
pub(crate) fn with_line(list: &str, path: &str, line: &str) -> Option<String> {
    if list.lines().any(|line| names(line, path)) {
        return None;
    }
    let gap = if list.is_empty() || list.ends_with('\n') { "" } else { "\n" };
    Some(format!("{list}{gap}{line}\n"))
}

/// Takes every line that names the path out of a crt-list. `None`: nothing to do.
pub(crate) fn without_lines(list: &str, path: &str) -> Option<String> {
    list.lines()
        .any(|line| names(line, path))
        .then(|| list.split_inclusive('\n').filter(|line| !names(line, path)).collect())
}

fn names(line: &str, path: &str) -> bool {
    line.split(|c: char| c.is_whitespace() || c == '[').next() == Some(path)
}

/// A file's content; `None` if there is none.
pub(crate) async fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>> {
    Ok(read_with_attributes(path).await?.map(|(bytes, _)| bytes))
}

pub(crate) async fn read_with_attributes(
    path: &Path,
) -> Result<Option<(Zeroizing<Vec<u8>>, FileAttributes)>> {
    let path = path.to_owned();
    blocking(move || {
        let found = std::fs::read(&path).map(Zeroizing::new).and_then(|bytes| {
            let metadata = std::fs::metadata(&path)?;
            let mode = metadata.permissions().mode() & 0o7777;
            Ok((bytes, FileAttributes::mode(mode).owned_by(Some(metadata.uid()), Some(metadata.gid()))))
        });
        match found {
            Ok(found) => Ok(Some(found)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("could not read a file", &path, e)),
        }
    })
    .await
}

pub(crate) async fn write(path: &Path, content: Vec<u8>, attributes: FileAttributes) -> Result<()> {
    let (path, content) = (path.to_owned(), Zeroizing::new(content));
    blocking(move || atomic::write_file(&path, &content, attributes)).await
}

/// Removes a file, durably; it may be gone already.
pub(crate) async fn remove(path: &Path) -> Result<()> {
    let path = path.to_owned();
    blocking(move || {
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(failed("could not remove a file", &path, e)),
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        atomic::sync_folder(folder).map_err(|e| failed("could not flush a folder", folder, e))
    })
    .await
}

/// Removes what a process that was killed has left of files it was writing beside this one: `.NAME.RANDOM.tmp`, of the
/// file itself and of our notes on it. There are keys in them.
pub(crate) async fn remove_unfinished(path: &Path) -> Result<()> {
    let path = path.to_owned();
    blocking(move || {
        let folder = path.parent().unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let random = |text: &str| text.len() == 16 && text.bytes().all(|octet| octet.is_ascii_hexdigit());
        let ours =
            [format!(".{name}."), format!("..{name}.acmekit-previous."), format!("..{name}.acmekit-txn.")];
        let failed = |e| failed("could not remove what a crash has left", folder, e);
        for item in std::fs::read_dir(folder).map_err(failed)? {
            let item = item.map_err(failed)?;
            let item_name = item.file_name();
            let middle = item_name.to_str().and_then(|item| {
                let rest = item.strip_suffix(".tmp")?;
                ours.iter().find_map(|prefix| rest.strip_prefix(prefix.as_str()))
            });
            if middle.is_some_and(random) {
                match std::fs::remove_file(item.path()) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
                    _ => tracing::info!(path = %item.path().display(), "removed what a crash has left"),
                }
            }
        }
        Ok(())
    })
    .await
}

pub(crate) async fn is_folder(path: &Path) -> bool {
    tokio::fs::metadata(path).await.is_ok_and(|metadata| metadata.is_dir())
}

fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Storage, "haproxy.file", what)
        .with("path", path.display())
        .with("reason", &error)
        .with_source(error)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::new(ErrorKind::Cancelled, "haproxy.file", "the runtime ended").with_source(e))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_added_once_and_taken_out_again() {
        let list = "# ours\n/a.pem [alpn h2] a.test\n/b.pem";
        assert_eq!(with_line(list, "/a.pem", "/a.pem"), None);
        let longer = with_line(list, "/c.pem", "/c.pem [alpn h2] c.test").unwrap();
        assert_eq!(longer, format!("{list}\n/c.pem [alpn h2] c.test\n"));
        assert_eq!(without_lines(&longer, "/c.pem").unwrap(), format!("{list}\n"));
        assert_eq!(without_lines(list, "/c.pem"), None);
        assert_eq!(without_lines("/a.pem[alpn h2]\n", "/a.pem").unwrap(), "");
    }

    #[tokio::test]
    async fn a_file_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        write(&old, b"old".to_vec(), FileAttributes::mode(0o640)).await.unwrap();
        let mut disk = Disk::default();
        for path in [&old, &new] {
            disk.write(path, b"1", FileAttributes::default()).await.unwrap();
            disk.write(path, b"2", FileAttributes::default()).await.unwrap();
            assert!(disk.restore(path).await.unwrap());
        }
        assert_eq!(std::fs::read(&old).unwrap(), b"old");
        assert_eq!(std::fs::metadata(&old).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(!new.exists());
        disk.write(&old, b"3", FileAttributes::default()).await.unwrap();
        disk.settle(&old);
        assert!(!disk.restore(&old).await.unwrap());
        assert_eq!(std::fs::read(&old).unwrap(), b"3");
    }
}
