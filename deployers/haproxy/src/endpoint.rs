//! Where HAProxy's command line listens.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use acmekit_core::{Error, Result};
use serde::{Deserialize, Deserializer};

use crate::config::refuse;

/// Where HAProxy's command line listens: `stats socket …` of a process, or `-S …` of a master.
///
/// | text | meaning |
/// |---|---|
/// | `/run/haproxy/admin.sock`, `unix:…` | UNIX socket of a process |
/// | `tcp:127.0.0.1:9999` | TCP socket of a process. Whatever lies between sees the private key |
/// | `master:/run/haproxy/master.sock` | UNIX socket of a master: all its current workers |
/// | `master:127.0.0.1:9998` | TCP socket of a master |
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    address: Address,
    master: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp(String),
}

impl Endpoint {
    /// The UNIX socket of a process.
    pub fn unix(path: impl AsRef<Path>) -> Self {
        Self { address: Address::Unix(path.as_ref().to_owned()), master: false }
    }

    /// The TCP socket of a process, as `host:port`.
    pub fn tcp(host_and_port: impl Into<String>) -> Self {
        Self { address: Address::Tcp(host_and_port.into()), master: false }
    }

    /// The UNIX socket of a master.
    pub fn master(path: impl AsRef<Path>) -> Self {
        Self { address: Address::Unix(path.as_ref().to_owned()), master: true }
    }

    /// The TCP socket of a master, as `host:port`.
    pub fn master_tcp(host_and_port: impl Into<String>) -> Self {
        Self { address: Address::Tcp(host_and_port.into()), master: true }
    }

    /// Whether it is a master's, which passes commands on to its workers.
    pub fn is_master(&self) -> bool {
        self.master
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (master, rest) = text.strip_prefix("master:").map_or((false, text), |rest| (true, rest));
        let unix = |path: &str| Address::Unix(PathBuf::from(path));
        let address = match (rest.strip_prefix("unix:"), rest.strip_prefix("tcp:")) {
            (Some(path), _) => unix(path),
            (_, Some(address)) => Address::Tcp(address.to_owned()),
            _ if rest.starts_with('/') => unix(rest),
            _ if master => Address::Tcp(rest.to_owned()),
            _ => return Err(bad(text)),
        };
        let usable = match &address {
            Address::Unix(path) => path.is_absolute(),
            Address::Tcp(address) => address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()),
        };
        if usable { Ok(Self { address, master }) } else { Err(bad(text)) }
    }
}

fn bad(text: &str) -> Error {
    refuse("this is no endpoint of HAProxy")
        .with("endpoint", text.escape_debug())
        .with_hint("write /path/to.sock, tcp:host:port, master:/path/to.sock or master:host:port")
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.master {
            f.write_str("master:")?;
        }
        match &self.address {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_and_written() {
        for (text, shown) in [
            ("/run/a.sock", "unix:/run/a.sock"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("tcp:[::1]:99", "tcp:[::1]:99"),
            ("master:/run/m.sock", "master:unix:/run/m.sock"),
            ("master:127.0.0.1:99", "master:tcp:127.0.0.1:99"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(shown.parse::<Endpoint>().unwrap(), endpoint);
        }
        for bad in ["", "a.sock", "unix:a.sock", "tcp:localhost", "tcp::1", "master:x"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
