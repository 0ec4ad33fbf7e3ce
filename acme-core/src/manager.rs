//! The long run: many certificates, each got, renewed and served in its time, by one [`Manager`].
//!
//! ```no_run
//! # async fn run(pipeline: acmekit_core::Pipeline) -> acmekit_core::Result<()> {
//! use acmekit_core::{CertificateSpec, Manager};
//!
//! let manager = Manager::builder(pipeline).concurrency(16).start();
//! manager.add(CertificateSpec::new(["www.example.com"])?).await?;
//! manager.settled().await?; // nothing is left to do for now
//! println!("{}", serde_json::to_string_pretty(&manager.status().await?).unwrap_or_default());
//! manager.shutdown().await;
//! # Ok(()) }
//! ```

mod events;
mod gate;
mod health;
mod item;
mod keeper;
#[doc(hidden)]
pub mod queue;
mod status;
mod work;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

pub use events::{Events, Heard};
pub use status::{AuthorityStatus, CertificateStatus, DeploymentStatus, NextTask, State, Status, Task};

use crate::{CertificateId, CertificateSpec, Error, ErrorKind, Event, Pipeline, Result};
use gate::Caps;
pub(crate) use item::wish;
use keeper::{Command, Keeper};

/// How many events a slow listener may fall behind before it misses some.
const EVENTS: usize = 4096;
/// How long a manager may take, beyond its grace, to hear that it shall end.
const HANGING: Duration = Duration::from_secs(10);

/// Keeps certificates renewed and served until it is shut down.
///
/// Several processes may do this on one store: each certificate is worked on by one of them at a time, under a lease, and
/// what one has renewed the others deploy. Dropped without [`shutdown`](Self::shutdown) it ends at once, like a process
/// that is killed: whoever starts next goes on with what it has begun.
#[derive(Debug)]
pub struct Manager {
    handle: Handle,
    events: broadcast::Sender<Event>,
    running: JoinHandle<()>,
    grace: Duration,
}

/// What tells a manager what to do, for parts of the program that do not own it.
#[derive(Debug, Clone)]
pub(crate) struct Handle(mpsc::Sender<Command>);

impl Handle {
    /// As [`Manager::add`].
    pub(crate) async fn add(&self, certificate: impl Into<Managed>) -> Result<()> {
        let managed = Box::new(certificate.into());
        self.ask(|reply| Command::Add { managed, reply }).await?
    }

    /// As [`Manager::remove`].
    pub(crate) async fn remove(&self, id: &CertificateId) -> Result<bool> {
        self.ask(|reply| Command::Remove { id: id.clone(), reply }).await
    }

    /// As [`Manager::go_on`].
    pub(crate) async fn go_on(&self, id: &CertificateId) -> Result<bool> {
        self.ask(|reply| Command::GoOn { id: id.clone(), reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let ended = || Error::new(ErrorKind::Cancelled, "manager", "the manager has ended");
        let (reply, answer) = oneshot::channel();
        self.0.send(command(reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }
}

/// A certificate to be looked after, and how.
///
/// ```
/// use acmekit_core::CertificateSpec;
/// use acmekit_core::manager::Managed;
/// let spec = CertificateSpec::new(["shop.example.com"])?;
/// let managed = Managed::new(spec).group("shops").deployers(["edge-1", "edge-2"]);
/// # let _ = managed;
/// # Ok::<(), acmekit_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Managed {
    spec: CertificateSpec,
    group: String,
    deployers: Option<Vec<String>>,
    at_once: bool,
}

impl Managed {
    /// In no group, and brought to all deployers of the pipeline.
    pub fn new(spec: CertificateSpec) -> Self {
        Self { spec, group: String::new(), deployers: None, at_once: false }
    }

    /// Which certificate it is.
    pub fn id(&self) -> &CertificateId {
        self.spec.id()
    }

    /// In a group such as a tenant: groups take turns where there is more to do than can be done.
    #[must_use]
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.group = name.into();
        self
    }

    /// Brought to these deployers only, by their ids.
    #[must_use]
    pub fn deployers<T: Into<String>>(mut self, ids: impl IntoIterator<Item = T>) -> Self {
        self.deployers = Some(ids.into_iter().map(Into::into).collect());
        self
    }

    /// Ordered when it is added, as if by [`Manager::force`].
    #[must_use]
    pub fn at_once(mut self) -> Self {
        self.at_once = true;
        self
    }
}

impl From<CertificateSpec> for Managed {
    fn from(spec: CertificateSpec) -> Self {
        Self::new(spec)
    }
}

/// Puts a [`Manager`] together.
#[derive(Debug)]
#[must_use]
pub struct ManagerBuilder {
    pipeline: Pipeline,
    caps: Caps,
    grace: Duration,
    looks_again: bool,
}

impl ManagerBuilder {
    /// How many certificates are worked on at once (default 16).
    pub fn concurrency(mut self, all: usize) -> Self {
        self.caps.all = all.max(1);
        self
    }

    /// How many at one authority (default 16).
    pub fn per_authority(mut self, count: usize) -> Self {
        self.caps.authority = count.max(1);
        self
    }

    /// How many in one registered domain (default 4): DNS vendors have limits, too.
    pub fn per_zone(mut self, count: usize) -> Self {
        self.caps.zone = count.max(1);
        self
    }

    /// How long a [`shutdown`](Manager::shutdown) waits for what is under way (default 30 s). What is not done by then is
    /// dropped, and gone on with at the next start.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Has each certificate brought to its deployers when it is added, also where it was served last: what somebody has
    /// changed there since is put right. Without this, what is known to be served is left alone.
    pub fn deploy_when_added(mut self) -> Self {
        self.looks_again = true;
        self
    }

    /// Starts it, with no certificate yet.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(self) -> Manager {
        let (events, _) = broadcast::channel(EVENTS);
        let (commands, inbox) = mpsc::channel(64);
        let mut pipeline = self.pipeline;
        let teller = events.clone();
        pipeline.observe(Arc::new(move |event: &Event| {
            // Nobody listens, at times.
            teller.send(event.clone()).ok();
        }));
        let keeper = Keeper::new(Arc::new(pipeline), self.caps, self.grace, self.looks_again, inbox);
        #[expect(
            clippy::disallowed_methods,
            reason = "the Manager owns the task: it awaits it, or ends it when dropped"
        )]
        let running = tokio::spawn(keeper.run());
        Manager { handle: Handle(commands), events, running, grace: self.grace }
    }
}

