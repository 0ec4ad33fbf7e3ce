//! What dns-01 has to know of the DNS: where an alias leads, where a zone begins, who serves it,
//! and whether each of them has a value.

mod exchange;
mod propagation;
mod query;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::ResponseCode;

pub use self::exchange::{Transport, exchange};
pub use self::propagation::{NameServer, Verdict};
use self::query::{Answer, Kind, Value, ask};
use crate::{Deadline, DnsName, Error, ErrorKind, Result};

/// A CNAME chain longer than this is a mistake (BIND gives up after as many).
const MAX_HOPS: usize = 16;
/// How long one recursive resolver has before the next one is asked.
const ONE_RESOLVER: Duration = Duration::from_secs(5);

/// Asks recursive resolvers, and authoritative servers by address (RFC 9499 terms).
///
/// ```
/// use acmekit_core::dns::Resolver;
/// // Split-horizon or private DNS: own resolvers, and name servers at an unusual port.
/// let resolver = Resolver::new([([192, 0, 2, 53], 53).into()])?.authoritative_port(5353);
/// # Ok::<(), acmekit_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
    authoritative: Vec<SocketAddr>,
    port: u16,
}

/// Where a name really is: the end of its CNAME chain.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Canonical {
    /// The name at the end.
    pub name: DnsName,
    /// The names on the way, the first one asked for first; empty without a CNAME.
    pub hops: Vec<DnsName>,
}

