//! Who asks, and where.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use acmekit_core::{Error, ErrorKind, Result, Secret, duration};
use serde::Deserialize;

/// deSEC's own API.
pub(crate) const API: &str = "https://desec.io/api/v1";

/// Who asks, and where.
///
/// As JSON: `{ "token": "…" }`, and the others as here.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The secret value of a token, which needs no more than to write TXT at the names concerned.
    pub token: Secret<String>,
    /// Where the API is (default `https://desec.io/api/v1`). Only `https://`, or `http://` on
    /// loopback, for tests.
    #[serde(default = "api")]
    pub base_url: String,
    /// How long one request may take with its repeats (default 30 s). All the requests of one call
    /// have 60 seconds.
    #[serde(default = "half_a_minute", deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    /// How long after a change it is looked whether others have undone it (default 1 s): what that
    /// is for is told [here](crate#several-writers).
    #[serde(default = "a_second", deserialize_with = "duration::deserialize")]
    pub settle: Duration,
}

fn api() -> String {
    API.to_owned()
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

fn a_second() -> Duration {
    Duration::from_secs(1)
}

/// Where a token may be, in the order they are looked at: ours, lego's, acme.sh's.
const TOKEN: [&str; 3] = ["ACME_DESEC_TOKEN", "DESEC_TOKEN", "DEDYN_TOKEN"];
/// The file that holds it, where there is none in these: lego's.
const TOKEN_FILE: &str = "DESEC_TOKEN_FILE";

impl Config {
    /// All domains the token may write to, at deSEC's own API.
    pub fn new(token: impl Into<Secret<String>>) -> Self {
        Self { token: token.into(), base_url: api(), timeout: half_a_minute(), settle: a_second() }
    }

    /// Reads the environment.
    ///
    /// | variable | also read, in this order | |
    /// |---|---|---|
    /// | `ACME_DESEC_TOKEN` | `DESEC_TOKEN`, `DEDYN_TOKEN`; the file named by `DESEC_TOKEN_FILE` | token |
    /// | `ACME_DESEC_BASE_URL` | | where the API is |
    /// | `ACME_DESEC_TIMEOUT` | `DESEC_HTTP_TIMEOUT` | seconds (default 30) |
    ///
    /// A variable that is set to nothing counts as not set. lego's `DESEC_TTL` is not read: the TTL
    /// is the smallest that the domain allows.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the variables that are missing or wrong.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok(), |file| std::fs::read_to_string(file))
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
        file: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Self> {
        let read = |name: &str| variable(name).filter(|text| !text.trim().is_empty());
        let refuse = |why: String| Error::new(ErrorKind::Config, "desec.environment", why);
        let token = match (TOKEN.into_iter().find_map(read), read(TOKEN_FILE).map(PathBuf::from)) {
            (Some(token), _) => token,
            (None, Some(path)) => file(&path).map_err(|e| {
                refuse(format!("the file that {TOKEN_FILE} names cannot be read"))
                    .with("file", path.display())
                    .with_source(e)
            })?,
            (None, None) => {
                return Err(refuse(format!("no token is set: none of {}, {TOKEN_FILE}", TOKEN.join(", ")))
                    .with_hint("make a token at https://desec.io/tokens, and put it into DESEC_TOKEN"));
            }
        };
        let mut config = Self::new(token);
        if let Some(text) = read("ACME_DESEC_BASE_URL") {
            config.base_url = text;
        }
        for name in ["DESEC_HTTP_TIMEOUT", "ACME_DESEC_TIMEOUT"] {
            if let Some(text) = read(name) {
                let seconds = text
                    .trim()
                    .parse()
                    .map_err(|_| refuse(format!("{name} is no whole number of seconds")))?;
                config.timeout = Duration::from_secs(seconds);
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Config> {
        let variable =
            |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::from_variables(variable, |file| match file.to_str() {
            Some("/run/token") => Ok("t0ken-of-a-file\n".to_owned()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        })
    }

    fn token(set: &[(&str, &str)]) -> String {
        read(set).unwrap().token.expose().clone()
    }

    #[test]
    fn each_variable_others_have_set_is_read_and_ours_comes_first() {
        for name in TOKEN {
            assert_eq!(token(&[(name, "t0ken")]), "t0ken", "{name}");
        }
        assert_eq!(token(&[("DEDYN_TOKEN", "acme.sh's"), ("DESEC_TOKEN", "lego's")]), "lego's");
        assert_eq!(token(&[("DESEC_TOKEN", "lego's"), ("ACME_DESEC_TOKEN", "ours")]), "ours");
        assert_eq!(token(&[("ACME_DESEC_TOKEN", " "), ("DESEC_TOKEN", "lego's")]), "lego's");
        let config = read(&[("DESEC_TOKEN", "t"), ("DESEC_HTTP_TIMEOUT", "7")]).unwrap();
        assert_eq!(config.timeout, Duration::from_secs(7));
        let config =
            read(&[("DESEC_TOKEN", "t"), ("DESEC_HTTP_TIMEOUT", "7"), ("ACME_DESEC_TIMEOUT", "8")]).unwrap();
        assert_eq!(config.timeout, Duration::from_secs(8));
    }

    #[test]
    fn a_token_may_be_in_a_file_as_lego_has_it() {
        assert_eq!(token(&[("DESEC_TOKEN_FILE", "/run/token")]), "t0ken-of-a-file\n");
        assert_eq!(token(&[("DESEC_TOKEN_FILE", "/run/token"), ("DESEC_TOKEN", "t0ken")]), "t0ken");
        let error = read(&[("DESEC_TOKEN_FILE", "/nowhere")]).unwrap_err();
        assert!(error.to_string().contains("DESEC_TOKEN_FILE") && error.to_string().contains("/nowhere"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let error = read(&[]).unwrap_err();
        assert!(TOKEN.into_iter().all(|name| error.to_string().contains(name)), "{error}");
        assert_eq!(error.kind(), ErrorKind::Config);
        for name in ["ACME_DESEC_TIMEOUT", "DESEC_HTTP_TIMEOUT"] {
            let error = read(&[("DESEC_TOKEN", "s3cr3t"), (name, "soon")]).unwrap_err();
            assert!(error.to_string().contains(name) && !error.report().contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn configurations_have_the_defaults_their_documentation_tells() {
        let config: Config = serde_json::from_str(r#"{ "token": "t0ken" }"#).unwrap();
        assert_eq!((config.base_url.as_str(), config.timeout), (API, Duration::from_secs(30)));
        assert_eq!(config.settle, Duration::from_secs(1));
        assert!(!format!("{config:?}").contains("t0ken"));
        let text = r#"{ "token": "t0ken", "timeout": 3, "settle": "250ms" }"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!((config.timeout, config.settle), (Duration::from_secs(3), Duration::from_millis(250)));
    }
}
