//! Where the server is, and the key it knows.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use acmekit_core::dns::Transport;
use acmekit_core::{Error, ErrorKind, Result, Secret};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

/// The algorithm of a TSIG key (RFC 8945 section 6). SHA-1 and MD5 are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
#[non_exhaustive]
pub enum Algorithm {
    /// `hmac-sha256`, the default.
    #[default]
    HmacSha256,
    /// `hmac-sha384`.
    HmacSha384,
    /// `hmac-sha512`.
    HmacSha512,
}

impl TryFrom<String> for Algorithm {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        match text.trim_end_matches('.').to_ascii_lowercase().as_str() {
            "hmac-sha256" => Ok(Self::HmacSha256),
            "hmac-sha384" => Ok(Self::HmacSha384),
            "hmac-sha512" => Ok(Self::HmacSha512),
            _ => Err(Error::new(
                ErrorKind::Config,
                "rfc2136.algorithm",
                format!("`{}` is no TSIG algorithm acmekit uses", text.escape_debug()),
            )
            .with_hint("use hmac-sha256, hmac-sha384 or hmac-sha512; `tsig-keygen` makes such a key (SHA-1 and MD5 are too weak)")),
        }
    }
}

/// A TSIG key: the name both sides know it by, and the secret.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Key {
    /// Its name, such as `acme.example.com`.
    pub name: String,
    /// Its algorithm.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Its secret, base64, as `tsig-keygen` prints it.
    pub secret: Secret<String>,
}

impl Key {
    /// A key from its parts.
    pub fn new(name: impl Into<String>, algorithm: Algorithm, secret: impl Into<Secret<String>>) -> Self {
        Self { name: name.into(), algorithm, secret: secret.into() }
    }

    /// Reads a file as `tsig-keygen` writes it:
    /// `key "name" { algorithm hmac-sha256; secret "…"; };`
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the file and what is missing in it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::new(ErrorKind::Config, "rfc2136.key_file", "the key file cannot be read")
                .with("path", path.display())
                .with("reason", &e)
                .with_source(e)
        })?;
        Self::parse(&Secret::new(text)).map_err(|e| e.with("path", path.display()))
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that says what is missing in it.
    pub fn parse(text: &Secret<String>) -> Result<Self> {
        let lacks = |what: &str| {
            Error::new(ErrorKind::Config, "rfc2136.key_file", format!("there is no {what} in the key file"))
                .with_hint("it should read: key \"name\" { algorithm hmac-sha256; secret \"…\"; };")
        };
        let words = words(text.expose());
        let after = |word: &str| {
            let at = words.iter().position(|found| *found == word)?;
            words.get(at + 1).copied()
        };
        let algorithm = after("algorithm").ok_or_else(|| lacks("algorithm"))?.to_owned();
        Ok(Self {
            name: after("key").ok_or_else(|| lacks("key name"))?.to_owned(),
            algorithm: algorithm.try_into()?,
            secret: Secret::new(after("secret").ok_or_else(|| lacks("secret"))?.to_owned()),
        })
    }

    pub(crate) fn octets(&self) -> Result<Secret<Vec<u8>>> {
        let refuse = |why: &str| {
            Error::new(ErrorKind::Config, "rfc2136.key", format!("the TSIG secret is not usable: {why}"))
                .with("key", &self.name)
                .with_hint("copy the text between the quotes behind `secret` in the key file")
        };
        let octets =
            BASE64_STANDARD.decode(self.secret.expose().trim()).map_err(|_| refuse("it is not base64"))?;
        if octets.is_empty() { Err(refuse("it is empty")) } else { Ok(Secret::new(octets)) }
    }
}

/// The words of BIND's configuration syntax, without comments, quotes, braces and semicolons.
fn words(text: &str) -> Vec<&str> {
    let line = |line: &'_ str| line.find("//").or_else(|| line.find('#')).unwrap_or(line.len());
    text.lines()
        .flat_map(|full| {
            full.get(..line(full))
                .unwrap_or(full)
                .split(|c: char| c.is_whitespace() || matches!(c, '"' | '{' | '}' | ';'))
        })
        .filter(|word| !word.is_empty())
        .collect()
}

/// Where updates go, and how they are signed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The primary server: `192.0.2.53`, `[2001:db8::53]:5353` or `ns1.example.com:53`; the port
    /// is 53 unless given.
    pub server: String,
    /// The key.
    pub key: Key,
    /// TCP, the default, or UDP.
    #[serde(default = "tcp")]
    pub transport: Transport,
    /// How long one call may take, in seconds (default 10).
    #[serde(default = "ten_seconds", deserialize_with = "seconds")]
    pub timeout: Duration,
}

fn tcp() -> Transport {
    Transport::Tcp
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn seconds<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    u64::deserialize(input).map(Duration::from_secs)
}

impl Config {
    /// Updates to this server, over TCP, signed by this key.
    pub fn new(server: impl Into<String>, key: Key) -> Self {
        Self { server: server.into(), key, transport: tcp(), timeout: ten_seconds() }
    }

