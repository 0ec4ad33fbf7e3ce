//! DNS-01 by dynamic updates (RFC 2136), signed with TSIG (RFC 8945): for BIND, Knot, PowerDNS and
//! whatever else speaks the two standards. Tested on BIND 9.18, Knot DNS 3.2 and PowerDNS 4.7.
//!
//! ```
//! use acmekit_rfc2136::{Algorithm, Config, Key, Rfc2136};
//!
//! # fn example() -> acmekit_core::Result<()> {
//! let key = Key::new("acme.example.com", Algorithm::HmacSha256, "3q2+7w==");
//! let provider = Rfc2136::new(Config::new("192.0.2.53", key))?;
//! # Ok(()) }
//! # example().unwrap();
//! ```
//!
//! On BIND, a key that may change the challenge of one name and nothing else:
//!
//! ```text
//! key "acme.example.com" { algorithm hmac-sha256; secret "…"; };      # tsig-keygen acme.example.com
//! zone "example.com" {
//!     type primary; file "example.com.zone";
//!     update-policy { grant acme.example.com name _acme-challenge.example.com. TXT; };
//! };
//! ```
//!
//! Knot's ACL (`action: update`, `update-owner: name`) does the same; PowerDNS knows keys for whole zones only
//! (`TSIG-ALLOW-DNSUPDATE`).
//!
//! Updates go over TCP unless told otherwise. Each adds or removes one value and leaves all others
//! alone; afterwards the server is asked whether it did so, because some say NOERROR and change
//! nothing. Values at one name share one TTL (RFC 2181 section 5.2): others at that name get the new
//! one's. hmac-sha256, -384 and -512 are used; SHA-1 and MD5 are refused.
//!
//! | the server says | error | because |
//! |---|---|---|
//! | NOTAUTH, BADKEY | `Auth` | it does not know the key's name or algorithm; or (Knot) its ACL does not grant the key this name: it is asked which |
//! | NOTAUTH, BADSIG | `Auth` | the secret is another |
//! | NOTAUTH, BADTIME | `Auth` | the clocks differ by more than 300 s; by how much is told |
//! | REFUSED, signed | `Auth` | its policy does not grant the key this name |
//! | REFUSED, unsigned | `Auth` | any of the above: such servers (PowerDNS) do not say which |
//! | REFUSED, signed, and a CNAME at the name | `Protocol` | the name is an alias (PowerDNS) |
//! | NOTAUTH, signed | `NotFound` | it does not serve the zone (BIND, PowerDNS) |
//! | NOTAUTH, unsigned | `Auth` | it does not serve the zone (Knot), or does not know the key |
//! | NOTZONE | `Config` | the name is not in the zone |
//! | NOERROR, nothing changed | `Protocol` | its policy, or a CNAME at the name |
//! | nothing | `Timeout` with the phase | it is frozen, or a firewall drops the messages |

mod config;
mod key;
mod server;
mod update;

use std::sync::Arc;

use acmekit_core::{
    Clock, Deadline, DnsName, DnsProvider, Error, ErrorKind, RecordHandle, Result, SystemClock, TxtRecord,
    Zone, async_trait,
};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};

pub use self::config::Config;
pub use self::key::{Algorithm, Key};
use self::server::{Look, Server};
use self::update::{Change, is_bad_key, judge, message, name, not_allowed};

/// The provider's id.
pub const ID: &str = "rfc2136";

/// A name server that takes updates signed with TSIG.
#[derive(Clone)]
pub struct Rfc2136 {
    server: Server,
}

impl Rfc2136 {
    /// Checks the configuration; nothing is sent or looked up.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names what is wrong.
    pub fn new(config: Config) -> Result<Self> {
        Ok(Self { server: Server::new(config, Arc::new(SystemClock::default()))? })
    }

