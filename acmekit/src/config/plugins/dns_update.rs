//! The vendors of dns-update.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use acmekit_core::{DnsName, Secret, async_trait, duration};
use serde::Deserialize;

use super::{Flaw, ProviderPlugin};

/// `kind = "dns-update"`: an account at one of the vendors that dns-update knows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "aws-lc-rs"), expect(dead_code, reason = "with `ring` alone it cannot be built"))]
pub(crate) struct Keys {
    /// The vendor: `hetzner`.
    vendor: String,
    /// Its settings, written out.
    #[serde(default)]
    settings: BTreeMap<String, Secret<String>>,
    /// Those whose values are in files.
    #[serde(default)]
    settings_files: BTreeMap<String, PathBuf>,
    /// Those whose values are in environment variables.
    #[serde(default)]
    settings_from: BTreeMap<String, String>,
    /// The zones the account has. Default: the DNS is asked.
    #[serde(default)]
    zones: Vec<DnsName>,
    /// The smallest TTL the vendor accepts. Default: none.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    min_ttl: Option<Duration>,
    /// How long one change may take. Default: 60 s.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    timeout: Option<Duration>,
    /// How long after a change it is looked whether others have undone it. Default: 1 s.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    settle: Option<Duration>,
}

#[cfg(feature = "aws-lc-rs")]
mod with {
    use std::path::Path;
    use std::sync::Arc;

    use acmekit_core::DnsProvider;
    use acmekit_core::dns::Resolver;
    use acmekit_dns_update::{Config, DnsUpdate, vendor};

    use super::*;
    use crate::config::secret::SecretTables;

    impl Keys {
        fn secrets(&self) -> SecretTables<'_> {
            SecretTables {
                name: "settings",
                inline: &self.settings,
                files: &self.settings_files,
                from: &self.settings_from,
            }
        }
    }

    #[async_trait]
    impl ProviderPlugin for Keys {
        fn check(&self) -> Result<(), Flaw> {
            let names = self.secrets().names()?;
            let vendor = vendor(&self.vendor).map_err(Flaw::at("vendor"))?;
            vendor.check(names.into_iter()).map_err(Flaw::at("settings"))
        }

        async fn build(
            &self,
            base: &Path,
            resolver: Option<&Resolver>,
        ) -> Result<Arc<dyn DnsProvider>, Flaw> {
            let mut config = Config::new(&self.vendor);
            config.settings = self.secrets().read(base).await?;
            config.zones.clone_from(&self.zones);
            config.resolver = resolver.cloned();
            config.min_ttl = self.min_ttl.unwrap_or(config.min_ttl);
            config.timeout = self.timeout.unwrap_or(config.timeout);
            config.settle = self.settle.unwrap_or(config.settle);
            Ok(Arc::new(DnsUpdate::new(config)?))
        }
    }
}

#[cfg(not(feature = "aws-lc-rs"))]
mod without {
    use std::path::Path;
    use std::sync::Arc;

    use acmekit_core::dns::Resolver;
    use acmekit_core::{DnsProvider, Error, ErrorKind};

    use super::*;

    #[async_trait]
    impl ProviderPlugin for Keys {
        fn check(&self) -> Result<(), Flaw> {
            Ok(())
        }

        async fn build(&self, _: &Path, _: Option<&Resolver>) -> Result<Arc<dyn DnsProvider>, Flaw> {
            let why =
                "this program was built with the crypto provider `ring`, on which dns-update has no HTTPS";
            Err(Flaw::at("vendor")(
                Error::new(ErrorKind::Unsupported, "config.dns-update", why)
                    .with_hint("build it with acmekit's feature `aws-lc-rs`, or use the provider `exec`"),
            ))
        }
    }
}
