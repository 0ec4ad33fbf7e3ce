//! Dynamic DNS updates.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use acmekit_core::dns::{Resolver, Transport};
use acmekit_core::{DnsProvider, Error, ErrorKind, Secret, async_trait, duration};
use acmekit_rfc2136::{Algorithm, Config, Key, Rfc2136};
use serde::Deserialize;

use super::{Flaw, ProviderPlugin};
use crate::config::secret::SecretKeys;

/// `kind = "rfc2136"`: a name server that takes updates signed with TSIG.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    /// The primary server: `192.0.2.53`, `[2001:db8::53]:5353` or `ns1.example.com:53`.
    server: String,
    /// A file as `tsig-keygen` writes it: the four below are then left out.
    #[serde(default)]
    key_file: Option<PathBuf>,
    /// The name of the key, such as `acme.example.com`.
    #[serde(default)]
    key_name: Option<String>,
    /// `hmac-sha256`, `hmac-sha384` or `hmac-sha512`. Default: `hmac-sha256`.
    #[serde(default)]
    key_algorithm: Option<Algorithm>,
    /// The secret of the key, base64.
    #[serde(default)]
    secret: Option<Secret<String>>,
    /// The file that holds the secret alone.
    #[serde(default)]
    secret_file: Option<PathBuf>,
    /// The environment variable that holds it.
    #[serde(default)]
    secret_env: Option<String>,
    /// `tcp` or `udp`. Default: `tcp`.
    #[serde(default)]
    transport: Option<Transport>,
    /// How long one call may take. Default: 10 s.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    timeout: Option<Duration>,
}

impl Keys {
    fn secret(&self) -> SecretKeys<'_> {
        SecretKeys {
            name: "secret",
            inline: self.secret.as_ref(),
            file: self.secret_file.as_deref(),
            env: self.secret_env.as_deref(),
        }
    }

    fn config(&self, key: Key) -> Config {
        let mut config = Config::new(self.server.clone(), key);
        config.transport = self.transport.unwrap_or(config.transport);
        config.timeout = self.timeout.unwrap_or(config.timeout);
        config
    }
}

#[async_trait]
impl ProviderPlugin for Keys {
    fn check(&self) -> Result<(), Flaw> {
        let apart = self.key_name.is_some() || self.key_algorithm.is_some();
        let secret = self.secret.is_some() || self.secret_file.is_some() || self.secret_env.is_some();
        let refuse = |key, why: &str| {
            let error = Error::new(ErrorKind::Config, "config.rfc2136", why).with_hint(
                "a key is `key_file` alone, or `key_name` with one of `secret`, `secret_file`, `secret_env`",
            );
            Err(Flaw::at(key)(error))
        };
        match (&self.key_file, &self.key_name) {
            (Some(_), _) if apart || secret => refuse("key_file", "the key is given more than once"),
            (Some(_), _) => Ok(()),
            (None, None) if secret => refuse("key_name", "the key has no name"),
            (None, None) => refuse("", "there is no key to sign updates with"),
            (None, Some(_)) => Ok(self.secret().check().map_err(Flaw::at(self.secret().key()))?),
        }
    }

    async fn build(&self, base: &Path, _: Option<&Resolver>) -> Result<Arc<dyn DnsProvider>, Flaw> {
        let key = match (&self.key_file, &self.key_name) {
            (Some(file), _) => Key::from_file(base.join(file)).map_err(Flaw::at("key_file"))?,
            (None, name) => {
                let secret = self.secret().read(base).await.map_err(Flaw::at(self.secret().key()))?;
                Key::new(name.clone().unwrap_or_default(), self.key_algorithm.unwrap_or_default(), secret)
            }
        };
        Ok(Arc::new(Rfc2136::new(self.config(key))?))
    }
}
