//! Whether a TXT value can be seen: every authoritative server is asked, by address.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use hickory_proto::op::ResponseCode;

use super::Resolver;
use super::query::{Kind, Value, ask};
use crate::{Deadline, DnsName, Error, ErrorKind, Result};

/// An authoritative server, by its name and one of its addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct NameServer {
    /// The name its zone gives it.
    pub name: DnsName,
    /// Where it is asked.
    pub address: SocketAddr,
}

/// What one server says about a TXT value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It has the value.
    Seen,
    /// It has this many other values, but not this one.
    Missing {
        /// How many other values.
        others: usize,
    },
    /// It says that there is no such name (NXDOMAIN).
    NoSuchName,
    /// It does not serve the zone, or refuses to say: in its own words.
    Lame(String),
    /// It does not answer.
    Dead(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seen => f.write_str("has it"),
            Self::NoSuchName => f.write_str("does not know the name yet"),
            Self::Missing { others: 0 } => f.write_str("does not have it yet"),
            Self::Missing { others } => write!(f, "has {others} other value(s), but not this one yet"),
            Self::Lame(why) => write!(f, "does not serve the zone ({why})"),
            Self::Dead(why) => write!(f, "does not answer ({why})"),
        }
    }
}

/// How long one server has for one answer.
const ONE_ANSWER: Duration = Duration::from_secs(3);

/// How long a server has to be out of order before the others count without it: one that is being restarted, or
/// loads its zone, comes back and may then lag.
const OUT_OF_ORDER: Duration = Duration::from_secs(3);

/// A server, and what it has said so far.
struct Asked {
    server: NameServer,
    /// The last it said.
    verdict: Option<Verdict>,
    /// How much time was left when it began to say nothing of use.
    useless_since: Option<Duration>,
}

impl Asked {
    fn takes(&mut self, verdict: Verdict, remaining: Duration) {
        self.useless_since = match verdict {
            Verdict::Lame(_) | Verdict::Dead(_) => self.useless_since.or(Some(remaining)),
            _ => None,
        };
        self.verdict = Some(verdict);
    }

    fn has_it(&self) -> bool {
        self.verdict == Some(Verdict::Seen)
    }

    /// Whoever looks after the zone finds it in the log: the CA may ask this one, too.
    fn tell_if_passed_over(&self, zone: &DnsName, name: &DnsName) {
        let NameServer { name: server, address } = &self.server;
        if let Some(verdict @ (Verdict::Lame(_) | Verdict::Dead(_))) = &self.verdict {
            tracing::warn!(%server, %address, %verdict, %zone, %name, "a name server of the zone is out of order and not waited for, the others agree; mend it, or take it out of the NS records");
        }
    }

    /// One lost answer is not enough: at least two in a row, and some time.
    fn is_out_of_order(&self, remaining: Duration, patience: Duration) -> bool {
        self.useless_since.is_some_and(|since| since.saturating_sub(remaining) >= patience)
    }
}

