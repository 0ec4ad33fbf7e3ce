//! Where certificates are brought: a folder. It shows what the contract of a `Deployer` comes to; for a real server with
//! its reload, take the deployer of the feature `files`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use acmekit::atomic::{FileAttributes, write_file};
use acmekit::{
    Bundle, CertificateId, Deployer, Error, ErrorKind, Origin, Outcome, Result, Secret, async_trait,
};
use tokio::sync::Mutex;

/// What begins where the chain ends.
const KEY: &str = "-----BEGIN PRIVATE KEY-----";

/// Full chain and key in one file, `ROOT/ID/combined.pem`, for its owner alone.
///
/// One file, because one rename switches it: with two, somebody would read the new key beside the old chain.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Who writes. A call that is dropped midway still ends its writing: the next one waits for that.
    turn: Arc<Mutex<()>>,
}

impl Folder {
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), turn: Arc::default() }
    }

    fn path(&self, id: &CertificateId) -> PathBuf {
        // An id is safe as a file name.
        self.root.join(id.as_str()).join("combined.pem")
    }

    /// Blocking work, in its turn.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await
            .map_err(|e| Error::new(ErrorKind::Other, "folder", "the work did not end").with_source(e))?
    }
}

#[async_trait]
impl Deployer for Folder {
    fn id(&self) -> &str {
        "folder"
    }

    async fn deploy(&self, bundle: &Bundle) -> Result<Outcome> {
        let (path, wanted, id) = (self.path(bundle.id()), combined(bundle)?, bundle.id().clone());
        self.run(move || {
            if look(&path, &wanted, &id).is_ok() {
                return Ok(Outcome::AlreadyCurrent);
            }
            write(&path, &wanted).map_err(|e| {
                // The old one, as a rule. It is looked at, not guessed.
                Error::new(ErrorKind::Deploy, "folder.deploy", "the certificate could not be written")
                    .with("in_place", in_place(&path, &id))
                    .with_source(e)
            })?;
            look(&path, &wanted, &id).map(|()| Outcome::Applied)
        })
        .await
    }

    async fn verify(&self, bundle: &Bundle) -> Result<()> {
        let (path, wanted, id) = (self.path(bundle.id()), combined(bundle)?, bundle.id().clone());
        self.run(move || look(&path, &wanted, &id)).await
    }

    async fn remove(&self, id: &CertificateId) -> Result<()> {
        let path = self.path(id);
        self.run(move || {
            let failed = |e: std::io::Error| {
                Error::new(ErrorKind::Deploy, "folder.remove", "the certificate could not be removed")
                    .with("path", path.display())
                    .with("reason", e)
            };
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
                _ => {}
            }
            // What else somebody keeps in its folder stays, and the folder with it.
            if let Some(folder) = path.parent() {
                std::fs::remove_dir(folder).ok();
            }
            Ok(())
        })
        .await
    }
}

/// What the file is to be.
fn combined(bundle: &Bundle) -> Result<Secret<String>> {
    let key = bundle.key_pem().ok_or_else(|| {
        Error::new(ErrorKind::Config, "folder.deploy", "the certificate is for a key that is kept elsewhere")
    })?;
    Ok(Secret::new(bundle.fullchain_pem() + key.expose()))
}

fn write(path: &Path, content: &Secret<String>) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| {
            Error::new(ErrorKind::Storage, "folder.write", "the folder could not be made")
                .with("path", folder.display())
                .with("reason", e)
        })?;
    }
    // 0600 from the first octet on, and whole or not at all.
    write_file(path, content.expose().as_bytes(), FileAttributes::mode(0o600))
}

/// Whether the file is what it is to be.
fn look(path: &Path, wanted: &Secret<String>, id: &CertificateId) -> Result<()> {
    match read(path) {
        Ok(found) if found == *wanted => Ok(()),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::new(ErrorKind::Unavailable, "folder.verify", "the file cannot be read")
                .with("path", path.display())
                .with("reason", e))
        }
        _ => Err(Error::new(ErrorKind::Deploy, "folder.verify", "another certificate is in place, or none")
            .with("path", path.display())
            .with("in_place", in_place(path, id))),
    }
}

fn read(path: &Path) -> std::io::Result<Secret<String>> {
    std::fs::read_to_string(path).map(Secret::new)
}

/// Which certificate is there: what a person wants to know when a deployment has failed.
fn in_place(path: &Path, id: &CertificateId) -> String {
    let Ok(found) = read(path) else { return "nothing that can be read".to_owned() };
    let chain = found.expose().split(KEY).next().unwrap_or_default();
    match Bundle::new(id.clone(), chain, None, Origin::default()) {
        Ok(bundle) => format!("serial {}", bundle.facts().serial),
        Err(_) => "something else".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use acmekit_conformance::test_bundle;

    use super::*;

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().join("made"));
        let [old, new] = [(); 2].map(|()| test_bundle(&["a.test"]).unwrap());
        let path = folder.path(old.id());

        assert!(matches!(folder.deploy(&old).await, Ok(Outcome::Applied)));
        assert!(matches!(folder.deploy(&old).await, Ok(Outcome::AlreadyCurrent)));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        folder.verify(&old).await.unwrap();
        let error = folder.verify(&new).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deploy);
        assert!(error.to_string().contains(&old.facts().serial), "{error}");

        assert!(matches!(folder.deploy(&new).await, Ok(Outcome::Applied)));
        folder.verify(&new).await.unwrap();
        folder.remove(new.id()).await.unwrap();
        folder.remove(new.id()).await.unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn where_it_cannot_write_the_error_says_what_is_in_place() {
        let root = tempfile::tempdir().unwrap();
        let bundle = test_bundle(&["a.test"]).unwrap();
        // A folder where the file should be: also root cannot rename over it.
        let folder = Folder::new(root.path());
        std::fs::create_dir_all(folder.path(bundle.id())).unwrap();
        let error = folder.deploy(&bundle).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deploy, "{}", error.report());
        assert!(error.to_string().contains("in_place"), "{error}");
    }
}