    /// Reads the environment.
    ///
    /// | variable | also read | |
    /// |---|---|---|
    /// | `ACME_RFC2136_SERVER` | `RFC2136_NAMESERVER` | server, with or without a port |
    /// | `ACME_RFC2136_KEY_FILE` | `RFC2136_TSIG_FILE` | key file; the three below are then not read |
    /// | `ACME_RFC2136_KEY_NAME` | `RFC2136_TSIG_KEY` | name of the key |
    /// | `ACME_RFC2136_KEY_ALGORITHM` | `RFC2136_TSIG_ALGORITHM` | default `hmac-sha256` |
    /// | `ACME_RFC2136_KEY_SECRET` | `RFC2136_TSIG_SECRET` | base64 |
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the variable that is missing or wrong.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let read = |ours: &str, lego: &str| {
            variable(ours).or_else(|| variable(lego)).filter(|text| !text.is_empty())
        };
        let need = |ours: &str, lego: &str| {
            read(ours, lego).ok_or_else(|| {
                Error::new(
                    ErrorKind::Config,
                    "rfc2136.environment",
                    format!("the variable {ours} is not set"),
                )
                .with("also_read", lego)
            })
        };
        let server = need("ACME_RFC2136_SERVER", "RFC2136_NAMESERVER")?;
        let key = match read("ACME_RFC2136_KEY_FILE", "RFC2136_TSIG_FILE") {
            Some(path) => Key::from_file(path)?,
            None => Key {
                name: need("ACME_RFC2136_KEY_NAME", "RFC2136_TSIG_KEY")?,
                algorithm: match read("ACME_RFC2136_KEY_ALGORITHM", "RFC2136_TSIG_ALGORITHM") {
                    Some(text) => text.try_into()?,
                    None => Algorithm::default(),
                },
                secret: Secret::new(need("ACME_RFC2136_KEY_SECRET", "RFC2136_TSIG_SECRET")?),
            },
        };
        Ok(Self::new(server, key))
    }

    /// The server's address. Looks its name up, if it is one; blocking.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        let refuse = |why: String| {
            Error::new(ErrorKind::Config, "rfc2136.server", why)
                .with("server", &self.server)
                .with_hint("write it as in `192.0.2.53`, `[2001:db8::53]:5353` or `ns1.example.com:53`")
        };
        if let Ok(ip) = self.server.parse() {
            return Ok(SocketAddr::new(ip, 53));
        }
        let with_port = if self.server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            self.server.clone()
        } else {
            format!("{}:53", self.server)
        };
        let mut found =
            with_port.to_socket_addrs().map_err(|e| refuse(format!("the server is not found: {e}")))?;
        found.next().ok_or_else(|| refuse("the server's name has no address".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_are_read_as_tsig_keygen_writes_them() {
        for text in [
            "key \"acme.example\" {\n\talgorithm hmac-sha512;\n\tsecret \"c2VjcmV0\";\n};\n",
            "# made by hand\nkey acme.example { algorithm HMAC-SHA512; secret c2VjcmV0; }; // end",
        ] {
            let key = Key::parse(&text.into()).unwrap();
            assert_eq!((key.name.as_str(), key.algorithm), ("acme.example", Algorithm::HmacSha512));
            assert_eq!(key.octets().unwrap().expose(), b"secret");
        }
    }

    #[test]
    fn bad_keys_are_refused_and_never_shown() {
        for bad in [
            "",
            "key",
            "key \"a\" { secret \"c2VjcmV0\"; };",
            "key \"a\" { algorithm hmac-md5; secret \"c2VjcmV0\"; };",
        ] {
            let error = Key::parse(&bad.into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!error.report().contains("c2VjcmV0"), "{}", error.report());
        }
        let key = Key::new("a", Algorithm::default(), "not base64!");
        assert!(!key.octets().unwrap_err().report().contains("not base64!"));
        assert!(!format!("{key:?}").contains("not base64!"));
    }

    #[test]
    fn the_environment_is_read_as_lego_users_have_it() {
        let lego = |name: &str| {
            Some(match name {
                "RFC2136_NAMESERVER" => "127.0.0.1:5353".to_owned(),
                "RFC2136_TSIG_KEY" => "lego".to_owned(),
                "RFC2136_TSIG_ALGORITHM" => "hmac-sha384.".to_owned(),
                "RFC2136_TSIG_SECRET" => "c2VjcmV0".to_owned(),
                _ => return None,
            })
        };
        let config = Config::from_variables(lego).unwrap();
        assert_eq!(config.address().unwrap(), "127.0.0.1:5353".parse().unwrap());
        assert_eq!((config.key.name.as_str(), config.key.algorithm), ("lego", Algorithm::HmacSha384));
        let error =
            Config::from_variables(|name| lego(name).filter(|_| name != "RFC2136_TSIG_KEY")).unwrap_err();
        assert!(error.to_string().contains("ACME_RFC2136_KEY_NAME"), "{error}");
    }

    #[test]
    fn servers_are_addresses_or_names_with_or_without_a_port() {
        let key = Key::new("a", Algorithm::default(), "c2VjcmV0");
        for (text, want) in [("192.0.2.1", "192.0.2.1:53"), ("::1", "[::1]:53"), ("[::1]:5353", "[::1]:5353")]
        {
            assert_eq!(Config::new(text, key.clone()).address().unwrap(), want.parse().unwrap());
        }
        assert!(Config::new("not a server", key).address().is_err());
    }
}
