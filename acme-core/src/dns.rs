//! What dns-01 has to know of the DNS: where an alias leads, where a zone begins, who serves it,
//! and whether each of them has a value. And who may issue at all: [`check_caa`].

mod caa;
mod exchange;
pub(crate) mod fuzzing;
pub(crate) mod issue_value;
pub(crate) mod memo;
mod propagation;
mod query;
mod zones;

#[cfg(test)]
pub(crate) mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use hickory_proto::op::ResponseCode;
use tokio::sync::Mutex;

pub use self::caa::{CaaObstacle, CaaRecord, CaaRequest, CaaSet, CaaVerdict, check_caa};
pub use self::exchange::{Transport, exchange};
use self::memo::Memo;
pub use self::propagation::{NameServer, Verdict};
use self::query::{Answer, Data, Kind, Value, ask};
pub use self::zones::Zones;
use crate::{Deadline, DnsName, Error, ErrorKind, Result};

/// A CNAME chain longer than this is a mistake (BIND gives up after as many).
const MAX_HOPS: usize = 16;
/// How long one recursive resolver has before the next one is asked.
const ONE_RESOLVER: Duration = Duration::from_secs(5);
/// How often all of them are asked before one gives up.
const ROUNDS: u32 = 3;

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
    /// Which of them answered last: one that is out of order costs its time once, not at every question.
    answering: Arc<AtomicUsize>,
    authoritative: Vec<SocketAddr>,
    port: u16,
    known: Arc<Known>,
}

/// What was found out lately; clones of a resolver share it.
#[derive(Debug, Default)]
struct Known {
    /// In which zone a name is.
    apexes: Memo<DnsName, DnsName>,
    /// The servers of a zone.
    servers: Memo<DnsName, Vec<NameServer>>,
    /// Held by who looks for the servers of a zone. Others wait for what is found: names of one zone come together.
    looking: Memo<DnsName, Arc<Mutex<()>>>,
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

    /// These recursive resolvers. One is asked at a time, in this order, but first the one that
    /// answered last; each has 5 s, and all together three rounds.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is none.
    pub fn new(servers: impl IntoIterator<Item = SocketAddr>) -> Result<Self> {
        let servers: Vec<SocketAddr> = servers.into_iter().collect();
        if servers.is_empty() {
            return Err(Error::new(ErrorKind::Config, "dns.resolver", "there is no resolver to ask")
                .with_hint("give at least one, such as 192.0.2.53:53"));
        }
        Ok(Self {
            servers,
            answering: Arc::default(),
            authoritative: Vec::new(),
            port: 53,
            known: Arc::default(),
        })
    }

