//! Where the server is, and who asks.

use std::str::FromStr;
use std::time::Duration;

use acmekit_core::{DnsName, Error, ErrorKind, Result, Secret};
use serde::{Deserialize, Deserializer};

/// Which of the protocol's two modes is spoken: there is but one here.
///
/// It is a setting so that `RAW`, taken over from lego, is refused with the reason and not ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// `{"fqdn","value"}`. Read from `default` or nothing.
    #[default]
    Default,
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &str| Error::new(ErrorKind::Config, "httpreq.mode", why);
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "default" => Ok(Self::Default),
            "raw" => Err(refuse(
                "RAW mode cannot be spoken: it sends the challenge's token and key authorization, and a DNS \
                 provider is told only the record's name and value",
            )
            .with_hint(
                "leave the mode out, and have the server speak the default mode: {\"fqdn\",\"value\"}",
            )),
            _ => Err(refuse("there is no such mode")
                .with("mode", text.escape_debug())
                .with_hint("leave it out")),
        }
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
    }
}

/// Who asks (RFC 7617).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BasicAuth {
    /// The user name; it has no colon.
    pub username: String,
    /// The password.
    pub password: Secret<String>,
}

impl BasicAuth {
    /// This user, with this password.
    pub fn new(username: impl Into<String>, password: impl Into<Secret<String>>) -> Self {
        Self { username: username.into(), password: password.into() }
    }
}

/// Where the server is, and who asks.
///
/// As JSON: `{ "endpoint": "https://…", "zones": ["example.com"], "auth": { "username": "…", "password": "…" } }`,
/// and the others as here.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// What `/present` and `/cleanup` are below. Only `https://`, or `http://` on this machine.
    pub endpoint: String,
    /// The mode (default: the protocol's default mode).
    #[serde(default)]
    pub mode: Mode,
    /// The zones of the server (default: none, which is every name).
    #[serde(default)]
    pub zones: Vec<DnsName>,
    /// Who asks (default: nobody says).
    #[serde(default)]
    pub auth: Option<BasicAuth>,
    /// How long one call may take, in seconds (default 30, as lego's).
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
    /// The server at this endpoint, for every name, asked by nobody in particular.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            mode: Mode::Default,
            zones: Vec::new(),
            auth: None,
            timeout: half_a_minute(),
        }
    }

    /// Only for names in these zones.
    #[must_use]
    pub fn with_zones(mut self, zones: impl IntoIterator<Item = DnsName>) -> Self {
        self.zones = zones.into_iter().collect();
        self
    }

    /// Sets who asks.
    #[must_use]
    pub fn with_auth(mut self, auth: BasicAuth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// Reads the environment.
    ///
    /// | variable | also read: lego's | |
    /// |---|---|---|
    /// | `ACME_HTTPREQ_ENDPOINT` | `HTTPREQ_ENDPOINT` | required |
    /// | `ACME_HTTPREQ_MODE` | `HTTPREQ_MODE` | `RAW` is [refused](Mode) |
    /// | `ACME_HTTPREQ_ZONES` | | zones, with commas between (default: every name) |
    /// | `ACME_HTTPREQ_USERNAME` and `ACME_HTTPREQ_PASSWORD` | `HTTPREQ_USERNAME` and `HTTPREQ_PASSWORD` | both or neither; the pairs are never mixed |
    /// | `ACME_HTTPREQ_TIMEOUT` | `HTTPREQ_HTTP_TIMEOUT` | seconds (default 30) |
    ///
    /// A variable that is set to nothing counts as not set. lego's variables that end in `_FILE` are
    /// not read.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the variables that are missing or wrong.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let read = |name: &str| variable(name).filter(|text| !text.trim().is_empty());
        let either = |ours: &'static str, theirs: &'static str| {
            read(ours).map(|text| (ours, text)).or_else(|| read(theirs).map(|text| (theirs, text)))
        };
        let Some((_, endpoint)) = either("ACME_HTTPREQ_ENDPOINT", "HTTPREQ_ENDPOINT") else {
            return Err(refuse("neither ACME_HTTPREQ_ENDPOINT nor HTTPREQ_ENDPOINT is set".to_owned())
                .with_hint("set it to the URL that /present and /cleanup are below"));
        };
        let mut config = Self::new(endpoint);
        if let Some((name, text)) = either("ACME_HTTPREQ_MODE", "HTTPREQ_MODE") {
            config.mode = text.parse().map_err(|error: Error| error.with("variable", name))?;
        }
        for text in read("ACME_HTTPREQ_ZONES").iter().flat_map(|text| text.split(',')) {
            let zone = text.trim().parse().map_err(|e: Error| {
                refuse("ACME_HTTPREQ_ZONES has what is no domain name".to_owned())
                    .with("zone", text.escape_debug())
                    .with_source(e)
            })?;
            config.zones.push(zone);
        }
        config.auth = auth(&read)?;
        if let Some((name, text)) = either("ACME_HTTPREQ_TIMEOUT", "HTTPREQ_HTTP_TIMEOUT") {
            let seconds =
                text.trim().parse().map_err(|_| refuse(format!("{name} is no whole number of seconds")))?;
            config.timeout = Duration::from_secs(seconds);
        }
        Ok(config)
    }
}

