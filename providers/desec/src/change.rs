//! One value of an RRset that can only be set as a whole.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use acmekit_core::{Deadline, DnsName, Error, ErrorKind, Result, Retry, TxtRecord, Zone};
use http::Method;

use crate::api::{self, Domain, NewRrset, OtherRecords, Rrset};
use crate::{Desec, txt};

const TYPE: &str = "TXT";
/// The largest TTL: <https://desec.readthedocs.io/en/latest/dns/rrsets.html#rrset-field-reference>.
const MAX_TTL: u64 = 604_800;
/// How often a value is written at most: each time but the first because somebody else was at work.
const WRITES: u32 = 6;
/// The longest time of the vendor's that is waited for here; a longer one is told.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of the zones that were worked in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Zones(Arc<Mutex<HashMap<DnsName, Arc<State>>>>);

#[derive(Debug, Default)]
struct State {
    /// Who changes the zone has it. One for a zone and not for a name: deSEC counts, and may refuse,
    /// changes by zone.
    turn: tokio::sync::Mutex<()>,
    /// In seconds; zero while it is not known.
    min_ttl: AtomicU64,
}

impl Zones {
    fn state(&self, name: &DnsName) -> Arc<State> {
        let mut zones = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(zones.entry(name.clone()).or_default())
    }

    pub(crate) fn learn(&self, domain: &Domain) {
        self.state(&domain.name).min_ttl.store(domain.minimum_ttl, Ordering::Relaxed);
    }
}

/// A value that is to be at a name, or not to be there.
pub(crate) struct Change<'a> {
    pub(crate) desec: &'a Desec,
    pub(crate) op: &'static str,
    pub(crate) zone: &'a Zone,
    pub(crate) record: &'a TxtRecord,
    pub(crate) wanted: bool,
    pub(crate) deadline: Deadline,
}

