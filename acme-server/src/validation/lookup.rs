//! What a validation asks of the DNS. Nothing is cached: a client that mends its records is to be believed at once.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use acmekit_core::{DnsName, Error, ErrorKind, Result};
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};

use crate::{Problem, ProblemType};

/// One CAA property (RFC 8659 section 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Property {
    pub(super) critical: bool,
    pub(super) tag: String,
    pub(super) value: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Lookup {
    /// `None` if the DNS is not asked for addresses.
    addresses: Option<TokioResolver>,
    resolver: TokioResolver,
    else_at: Option<IpAddr>,
}

impl Lookup {
    pub(super) fn new(servers: &[SocketAddr], else_at: Option<IpAddr>) -> Result<Self> {
        let failed = |error: NetError| {
            Error::new(ErrorKind::Config, "validation.dns", "the DNS cannot be asked")
                .with("reason", error)
                .with_hint("give a DNS server by address")
        };
        let mut options = ResolverOpts::default();
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = Duration::from_secs(3);
        options.attempts = 2;
        options.try_tcp_on_error = true;
        let builder = if servers.is_empty() && else_at.is_none() {
            Resolver::builder_tokio().map_err(failed)?
        } else if servers.is_empty() {
            // Only TXT and CAA are asked for then: of the system, if it has any resolver.
            match Resolver::builder_tokio() {
                Ok(builder) => builder,
                Err(_) => Resolver::builder_with_config(config(&[]), TokioRuntimeProvider::default()),
            }
        } else {
            Resolver::builder_with_config(config(servers), TokioRuntimeProvider::default())
        };
        let resolver = builder.with_options(options).build().map_err(failed)?;
        let asks = !servers.is_empty() || else_at.is_none();
        Ok(Self { addresses: asks.then(|| resolver.clone()), resolver, else_at })
    }

    /// The addresses of a name, IPv6 first as public CAs take them; never empty.
    pub(super) async fn addresses(&self, name: &DnsName) -> Result<Vec<IpAddr>, Problem> {
        let mut found: Vec<IpAddr> = Vec::new();
        if let Some(resolver) = &self.addresses {
            match resolver.lookup_ip(absolute(name)?).await {
                Ok(answer) => found.extend(answer.iter()),
                Err(error) if error.is_no_records_found() => {}
                Err(error) => return Err(failed(name, "A and AAAA", &error)),
            }
        }
        found.sort_by_key(|address| address.is_ipv4());
        if found.is_empty() {
            found.extend(self.else_at);
        }
        match found.is_empty() {
            true => Err(Problem::new(ProblemType::Dns, format!("there is no A or AAAA record of {name}"))),
            false => Ok(found),
        }
    }

    /// The TXT values at a name, each whole; CNAMEs are followed.
    pub(super) async fn txt(&self, name: &DnsName) -> Result<Vec<Vec<u8>>, Problem> {
        let records = self.records(name, RecordType::TXT, "TXT").await?;
        let values = records.into_iter().filter_map(|data| match data {
            RData::TXT(txt) => Some(txt.txt_data.concat()),
            _ => None,
        });
        Ok(values.collect())
    }

    /// The CAA properties at a name itself, not above it.
    pub(super) async fn caa(&self, name: &DnsName) -> Result<Vec<Property>, Problem> {
        let records = self.records(name, RecordType::CAA, "CAA").await?;
        let properties = records.into_iter().filter_map(|data| match data {
            RData::CAA(caa) => Some(Property {
                critical: caa.issuer_critical,
                tag: caa.tag.to_ascii_lowercase(),
                value: caa.value,
            }),
            _ => None,
        });
        Ok(properties.collect())
    }

    async fn records(&self, name: &DnsName, kind: RecordType, shown: &str) -> Result<Vec<RData>, Problem> {
        match self.resolver.lookup(absolute(name)?, kind).await {
            Ok(answer) => Ok(answer.answers().iter().map(|record| record.data.clone()).collect()),
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(error) => Err(failed(name, shown, &error)),
        }
    }
}

fn config(servers: &[SocketAddr]) -> ResolverConfig {
    let servers = servers.iter().map(|server| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = server.port();
            connection
        });
        NameServerConfig::new(server.ip(), true, connections.to_vec())
    });
    ResolverConfig::from_parts(None, Vec::new(), servers.collect())
}

/// With a dot at the end: no search list.
fn absolute(name: &DnsName) -> Result<Name, Problem> {
    Name::from_ascii(format!("{name}."))
        .map_err(|_| Problem::new(ProblemType::Dns, format!("{name} cannot be asked for")))
}

fn failed(name: &DnsName, kind: &str, error: &NetError) -> Problem {
    Problem::new(ProblemType::Dns, format!("looking up {kind} of {name}: {error}"))
}
