//! AWS Route 53.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use acmekit_core::dns::Resolver;
use acmekit_core::{DnsProvider, Error, ErrorKind, Secret, async_trait, duration};
use acmekit_route53::{Config, Credential, Role, Route53};
use serde::Deserialize;

use super::{Flaw, ProviderPlugin};
use crate::config::secret::SecretKeys;

/// `kind = "route53"`: hosted zones at AWS Route 53.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    /// The id of an access key. Default: what the AWS SDK finds.
    #[serde(default)]
    access_key_id: Option<String>,
    /// The access key.
    #[serde(default)]
    secret_access_key: Option<Secret<String>>,
    /// The file that holds it.
    #[serde(default)]
    secret_access_key_file: Option<PathBuf>,
    /// The environment variable that holds it.
    #[serde(default)]
    secret_access_key_env: Option<String>,
    /// The profile of the SDK's files. Default: AWS_PROFILE, or `default`.
    #[serde(default)]
    profile: Option<String>,
    /// A role to be assumed. Default: none.
    #[serde(default)]
    role_arn: Option<String>,
    /// The name of the session with it. Default: `acmekit`.
    #[serde(default)]
    role_session_name: Option<String>,
    /// What the owner of the role wants to be told. Default: nothing.
    #[serde(default)]
    role_external_id: Option<String>,
    /// The id of the only zone. Default: the zone of each name is looked for.
    #[serde(default)]
    hosted_zone_id: Option<String>,
    /// The region. Default: `us-east-1`.
    #[serde(default)]
    region: Option<String>,
    /// Where Route 53 is. Default: AWS's own.
    #[serde(default)]
    endpoint: Option<String>,
    /// Where STS is. Default: AWS's own.
    #[serde(default)]
    sts_endpoint: Option<String>,
    /// How long one call may take. Default: 120 s.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    timeout: Option<Duration>,
}

impl Keys {
    fn secret(&self) -> SecretKeys<'_> {
        SecretKeys {
            name: "secret_access_key",
            inline: self.secret_access_key.as_ref(),
            file: self.secret_access_key_file.as_deref(),
            env: self.secret_access_key_env.as_deref(),
        }
    }

    fn has_secret(&self) -> bool {
        self.secret_access_key.is_some()
            || self.secret_access_key_file.is_some()
            || self.secret_access_key_env.is_some()
    }
}

#[async_trait]
impl ProviderPlugin for Keys {
    fn check(&self) -> Result<(), Flaw> {
        let refuse = |key: &str, why: &str, hint: &str| {
            Err(Flaw::at(key)(Error::new(ErrorKind::Config, "config.route53", why).with_hint(hint)))
        };
        if self.access_key_id.is_some() {
            self.secret().check().map_err(Flaw::at(self.secret().key()))?;
            if self.profile.is_some() {
                return refuse(
                    "profile",
                    "a profile and an access key exclude each other",
                    "keep one of the two",
                );
            }
        } else if self.has_secret() {
            return refuse(
                &self.secret().key(),
                "an access key means nothing without its id",
                "set `access_key_id`, too, or leave the key out: then the AWS SDK looks for a credential",
            );
        }
        let role =
            [("role_session_name", &self.role_session_name), ("role_external_id", &self.role_external_id)];
        match role.iter().find(|(_, value)| value.is_some()) {
            Some((key, _)) if self.role_arn.is_none() => {
                refuse(key, "this means nothing without a role", "set `role_arn`, too, or leave it out")
            }
            _ => Ok(()),
        }
    }

    async fn build(&self, base: &Path, _: Option<&Resolver>) -> Result<Arc<dyn DnsProvider>, Flaw> {
        let credential = match (&self.access_key_id, &self.profile) {
            (Some(id), _) => {
                let secret = self.secret().read(base).await.map_err(Flaw::at(self.secret().key()))?;
                Credential::keys(id, secret)
            }
            (None, Some(profile)) => Credential::profile(profile),
            (None, None) => Credential::found(),
        };
        let mut config = Config::new(credential);
        if let Some(arn) = &self.role_arn {
            let mut role = Role::new(arn);
            role.external_id.clone_from(&self.role_external_id);
            if let Some(name) = &self.role_session_name {
                role = role.with_session_name(name);
            }
            config = config.with_role(role);
        }
        config.hosted_zone_id.clone_from(&self.hosted_zone_id);
        if let Some(region) = &self.region {
            config.region.clone_from(region);
        }
        config.endpoint.clone_from(&self.endpoint);
        config.sts_endpoint.clone_from(&self.sts_endpoint);
        config.timeout = self.timeout.unwrap_or(config.timeout);
        // An error's operation is `route53.` and the key.
        Route53::new(config).map(|provider| Arc::new(provider) as _).map_err(|error| {
            let key = error.op().strip_prefix("route53.").unwrap_or_default();
            let key = if key == "secret_access_key" { self.secret().key() } else { key.to_owned() };
            Flaw { key: if key == "proxy" { String::new() } else { key }, error }
        })
    }
}