    /// Signs with the time of this clock (default: the machine's). TSIG allows 300 s of difference.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.server.set_clock(Arc::new(clock));
        self
    }

    async fn change(&self, zone: &Zone, record: &TxtRecord, change: Change) -> Result<()> {
        let deadline = self.server.deadline();
        let update = message(&zone.name, record, change)?;
        let answer = self.server.update(update, deadline).await.map_err(|e| e.with("name", &record.name))?;
        if let Err(error) = judge(&answer, &zone.name, &record.name, &self.server.config().key.name) {
            let error = self.explained(error, &answer, zone, record, deadline).await;
            return Err(error.with("server", &self.server.config().server));
        }
        let unchanged = |what: &str, hint: &str| {
            let message = format!("the server said NOERROR, but {what}");
            Err(Error::new(ErrorKind::Protocol, "rfc2136.update", message)
                .with("server", &self.server.config().server)
                .with("name", &record.name)
                .with_hint(hint))
        };
        match (change, self.server.look(&record.name, &record.value, deadline).await?) {
            (Change::Add, Look::There) | (Change::Remove, Look::Absent | Look::Alias) => Ok(()),
            (Change::Add, Look::Alias) => unchanged(ALIAS, FOLLOW),
            (Change::Add, Look::Absent) => unchanged("does not have the value", IGNORED),
            (Change::Remove, Look::There) => unchanged("still has the value", IGNORED),
            (_, Look::Hidden(code)) => {
                tracing::debug!(name = %record.name, code = code.to_str(), "the server does not let us see what it changed");
                Ok(())
            }
        }
    }

    /// The same refusal, or what it means where the server can be asked: not all servers use the codes alike.
    async fn explained(
        &self,
        error: Error,
        answer: &Message,
        zone: &Zone,
        record: &TxtRecord,
        deadline: Deadline,
    ) -> Error {
        if is_bad_key(answer) {
            // Knot says so also of a key that it knows, when its ACL does not let it change the name.
            let phase = "asking whether the server knows the key";
            let asked = self.server.ask(&zone.name, RecordType::SOA, phase, deadline).await;
            if asked.is_ok_and(|answer| answer.signature.is_some()) {
                return not_allowed(&zone.name, &record.name, &self.server.config().key.name)
                    .with_vendor_code("NOTAUTH, BADKEY");
            }
        } else if answer.metadata.response_code == ResponseCode::Refused && answer.signature.is_some() {
            // PowerDNS says so where the standard wants the change ignored (RFC 2136 section 3.4.2.2).
            let seen = self.server.look(&record.name, &record.value, deadline).await;
            if seen.is_ok_and(|look| look == Look::Alias) {
                let message = format!("the server refuses: {ALIAS}");
                return Error::new(ErrorKind::Protocol, "rfc2136.update", message)
                    .with("name", &record.name)
                    .with_hint(FOLLOW);
            }
        }
        error
    }
}

const ALIAS: &str = "the name is an alias (CNAME) and cannot have a value";
const FOLLOW: &str = "remove the CNAME, or let it be followed: the value belongs where it leads";
const IGNORED: &str = "some servers ignore updates that their policy does not allow: look at its log";

/// What an answer says about the zone of the name that was asked for.
enum Found {
    /// This server has the zone.
    Apex(DnsName),
    /// The name is handed on to other servers.
    Elsewhere,
    /// Nothing: ask for the parent.
    Nothing,
}

/// Reads the answer to a question for the SOA record of `at`.
fn zone_in(answer: &Message, at: &DnsName) -> Result<Found> {
    let is_soa = |record: &&Record| matches!(record.data, RData::SOA(_));
    // With a CNAME in the answer, the authority section is about where that leads.
    let said_in_passing = answer.authorities.iter().filter(|_| answer.answers.is_empty());
    let soa = answer.answers.iter().chain(said_in_passing).find(is_soa);
    if answer.metadata.authoritative {
        for apex in at.ancestors() {
            let wanted = name(&apex)?;
            if soa.is_some_and(|record| record.name == wanted) {
                return Ok(Found::Apex(apex));
            }
        }
        return Ok(Found::Nothing);
    }
    let referred = answer.authorities.iter().any(|record| {
        matches!(record.data, RData::NS(_)) && !record.name.is_root() && answer.answers.is_empty()
    });
    Ok(if referred { Found::Elsewhere } else { Found::Nothing })
}

#[async_trait]
impl DnsProvider for Rfc2136 {
    fn id(&self) -> &str {
        ID
    }

    /// Asks the server itself for SOA records, from the name upwards: a zone it does not serve
    /// with authority is not this provider's, nor is what it has delegated to others.
    async fn zone(&self, at: &DnsName) -> Result<Option<Zone>> {
        let deadline = self.server.deadline();
        for candidate in at.ancestors() {
            let answer = self.server.ask(&candidate, RecordType::SOA, "looking for the zone", deadline).await;
            let answer = answer.map_err(|e| e.with("name", at))?;
            match answer.metadata.response_code {
                ResponseCode::Refused | ResponseCode::NotAuth => continue,
                ResponseCode::NoError | ResponseCode::NXDomain => {}
                // A parent that answers is no substitute: the name may be in a zone that is broken now.
                code => {
                    let kind = match code {
                        ResponseCode::ServFail => ErrorKind::Unavailable,
                        _ => ErrorKind::Protocol,
                    };
                    let why = format!("the server answers {}", code.to_str());
                    return Err(Error::new(kind, "rfc2136.zone", why)
                        .with("server", &self.server.config().server)
                        .with("name", &candidate)
                        .with_hint("its log may say why; often a zone could not be loaded"));
                }
            }
            match zone_in(&answer, &candidate)? {
                Found::Apex(apex) => return Ok(Some(Zone::new(apex))),
                Found::Elsewhere => return Ok(None),
                Found::Nothing => {}
            }
        }
        Ok(None)
    }

    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        self.change(zone, record, Change::Add).await?;
        Ok(RecordHandle::intent(ID, zone.clone(), record.clone()))
    }

    async fn remove_txt(&self, handle: &RecordHandle) -> Result<()> {
        self.change(&handle.zone, &handle.record, Change::Remove).await
    }
}

impl std::fmt::Debug for Rfc2136 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rfc2136")
            .field("server", &self.server.config().server)
            .field("key", &self.server.config().key.name)
            .finish_non_exhaustive()
    }
}