fn refuse(why: String) -> Error {
    Error::new(ErrorKind::Config, "httpreq.environment", why)
}

fn auth(read: &impl Fn(&str) -> Option<String>) -> Result<Option<BasicAuth>> {
    for (username, password) in
        [("ACME_HTTPREQ_USERNAME", "ACME_HTTPREQ_PASSWORD"), ("HTTPREQ_USERNAME", "HTTPREQ_PASSWORD")]
    {
        match (read(username), read(password)) {
            (Some(user), Some(secret)) => return Ok(Some(BasicAuth::new(user, secret))),
            (Some(_), None) => return Err(refuse(format!("{username} is set, but {password} is not"))),
            (None, Some(_)) => return Err(refuse(format!("{password} is set, but {username} is not"))),
            (None, None) => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Config> {
        Config::from_variables(|name| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: (&str, &str) = ("HTTPREQ_ENDPOINT", "https://dns.example.com");

    #[test]
    fn legos_variables_are_read_and_ours_come_first() {
        let config = read(&[
            ENDPOINT,
            ("HTTPREQ_MODE", " "),
            ("HTTPREQ_USERNAME", "theirs"),
            ("HTTPREQ_PASSWORD", "s3cr3t"),
            ("HTTPREQ_HTTP_TIMEOUT", "7"),
        ])
        .unwrap();
        assert_eq!((config.endpoint.as_str(), config.timeout), (ENDPOINT.1, Duration::from_secs(7)));
        assert!(config.zones.is_empty());
        let auth = config.auth.unwrap();
        assert_eq!((auth.username.as_str(), auth.password.expose().as_str()), ("theirs", "s3cr3t"));

        let config = read(&[
            ENDPOINT,
            ("ACME_HTTPREQ_ENDPOINT", "https://ours.example.com"),
            ("ACME_HTTPREQ_ZONES", "example.com, Example.ORG"),
            ("ACME_HTTPREQ_USERNAME", "ours"),
            ("ACME_HTTPREQ_PASSWORD", "p"),
            ("HTTPREQ_USERNAME", "theirs"),
            ("HTTPREQ_PASSWORD", "s3cr3t"),
        ])
        .unwrap();
        assert_eq!(config.endpoint, "https://ours.example.com");
        assert_eq!(
            config.zones.iter().map(DnsName::as_str).collect::<Vec<_>>(),
            ["example.com", "example.org"]
        );
        assert_eq!(config.auth.unwrap().username, "ours");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (set, named) in [
            (vec![], "HTTPREQ_ENDPOINT"),
            (vec![ENDPOINT, ("HTTPREQ_USERNAME", "u")], "HTTPREQ_PASSWORD"),
            (vec![ENDPOINT, ("HTTPREQ_PASSWORD", "s3cr3t")], "HTTPREQ_USERNAME"),
            (vec![ENDPOINT, ("HTTPREQ_HTTP_TIMEOUT", "soon")], "HTTPREQ_HTTP_TIMEOUT"),
            (vec![ENDPOINT, ("ACME_HTTPREQ_ZONES", "a b")], "ACME_HTTPREQ_ZONES"),
            (vec![ENDPOINT, ("HTTPREQ_MODE", "RAW")], "HTTPREQ_MODE"),
            (vec![ENDPOINT, ("ACME_HTTPREQ_MODE", "cooked")], "ACME_HTTPREQ_MODE"),
        ] {
            let error = read(&set).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
            assert!(error.to_string().contains(named), "`{named}` is not in: {error}");
            assert!(!error.report().contains("s3cr3t"), "{}", error.report());
        }
    }

    #[test]
    fn raw_mode_is_refused_with_the_reason() {
        for text in ["RAW", "raw", " Raw "] {
            let error = text.parse::<Mode>().unwrap_err();
            assert!(error.message().contains("key authorization"), "{}", error.report());
            assert!(error.hint().unwrap().contains("default mode"), "{}", error.report());
        }
        let shown = serde_json::from_str::<Config>(r#"{"endpoint":"https://a.example","mode":"RAW"}"#)
            .unwrap_err()
            .to_string();
        assert!(shown.contains("key authorization"), "{shown}");
    }

    #[test]
    fn configurations_have_the_defaults_their_documentation_tells() {
        let config: Config = serde_json::from_str(r#"{"endpoint":"https://a.example"}"#).unwrap();
        assert_eq!((config.mode, config.timeout), (Mode::Default, Duration::from_secs(30)));
        assert!(config.zones.is_empty() && config.auth.is_none());
        let text = r#"{"endpoint":"https://a.example","mode":"default","zones":["example.com"],
            "auth":{"username":"u","password":"s3cr3t"},"timeout":3}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.timeout, Duration::from_secs(3));
        assert!(!format!("{config:?}").contains("s3cr3t"));
    }
}
