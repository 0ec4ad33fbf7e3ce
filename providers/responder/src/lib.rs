//! DNS-01 without a vendor: a small authoritative DNS server for a zone that is delegated to it, and the
//! [`DnsProvider`] that fills it. No credential, and no wait: what is added is answered at once.
//!
//! Delegate the challenge of a name to it, once. Either the zone of the challenge itself, by NS …
//!
//! ```text
//! _acme-challenge.example.com.  NS     acme.example.net.     ; zones = ["_acme-challenge.example.com"]
//! ```
//!
//! … or, for any number of names, one zone by NS, and each challenge into it by CNAME:
//!
//! ```text
//! acme.example.net.                 NS     ns.acme.example.net.          ; zones = ["acme.example.net"]
//! ns.acme.example.net.              A      192.0.2.53                    ; glue; the same address goes into the config
//! _acme-challenge.example.com.      CNAME  example.com.acme.example.net.
//! _acme-challenge.www.example.com.  CNAME  www.example.com.acme.example.net.
//! ```
//!
//! ```
//! use std::sync::Arc;
//!
//! use acmekit_core::stores::MemoryStore;
//! use acmekit_responder::{Config, Responder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> acmekit_core::Result<()> {
//! let config = Config::new(["acme.example.net".parse()?], ["ns.acme.example.net".parse()?])
//!     .address("ns.acme.example.net".parse()?, [192, 0, 2, 53].into())
//!     .listen(([127, 0, 0, 1], 0).into()); // port 53 of 192.0.2.53 in real life
//! let responder = Responder::start(config, Arc::new(MemoryStore::new()))?;
//! // Dns01::new(responder.clone())? is the solver.
//! responder.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Where it listens
//! Resolvers ask name servers at port 53. A port below 1024 needs root or `CAP_NET_BIND_SERVICE`, in a systemd
//! unit `AmbientCapabilities=CAP_NET_BIND_SERVICE`; or somebody else binds it and hands the [`Sockets`] over.
//! On a machine with several addresses name each, and not `0.0.0.0`: else answers over UDP may leave from another
//! address than they were asked at, and are not believed. The firewall lets port 53 in, over UDP **and** TCP.
//!
//! # Several processes
//! The values live in the [`Store`], as entries `responder/…`. Every process on one store answers what any of them
//! has added, half a second later at most; so several name servers may share a zone, as far as the store reaches.
//! If the store cannot be read, known values are answered, and for others SERVFAIL instead of the untruth that there
//! is none. Values stay until they are removed; after a crash the journal, in the same store, sees to that.
//!
//! # What strangers can do
//! Everybody may ask, so everything is bounded. Over UDP a network (/24, /56) gets
//! [`answers_per_second`](Config::answers_per_second); over that, every other answer is only the word to come back
//! over TCP, and the rest are dropped. Of more than 128 connections at once to a socket, or 16 from one network, the
//! oldest is closed; one has 5 s for each question, 256 questions and 30 s in all. A question has 4096 octets at
//! most, and an answer over UDP 1232. The store is looked at twice a second at most, whatever is asked.
//!
//! # Answers
//! SOA and NS at the apex, addresses as configured, TXT values, and nothing else: CAA and any other type
//! are NOERROR without data, so no CA is kept from issuing. Values and denials have a TTL of 0, so that no resolver
//! has an old one; and where there is no name, a question for a CNAME or an SOA is answered as if there were one without
//! data, so that a resolver that acmekit and the CA share does not deny what is added in the same second. Nothing is
//! signed, so the delegation has no DS record.
//!
//! # Why not `hickory-server`
//! The messages are read and written by `hickory-proto`; the sockets are served here. `hickory-server` 0.26
//! accepts any number of TCP connections, has a task for each message, and bounds the silence of a connection but
//! not its life; and answers would be asked of the store one name at a time.

mod answer;
mod config;
#[doc(hidden)]
pub mod fuzzing;
mod limit;
mod listen;
mod name;
mod records;
mod server;
mod tree;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use acmekit_core::{
    DnsName, DnsProvider, Error, ErrorKind, RecordHandle, Result, Store, TxtRecord, Zone, async_trait,
};

pub use self::config::Config;
use self::limit::Limiter;
pub use self::listen::Sockets;
use self::records::{Records, Value};
use self::server::{Desk, Server};

/// The provider's id.
pub const ID: &str = "responder";

