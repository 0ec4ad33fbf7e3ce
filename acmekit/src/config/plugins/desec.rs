//! deSEC's API.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use acmekit_core::dns::Resolver;
use acmekit_core::{DnsProvider, Secret, async_trait, duration};
use acmekit_desec::{Config, Desec};
use serde::Deserialize;

use super::{Flaw, ProviderPlugin, pool};
use crate::config::secret::SecretKeys;

/// `kind = "desec"`: domains at deSEC.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    /// The secret value of a token.
    #[serde(default)]
    token: Option<Secret<String>>,
    /// The file that holds it.
    #[serde(default)]
    token_file: Option<PathBuf>,
    /// The environment variable that holds it.
    #[serde(default)]
    token_env: Option<String>,
    /// Where the API is. Default: deSEC's own.
    #[serde(default)]
    base_url: Option<String>,
    /// A PEM file of roots that are trusted beside the well-known ones. Default: none.
    #[serde(default)]
    extra_roots: Option<PathBuf>,
    /// How long one request may take with its repeats. Default: 30 s.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    timeout: Option<Duration>,
    /// How long after a change it is looked whether others have undone it. Default: 1 s.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    settle: Option<Duration>,
}

impl Keys {
    fn token(&self) -> SecretKeys<'_> {
        SecretKeys {
            name: "token",
            inline: self.token.as_ref(),
            file: self.token_file.as_deref(),
            env: self.token_env.as_deref(),
        }
    }
}

#[async_trait]
impl ProviderPlugin for Keys {
    fn check(&self) -> Result<(), Flaw> {
        self.token().check().map_err(Flaw::at(self.token().key()))
    }

    async fn build(&self, base: &Path, _: Option<&Resolver>) -> Result<Arc<dyn DnsProvider>, Flaw> {
        let token = self.token().read(base).await.map_err(Flaw::at(self.token().key()))?;
        let mut config = Config::new(token);
        if let Some(url) = &self.base_url {
            config.base_url.clone_from(url);
        }
        config.timeout = self.timeout.unwrap_or(config.timeout);
        config.settle = self.settle.unwrap_or(config.settle);
        let pool = pool(self.extra_roots.as_deref(), base).await?;
        Ok(Arc::new(Desec::with_pool(config, &pool)?))
    }
}
