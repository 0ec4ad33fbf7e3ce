//! Cloudflare's API.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use acmekit_cloudflare::{Cloudflare, Config, Credential};
use acmekit_core::dns::Resolver;
use acmekit_core::{DnsName, DnsProvider, Error, ErrorKind, Secret, async_trait, duration};
use serde::Deserialize;

use super::{Flaw, ProviderPlugin};
use crate::config::secret::SecretKeys;

/// `kind = "cloudflare"`: zones at Cloudflare.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    /// An API token with the permissions Zone:Read and DNS:Edit.
    #[serde(default)]
    token: Option<Secret<String>>,
    /// The file that holds it.
    #[serde(default)]
    token_file: Option<PathBuf>,
    /// The environment variable that holds it.
    #[serde(default)]
    token_env: Option<String>,
    /// The id of the only zone to be used. Default: the zone of each name is looked for.
    #[serde(default)]
    zone_id: Option<String>,
    /// The name of that zone. Default: asked for once.
    #[serde(default)]
    zone_name: Option<DnsName>,
    /// Where the API is. Default: Cloudflare's own.
    #[serde(default)]
    base_url: Option<String>,
    /// How long one request may take with its repeats. Default: 30 s.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    timeout: Option<Duration>,
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
        self.token().check().map_err(Flaw::at(self.token().key()))?;
        if self.zone_name.is_some() && self.zone_id.is_none() {
            let why = "a zone's name means nothing without its id";
            let error = Error::new(ErrorKind::Config, "config.cloudflare", why)
                .with_hint("set `zone_id`, too, or leave `zone_name` out");
            return Err(Flaw::at("zone_name")(error));
        }
        Ok(())
    }

    async fn build(&self, base: &Path, _: Option<&Resolver>) -> Result<Arc<dyn DnsProvider>, Flaw> {
        let token = self.token().read(base).await.map_err(Flaw::at(self.token().key()))?;
        let mut config = Config::new(Credential::token(token));
        config.zone_id.clone_from(&self.zone_id);
        config.zone_name.clone_from(&self.zone_name);
        if let Some(url) = &self.base_url {
            config.base_url.clone_from(url);
        }
        config.timeout = self.timeout.unwrap_or(config.timeout);
        Ok(Arc::new(Cloudflare::new(config)?))
    }
}
