//! An acme-dns server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use acmekit_acme_dns::{AcmeDns, Config};
use acmekit_core::dns::Resolver;
use acmekit_core::stores::FileStore;
use acmekit_core::{DnsName, DnsProvider, async_trait, duration};
use serde::Deserialize;

use super::{Flaw, ProviderPlugin, pool};

/// `kind = "acme-dns"`: names at an acme-dns server, which CNAMEs lead to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    /// Where `/register` and `/update` are.
    base_url: String,
    /// The folder where registrations are kept.
    storage: PathBuf,
    /// The domains to register. Default: whatever domain comes.
    #[serde(default)]
    domains: Vec<DnsName>,
    /// A file of accounts as lego keeps it, which is only read. Default: none.
    #[serde(default)]
    accounts_file: Option<PathBuf>,
    /// A PEM file of roots that are trusted beside the well-known ones. Default: none.
    #[serde(default)]
    extra_roots: Option<PathBuf>,
    /// How long one request may take. Default: 30 s.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    timeout: Option<Duration>,
}

#[async_trait]
impl ProviderPlugin for Keys {
    fn check(&self) -> Result<(), Flaw> {
        Ok(())
    }

    async fn build(&self, base: &Path, _: Option<&Resolver>) -> Result<Arc<dyn DnsProvider>, Flaw> {
        let mut config = Config::new(&self.base_url).with_domains(self.domains.iter().cloned());
        config.accounts_file = self.accounts_file.as_ref().map(|file| base.join(file));
        config.timeout = self.timeout.unwrap_or(config.timeout);
        let pool = pool(self.extra_roots.as_deref(), base).await?;
        // Last, since it makes the folder.
        let store = FileStore::open(base.join(&self.storage)).await.map_err(Flaw::at("storage"))?;
        Ok(Arc::new(AcmeDns::with_pool(config, Arc::new(store), &pool)?))
    }
}
