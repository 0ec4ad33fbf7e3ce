//! Who asks, and where.

use std::time::Duration;

use acmekit_core::{DnsName, Error, ErrorKind, Result, Secret};
use serde::Deserialize;

/// Cloudflare's own API.
pub(crate) const API: &str = "https://api.cloudflare.com/client/v4";

/// How Cloudflare knows who asks.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Credential {
    /// An API token with the permissions Zone:Read and DNS:Edit, for one zone or for many.
    Token(Secret<String>),
    /// The Global API Key, which may do everything its owner may. Prefer a token.
    #[non_exhaustive]
    GlobalKey {
        /// The e-mail address of its owner.
        email: String,
        /// The key.
        key: Secret<String>,
    },
}

impl Credential {
    /// An API token.
    pub fn token(token: impl Into<Secret<String>>) -> Self {
        Self::Token(token.into())
    }

    /// The Global API Key, and the e-mail address of its owner.
    pub fn global_key(email: impl Into<String>, key: impl Into<Secret<String>>) -> Self {
        Self::GlobalKey { email: email.into(), key: key.into() }
    }
}

/// Who asks, and where.
///
/// As JSON: `{ "credential": { "token": "…" } }`, or
/// `{ "credential": { "global-key": { "email": "…", "key": "…" } } }`, and the others as here.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Who asks.
    pub credential: Credential,
    /// The id of the only zone to be used, 32 hexadecimal digits from the zone's overview page;
    /// without it (default), the zone of each name is looked for.
    #[serde(default)]
    pub zone_id: Option<String>,
    /// The name of the zone with that id (default: asked for once). With both, the token needs no
    /// Zone:Read. It means nothing without `zone_id`.
    #[serde(default)]
    pub zone_name: Option<DnsName>,
    /// Where the API is (default `https://api.cloudflare.com/client/v4`). Only `https://`, or
    /// `http://` on loopback, for tests.
    #[serde(default = "api")]
    pub base_url: String,
    /// How long one request may take with its repeats, in seconds (default 30). All the requests of
    /// one call have 60 seconds.
    #[serde(default = "half_a_minute", deserialize_with = "seconds")]
    pub timeout: Duration,
}

fn api() -> String {
    API.to_owned()
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

fn seconds<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    u64::deserialize(input).map(Duration::from_secs)
}

/// Where a token may be, in the order they are looked at: ours, lego's, Terraform's, acme.sh's.
const TOKEN: [&str; 5] = [
    "ACME_CLOUDFLARE_TOKEN",
    "CF_DNS_API_TOKEN",
    "CLOUDFLARE_DNS_API_TOKEN",
    "CLOUDFLARE_API_TOKEN",
    "CF_Token",
];
/// Where the owner's address and the Global API Key may be: pairs, never mixed.
const GLOBAL_KEY: [(&str, &str); 4] = [
    ("ACME_CLOUDFLARE_EMAIL", "ACME_CLOUDFLARE_KEY"),
    ("CF_API_EMAIL", "CF_API_KEY"),
    ("CLOUDFLARE_EMAIL", "CLOUDFLARE_API_KEY"),
    ("CF_Email", "CF_Key"),
];

impl Config {
    /// All zones the credential may see, at Cloudflare's own API.
    pub fn new(credential: Credential) -> Self {
        Self { credential, zone_id: None, zone_name: None, base_url: api(), timeout: half_a_minute() }
    }

    /// Reads the environment.
    ///
    /// | variable | also read, in this order | |
    /// |---|---|---|
    /// | `ACME_CLOUDFLARE_TOKEN` | `CF_DNS_API_TOKEN`, `CLOUDFLARE_DNS_API_TOKEN`, `CLOUDFLARE_API_TOKEN`, `CF_Token` | API token; the pair below is then not read |
    /// | `ACME_CLOUDFLARE_EMAIL` and `ACME_CLOUDFLARE_KEY` | `CF_API_EMAIL` and `CF_API_KEY`, `CLOUDFLARE_EMAIL` and `CLOUDFLARE_API_KEY`, `CF_Email` and `CF_Key` | Global API Key and its owner |
    /// | `ACME_CLOUDFLARE_ZONE_ID` | `CF_Zone_ID` | the only zone |
    /// | `ACME_CLOUDFLARE_ZONE_NAME` | | its name |
    /// | `ACME_CLOUDFLARE_BASE_URL` | | where the API is |
    /// | `ACME_CLOUDFLARE_TIMEOUT` | | seconds (default 30) |
    ///
    /// A variable that is set to nothing counts as not set.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the variables that are missing or wrong.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    pub(crate) fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let read = |name: &str| variable(name).filter(|text| !text.trim().is_empty());
        let refuse = |why: String| Error::new(ErrorKind::Config, "cloudflare.environment", why);
        let mut config = Self::new(credential(&read)?);
        config.zone_id = read("ACME_CLOUDFLARE_ZONE_ID").or_else(|| read("CF_Zone_ID"));
        if let Some(text) = read("ACME_CLOUDFLARE_ZONE_NAME") {
            let name = text.trim().parse().map_err(|e: Error| {
                refuse("ACME_CLOUDFLARE_ZONE_NAME is no domain name".to_owned()).with_source(e)
            })?;
            config.zone_name = Some(name);
        }
        if let Some(text) = read("ACME_CLOUDFLARE_BASE_URL") {
            config.base_url = text;
        }
        if let Some(text) = read("ACME_CLOUDFLARE_TIMEOUT") {
            let seconds = text
                .parse()
                .map_err(|_| refuse("ACME_CLOUDFLARE_TIMEOUT is no whole number of seconds".to_owned()))?;
            config.timeout = Duration::from_secs(seconds);
        }
        Ok(config)
    }
}

