//! What can be chosen, and the defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use acmekit_core::dns::Resolver;
use acmekit_core::{DnsName, Error, ErrorKind, Result, Secret};

use crate::vendors::{self, Vendor};

/// Which vendor, with what credential, and for which zones.
///
/// ```
/// use acmekit_dns_update::Config;
/// let config = Config::new("hetzner").setting("api_token", "the-token").zone("example.com".parse()?);
/// assert_eq!(config.timeout.as_secs(), 60);
/// # Ok::<(), acmekit_core::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The vendor: one of [`vendors`](crate::vendors).
    pub vendor: String,
    /// Its settings, those that [`Vendor`] names: secrets above all. No error shows a value, unless it has less than
    /// four octets or tells where the vendor is.
    pub settings: BTreeMap<String, Secret<String>>,
    /// The zones the account has; the longest one that holds a name is its zone. Where there are none (default), the
    /// DNS is asked, and every name is this provider's: with several providers of this kind, name them.
    pub zones: Vec<DnsName>,
    /// Who is asked for zones where there are none here. Default: the machine's resolvers.
    pub resolver: Option<Resolver>,
    /// The smallest TTL the vendor accepts (default none).
    pub min_ttl: Duration,
    /// How long one change may take, with all its requests (default 60 s).
    pub timeout: Duration,
    /// How long after a change it is looked whether others have undone it, at a vendor of [whole RRsets](crate#what-is-at-risk)
    /// (default 1 s).
    pub settle: Duration,
}

impl Config {
    /// This vendor, without settings.
    pub fn new(vendor: impl Into<String>) -> Self {
        Self {
            vendor: vendor.into(),
            settings: BTreeMap::new(),
            zones: Vec::new(),
            resolver: None,
            min_ttl: Duration::ZERO,
            timeout: Duration::from_secs(60),
            settle: Duration::from_secs(1),
        }
    }

    /// Gives a setting its value.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<Secret<String>>) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }

    /// Names a zone that the account has.
    #[must_use]
    pub fn zone(mut self, zone: DnsName) -> Self {
        self.zones.push(zone);
        self
    }

    /// Reads the environment: `ACME_DNS_UPDATE_VENDOR`, and for each setting of that vendor a variable such as
    /// `ACME_DNS_UPDATE_API_TOKEN`. A variable that is set to nothing counts as not set.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the variable that is missing.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let read = |name: &str| variable(name).filter(|text| !text.is_empty());
        let missing = |name: &str| {
            Error::new(ErrorKind::Config, "dns-update.environment", format!("the variable {name} is not set"))
        };
        let named = "ACME_DNS_UPDATE_VENDOR";
        let vendor = vendors::find(&read(named).ok_or_else(|| missing(named))?)?;
        let mut config = Self::new(vendor.name());
        for (setting, is_needed) in vendor.settings() {
            let name = format!("ACME_DNS_UPDATE_{}", setting.to_uppercase());
            match read(&name) {
                Some(value) => config = config.setting(setting, value),
                None if is_needed => return Err(missing(&name)),
                None => {}
            }
        }
        Ok(config)
    }

    /// The vendor, if the settings are its own.
    pub(crate) fn check(&self) -> Result<&'static Vendor> {
        let vendor = vendors::find(&self.vendor)?;
        vendor.check(self.settings.keys().map(String::as_str))?;
        if let Some((name, _)) = self.settings.iter().find(|(_, value)| value.expose().is_empty()) {
            return Err(Error::new(ErrorKind::Config, "dns-update.settings", "the setting is empty")
                .with("vendor", vendor.name())
                .with("setting", name));
        }
        Ok(vendor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_has_the_settings_of_the_vendor() {
        let variable = |name: &str| match name {
            "ACME_DNS_UPDATE_VENDOR" => Some("porkbun".to_owned()),
            "ACME_DNS_UPDATE_API_KEY" => Some("one".to_owned()),
            "ACME_DNS_UPDATE_SECRET_API_KEY" => Some("two".to_owned()),
            _ => None,
        };
        let config = Config::from_variables(variable).unwrap();
        assert_eq!(config.vendor, "porkbun");
        assert_eq!(config.settings["secret_api_key"].expose(), "two");
        for missing in ["ACME_DNS_UPDATE_VENDOR", "ACME_DNS_UPDATE_API_KEY"] {
            let error =
                Config::from_variables(|name| variable(name).filter(|_| name != missing)).unwrap_err();
            assert!(error.to_string().contains(missing), "{error}");
        }
    }

    #[test]
    fn settings_have_to_be_the_vendors_own() {
        let refused = |config: Config| config.check().unwrap_err().report();
        let shown = refused(Config::new("hetzner"));
        assert!(shown.contains("api_token"), "{shown}");
        let shown = refused(Config::new("hetzner").setting("api_token", "a-token").setting("key", "s3cr3t"));
        assert!(shown.contains("key") && !shown.contains("s3cr3t"), "{shown}");
        let shown = refused(Config::new("hetzner").setting("api_token", ""));
        assert!(shown.contains("empty"), "{shown}");
        assert!(!format!("{:?}", Config::new("hetzner").setting("api_token", "s3cr3t")).contains("s3cr3t"));
    }

    #[test]
    fn who_is_no_vendor_or_must_not_be_one_says_why() {
        let shown = Config::new("hetzer").check().unwrap_err().report();
        assert!(shown.contains("hetzer") && shown.contains("hetzner"), "{shown}");
        let shown = Config::new("duckdns").check().unwrap_err().report();
        assert!(shown.contains("duckdns") && shown.contains("exec"), "{shown}");
        let shown = Config::new("cloudflare").check().unwrap_err().report();
        assert!(shown.contains("own provider"), "{shown}");
    }
}