impl Manager {
    /// Starts with the parts to be used for all certificates.
    pub fn builder(pipeline: Pipeline) -> ManagerBuilder {
        let caps = Caps { all: 16, authority: 16, zone: 4, asking: 16 };
        ManagerBuilder { pipeline, caps, grace: Duration::from_secs(30), looks_again: false }
    }

    /// Looks after a certificate from now on; one of the same id is changed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it asks for an authority or a deployer the pipeline does not have;
    /// [`ErrorKind::Cancelled`] if the manager has ended.
    pub async fn add(&self, certificate: impl Into<Managed>) -> Result<()> {
        self.handle.add(certificate).await
    }

    /// Looks after a certificate no longer. It stays in the store and where it was deployed. Says whether it was known.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if the manager has ended.
    pub async fn remove(&self, id: &CertificateId) -> Result<bool> {
        self.handle.remove(id).await
    }

    /// Renews a certificate now, whatever failed before and however young it is, within the budget. Says whether it is
    /// known.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if the manager has ended.
    pub async fn force(&self, id: &CertificateId) -> Result<bool> {
        self.handle.ask(|reply| Command::Force { id: id.clone(), reply }).await
    }

    /// Another process on the store has begun something for this certificate, and perhaps was killed over it: it is gone on
    /// with here once nobody else works on it. Says whether it is known.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if the manager has ended.
    pub async fn go_on(&self, id: &CertificateId) -> Result<bool> {
        self.handle.go_on(id).await
    }

    /// The private key of a certificate is compromised: it is blocked, a certificate with a new key is got and served,
    /// and only then the old one is revoked ([`Pipeline::rotate_compromised`]). Goes on after a restart. Says whether
    /// the certificate is known.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if the manager has ended.
    pub async fn rotate_compromised(&self, id: &CertificateId) -> Result<bool> {
        self.handle.ask(|reply| Command::Rotate { id: id.clone(), reply }).await
    }

    /// Begins nothing for a certificate until [`resume`](Self::resume); what is under way ends. Says whether it is known.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if the manager has ended.
    pub async fn pause(&self, id: &CertificateId) -> Result<bool> {
        self.handle.ask(|reply| Command::Pause { id: id.clone(), paused: true, reply }).await
    }

    /// Goes on with a certificate that was paused. Says whether it is known.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if the manager has ended.
    pub async fn resume(&self, id: &CertificateId) -> Result<bool> {
        self.handle.ask(|reply| Command::Pause { id: id.clone(), paused: false, reply }).await
    }

    /// How all certificates stand.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] if the budget cannot be read; [`ErrorKind::Cancelled`] if the manager has ended.
    pub async fn status(&self) -> Result<Status> {
        self.handle.ask(|reply| Command::Status { reply }).await?
    }

    /// Waits until nothing is left to do for now: all certificates rest until they are due, or until something that
    /// failed may be tried again.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if the manager has ended.
    pub async fn settled(&self) -> Result<()> {
        self.handle.ask(|reply| Command::Settled { reply }).await
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        Events::new(self.events.subscribe())
    }

    /// Begins nothing more, waits for what is under way as long as it was told to, and ends.
    pub async fn shutdown(self) {
        self.end().await;
    }

    /// As [`shutdown`](Self::shutdown), where it is shared.
    pub(crate) async fn end(&self) {
        let ended = async {
            self.handle.0.send(Command::Shutdown).await.ok();
            self.handle.0.closed().await;
        };
        // A store that hangs keeps the manager from hearing of it.
        if tokio::time::timeout(self.grace + HANGING, ended).await.is_err() {
            tracing::warn!("the manager has not ended in time: it is left to the end of the process");
        }
    }

    #[cfg(feature = "rustls")]
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.running.abort();
    }
}
