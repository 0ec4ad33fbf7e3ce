//! How validation is done.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use acmekit_core::{ChallengeKind, Clock, SystemClock};

/// Longer is as good as forever, and the end of a much longer time cannot be computed.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// How a [`RealValidator`](super::RealValidator) looks at things.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ValidationConfig {
    pub(super) dns_servers: Vec<SocketAddr>,
    pub(super) http_port: u16,
    pub(super) tls_port: u16,
    pub(super) timeout: Duration,
    pub(super) resolve_all_to: Option<IpAddr>,
    pub(super) caa: Option<bool>,
    pub(super) kinds: Option<Vec<ChallengeKind>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) account_hash_prefix: Option<String>,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        Self {
            dns_servers: Vec::new(),
            http_port: 80,
            tls_port: 443,
            timeout: Duration::from_secs(10),
            resolve_all_to: None,
            caa: None,
            kinds: None,
            clock: Arc::new(SystemClock::default()),
            account_hash_prefix: None,
        }
    }
}

impl ValidationConfig {
    /// The system's DNS servers, the ports 80 and 443, ten seconds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks these DNS servers, by UDP and TCP, and looks into no hosts file. Without any, the system's are asked.
    ///
    /// Names below `localhost`, `invalid` and `onion` are special (RFC 6761, RFC 7686): no server is asked for them.
    #[must_use]
    pub fn with_dns_servers(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.dns_servers = servers.into_iter().collect();
        self
    }

    /// The port of http-01. A redirect to `http` without a port leads here too.
    #[must_use]
    pub fn with_http_port(mut self, port: u16) -> Self {
        self.http_port = port;
        self
    }

    /// The port of tls-alpn-01. A redirect to `https` without a port leads here too.
    #[must_use]
    pub fn with_tls_port(mut self, port: u16) -> Self {
        self.tls_port = port;
        self
    }

    /// How long one validation may take in all, CAA included; at most an hour.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(MAX_TIMEOUT);
        self
    }

    /// Names for which DNS has no address have this one. Without DNS servers of its own, no address is looked up at
    /// all: a test CA needs no DNS for http-01 and tls-alpn-01.
    #[must_use]
    pub fn with_resolve_all_to(mut self, address: impl Into<IpAddr>) -> Self {
        self.resolve_all_to = Some(address.into());
        self
    }

    /// Whether CAA records are honoured; by default only if there are DNS servers of its own.
    #[must_use]
    pub fn with_caa(mut self, checked: bool) -> Self {
        self.caa = Some(checked);
        self
    }

    /// Offers only these kinds, where they fit the identifier.
    #[must_use]
    pub fn with_kinds(mut self, kinds: impl IntoIterator<Item = ChallengeKind>) -> Self {
        self.kinds = Some(kinds.into_iter().collect());
        self
    }

    /// The clock by which a persistent record expires.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Wants in dns-persist-01 records the hashed account of draft-ietf-acme-dns-persist-02, below this
    /// `accountHashPrefix` (`https://ca.example/account-hash/`). Without it they name the account's URL, as until
    /// draft 01: the one is never taken for the other.
    #[must_use]
    pub fn with_account_hash_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.account_hash_prefix = Some(prefix.into());
        self
    }

    pub(super) fn checks_caa(&self) -> bool {
        self.caa.unwrap_or(!self.dns_servers.is_empty())
    }
}
