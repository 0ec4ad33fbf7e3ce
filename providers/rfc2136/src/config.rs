//! Where the server is, and how it is spoken to.

use std::net::SocketAddr;
use std::time::Duration;

use acmekit_core::dns::Transport;
use acmekit_core::{DnsName, Error, ErrorKind, Result, Secret, duration};
use serde::Deserialize;

use crate::key::{Algorithm, Key};

/// Where updates go, and how they are signed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The primary server: `192.0.2.53`, `[2001:db8::53]:5353` or `ns1.example.com:53`; the port
    /// is 53 unless given. A name is looked up for each call.
    pub server: String,
    /// The key, or `{ "file": … }`.
    pub key: Key,
    /// TCP, the default, or UDP.
    #[serde(default = "tcp")]
    pub transport: Transport,
    /// How long one call may take: `"10s"`, or a number of seconds (default 10 s).
    #[serde(default = "ten_seconds", deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
}

fn tcp() -> Transport {
    Transport::Tcp
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
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
    /// | `ACME_RFC2136_KEY_ALGORITHM` | `RFC2136_TSIG_ALGORITHM` | default `hmac-sha256` (lego: `hmac-sha1`, which is refused here) |
    /// | `ACME_RFC2136_KEY_SECRET` | `RFC2136_TSIG_SECRET` | base64 |
    /// | `ACME_RFC2136_TRANSPORT` | | `tcp` (default) or `udp` |
    /// | `ACME_RFC2136_TIMEOUT` | | seconds (default 10) |
    ///
    /// A variable that is set to nothing counts as not set.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the variable that is missing or wrong.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let read_one = |name: &str| variable(name).filter(|text| !text.is_empty());
        let read = |ours: &str, lego: &str| read_one(ours).or_else(|| read_one(lego));
        let refuse = |why: String| Error::new(ErrorKind::Config, "rfc2136.environment", why);
        let need = |ours: &str, lego: &str| {
            read(ours, lego)
                .ok_or_else(|| refuse(format!("the variable {ours} is not set")).with("also_read", lego))
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
        let mut config = Self::new(server, key);
        if let Some(text) = read_one("ACME_RFC2136_TRANSPORT") {
            config.transport = match text.as_str() {
                "tcp" => Transport::Tcp,
                "udp" => Transport::Udp,
                _ => return Err(refuse("ACME_RFC2136_TRANSPORT is neither `tcp` nor `udp`".to_owned())),
            };
        }
        if let Some(text) = read_one("ACME_RFC2136_TIMEOUT") {
            let seconds = text
                .parse()
                .map_err(|_| refuse("ACME_RFC2136_TIMEOUT is no whole number of seconds".to_owned()))?;
            config.timeout = Duration::from_secs(seconds);
        }
        Ok(config)
    }

    /// What `server` means, without looking anything up.
    pub(crate) fn target(&self) -> Result<Target> {
        let text = self.server.trim();
        if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(Target::Address(SocketAddr::new(ip, 53)));
        }
        if let Ok(address) = text.parse() {
            return Ok(Target::Address(address));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (text, Some(53)),
        };
        match (host.parse::<DnsName>(), port) {
            (Ok(host), Some(port)) if port != 0 => Ok(Target::Host(host, port)),
            _ => Err(Error::new(ErrorKind::Config, "rfc2136.server", "this is no server")
                .with("server", &self.server)
                .with_hint("write it as in `192.0.2.53`, `[2001:db8::53]:5353` or `ns1.example.com:53`")),
        }
    }
}

/// A server by address, or by a name that is looked up for each call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Address(SocketAddr),
    Host(DnsName, u16),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lego(name: &str) -> Option<String> {
        let value = match name {
            "RFC2136_NAMESERVER" => "127.0.0.1:5353",
            "RFC2136_TSIG_KEY" => "lego",
            "RFC2136_TSIG_ALGORITHM" => "hmac-sha384.",
            "RFC2136_TSIG_SECRET" => "c2VjcmV0",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn the_environment_is_read_as_lego_users_have_it() {
        let config = Config::from_variables(lego).unwrap();
        assert_eq!(config.target().unwrap(), Target::Address("127.0.0.1:5353".parse().unwrap()));
        assert_eq!((config.key.name.as_str(), config.key.algorithm), ("lego", Algorithm::HmacSha384));
        let error =
            Config::from_variables(|name| lego(name).filter(|_| name != "RFC2136_TSIG_KEY")).unwrap_err();
        assert!(error.to_string().contains("ACME_RFC2136_KEY_NAME"), "{error}");
    }

    #[test]
    fn our_own_variables_come_first_and_empty_ones_do_not_count() {
        let both = |name: &str| match name {
            "ACME_RFC2136_SERVER" => Some("ns1.example.com".to_owned()),
            "ACME_RFC2136_KEY_NAME" => Some(String::new()),
            "ACME_RFC2136_TRANSPORT" => Some("udp".to_owned()),
            "ACME_RFC2136_TIMEOUT" => Some("3".to_owned()),
            _ => lego(name),
        };
        let config = Config::from_variables(both).unwrap();
        assert_eq!((config.server.as_str(), config.key.name.as_str()), ("ns1.example.com", "lego"));
        assert_eq!((config.transport, config.timeout), (Transport::Udp, Duration::from_secs(3)));
        for (wrong, value) in [("ACME_RFC2136_TRANSPORT", "tls"), ("ACME_RFC2136_TIMEOUT", "soon")] {
            let error =
                Config::from_variables(|name| if name == wrong { Some(value.into()) } else { lego(name) })
                    .unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }

    #[test]
    fn configurations_have_the_defaults_their_documentation_tells() {
        let text = r#"{ "server": "192.0.2.1", "key": { "name": "a", "secret": "c2VjcmV0" } }"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!((config.transport, config.timeout), (Transport::Tcp, Duration::from_secs(10)));
        assert_eq!(config.key.algorithm, Algorithm::HmacSha256);
        assert!(!format!("{config:?}").contains("c2VjcmV0"));
    }

    #[test]
    fn servers_are_addresses_or_names_with_or_without_a_port() {
        let key = Key::new("a", Algorithm::default(), "c2VjcmV0");
        for (text, want) in [
            ("192.0.2.1", "192.0.2.1:53"),
            ("::1", "[::1]:53"),
            ("[::1]", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            let want = Target::Address(want.parse().unwrap());
            assert_eq!(Config::new(text, key.clone()).target().unwrap(), want);
        }
        for (text, port) in [("ns1.example.com", 53), ("ns1.example.com:5353", 5353)] {
            let want = Target::Host("ns1.example.com".parse().unwrap(), port);
            assert_eq!(Config::new(text, key.clone()).target().unwrap(), want);
        }
        for bad in ["not a server", "", "ns1.example.com:", "ns1.example.com:0", "ns1.example.com:70000"] {
            assert_eq!(
                Config::new(bad, key.clone()).target().unwrap_err().kind(),
                ErrorKind::Config,
                "{bad}"
            );
        }
    }
}
