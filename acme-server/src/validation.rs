//! Real validation of challenges (RFC 8555 section 8, RFC 8737, RFC 8738, RFC 8659).

mod caa;
mod http01;
mod lookup;
mod tls_alpn01;
mod txt;
mod unverified;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use acmekit_core::{ChallengeKind, Clock, Identifier, Result, SystemClock};
use async_trait::async_trait;

use crate::{Problem, ProblemType, Validation, Validator};
use http01::Http01;
use lookup::Lookup;
use tls_alpn01::TlsAlpn01;

/// A record whose name depends on the account (draft-ietf-acme-dns-account-label).
pub const DNS_ACCOUNT_01: &str = "dns-account-01";

/// A lasting record that names CA and account (draft-ietf-acme-dns-persist).
pub const DNS_PERSIST_01: &str = "dns-persist-01";

/// Where and how challenges are looked at.
#[derive(Debug, Clone)]
#[must_use]
pub struct ValidationConfig {
    dns_servers: Vec<SocketAddr>,
    resolve_all_to: Option<IpAddr>,
    http_port: u16,
    tls_port: u16,
    timeout: Duration,
    check_caa: Option<bool>,
    clock: Arc<dyn Clock>,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl ValidationConfig {
    /// As a public CA: the system's resolvers, ports 80 and 443.
    pub fn new() -> Self {
        Self {
            dns_servers: Vec::new(),
            resolve_all_to: None,
            http_port: 80,
            tls_port: 443,
            timeout: Duration::from_secs(10),
            check_caa: None,
            clock: Arc::new(SystemClock::default()),
        }
    }

    /// Asks this recursive resolver, and others that are given.
    pub fn dns_server(mut self, server: SocketAddr) -> Self {
        self.dns_servers.push(server);
        self
    }

    /// Takes every name the DNS does not know to be at this address. Without a DNS server, that is every name.
    pub fn resolve_all_to(mut self, address: IpAddr) -> Self {
        self.resolve_all_to = Some(address);
        self
    }

    /// Looks for http-01 answers at this port (default 80).
    pub fn http_port(mut self, port: u16) -> Self {
        self.http_port = port;
        self
    }

    /// Looks for tls-alpn-01 answers at this port (default 443).
    pub fn tls_port(mut self, port: u16) -> Self {
        self.tls_port = port;
        self
    }

    /// How long one validation may take (default 10 s).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether CAA records are obeyed (default: if a DNS server was given).
    pub fn check_caa(mut self, check: bool) -> Self {
        self.check_caa = Some(check);
        self
    }

    /// Tells by this clock whether a lasting record is still good.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

/// Looks at each challenge as a public CA does.
#[derive(Debug)]
pub struct RealValidator {
    lookup: Lookup,
    http01: Http01,
    tls_alpn01: TlsAlpn01,
    timeout: Duration,
    check_caa: bool,
    clock: Arc<dyn Clock>,
}

impl RealValidator {
    /// Sets it up.
    ///
    /// # Errors
    /// [`acmekit_core::ErrorKind::Config`] if the system's resolvers or the TLS client cannot be used.
    pub fn new(config: ValidationConfig) -> Result<Self> {
        Ok(Self {
            lookup: Lookup::new(&config.dns_servers, config.resolve_all_to)?,
            http01: Http01::new(config.http_port, config.tls_port)?,
            tls_alpn01: TlsAlpn01::new(config.tls_port)?,
            timeout: config.timeout,
            check_caa: config.check_caa.unwrap_or(!config.dns_servers.is_empty()),
            clock: config.clock,
        })
    }

    async fn look(&self, validation: &Validation) -> Result<(), Problem> {
        match validation.kind.as_str() {
            "http-01" => self.http01.check(&self.lookup, validation).await?,
            "tls-alpn-01" => self.tls_alpn01.check(&self.lookup, validation).await?,
            "dns-01" => txt::check_dns01(&self.lookup, validation).await?,
            DNS_ACCOUNT_01 => txt::check_account(&self.lookup, validation).await?,
            DNS_PERSIST_01 => txt::check_persist(&self.lookup, validation, self.clock.now()).await?,
            other => {
                return Err(Problem::malformed(format!("challenges of type `{other}` are not checked here")));
            }
        }
        match self.check_caa && !validation.issuer_domains.is_empty() {
            true => caa::check(&self.lookup, validation).await,
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Validator for RealValidator {
    fn kinds(&self, identifier: &Identifier) -> Vec<ChallengeKind> {
        kinds(identifier)
    }

    async fn validate(&self, validation: &Validation) -> Result<(), Problem> {
        match tokio::time::timeout(self.timeout, self.look(validation)).await {
            Ok(seen) => seen.map_err(|problem| problem.with_identifier(validation.identifier.clone())),
            Err(_) => Err(Problem::new(
                ProblemType::Connection,
                format!("{}: no end within {:?}", validation.identifier, self.timeout),
            )
            .with_identifier(validation.identifier.clone())),
        }
    }
}

/// Takes every challenge for met.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct AlwaysValid;

impl AlwaysValid {
    /// One.
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Validator for AlwaysValid {
    fn kinds(&self, identifier: &Identifier) -> Vec<ChallengeKind> {
        kinds(identifier)
    }

    async fn validate(&self, _: &Validation) -> Result<(), Problem> {
        Ok(())
    }
}

/// What can prove control of an identifier: a wildcard only by the DNS (RFC 8555 section 7.1.3), an address never by it
/// (RFC 8738).
fn kinds(identifier: &Identifier) -> Vec<ChallengeKind> {
    let by_dns = || {
        [
            ChallengeKind::Dns01,
            ChallengeKind::Other(DNS_ACCOUNT_01.to_owned()),
            ChallengeKind::Other(DNS_PERSIST_01.to_owned()),
        ]
    };
    let direct = [ChallengeKind::Http01, ChallengeKind::TlsAlpn01];
    match identifier {
        Identifier::Ip(_) => direct.to_vec(),
        Identifier::Wildcard(_) => by_dns().to_vec(),
        _ => direct.into_iter().chain(by_dns()).collect(),
    }
}

/// What a stranger sent, fit to be shown: cut and escaped.
fn shown(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(&octets[..octets.len().min(100)]).escape_debug().to_string();
    if octets.len() > 100 { format!("{text}…") } else { text }
}

#[cfg(test)]
mod tests;
