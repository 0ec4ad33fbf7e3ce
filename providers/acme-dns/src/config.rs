//! Where the server is, for which domains, and what is registered already.

use std::path::PathBuf;
use std::time::Duration;

use acmekit_core::{DnsName, Error, ErrorKind, Result};
use serde::{Deserialize, Deserializer};

/// Where the server is, for which domains, and what is registered already.
///
/// As JSON: `{ "base_url": "https://auth.example.org", "domains": ["example.com"] }`, and the others as here.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Where `/register` and `/update` are. Only `https://`, or `http://` on this machine.
    pub base_url: String,
    /// The domains to register (default: none, which is whatever domain comes).
    #[serde(default)]
    pub domains: Vec<DnsName>,
    /// A file of accounts as lego keeps it (default: none). It is read once and never written.
    #[serde(default)]
    pub accounts_file: Option<PathBuf>,
    /// How long one request may take, in seconds (default 30). All of one call have 60 seconds.
    #[serde(default = "half_a_minute", deserialize_with = "seconds")]
    pub timeout: Duration,
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

fn seconds<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    u64::deserialize(input).map(Duration::from_secs)
}

impl Config {
    /// The server at this URL, for whatever domain comes.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self { base_url: base_url.into(), domains: Vec::new(), accounts_file: None, timeout: half_a_minute() }
    }

    /// Only for these domains.
    #[must_use]
    pub fn with_domains(mut self, domains: impl IntoIterator<Item = DnsName>) -> Self {
        self.domains = domains.into_iter().collect();
        self
    }

    /// Reads the environment.
    ///
    /// | variable | also read: lego's | |
    /// |---|---|---|
    /// | `ACME_ACME_DNS_BASE_URL` | `ACME_DNS_API_BASE` | required |
    /// | `ACME_ACME_DNS_DOMAINS` | | domains, with commas between (default: whatever comes) |
    /// | `ACME_ACME_DNS_ACCOUNTS_FILE` | `ACME_DNS_STORAGE_PATH` | lego's file of accounts, which is only read; one that is not there has none |
    /// | `ACME_ACME_DNS_TIMEOUT` | | seconds (default 30) |
    ///
    /// A variable that is set to nothing counts as not set.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the variables that are missing or wrong.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let read = |name: &str| variable(name).filter(|text| !text.trim().is_empty());
        let refuse = |why: &str| Error::new(ErrorKind::Config, "acme-dns.environment", why);
        let url = read("ACME_ACME_DNS_BASE_URL").or_else(|| read("ACME_DNS_API_BASE"));
        let mut config = Self::new(url.ok_or_else(|| {
            refuse("neither ACME_ACME_DNS_BASE_URL nor ACME_DNS_API_BASE is set")
                .with_hint("set it to the URL that /register and /update are below")
        })?);
        for text in read("ACME_ACME_DNS_DOMAINS").iter().flat_map(|text| text.split(',')) {
            let domain = text.trim().parse().map_err(|e: Error| {
                let error = refuse("ACME_ACME_DNS_DOMAINS has what is no domain name");
                error.with("domain", text.escape_debug()).with_source(e)
            })?;
            config.domains.push(domain);
        }
        // lego makes the file when it registers: one of ours need not be there.
        let legos = || read("ACME_DNS_STORAGE_PATH").map(PathBuf::from).filter(|path| path.exists());
        config.accounts_file = read("ACME_ACME_DNS_ACCOUNTS_FILE").map(PathBuf::from).or_else(legos);
        if let Some(text) = read("ACME_ACME_DNS_TIMEOUT") {
            let seconds = text.trim().parse();
            let seconds =
                seconds.map_err(|_| refuse("ACME_ACME_DNS_TIMEOUT is no whole number of seconds"))?;
            config.timeout = Duration::from_secs(seconds);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Config> {
        Config::from_variables(|name| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn legos_variables_are_read_and_what_is_wrong_is_named() {
        let config = read(&[("ACME_DNS_API_BASE", "https://auth.example.org")]).unwrap();
        assert_eq!((config.base_url.as_str(), config.timeout), ("https://auth.example.org", half_a_minute()));
        assert!(config.domains.is_empty() && config.accounts_file.is_none());
        let here = env!("CARGO_MANIFEST_DIR");
        let base = ("ACME_DNS_API_BASE", "https://auth.example.org");
        let config =
            read(&[base, ("ACME_DNS_STORAGE_PATH", here), ("ACME_ACME_DNS_DOMAINS", "a.example, B.example")]);
        let config = config.unwrap();
        assert_eq!(config.accounts_file, Some(here.into()));
        assert_eq!(
            config.domains.iter().map(DnsName::as_str).collect::<Vec<_>>(),
            ["a.example", "b.example"]
        );
        assert_eq!(read(&[base, ("ACME_DNS_STORAGE_PATH", "/not/there")]).unwrap().accounts_file, None);
        for (set, named) in [
            (vec![], "ACME_DNS_API_BASE"),
            (vec![base, ("ACME_ACME_DNS_DOMAINS", "a b")], "ACME_ACME_DNS_DOMAINS"),
            (vec![base, ("ACME_ACME_DNS_TIMEOUT", "soon")], "ACME_ACME_DNS_TIMEOUT"),
        ] {
            let error = read(&set).unwrap_err();
            assert!(error.to_string().contains(named), "`{named}` is not in: {error}");
        }
    }
}