/// Waits until every authoritative server of the zone that is in order has the value.
pub(super) async fn wait(
    resolver: &Resolver,
    zone: &DnsName,
    name: &DnsName,
    value: &str,
    deadline: Deadline,
) -> Result<()> {
    let servers = resolver.authoritative_servers(zone, deadline).await?;
    let mut all: Vec<Asked> =
        servers.into_iter().map(|server| Asked { server, verdict: None, useless_since: None }).collect();
    let patience = OUT_OF_ORDER.min(deadline.budget() / 4);
    let mut pause = Duration::from_millis(200);
    loop {
        let asked = all.iter().map(|asked| {
            async move {
                match asked.has_it() {
                    true => Verdict::Seen,
                    false => look(&asked.server, name, value, deadline.capped(ONE_ANSWER)).await,
                }
            }
            .boxed()
        });
        let now = join_all(asked.collect::<Vec<_>>()).await;
        let remaining = deadline.remaining();
        for (asked, verdict) in all.iter_mut().zip(now) {
            let NameServer { name: server, address } = &asked.server;
            tracing::debug!(%name, %server, %address, %verdict, "asked for a TXT value");
            asked.takes(verdict, remaining);
        }
        let settled = all.iter().all(|asked| asked.has_it() || asked.is_out_of_order(remaining, patience));
        if settled && all.iter().any(Asked::has_it) {
            all.iter().for_each(|asked| asked.tell_if_passed_over(zone, name));
            return Ok(());
        }
        if !deadline.sleep(pause).await {
            return Err(missed(zone, name, &all, deadline));
        }
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// What each server of the zone says now.
pub(super) async fn verdicts(
    resolver: &Resolver,
    zone: &DnsName,
    name: &DnsName,
    value: &str,
    deadline: Deadline,
) -> Result<Vec<(NameServer, Verdict)>> {
    let servers = resolver.authoritative_servers(zone, deadline).await?;
    let asked = servers.iter().map(|server| look(server, name, value, deadline.capped(ONE_ANSWER)).boxed());
    let now = join_all(asked.collect::<Vec<_>>()).await;
    Ok(servers.into_iter().zip(now).collect())
}

/// The TXT values at a name, as the first of these servers that answers for its zone has them.
pub(super) async fn values(
    servers: &[NameServer],
    name: &DnsName,
    deadline: Deadline,
) -> Result<Vec<Vec<u8>>> {
    let mut failed = None;
    for server in servers {
        let error = match ask(server.address, name, Kind::Txt, false, deadline.capped(ONE_ANSWER)).await {
            Ok(answer)
                if answer.authoritative
                    && matches!(answer.code, ResponseCode::NoError | ResponseCode::NXDomain) =>
            {
                let values = answer.answers.into_iter().filter(|data| data.owner == *name);
                return Ok(values
                    .filter_map(|data| match data.value {
                        Value::Text(text) => Some(text),
                        _ => None,
                    })
                    .collect());
            }
            Ok(answer) => {
                Error::new(ErrorKind::Unavailable, "dns.txt", "the name server does not serve the zone")
                    .with("answer", answer.code.to_str())
            }
            Err(error) => error,
        };
        failed = Some(error.with("server", &server.name).with("name", name));
    }
    Err(failed
        .unwrap_or_else(|| Error::new(ErrorKind::NotFound, "dns.txt", "there is no name server to ask")))
}

async fn look(server: &NameServer, name: &DnsName, value: &str, deadline: Deadline) -> Verdict {
    let answer = match ask(server.address, name, Kind::Txt, false, deadline).await {
        Ok(answer) => answer,
        Err(error) => {
            let reason = error.context().find(|(key, _)| *key == "reason").map(|(_, value)| value.to_owned());
            return Verdict::Dead(reason.unwrap_or_else(|| error.message().to_owned()));
        }
    };
    match answer.code {
        ResponseCode::NXDomain => Verdict::NoSuchName,
        ResponseCode::NoError => {
            let mut others = 0;
            for data in &answer.answers {
                match &data.value {
                    Value::Text(text) if data.owner == *name && text == value.as_bytes() => {
                        return Verdict::Seen;
                    }
                    Value::Text(_) if data.owner == *name => others += 1,
                    _ => {}
                }
            }
            if !answer.authoritative && others == 0 {
                return Verdict::Lame("its answer is not authoritative".to_owned());
            }
            Verdict::Missing { others }
        }
        other => Verdict::Lame(other.to_str().to_owned()),
    }
}

fn missed(zone: &DnsName, name: &DnsName, all: &[Asked], deadline: Deadline) -> Error {
    let told: Vec<String> = all
        .iter()
        .map(|Asked { server, verdict, .. }| match verdict {
            Some(verdict) => format!("{} at {} {verdict}", server.name, server.address),
            None => format!("{} at {} was not asked", server.name, server.address),
        })
        .collect();
    Error::new(
        ErrorKind::Timeout,
        "dns.propagation",
        format!("propagation: the TXT value is not on every name server within {:?}: {}", deadline.budget(), told.join("; ")),
    )
    .with("phase", "propagation")
    .with("name", name)
    .with("zone", zone)
    .with("deadline", format!("{:?}", deadline.budget()))
    .with_hint("a server that lags needs a longer `ready` deadline; one that does not serve the zone should not be in its NS records")
}

#[cfg(test)]
mod tests;
