//! Questions to DNS, each answer fresh.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use acmekit_core::{Error, ErrorKind, Result as CoreResult};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::CAA;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::{Failure, ValidationConfig};
use crate::ProblemType;

/// More addresses of one family are not tried: the time is short.
const MAX_ADDRESSES: usize = 4;

/// A resolver without a cache.
pub(super) struct Dns {
    resolver: TokioResolver,
    resolve_all_to: Option<IpAddr>,
    asks_for_addresses: bool,
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").field("resolve_all_to", &self.resolve_all_to).finish_non_exhaustive()
    }
}

/// A question that got no answer, not even "there is none".
#[derive(Debug)]
pub(super) struct LookupFailed(String);

impl fmt::Display for LookupFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LookupFailed {}

impl From<LookupFailed> for Failure {
    fn from(failed: LookupFailed) -> Self {
        Self::new(ProblemType::Dns, failed.0)
    }
}

impl Dns {
    pub(super) fn new(config: &ValidationConfig) -> CoreResult<Self> {
        let own = !config.dns_servers.is_empty();
        let servers = if own { config.dns_servers.clone() } else { system_servers() };
        let servers = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            let connections = connections.map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let mut options = ResolverOpts::default();
        // A client changes its records and asks at once.
        options.cache_size = 0;
        options.use_hosts_file = if own { ResolveHosts::Never } else { ResolveHosts::Always };
        // Two rounds by UDP and TCP fit into the deadline, so that a silent DNS server is told apart from a silent
        // web server.
        options.timeout = (config.timeout / 5).clamp(Duration::from_millis(50), Duration::from_secs(5));
        options.attempts = 1;
        options.try_tcp_on_error = true;
        options.max_active_requests = 1024;
        let resolver_config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let resolver = TokioResolver::builder_with_config(resolver_config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|e| {
                Error::new(ErrorKind::Config, "validation.dns", "the resolver could not be made")
                    .with_source(e)
            })?;
        Ok(Self {
            resolver,
            resolve_all_to: config.resolve_all_to,
            asks_for_addresses: own || config.resolve_all_to.is_none(),
        })
    }

    /// The values of the TXT records, each of its strings joined. CNAMEs are followed.
    pub(super) async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, LookupFailed> {
        let found = self.records(name, RecordType::TXT).await?;
        let values = found.into_iter().filter_map(|data| match data {
            RData::TXT(txt) => Some(txt.txt_data.concat()),
            _ => None,
        });
        Ok(values.collect())
    }

    pub(super) async fn caa(&self, name: &str) -> Result<Vec<CAA>, LookupFailed> {
        let found = self.records(name, RecordType::CAA).await?;
        let values = found.into_iter().filter_map(|data| match data {
            RData::CAA(caa) => Some(caa),
            _ => None,
        });
        Ok(values.collect())
    }

    /// The addresses to connect to: IPv6 first. Never empty.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, LookupFailed> {
        match self.resolve_all_to {
            None => self.asked_addresses(name).await,
            Some(address) if !self.asks_for_addresses => Ok(vec![address]),
            Some(address) => Ok(self.asked_addresses(name).await.unwrap_or_else(|_| vec![address])),
        }
    }

    async fn asked_addresses(&self, name: &str) -> Result<Vec<IpAddr>, LookupFailed> {
        let (six, four) =
            tokio::join!(self.records(name, RecordType::AAAA), self.records(name, RecordType::A));
        let mut found = Vec::new();
        let mut failure = None;
        for answer in [six, four] {
            match answer {
                Ok(data) => {
                    found.extend(data.iter().filter_map(RData::ip_addr).take(MAX_ADDRESSES));
                }
                Err(e) => failure = Some(e),
            }
        }
        match (found.is_empty(), failure) {
            (false, _) => Ok(found),
            (true, Some(failure)) => Err(failure),
            (true, None) => Err(LookupFailed(format!("no A or AAAA records found for {name}"))),
        }
    }

    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, LookupFailed> {
        let failed = |why: &str| LookupFailed(format!("{why} looking up {kind} for {name}"));
        // Absolute, so that no search list applies.
        let absolute =
            Name::from_ascii(format!("{name}.")).map_err(|_| failed("the name is too long or malformed"))?;
        match self.resolver.lookup(absolute, kind).await {
            Ok(lookup) => Ok(lookup
                .answers()
                .iter()
                .filter(|record| record.record_type() == kind)
                .map(|record| record.data.clone())
                .collect()),
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
            {
                Ok(Vec::new())
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Err(failed(rcode(none.response_code))),
            Err(NetError::Dns(DnsError::ResponseCode(code))) => Err(failed(rcode(code))),
            Err(NetError::Timeout) => Err(failed("query timed out")),
            Err(e) => Err(failed(&e.to_string())),
        }
    }
}

fn rcode(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::NotImp => "NOTIMP",
        other => other.to_str(),
    }
}

/// The servers of `/etc/resolv.conf`; without any it is the one on this machine, as resolv.conf(5) says.
fn system_servers() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut servers = name_servers(&text);
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, 53).into());
    }
    servers
}

pub(super) fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let lines = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.parse::<IpAddr>().ok())?
    });
    lines.take(3).map(|ip| (ip, 53).into()).collect()
}
