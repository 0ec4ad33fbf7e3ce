//! A real nginx that reads its certificate where the deployer puts it.

#![expect(clippy::unwrap_used, reason = "test code: what is impossible here may panic")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use acmekit_conformance::deployer::{DeployerSubject, NAMES};
use acmekit_conformance::test_bundle;
use acmekit_core::atomic::{FileAttributes, write_file};
use acmekit_core::{Bundle, CertificateId, Deployer, async_trait};
use acmekit_files::{Config, Files};
use acmekit_testbed::Nginx;
use tempfile::TempDir;

pub(crate) struct NginxSubject {
    pub(crate) files: Arc<Files>,
    pub(crate) nginx: Nginx,
    pub(crate) first: Bundle,
    pub(crate) folder: TempDir,
}

impl NginxSubject {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A deployer by choice, with a first certificate that nginx starts with.
    pub(crate) async fn with(choose: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let first = test_bundle(&NAMES).unwrap();
        let mut config = Config::new(folder.path().join("live"));
        Files::new(config.clone()).unwrap().deploy(&first).await.unwrap();
        let nginx =
            Nginx::builder().certificate_dir(config.root.join(first.id().as_str())).start().await.unwrap();
        config.reload = reload(folder.path(), &nginx.reload_argv());
        config.verify_addresses = vec![nginx.addr()];
        config.verify_timeout = Duration::from_secs(5);
        choose(&mut config);
        Self { files: Arc::new(Files::new(config).unwrap()), nginx, first, folder }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("live")
    }

    pub(crate) fn link(&self) -> PathBuf {
        std::fs::read_link(self.root().join(self.first.id().as_str())).unwrap()
    }

    pub(crate) fn reloads(&self) -> usize {
        std::fs::read(self.folder.path().join("reloads")).map_or(0, |marks| marks.len())
    }
}

/// Counts, refuses while a file `broken` is there, and skips nginx while a file `deaf` is.
fn reload(folder: &Path, argv: &[String]) -> Vec<String> {
    let script = "printf . >> \"$0/reloads\"; if [ -e \"$0/broken\" ]; then echo 'refused on purpose' >&2; exit 7; \
                  fi; [ -e \"$0/deaf\" ] || exec \"$@\"";
    let mut command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    command.push(folder.display().to_string());
    command.extend_from_slice(argv);
    command
}

pub(crate) fn touch(path: impl AsRef<Path>) {
    write_file(path.as_ref(), b"", FileAttributes::default()).unwrap();
}

#[async_trait]
impl DeployerSubject for NginxSubject {
    fn deployer(&self) -> Arc<dyn Deployer> {
        Arc::clone(&self.files) as Arc<dyn Deployer>
    }

    fn handshake_address(&self) -> SocketAddr {
        self.nginx.addr()
    }

    async fn break_target(&mut self) {
        touch(self.folder.path().join("broken"));
    }

    async fn mend(&mut self) {
        std::fs::remove_file(self.folder.path().join("broken")).unwrap();
    }

    /// Points nginx to a certificate of its own.
    async fn release(&mut self, _: &CertificateId) {
        let other = acmekit_testbed::self_signed(&["other.test"]).unwrap();
        let argv = self.nginx.reload_argv();
        let own = Path::new(&argv[argv.iter().position(|argument| argument == "-p").unwrap() + 1]);
        let mut text = std::fs::read_to_string(own.join("nginx.conf")).unwrap();
        for (name, pem, used) in [
            ("other.pem", &other.cert_pem, self.nginx.certificate_path()),
            ("other.key", &other.key_pem, self.nginx.key_path()),
        ] {
            write_file(&own.join(name), pem.as_bytes(), FileAttributes::default()).unwrap();
            text = text.replace(used.to_str().unwrap(), own.join(name).to_str().unwrap());
        }
        write_file(&own.join("nginx.conf"), text.as_bytes(), FileAttributes::default()).unwrap();
    }

    async fn fingerprint(&self) -> Option<String> {
        Some(format!("{} reloads, {}", self.reloads(), self.link().display()))
    }
}
