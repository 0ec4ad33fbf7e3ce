//! DNS-01 by dynamic updates (RFC 2136), signed with TSIG (RFC 8945): BIND, Knot, NSD with a
//! primary, PowerDNS, Windows DNS with a key, and everything else that speaks the standard.
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
//! Updates go over TCP unless told otherwise. Each adds or removes one value and leaves all others
//! alone; afterwards the server is asked whether it did so, because some say NOERROR and change
//! nothing. hmac-sha256, -384 and -512 are used; SHA-1 and MD5 are refused.

mod config;
mod update;

use std::net::SocketAddr;

use acmekit_core::dns::exchange;
use acmekit_core::{
    Clock, Deadline, DnsName, DnsProvider, Error, ErrorKind, RecordHandle, Result, SystemClock, TxtRecord,
    Zone, async_trait,
};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{RData, RecordType, TSigner};

pub use self::config::{Algorithm, Config, Key};
use self::update::{Change, judge, message, name, signer};

/// The provider's id.
pub const ID: &str = "rfc2136";

/// A name server that takes updates signed with TSIG.
#[derive(Clone)]
pub struct Rfc2136 {
    server: SocketAddr,
    signer: TSigner,
    config: Config,
}

impl Rfc2136 {
    /// Checks the configuration; nothing is sent. A server given by name is looked up here, once.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names what is wrong.
    pub fn new(config: Config) -> Result<Self> {
        let signer = signer(&config.key, &config.key.octets()?)?;
        Ok(Self { server: config.address()?, signer, config })
    }

    /// The address updates go to.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    async fn change(&self, zone: &Zone, record: &TxtRecord, change: Change) -> Result<()> {
        let deadline = Deadline::after(self.config.timeout);
        let mut update = message(&zone.name, record, change)?;
        let now =
            SystemClock::default().now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let unsendable = |e: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Other, "rfc2136.update", "the update could not be made").with("reason", e)
        };
        let verifier = update.finalize(&self.signer, now).map_err(|e| unsendable(&e))?;
        let bytes = update.to_vec().map_err(|e| unsendable(&e))?;
        let answer = self.exchange(&bytes, deadline).await?;
        let read = read(&answer)?;
        judge(&read, &zone.name, &self.config.key.name)?;
        // Who answers NOERROR must have the key as well.
        if let Some(mut verifier) = verifier
            && let Err(error) = verifier.verify(&answer)
        {
            return Err(Error::new(
                ErrorKind::Auth,
                "rfc2136.update",
                "the server's answer is not signed with the key, so it may be forged",
            )
            .with("server", self.server)
            .with("key", &self.config.key.name)
            .with("reason", error)
            .with_hint("check the key's secret; a server that ignores TSIG is not trusted with updates"));
        }
        let there =
            self.values(&record.name, deadline).await?.iter().any(|value| value == record.value.as_bytes());
        if there == (change == Change::Add) {
            return Ok(());
        }
        let what = if there { "still has the value" } else { "does not have the value" };
        Err(Error::new(ErrorKind::Protocol, "rfc2136.update", format!("the server said NOERROR, but {what}"))
            .with("server", self.server)
            .with("name", &record.name)
            .with_hint("some servers ignore updates that their policy does not allow: look at its log"))
    }

    /// The TXT values the server has at a name.
    async fn values(&self, at: &DnsName, deadline: Deadline) -> Result<Vec<Vec<u8>>> {
        let answer = self.ask(at, RecordType::TXT, deadline).await?;
        let owner = name(at)?;
        Ok(answer
            .answers
            .into_iter()
            .filter(|record| record.name == owner)
            .filter_map(|record| match record.data {
                RData::TXT(text) => Some(text.txt_data.concat()),
                _ => None,
            })
            .collect())
    }

    async fn ask(&self, at: &DnsName, kind: RecordType, deadline: Deadline) -> Result<Message> {
        let mut question = Message::query();
        question.metadata.recursion_desired = false;
        question.add_query(Query::query(name(at)?, kind));
        let bytes = question.to_vec().map_err(|e| {
            Error::new(ErrorKind::Other, "rfc2136.query", "the question could not be made").with("reason", e)
        })?;
        read(&self.exchange(&bytes, deadline).await?)
    }

    async fn exchange(&self, message: &[u8], deadline: Deadline) -> Result<Vec<u8>> {
        exchange(self.server, message, self.config.transport, deadline).await
    }
}

fn read(answer: &[u8]) -> Result<Message> {
    Message::from_vec(answer).map_err(|e| {
        Error::new(ErrorKind::Protocol, "rfc2136.answer", "the server's answer is not DNS").with("reason", e)
    })
}

#[async_trait]
impl DnsProvider for Rfc2136 {
    fn id(&self) -> &str {
        ID
    }

    /// Asks the server itself for SOA records, from the name upwards: a zone it does not serve
    /// with authority is not this provider's.
    async fn zone(&self, at: &DnsName) -> Result<Option<Zone>> {
        let deadline = Deadline::after(self.config.timeout);
        for candidate in at.ancestors() {
            let answer = self.ask(&candidate, RecordType::SOA, deadline).await?;
            if matches!(answer.metadata.response_code, ResponseCode::Refused | ResponseCode::NotAuth) {
                continue;
            }
            let owner = name(&candidate)?;
            let is_apex = answer.metadata.authoritative
                && answer
                    .answers
                    .iter()
                    .any(|record| record.name == owner && matches!(record.data, RData::SOA(_)));
            if is_apex {
                return Ok(Some(Zone::new(candidate)));
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
            .field("server", &self.server)
            .field("key", &self.config.key.name)
            .finish_non_exhaustive()
    }
}