impl Resolver {
    /// The resolvers of this machine, from `/etc/resolv.conf`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the file cannot be read or names none.
    pub fn system() -> Result<Self> {
        let path = "/etc/resolv.conf";
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::new(ErrorKind::Config, "dns.resolver", "the system's resolvers are not known")
                .with("path", path)
                .with("reason", &e)
                .with_hint("give resolvers by address")
                .with_source(e)
        })?;
        Self::new(resolv_conf(&text))
    }

    /// These recursive resolvers, asked in this order.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is none.
    pub fn new(servers: impl IntoIterator<Item = SocketAddr>) -> Result<Self> {
        let servers: Vec<SocketAddr> = servers.into_iter().collect();
        if servers.is_empty() {
            return Err(Error::new(ErrorKind::Config, "dns.resolver", "there is no resolver to ask")
                .with_hint("give at least one, such as 192.0.2.53:53"));
        }
        Ok(Self { servers, authoritative: Vec::new(), port: 53 })
    }

    /// Asks authoritative servers at this port (default 53).
    #[must_use]
    pub fn authoritative_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Asks these as the authoritative servers of every zone, whatever its NS records say: for
    /// hidden primaries and split horizons.
    #[must_use]
    pub fn authoritative(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.authoritative = servers.into_iter().collect();
        self
    }

    /// Follows CNAMEs from a name to where its records really are.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if they run in a circle or are too many, each hop told;
    /// `Unavailable`/`Timeout` if no resolver answers.
    pub async fn canonical(&self, name: &DnsName, deadline: Deadline) -> Result<Canonical> {
        let mut hops = Vec::new();
        let mut at = name.clone();
        loop {
            let answer = self.recurse(&at, Kind::Cname, deadline).await?;
            let target = answer.answers.into_iter().find_map(|data| match data.value {
                Value::Alias(target) if data.owner == at => Some(target),
                _ => None,
            });
            let Some(target) = target else { return Ok(Canonical { name: at, hops }) };
            hops.push(at);
            if hops.contains(&target) || hops.len() >= MAX_HOPS {
                let way: Vec<&str> = hops.iter().chain([&target]).map(DnsName::as_str).collect();
                return Err(Error::new(
                    ErrorKind::Config,
                    "dns.canonical",
                    "the CNAMEs of this name do not end",
                )
                .with("name", name)
                .with("hops", way.join(" -> "))
                .with_hint("point the first one straight at the name that holds the TXT records"));
            }
            at = target;
        }
    }

    /// The apex of the zone a name is in, by its SOA record.
    ///
    /// # Errors
    /// [`ErrorKind::ZoneNotFound`] if there is none; `Unavailable`/`Timeout`.
    pub async fn zone_apex(&self, name: &DnsName, deadline: Deadline) -> Result<DnsName> {
        for candidate in name.ancestors() {
            let answer = self.recurse(&candidate, Kind::Soa, deadline).await?;
            // Either the name is an apex, or the answer says in passing whose zone it is in.
            let apex = answer
                .answers
                .iter()
                .chain(&answer.authorities)
                .find(|data| data.value == Value::Authority && candidate.is_within(&data.owner));
            if let Some(data) = apex {
                return Ok(data.owner.clone());
            }
        }
        Err(Error::new(ErrorKind::ZoneNotFound, "dns.zone", "no zone holds this name").with("name", name))
    }

    /// The servers of a zone: each address of each name in its NS records.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; `Unavailable`/`Timeout`.
    pub async fn authoritative_servers(&self, zone: &DnsName, deadline: Deadline) -> Result<Vec<NameServer>> {
        if !self.authoritative.is_empty() {
            let given = self.authoritative.iter();
            return Ok(given.map(|address| NameServer { name: zone.clone(), address: *address }).collect());
        }
        let answer = self.recurse(zone, Kind::Ns, deadline).await?;
        let mut servers = Vec::new();
        for data in &answer.answers {
            let Value::NameServer(name) = &data.value else { continue };
            let mut addresses: Vec<IpAddr> = Vec::new();
            for kind in [Kind::A, Kind::Aaaa] {
                // A server without one of the two families is the usual case; one without both
                // shows below.
                if let Ok(answer) = self.recurse(name, kind, deadline).await {
                    addresses.extend(answer.answers.iter().filter_map(|data| match data.value {
                        Value::Address(address) => Some(address),
                        _ => None,
                    }));
                }
            }
            if addresses.is_empty() {
                addresses.extend(answer.additionals.iter().filter_map(|glue| match glue.value {
                    Value::Address(address) if glue.owner == *name => Some(address),
                    _ => None,
                }));
            }
            servers.extend(
                addresses
                    .into_iter()
                    .map(|ip| NameServer { name: name.clone(), address: (ip, self.port).into() }),
            );
        }
        servers.sort();
        servers.dedup();
        if servers.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "dns.servers",
                "the zone's name servers are not known",
            )
            .with("zone", zone)
            .with_hint("its NS records must lead to names with addresses"));
        }
        Ok(servers)
    }

    /// Waits until every authoritative server of `zone` that answers has this TXT value at `name`.
    /// Servers that are out of order are tolerated when all others agree.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] with what each server says.
    pub async fn wait_for_txt(
        &self,
        zone: &DnsName,
        name: &DnsName,
        value: &str,
        deadline: Deadline,
    ) -> Result<()> {
        propagation::wait(self, zone, name, value, deadline).await
    }

    /// Asks the resolvers in turn until one gives an answer that says something.
    async fn recurse(&self, name: &DnsName, kind: Kind, deadline: Deadline) -> Result<Answer> {
        let mut failed = None;
        for server in &self.servers {
            let error = match ask(*server, name, kind, true, deadline.capped(ONE_RESOLVER)).await {
                Ok(answer) if matches!(answer.code, ResponseCode::NoError | ResponseCode::NXDomain) => {
                    return Ok(answer);
                }
                Ok(answer) => Error::new(
                    ErrorKind::Unavailable,
                    "dns.recurse",
                    format!("the resolver answers {}", answer.code.to_str()),
                )
                .with("resolver", server)
                .with("name", name)
                .with("type", format!("{kind:?}").to_uppercase())
                .with_hint("SERVFAIL often means broken DNSSEC or name servers that do not answer; Refused, that this resolver does not serve this machine"),
                Err(error) => error.with("name", name),
            };
            failed = Some(error);
        }
        Err(failed
            .unwrap_or_else(|| Error::new(ErrorKind::Config, "dns.recurse", "there is no resolver to ask")))
    }
}

/// The `nameserver` lines of a resolv.conf(5); a zone index (`fe80::1%eth0`) is not understood.
fn resolv_conf(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse::<IpAddr>().ok())
        .map(|ip| (ip, 53).into())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_from_resolv_conf() {
        let text = "# c\nsearch example.com\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 \nnameserver fe80::1%eth0\n";
        assert_eq!(resolv_conf(text), ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
        assert!(Resolver::new(resolv_conf("")).is_err());
    }
}
