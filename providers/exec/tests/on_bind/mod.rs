//! Programs that change the zones of a real BIND, one set for each dialect.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use acmekit_conformance::dns_provider::Subject;
use acmekit_core::atomic::{FileAttributes, write_file};
use acmekit_core::{DnsName, DnsProvider, async_trait};
use acmekit_exec::{Config, Dialect, Exec};
use acmekit_testbed::Bind;

/// What a program of the tests is called.
fn program(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    folder.join(name).display().to_string()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Lego,
    Certbot,
    AcmeSh,
}

pub(crate) struct OnBind {
    bind: Bind,
    kind: Kind,
    folder: tempfile::TempDir,
}

#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
impl OnBind {
    pub(crate) async fn start(kind: Kind) -> Self {
        if kind == Kind::AcmeSh {
            acmekit_testbed::acme_sh().unwrap_or_else(|error| panic!("{error}"));
        }
        let bind = Bind::builder().zone("example.test").zone("deep.example.test").start().await.unwrap();
        Self { bind, kind, folder: tempfile::tempdir().unwrap() }
    }

    /// Everything but the credential.
    fn dialect(&self) -> Dialect {
        match self.kind {
            Kind::Lego => Dialect::lego(["sh", &program("lego.sh")]),
            Kind::Certbot => Dialect::certbot(["sh", &program("auth.sh")], ["sh", &program("cleanup.sh")]),
            Kind::AcmeSh => {
                Dialect::acme_sh(acmekit_testbed::acme_sh().unwrap(), "dns_nsupdate", self.home())
            }
        }
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn config(&self, secret: &str) -> Config {
        let (addr, key) = (self.bind.addr(), self.bind.tsig());
        let config = Config::new(self.dialect())
            .zone("example.test".parse().unwrap())
            .zone("deep.example.test".parse().unwrap());
        if self.kind != Kind::AcmeSh {
            return config
                .env("SERVER", format!("{} {}", addr.ip(), addr.port()))
                .env("TSIG_NAME", format!("{}:{}", key.algorithm(), key.name()))
                .env("TSIG_SECRET", secret);
        }
        let file = self.folder.path().join("tsig.key");
        let text =
            format!("key \"{}\" {{ algorithm {}; secret \"{secret}\"; }};\n", key.name(), key.algorithm());
        write_file(&file, text.as_bytes(), FileAttributes::default()).unwrap();
        config
            .env("NSUPDATE_SERVER", addr.ip().to_string())
            .env("NSUPDATE_SERVER_PORT", addr.port().to_string())
            .env("NSUPDATE_KEY", file.display().to_string())
    }

    fn made_with(&self, secret: &str) -> Arc<dyn DnsProvider> {
        Arc::new(Exec::new(self.config(secret)).unwrap())
    }
}

#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#[async_trait]
impl Subject for OnBind {
    fn provider(&self) -> Arc<dyn DnsProvider> {
        self.made_with(self.bind.tsig_secret_base64())
    }

    fn another(&self) -> Arc<dyn DnsProvider> {
        self.provider()
    }

    fn zone(&self) -> DnsName {
        "deep.example.test".parse().unwrap()
    }

    fn foreign_name(&self) -> DnsName {
        "www.example.org".parse().unwrap()
    }

    async fn lookup(&self, name: &DnsName) -> Vec<String> {
        self.bind.query_txt(name.as_str()).await.unwrap()
    }

    async fn plant(&self, name: &DnsName, value: &str) {
        // BIND takes no address at a name with an underscore.
        let lines = format!("add {name}. 1 TXT \"{value}\"\nadd {name}. 1 CAA 0 issue \"ca.test\"");
        self.bind.update(self.bind.tsig(), self.zone().as_str(), &lines).await.unwrap();
    }

    async fn has_planted_record(&self, name: &DnsName) -> bool {
        let records = self.bind.transfer(self.zone().as_str()).await.unwrap();
        records.iter().any(|line| line.starts_with(&format!("{name}. ")) && line.contains(" CAA "))
    }

    fn secret(&self) -> String {
        self.bind.tsig_secret_base64().to_owned()
    }

    fn wrong_secret(&self) -> String {
        "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc=".to_owned()
    }

    fn with_wrong_credential(&self) -> Arc<dyn DnsProvider> {
        self.made_with(&self.wrong_secret())
    }
}