impl Change<'_> {
    /// Reads, writes and reads again, until it is as wanted.
    pub(crate) async fn make(&self) -> Result<()> {
        let state = self.desec.zones.state(&self.zone.name);
        let subname = self.subname()?;
        let waiting = async { Ok(state.turn.lock().await) };
        let _turn = self.deadline.run(self.op, "waiting for other changes of the zone", waiting).await?;
        let mut refused: Option<(Option<Vec<String>>, Error)> = None;
        let mut put_off = None;
        for written in 1..=WRITES {
            let there = self.read(subname).await?;
            if self.is_as_wanted(there.as_deref()) {
                return Ok(());
            }
            if let Some((before, error)) = refused.take()
                && before == there
            {
                // Nobody has changed anything: it was meant as it was said.
                return Err(error);
            }
            put_off = None;
            let pause = match self.write(subname, there.as_deref(), &state).await {
                Ok(()) => self.desec.settle + self.apart(written),
                Err(error) => match self.pause(&error) {
                    Some(pause) => {
                        put_off = Some(error);
                        pause
                    }
                    None if is_outdated(&error, there.is_none()) => {
                        tracing::debug!(%error, "somebody else is changing these records");
                        match error.kind() {
                            // deSEC's own database says so, of whatever is going on in it.
                            ErrorKind::Conflict => put_off = Some(error),
                            _ => refused = Some((there, error)),
                        }
                        self.apart(written)
                    }
                    None => return Err(error),
                },
            };
            self.deadline.sleep(pause).await;
        }
        if self.is_as_wanted(self.read(subname).await?.as_deref()) {
            return Ok(());
        }
        let outdone = || {
            let why = format!("this was written {WRITES} times, and others have undone it each time");
            Error::new(ErrorKind::Conflict, self.op, why)
                .with("zone", &self.zone.name)
                .with("name", &self.record.name)
                .with_hint("find out what else sets the TXT records of this name, and how often")
        };
        Err(put_off.unwrap_or_else(outdone))
    }

    /// The name without the zone's; nothing at the apex.
    fn subname(&self) -> Result<&str> {
        let (name, zone) = (&self.record.name, &self.zone.name);
        let subname = name.as_str().strip_suffix(zone.as_str()).filter(|_| name.is_within(zone));
        let subname = subname.map(|text| text.strip_suffix('.').unwrap_or(text));
        subname.ok_or_else(|| {
            Error::new(ErrorKind::Config, self.op, "the name is not in the zone")
                .with("name", name)
                .with("zone", zone)
        })
    }

    /// Where the RRset is. A path takes no empty part, so the apex has a sign there:
    /// <https://desec.readthedocs.io/en/latest/dns/rrsets.html#accessing-the-zone-apex>.
    fn path<'p>(&'p self, subname: &'p str) -> [&'p str; 5] {
        let subname = if subname.is_empty() { "@" } else { subname };
        ["domains", self.zone.name.as_str(), "rrsets", subname, TYPE]
    }

    async fn read(&self, subname: &str) -> Result<Option<Vec<String>>> {
        let request = self.desec.client.request(self.op, Method::GET, &self.path(subname));
        match request.deadline(self.deadline).send::<Rrset>().await {
            Ok(found) => Ok(Some(found.records)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn is_it(&self, content: &str) -> bool {
        txt::is(content, &self.record.value)
    }

    fn is_as_wanted(&self, there: Option<&[String]>) -> bool {
        there.unwrap_or_default().iter().any(|content| self.is_it(content)) == self.wanted
    }

    async fn write(&self, subname: &str, there: Option<&[String]>, state: &State) -> Result<()> {
        let client = &self.desec.client;
        let Some(there) = there else { return self.create(subname, state).await };
        // What others have there goes back letter by letter.
        let mut records = there.to_vec();
        if self.wanted {
            records.push(txt::quoted(&self.record.value));
        } else {
            records.retain(|content| !self.is_it(content));
        }
        let path = self.path(subname);
        let request = match records.is_empty() {
            true => client.request(self.op, Method::DELETE, &path),
            false => client.request(self.op, Method::PATCH, &path).json(&OtherRecords { records }),
        };
        request.deadline(self.deadline).done().await
    }

    /// Unlike the other writes this one loses nothing: it is refused if the RRset is there by now.
    async fn create(&self, subname: &str, state: &State) -> Result<()> {
        let zone = self.zone.name.as_str();
        let mut min_ttl = state.min_ttl.load(Ordering::Relaxed);
        if min_ttl == 0 {
            let request = self.desec.client.request(self.op, Method::GET, &["domains", zone]);
            let domain: Domain = request.deadline(self.deadline).send().await?;
            min_ttl = domain.minimum_ttl;
            state.min_ttl.store(min_ttl, Ordering::Relaxed);
        }
        let ttl = self.record.ttl.as_secs().max(min_ttl).min(MAX_TTL);
        let new = NewRrset { subname, kind: TYPE, ttl, records: [txt::quoted(&self.record.value)] };
        let request = self.desec.client.request(self.op, Method::POST, &["domains", zone, "rrsets"]);
        let made = request.json(&new).deadline(self.deadline).done().await;
        if made.as_ref().is_err_and(|error| api::has_code(error, api::TTL)) {
            state.min_ttl.store(0, Ordering::Relaxed);
        }
        made
    }

    /// A time by chance, longer with each attempt: writers that met once shall not meet again.
    fn apart(&self, written: u32) -> Duration {
        self.desec.settle.mul_f64(f64::from(written - 1) * rand::random::<f64>())
    }

    /// How long to wait before writing again what was certainly not written.
    fn pause(&self, error: &Error) -> Option<Duration> {
        let Retry::After(wait) = error.retry() else { return None };
        let is_short = wait <= PATIENCE && wait < self.deadline.remaining();
        (error.kind() == ErrorKind::RateLimited && is_short).then_some(wait)
    }
}

/// Whether it may have been refused because it was made of what is no longer so.
fn is_outdated(error: &Error, was_absent: bool) -> bool {
    match error.kind() {
        ErrorKind::Conflict => true,
        ErrorKind::NotFound => !was_absent,
        _ => was_absent && api::has_code(error, api::WHOLE),
    }
}
