//! [`Http01Webroot`]: answers as files below another web server's root.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::fetch::fetch_until_right;
use super::{WELL_KNOWN, check};
use crate::atomic::{FileAttributes, write_file};
use crate::{Challenge, ChallengeKind, ChallengeSolver, Deadline, Error, ErrorKind, Presentation, Result};

/// The name under which the folders are noted that `present` is going to make.
const MADE: &str = "made";

/// Answers http-01 challenges by files in `<folder>/.well-known/acme-challenge/`, for a web server
/// that serves `<folder>` on port 80. Made by [`Http01::webroot`](super::Http01::webroot).
///
/// The files are 0644 and written whole; folders it has to make are 0755. Clean-up removes the file
/// of its challenge, and those folders if nothing else is in them: also in another process, and after
/// a crash. A dropped future may leave the file, until clean-up.
#[derive(Debug, Clone)]
pub struct Http01Webroot {
    folder: PathBuf,
    base_url: Option<String>,
}

impl Http01Webroot {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, base_url: None }
    }

    /// Where the web server can be asked from here, such as `http://127.0.0.1`: `ready` then
    /// fetches each answer with the identifier as Host. By default it only reads the file back.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// The folders below the root, outermost first.
    fn folders(&self) -> [PathBuf; 2] {
        [self.folder.join(".well-known"), self.folder.join(WELL_KNOWN)]
    }

    fn file(&self, challenge: &Challenge) -> PathBuf {
        self.folder.join(WELL_KNOWN).join(&challenge.token)
    }
}

#[async_trait]
impl ChallengeSolver for Http01Webroot {
    fn kind(&self) -> ChallengeKind {
        ChallengeKind::Http01
    }

    /// # Errors
    /// `Unsupported` if it is a wildcard or no http-01 challenge, `Protocol` if the token is not
    /// base64url, `Config` if the root is no folder.
    async fn prepare(&self, challenge: &Challenge, _: Deadline) -> Result<Presentation> {
        check(challenge)?;
        let (root, folders) = (self.folder.clone(), self.folders());
        let made = blocking(move || {
            if !root.is_dir() {
                return Err(Error::new(
                    ErrorKind::Config,
                    "http01.prepare",
                    "the web server's root is no folder",
                )
                .with("path", root.display())
                .with_hint("name the folder that the web server on port 80 serves at `/`"));
            }
            Ok(folders.map(|folder| !folder.exists()))
        })
        .await?;
        Presentation::new(challenge.clone()).note(MADE, &made)
    }

    /// # Errors
    /// `Storage` if the file cannot be written.
    async fn present(&self, presentation: &Presentation, _: Deadline) -> Result<Presentation> {
        let challenge = presentation.challenge().clone();
        check(&challenge)?;
        let (file, folders) = (self.file(&challenge), self.folders());
        blocking(move || {
            let content = challenge.key_authorization.as_secret().expose().as_bytes();
            let mut attempts = 0;
            loop {
                attempts += 1;
                let written =
                    make(&folders).and_then(|()| write_file(&file, content, FileAttributes::mode(0o644)));
                // The clean-up of another challenge may remove the folder at any time.
                match written {
                    Err(_) if attempts < 10 && !folders.iter().all(|folder| folder.is_dir()) => {}
                    written => return written,
                }
            }
        })
        .await?;
        Ok(presentation.clone())
    }

    /// # Errors
    /// `Timeout` if the web server does not serve it; `Storage` if the file is not there or another.
    async fn ready(&self, presentation: &Presentation, deadline: Deadline) -> Result<()> {
        let challenge = presentation.challenge();
        check(challenge)?;
        if let Some(base) = &self.base_url {
            return fetch_until_right(base, challenge, deadline).await;
        }
        let (file, challenge) = (self.file(challenge), challenge.clone());
        blocking(move || {
            let found = std::fs::read(&file).map_err(|e| failed("could not read it back", &file, e))?;
            if found == challenge.key_authorization.as_secret().expose().as_bytes() {
                return Ok(());
            }
            Err(Error::new(ErrorKind::Storage, "http01.ready", "another text is in the file")
                .with("path", file.display()))
        })
        .await
    }

    /// # Errors
    /// `Storage` if the file is still there.
    async fn cleanup(&self, presentation: &Presentation, _: Deadline) -> Result<()> {
        // What cannot be presented has never been.
        if check(presentation.challenge()).is_err() {
            return Ok(());
        }
        let made: [bool; 2] = presentation.read(MADE)?.unwrap_or_default();
        let token = presentation.challenge().token.clone();
        let (file, folders) = (self.file(presentation.challenge()), self.folders());
        blocking(move || {
            let [_, answers] = &folders;
            remove_leftovers(answers, &token).map_err(|e| failed("could not remove it", &file, e))?;
            for (folder, made) in folders.iter().zip(made).rev() {
                // It stays while others have something in it; it is of no further use to anybody.
                if made && std::fs::remove_dir(folder).is_err() {
                    break;
                }
            }
            Ok(())
        })
        .await
    }
}

/// Makes the folders that are not there, readable for the web server whatever the umask.
fn make(folders: &[PathBuf; 2]) -> Result<()> {
    for folder in folders {
        let made = match DirBuilder::new().create(folder) {
            Ok(()) => std::fs::set_permissions(folder, Permissions::from_mode(0o755)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e),
        };
        made.map_err(|e| failed("could not make the folder", folder, e))?;
    }
    Ok(())
}

/// Removes the answer, and what a crash amid writing it may have left.
fn remove_leftovers(folder: &Path, token: &str) -> io::Result<()> {
    match std::fs::remove_file(folder.join(token)) {
        Err(e) if !is_absent(&e) => return Err(e),
        _ => {}
    }
    let items = match std::fs::read_dir(folder) {
        Err(e) if is_absent(&e) => return Ok(()),
        items => items?,
    };
    let prefix = format!(".{token}.");
    for item in items {
        let item = item?;
        let name = item.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(&prefix) && name.ends_with(".tmp"));
        if ours {
            match std::fs::remove_file(item.path()) {
                Err(e) if !is_absent(&e) => return Err(e),
                _ => {}
            }
        }
    }
    Ok(())
}

fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn failed(step: &'static str, path: &Path, e: io::Error) -> Error {
    Error::new(ErrorKind::Storage, "http01.webroot", step)
        .with("path", path.display())
        .with("reason", &e)
        .with_source(e)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Error::new(ErrorKind::Cancelled, "http01.webroot", "the runtime is shutting down")
            .with_source(error)),
    }
}