fn credential(read: &impl Fn(&str) -> Option<String>) -> Result<Credential> {
    if let Some(token) = TOKEN.into_iter().find_map(read) {
        return Ok(Credential::token(token));
    }
    let refuse = |why: String| Error::new(ErrorKind::Config, "cloudflare.environment", why);
    let pairs = GLOBAL_KEY.map(|(email, key)| ((email, read(email)), (key, read(key))));
    for pair in &pairs {
        if let ((_, Some(email)), (_, Some(key))) = pair {
            return Ok(Credential::global_key(email, key.clone()));
        }
    }
    for ((email, address), (key, secret)) in &pairs {
        match (address, secret) {
            (Some(_), None) => return Err(refuse(format!("{email} is set, but {key} is not"))),
            (None, Some(_)) => return Err(refuse(format!("{key} is set, but {email} is not"))),
            _ => {}
        }
    }
    let pairs: Vec<String> = GLOBAL_KEY.iter().map(|(email, key)| format!("{email} with {key}")).collect();
    Err(refuse(format!(
        "no credential is set: neither a token ({}) nor a Global API Key ({})",
        TOKEN.join(", "),
        pairs.join(", ")
    ))
    .with_hint(
        "make an API token with the permissions Zone:Read and DNS:Edit, and put it into CF_DNS_API_TOKEN",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Config> {
        Config::from_variables(|name| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn token(config: &Config) -> &str {
        match &config.credential {
            Credential::Token(token) => token.expose(),
            Credential::GlobalKey { .. } => panic!("not a token"),
        }
    }

    #[test]
    fn each_variable_others_have_set_is_read() {
        for name in TOKEN {
            assert_eq!(token(&read(&[(name, "t0ken")]).unwrap()), "t0ken", "{name}");
        }
        for (email, key) in GLOBAL_KEY {
            let config = read(&[(email, "a@b.example"), (key, "k3y")]).unwrap();
            let Credential::GlobalKey { email, key } = config.credential else { panic!("no key") };
            assert_eq!((email.as_str(), key.expose().as_str()), ("a@b.example", "k3y"));
        }
        let config = read(&[("CF_Token", "t"), ("CF_Zone_ID", "z")]).unwrap();
        assert_eq!(config.zone_id.as_deref(), Some("z"));
    }

    #[test]
    fn a_token_comes_before_a_key_and_ours_before_others() {
        let both = [("CF_API_EMAIL", "a@b.example"), ("CF_API_KEY", "k"), ("CF_Token", "t")];
        assert_eq!(token(&read(&both).unwrap()), "t");
        let two = [("CLOUDFLARE_API_TOKEN", "theirs"), ("ACME_CLOUDFLARE_TOKEN", "ours")];
        assert_eq!(token(&read(&two).unwrap()), "ours");
        let empty = [("ACME_CLOUDFLARE_TOKEN", " "), ("CF_Token", "t")];
        assert_eq!(token(&read(&empty).unwrap()), "t");
    }

    #[test]
    fn nothing_set_names_all_of_them() {
        let shown = read(&[]).unwrap_err().to_string();
        for name in TOKEN.into_iter().chain(GLOBAL_KEY.into_iter().flat_map(|(email, key)| [email, key])) {
            assert!(shown.contains(name), "{name} is not in: {shown}");
        }
    }

    #[test]
    fn half_a_pair_names_the_other_half() {
        let error = read(&[("CF_API_KEY", "k3y-of-somebody")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("CF_API_EMAIL") && !error.to_string().contains("k3y"), "{error}");
        // Halves of two pairs are no pair; beside a whole one they do not count.
        assert!(read(&[("CF_API_KEY", "k"), ("CLOUDFLARE_EMAIL", "a@b.example")]).is_err());
        assert!(read(&[("CF_API_KEY", "k"), ("CF_Email", "a@b.example"), ("CF_Key", "k")]).is_ok());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (wrong, value) in [("ACME_CLOUDFLARE_TIMEOUT", "soon"), ("ACME_CLOUDFLARE_ZONE_NAME", "a b")] {
            let error = read(&[("CF_Token", "t"), (wrong, value)]).unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }

    #[test]
    fn configurations_have_the_defaults_their_documentation_tells() {
        let config: Config = serde_json::from_str(r#"{ "credential": { "token": "t0ken" } }"#).unwrap();
        assert_eq!((config.base_url.as_str(), config.timeout), (API, Duration::from_secs(30)));
        assert_eq!((config.zone_id.as_ref(), config.zone_name.as_ref()), (None, None));
        assert!(!format!("{config:?}").contains("t0ken"));
        let key =
            r#"{ "credential": { "global-key": { "email": "a@b.example", "key": "k3y" } }, "timeout": 3 }"#;
        let config: Config = serde_json::from_str(key).unwrap();
        assert_eq!(config.timeout, Duration::from_secs(3));
        assert!(!format!("{config:?}").contains("k3y"));
    }
}
