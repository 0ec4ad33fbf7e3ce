//! All of it in one: certificates got, served, renewed and watched, for a service that wants nothing to do with it.

mod build;
mod follow;
mod health;

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

pub use self::build::AutoTlsBuilder;
pub use self::health::{CertificateHealth, Health, Standing};
use super::certified::Served;
use super::on_demand::Names;
use super::waiting::{Waiting, next};
use super::{CertResolver, TlsAcceptor, TlsListener, server_config};
use crate::backoff::{Class, Trouble};
use crate::clock::rfc3339;
use crate::manager::CertificateStatus;
use crate::solvers::{Http01Redirect, Http01Responder};
use crate::{
    Authority, CertificateId, CertificateSpec, Clock, Deadline, Error, ErrorKind, Manager, Result, Store,
};

/// How often it is looked at while somebody waits.
const LOOK: Duration = Duration::from_millis(500);

/// TLS that looks after itself: certificates for a service's names, served as soon as there are any, renewed in time.
///
/// ```no_run
/// # #[cfg(feature = "axum")]
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use acmekit_core::tls::AutoTls;
/// use axum::{Router, routing::get};
///
/// let tls = AutoTls::staging(["www.example.com"]) // once it works: AutoTls::lets_encrypt
///     .contact("you@example.com")
///     .agree_to_terms()
///     .folder("/var/lib/my-service/acme")
///     .start()
///     .await?;
/// let app = Router::new().route("/", get(async || "Hello over TLS"));
/// axum::serve(tls.listen("[::]:443").await?, app).await?;
/// # Ok(()) }
/// ```
///
/// - What is stored is served at once, whether the CA can be reached or not. Only a first certificate is
///   [waited for](AutoTlsBuilder::first_within).
/// - Names are proved by tls-alpn-01 in the handshakes of the same listener: no other port is needed. Where something
///   else ends TLS in front of it, [by http-01](AutoTlsBuilder::by_http); for wildcards, by a
///   [solver](AutoTlsBuilder::solver) of dns-01.
/// - Processes on one store share the work and what comes of it: one orders, any of them answers the CA, all of them serve
///   what one has got, within [seconds](AutoTlsBuilder::follow_every).
/// - [`health`](Self::health) tells what clients get, and what is wrong.
///
/// Clones share everything. When the last is dropped, and the last listener or acceptor, it ends like a process that is
/// killed: the next start goes on. [`shutdown`](Self::shutdown) waits for what is under way.
#[derive(Clone)]
#[must_use = "it ends when it and its listeners are dropped"]
pub struct AutoTls(Arc<Inner>);

struct Inner {
    resolver: CertResolver,
    manager: Manager,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    waiting: Waiting,
    specs: Vec<CertificateSpec>,
    /// What was stored, but is not what is wanted: served until there is something better.
    unfit: HashMap<CertificateId, Arc<Served>>,
    first_within: Option<Duration>,
    started_at: SystemTime,
    responder: Http01Responder,
    configure: Vec<Box<Configure>>,
    names: Arc<Names>,
    following: Mutex<JoinSet<Infallible>>,
}

/// Changes how rustls is configured.
type Configure = dyn Fn(&mut ServerConfig) + Send + Sync;

impl AutoTls {
    /// Certificates from Let's Encrypt's staging environment, which nobody trusts: to see that it works, before Let's
    /// Encrypt's limits are at stake. All these names are in one certificate.
    pub fn staging<T: Into<String>>(names: impl IntoIterator<Item = T>) -> AutoTlsBuilder {
        Self::at(Authority::lets_encrypt_staging(), names)
    }

    /// Certificates from Let's Encrypt. All these names are in one certificate.
    pub fn lets_encrypt<T: Into<String>>(names: impl IntoIterator<Item = T>) -> AutoTlsBuilder {
        Self::at(Authority::lets_encrypt(), names)
    }

