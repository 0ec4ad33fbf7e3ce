//! Any server of lego's HTTP request protocol.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use acmekit_core::dns::Resolver;
use acmekit_core::{DnsName, DnsProvider, Error, ErrorKind, Secret, async_trait, duration};
use acmekit_httpreq::{BasicAuth, Config, HttpReq, Mode};
use serde::Deserialize;

use super::{Flaw, ProviderPlugin, pool};
use crate::config::secret::SecretKeys;

/// `kind = "httpreq"`: a server that is asked to present and to clean up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    /// What `/present` and `/cleanup` are below.
    endpoint: String,
    /// The zones of the server. Default: every name is in one.
    #[serde(default)]
    zones: Vec<DnsName>,
    /// The mode: `default`.
    #[serde(default)]
    mode: Mode,
    /// The user name for basic authentication. Default: none is sent.
    #[serde(default)]
    username: Option<String>,
    /// The password that goes with it.
    #[serde(default)]
    password: Option<Secret<String>>,
    /// The file that holds it.
    #[serde(default)]
    password_file: Option<PathBuf>,
    /// The environment variable that holds it.
    #[serde(default)]
    password_env: Option<String>,
    /// A PEM file of roots that are trusted beside the well-known ones. Default: none.
    #[serde(default)]
    extra_roots: Option<PathBuf>,
    /// How long one call may take. Default: 30 s.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    timeout: Option<Duration>,
}

impl Keys {
    fn password(&self) -> SecretKeys<'_> {
        SecretKeys {
            name: "password",
            inline: self.password.as_ref(),
            file: self.password_file.as_deref(),
            env: self.password_env.as_deref(),
        }
    }

    fn has_password(&self) -> bool {
        self.password.is_some() || self.password_file.is_some() || self.password_env.is_some()
    }
}

#[async_trait]
impl ProviderPlugin for Keys {
    fn check(&self) -> Result<(), Flaw> {
        match (&self.username, self.has_password()) {
            (Some(_), _) => self.password().check().map_err(Flaw::at(self.password().key())),
            (None, false) => Ok(()),
            (None, true) => {
                let why = "a password means nothing without a user name";
                let error = Error::new(ErrorKind::Config, "config.httpreq", why)
                    .with_hint("set `username`, too, or leave the password out");
                Err(Flaw::at(self.password().key())(error))
            }
        }
    }

    async fn build(&self, base: &Path, _: Option<&Resolver>) -> Result<Arc<dyn DnsProvider>, Flaw> {
        let mut config = Config::new(&self.endpoint).with_zones(self.zones.iter().cloned());
        config.mode = self.mode;
        config.timeout = self.timeout.unwrap_or(config.timeout);
        if let Some(username) = &self.username {
            let password = self.password().read(base).await.map_err(Flaw::at(self.password().key()))?;
            config = config.with_auth(BasicAuth::new(username, password));
        }
        let pool = pool(self.extra_roots.as_deref(), base).await?;
        Ok(Arc::new(HttpReq::with_pool(config, &pool)?))
    }
}