/// An authoritative DNS server for delegated zones, and the provider that fills them. Clones are the same one.
///
/// It listens from [`listen`](Self::listen) (or [`start`](Self::start)) to [`shutdown`](Self::shutdown), or until
/// the last clone is dropped. While it does not listen, values are added to the store all the same, for others to answer.
#[derive(Clone)]
pub struct Responder {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    desk: Arc<Desk>,
    server: Mutex<Option<Server>>,
}

impl Responder {
    /// Checks the configuration; nothing is bound yet, and the store is not read.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the field.
    pub fn new(config: Config, store: Arc<dyn Store>) -> Result<Self> {
        config.check()?;
        let desk =
            Desk { records: Records::new(&config, store)?, limiter: Limiter::new(config.answers_per_second) };
        Ok(Self { inner: Arc::new(Inner { config, desk: Arc::new(desk), server: Mutex::new(None) }) })
    }

    /// Checks the configuration, and [listens](Self::listen).
    ///
    /// # Errors
    /// As [`new`](Self::new) and [`listen`](Self::listen); and `Config` if there is no address to listen at.
    pub fn start(config: Config, store: Arc<dyn Store>) -> Result<Self> {
        if config.listen.is_empty() {
            return Err(Error::new(ErrorKind::Config, "responder.start", "there is no address to listen at")
                .with("field", "listen")
                .with_hint("name one of this machine, such as 192.0.2.53:53"));
        }
        let responder = Self::new(config, store)?;
        responder.listen()?;
        Ok(responder)
    }

    /// Binds the addresses of the configuration and answers there from now on. If it listens already, or the
    /// configuration has no address, nothing happens. To be called within a tokio runtime that has I/O and time.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if an address cannot be bound: which one, why, and what to do.
    pub fn listen(&self) -> Result<()> {
        let mut server = self.server();
        if server.is_none() && !self.inner.config.listen.is_empty() {
            let sockets = Sockets::bind(&self.inner.config.listen)?;
            *server = Some(Server::start(sockets, &self.inner.desk)?);
        }
        Ok(())
    }

    /// Answers on these sockets instead of those of the configuration.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if it listens already; [`ErrorKind::Config`] if a socket cannot be used.
    pub fn listen_on(&self, sockets: Sockets) -> Result<()> {
        let mut server = self.server();
        if server.is_some() {
            return Err(Error::new(ErrorKind::Conflict, "responder.listen_on", "it listens already"));
        }
        *server = Some(Server::start(sockets, &self.inner.desk)?);
        Ok(())
    }

    /// Where it answers over UDP now.
    pub fn udp_addresses(&self) -> Vec<SocketAddr> {
        self.server().as_ref().map(|server| server.udp().to_vec()).unwrap_or_default()
    }

    /// Where it answers over TCP now.
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        self.server().as_ref().map(|server| server.tcp().to_vec()).unwrap_or_default()
    }

    /// Stops listening: when this returns, the addresses are free and every task has ended. Connections get half a
    /// second. If the future is dropped midway, all of it is aborted.
    pub async fn shutdown(&self) {
        let server = self.server().take();
        if let Some(server) = server {
            server.stop().await;
        }
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.inner.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl DnsProvider for Responder {
    fn id(&self) -> &str {
        ID
    }

    async fn zone(&self, name: &DnsName) -> Result<Option<Zone>> {
        Ok(self.inner.config.zone_of(name).cloned().map(Zone::new))
    }

    /// Its TTL is not taken over: values are not to be cached, so that the next one is seen at once.
    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        if self.inner.config.zone_of(&record.name).is_none() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "responder.add",
                "this name is in no zone served here",
            )
            .with("name", &record.name)
            .with("zone", &zone.name)
            .with_hint("has the zone been taken out of the configuration?"));
        }
        if record.value.len() > 255 {
            let why = "the value is longer than 255 octets, which is what one string of a TXT record holds";
            return Err(Error::new(ErrorKind::Config, "responder.add", why).with("name", &record.name));
        }
        let value = Value::new(record.name.clone(), record.value.clone());
        self.inner.desk.records.add(value).await.map_err(|e| e.with("name", &record.name))?;
        Ok(RecordHandle::intent(ID, zone.clone(), record.clone()))
    }

    async fn remove_txt(&self, handle: &RecordHandle) -> Result<()> {
        let value = Value::new(handle.record.name.clone(), handle.record.value.clone());
        self.inner.desk.records.remove(&value).await.map_err(|e| e.with("name", &handle.record.name))
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("zones", &self.inner.config.zones)
            .field("udp", &self.udp_addresses())
            .field("tcp", &self.tcp_addresses())
            .finish_non_exhaustive()
    }
}