    /// Certificates from any authority. All these names are in one certificate; without a name there is none but what
    /// [`certificate`](AutoTlsBuilder::certificate) and [`on_demand`](AutoTlsBuilder::on_demand) say.
    pub fn at<T: Into<String>>(authority: Authority, names: impl IntoIterator<Item = T>) -> AutoTlsBuilder {
        AutoTlsBuilder::new(authority, names.into_iter().map(Into::into).collect())
    }

    /// Listens there, and waits for the first certificates as long as it was told to; those that connect meanwhile are
    /// not turned away. Nothing is waited for where something valid is served already, even if it is to be replaced.
    ///
    /// # Errors
    /// `Config` if the address cannot be bound; `Timeout`, with what went wrong, if there is no certificate in time, or
    /// cannot be.
    pub async fn listen(&self, address: impl ToSocketAddrs) -> Result<TlsListener> {
        let tcp = TcpListener::bind(address).await.map_err(|e| {
            let hint = match e.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need root or CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities)"
                }
                std::io::ErrorKind::AddrInUse => "another server has it",
                _ => "name an address of this machine, such as [::]:443",
            };
            Error::new(ErrorKind::Config, "tls.listen", "the address cannot be listened on")
                .with("reason", &e)
                .with_hint(hint)
                .with_source(e)
        })?;
        let mut listener = TlsListener::new(tcp, self.acceptor()?);
        if let Some(patience) = self.0.first_within {
            let is_there = |id: &CertificateId| self.is_served(id);
            listener.until(self.until(patience, is_there)).await?;
        }
        Ok(listener)
    }

    /// Shakes hands on connections that come in by other ways, or where there is more to configure than
    /// [`listen`](Self::listen) does. Somebody has to accept connections with it for names to be proved by tls-alpn-01.
    ///
    /// # Errors
    /// As [`server_config`].
    pub fn acceptor(&self) -> Result<TlsAcceptor> {
        let inner = &*self.0;
        let mut config = server_config(&inner.resolver)?;
        for change in &inner.configure {
            change(&mut config);
        }
        let acceptor = TlsAcceptor::new(&inner.resolver, config);
        Ok(acceptor.shared_answers(Arc::clone(&inner.store)).of(inner.waiting.clone(), self.clone()))
    }

    /// Waits until all certificates are there, valid and as wanted.
    ///
    /// # Errors
    /// `Timeout`, with what went wrong, if they are not in time, or nothing will be tried again until then.
    pub async fn ready(&self, within: Duration) -> Result<()> {
        self.until(within, |id| self.is_ready(id)).await
    }

    async fn until(
        &self,
        within: Duration,
        is_there: impl Fn(&CertificateId) -> bool + Send + Sync,
    ) -> Result<()> {
        let deadline = Deadline::after(within);
        let mut changes = self.0.resolver.changes();
        loop {
            // What went wrong is told a moment before the manager knows of it, and many other things are told, too.
            let look = deadline.capped(LOOK);
            let missing = loop {
                let missing = self.0.specs.iter().find(|spec| !is_there(spec.id()));
                let Some(missing) = missing else { return Ok(()) };
                if !next(&mut changes, look).await {
                    break missing;
                }
            };
            let trouble = self.trouble_with(missing.id(), deadline).await;
            let hopeless = trouble.as_ref().is_some_and(|trouble| {
                let wait = trouble.retry_at.duration_since(self.0.clock.now()).unwrap_or_default();
                match trouble.class {
                    Class::Fatal => true,
                    // Nothing that a person has to change changes while the program runs.
                    Class::NeedsPerson if trouble.at >= self.0.started_at => true,
                    _ => wait > deadline.remaining(),
                }
            });
            if !hopeless && !deadline.is_over() {
                continue;
            }
            let error =
                Error::new(ErrorKind::Timeout, "tls.ready", "there is no certificate to serve in time")
                    .with("certificate", missing.id())
                    .with("waited", format!("{:?}", within.saturating_sub(deadline.remaining())));
            return Err(match trouble {
                None => error.with_hint("give it longer by `first_within`, or start with a placeholder"),
                Some(trouble) => self.because(error, trouble),
            });
        }
    }

    fn because(&self, error: Error, trouble: Trouble) -> Error {
        let error = error
            .with("because", trouble.error)
            .with("failed_at", rfc3339::text(trouble.at))
            .with("tried_again_at", rfc3339::text(trouble.retry_at));
        let hint = trouble.hint.unwrap_or_else(|| "the log has more".to_owned());
        if trouble.at >= self.0.started_at {
            return error.with_hint(hint);
        }
        error.with_hint(format!(
            "{hint}; this went wrong before this start, and is not tried before its time: a program that starts in a loop \
             must not use up the CA's limits. If it is put right, `renew_all` tries at once"
        ))
    }

    /// What is wrong with a certificate, as far as can be known in time.
    async fn trouble_with(&self, id: &CertificateId, deadline: Deadline) -> Option<Trouble> {
        let patience = deadline.remaining().max(LOOK);
        let status = tokio::time::timeout(patience, self.0.manager.status()).await.ok()?.ok()?;
        status.certificates.into_iter().find(|one| one.id == *id)?.trouble
    }

    /// Whether something valid is served, if not what is wanted.
    fn is_served(&self, id: &CertificateId) -> bool {
        self.0.resolver.of(id).is_some_and(|served| served.not_after > self.0.clock.now())
    }

    fn is_ready(&self, id: &CertificateId) -> bool {
        let Some(served) = self.0.resolver.of(id) else { return false };
        let is_unfit = self.0.unfit.get(id).is_some_and(|unfit| Arc::ptr_eq(unfit, &served));
        !is_unfit && served.not_after > self.0.clock.now()
    }

    /// What clients get, and what is wrong.
    ///
    /// # Errors
    /// As [`Manager::status`].
    pub async fn health(&self) -> Result<Health> {
        let status = self.0.manager.status().await?;
        let certificates = status.certificates.into_iter();
        let of = |one: CertificateStatus| {
            let on_demand = self.0.names.is_wanted(&one.id);
            CertificateHealth::of(one, on_demand, &self.0.resolver, status.at)
        };
        Ok(Health { at: status.at, certificates: certificates.map(of).collect() })
    }

    /// What belongs on port 80: answers to http-01 challenges, and everything else sent to HTTPS. A
    /// `tower_service::Service`; for axum there is [`http_router`](Self::http_router).
    pub fn http(&self) -> Http01Redirect {
        Http01Redirect::new(self.0.responder.clone())
    }

    /// As [`http`](Self::http), for `axum::serve` on port 80. It leads to port 443; to another one by
    /// `Router::new().fallback_service(tls.http().https_port(8443))`.
    #[cfg(feature = "axum")]
    pub fn http_router(&self) -> axum::Router {
        axum::Router::new().fallback_service(self.http())
    }

    /// The answers to http-01 challenges, for a server on port 80 that has more to say.
    pub fn responder(&self) -> &Http01Responder {
        &self.0.responder
    }

    /// Which certificate a handshake gets.
    pub fn resolver(&self) -> &CertResolver {
        &self.0.resolver
    }

    /// Who renews: to add certificates, to force a renewal, to hear what happens.
    pub fn manager(&self) -> &Manager {
        &self.0.manager
    }

    /// Renews all certificates now, however young they are, within the budget: for a person who wants to see it work.
    /// Answers how many there are.
    ///
    /// # Errors
    /// As [`Manager::force`].
    pub async fn renew_all(&self) -> Result<usize> {
        let all = self.0.manager.status().await?.certificates;
        for one in &all {
            self.0.manager.force(&one.id).await?;
        }
        Ok(all.len())
    }

    /// Begins nothing more, and waits for what is under way, for 30 seconds at most. Connections go on, and handshakes with
    /// what is served by then.
    pub async fn shutdown(&self) {
        self.0.following.lock().await.shutdown().await;
        self.0.manager.end().await;
    }
}

impl fmt::Debug for AutoTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AutoTls").field("resolver", &self.0.resolver).finish_non_exhaustive()
    }
}