    /// Asks authoritative servers at this port (default 53).
    #[must_use]
    pub fn authoritative_port(mut self, port: u16) -> Self {
        self.port = port;
        self.known = Arc::default();
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
                Value::Alias(target) if data.owner == at => Some(Ok(target)),
                Value::StrangeAlias(target) if data.owner == at => Some(Err(target)),
                _ => None,
            });
            let Some(target) = target else { return Ok(Canonical { name: at, hops }) };
            let target = target.map_err(|target| {
                Error::new(
                    ErrorKind::Unsupported,
                    "dns.canonical",
                    "a CNAME leads to a name of an unusual form",
                )
                .with("name", &at)
                .with("target", target)
                .with_hint("let it lead to a name of letters, digits, hyphens and underscores")
            })?;
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

    /// The apex of the zone a name is in, by its SOA record. Believed for the record's TTL, but a minute at most.
    ///
    /// # Errors
    /// [`ErrorKind::ZoneNotFound`] if there is none; `Unavailable`/`Timeout`.
    pub async fn zone_apex(&self, name: &DnsName, deadline: Deadline) -> Result<DnsName> {
        if let Some(apex) = self.known.apexes.recall(name) {
            return Ok(apex);
        }
        for candidate in name.ancestors() {
            let answer = self.recurse(&candidate, Kind::Soa, deadline).await?;
            // What an alias is answered with is about where it leads.
            let is_alias = |data: &Data| {
                data.owner == candidate && matches!(data.value, Value::Alias(_) | Value::StrangeAlias(_))
            };
            if answer.answers.iter().any(is_alias) {
                continue;
            }
            // Either the name is an apex, or the answer says in passing whose zone it is in.
            let apex = answer
                .answers
                .iter()
                .chain(&answer.authorities)
                .find(|data| data.value == Value::Authority && candidate.is_within(&data.owner));
            if let Some(data) = apex {
                self.known.apexes.keep(name.clone(), data.owner.clone(), data.ttl);
                return Ok(data.owner.clone());
            }
        }
        Err(Error::new(ErrorKind::ZoneNotFound, "dns.zone", "no zone holds this name").with("name", name))
    }

    /// The servers of a zone: each address of each name in its NS records. Believed for their TTL, but a minute at most.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; `Unavailable`/`Timeout`.
    pub async fn authoritative_servers(&self, zone: &DnsName, deadline: Deadline) -> Result<Vec<NameServer>> {
        if !self.authoritative.is_empty() {
            let given = self.authoritative.iter();
            return Ok(given.map(|address| NameServer { name: zone.clone(), address: *address }).collect());
        }
        if let Some(servers) = self.known.servers.recall(zone) {
            return Ok(servers);
        }
        let looking = self.known.looking.recall_or(zone, Arc::default());
        let turn = async { Ok(looking.lock().await) };
        let _looking = deadline.run("dns.servers", "waiting for who looks for name servers", turn).await?;
        if let Some(servers) = self.known.servers.recall(zone) {
            return Ok(servers);
        }
        let answer = self.recurse(zone, Kind::Ns, deadline).await?;
        let ttl = answer.answers.iter().map(|data| data.ttl).min().unwrap_or_default();
        let names = answer.answers.iter().filter_map(|data| match &data.value {
            Value::NameServer(name) => Some(name),
            _ => None,
        });
        let looked_up = names.map(|name| self.addresses_of(name, &answer.additionals, deadline).boxed());
        let mut servers = join_all(looked_up.collect::<Vec<_>>()).await.concat();
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
        self.known.servers.keep(zone.clone(), servers.clone(), ttl);
        Ok(servers)
    }

    /// The addresses of a name server. One without any is told in the log: nobody can ask it.
    async fn addresses_of(
        &self,
        name: &DnsName,
        additionals: &[Data],
        deadline: Deadline,
    ) -> Vec<NameServer> {
        let address = |data: &Data| match data.value {
            Value::Address(address) => Some(address),
            _ => None,
        };
        let (v4, v6) = futures_util::join!(
            self.recurse(name, Kind::A, deadline),
            self.recurse(name, Kind::Aaaa, deadline)
        );
        // A server without one of the two families is the usual case.
        let mut found: Vec<IpAddr> =
            [&v4, &v6].into_iter().flatten().flat_map(|answer| &answer.answers).filter_map(address).collect();
        if found.is_empty() {
            found.extend(additionals.iter().filter(|glue| glue.owner == *name).filter_map(address));
        }
        if found.is_empty() {
            let reason = v4.err().or(v6.err()).map(|error| error.to_string());
            tracing::warn!(server = %name, ?reason, "a name server of the zone has no address and is not asked");
        }
        found
            .into_iter()
            .map(|ip| NameServer { name: name.clone(), address: (ip, self.port).into() })
            .collect()
    }

    /// The TXT values at a name, and the zone it is in, as the first of its authoritative servers that answers has them.
    pub(crate) async fn txt_values(
        &self,
        name: &DnsName,
        deadline: Deadline,
    ) -> Result<(DnsName, Vec<Vec<u8>>)> {
        let zone = match self.has_given_servers() {
            true => name.clone(),
            false => self.zone_apex(name, deadline).await?,
        };
        let servers = self.authoritative_servers(&zone, deadline).await?;
        let values = propagation::values(&servers, name, deadline).await?;
        Ok((zone, values))
    }

    /// Asks every authoritative server of `zone`, once, whether it has this TXT value at `name`.
    ///
    /// # Errors
    /// As [`authoritative_servers`](Self::authoritative_servers).
    pub async fn look_for_txt(
        &self,
        zone: &DnsName,
        name: &DnsName,
        value: &str,
        deadline: Deadline,
    ) -> Result<Vec<(NameServer, Verdict)>> {
        propagation::verdicts(self, zone, name, value, deadline).await
    }

    /// Waits until every authoritative server of `zone` that is in order has this TXT value at `name`.
    /// One that does not answer, or does not serve the zone, is passed over when that lasts for 3 s (or a
    /// quarter of the deadline, if that is less) and all others agree; a warning in the log names it.
    /// They are asked at once, and then after pauses that grow from 0.2 s to 5 s.
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

    /// Whether the authoritative servers are given, so that the DNS is not asked for them.
    pub(crate) fn has_given_servers(&self) -> bool {
        !self.authoritative.is_empty()
    }

    /// Asks the resolvers in turn until one gives an answer that says something.
    async fn recurse(&self, name: &DnsName, kind: Kind, deadline: Deadline) -> Result<Answer> {
        let mut pause = Duration::from_millis(250);
        let mut round = 1;
        loop {
            let error = match self.one_round(name, kind, deadline).await {
                Err(error) if round < ROUNDS => error,
                done => return done,
            };
            tracing::debug!(%name, %error, "no resolver has answered; asking again");
            if !deadline.sleep(pause).await {
                return Err(error);
            }
            (pause, round) = (pause * 2, round + 1);
        }
    }

    async fn one_round(&self, name: &DnsName, kind: Kind, deadline: Deadline) -> Result<Answer> {
        let mut failed = None;
        let first = self.answering.load(Ordering::Relaxed);
        for turn in 0..self.servers.len() {
            let index = (first + turn) % self.servers.len();
            let Some(server) = self.servers.get(index) else { continue };
            let error = match ask(*server, name, kind, true, deadline.capped(ONE_RESOLVER)).await {
                Ok(answer) if matches!(answer.code, ResponseCode::NoError | ResponseCode::NXDomain) => {
                    self.answering.store(index, Ordering::Relaxed);
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
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()).flatten()
        })
        .filter_map(|address| address.parse::<IpAddr>().ok())
        .map(|ip| (ip, 53).into())
        .collect()
}
