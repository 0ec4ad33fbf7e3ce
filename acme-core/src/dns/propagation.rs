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

/// Waits until every authoritative server of the zone that answers has the value.
pub(super) async fn wait(
    resolver: &Resolver,
    zone: &DnsName,
    name: &DnsName,
    value: &str,
    deadline: Deadline,
) -> Result<()> {
    let servers = resolver.authoritative_servers(zone, deadline).await?;
    let mut verdicts: Vec<(NameServer, Option<Verdict>)> =
        servers.into_iter().map(|server| (server, None)).collect();
    let mut pause = Duration::from_millis(200);
    loop {
        let now = ask_all(&verdicts, name, value, deadline).await;
        // One lost answer makes no server dead: it counts as such when it was silent twice.
        let settled = verdicts.iter().zip(&now).all(|((_, before), now)| {
            matches!((before, now), (_, Verdict::Seen) | (Some(Verdict::Dead(_)), Verdict::Dead(_)))
        });
        let seen = now.iter().filter(|verdict| **verdict == Verdict::Seen).count();
        for ((server, slot), verdict) in verdicts.iter_mut().zip(now) {
            tracing::debug!(%name, server = %server.name, address = %server.address, %verdict, "asked for a TXT value");
            *slot = Some(verdict);
        }
        if settled && seen > 0 {
            for (server, verdict) in &verdicts {
                if let Some(verdict @ Verdict::Dead(_)) = verdict {
                    tracing::warn!(server = %server.name, address = %server.address, %verdict, "a name server of the zone is out of order; the others agree");
                }
            }
            return Ok(());
        }
        if !deadline.sleep(pause).await {
            return Err(missed(zone, name, &verdicts, deadline));
        }
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Asks all of them together; who has the value is not asked again.
async fn ask_all(
    servers: &[(NameServer, Option<Verdict>)],
    name: &DnsName,
    value: &str,
    deadline: Deadline,
) -> Vec<Verdict> {
    let asked = servers.iter().map(|(server, before)| {
        async move {
            match before {
                Some(Verdict::Seen) => Verdict::Seen,
                _ => look(server, name, value, deadline.capped(ONE_ANSWER)).await,
            }
        }
        .boxed()
    });
    join_all(asked.collect::<Vec<_>>()).await
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
    let servers: Vec<_> = servers.into_iter().map(|server| (server, None)).collect();
    let now = ask_all(&servers, name, value, deadline).await;
    Ok(servers.into_iter().map(|(server, _)| server).zip(now).collect())
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

fn missed(
    zone: &DnsName,
    name: &DnsName,
    verdicts: &[(NameServer, Option<Verdict>)],
    deadline: Deadline,
) -> Error {
    let told: Vec<String> = verdicts
        .iter()
        .map(|(server, verdict)| match verdict {
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
