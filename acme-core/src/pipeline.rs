//! The parts put together: [`Pipeline`].

mod rotate;
mod run;
mod standing;
mod status;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::Instrument;

use crate::budget::plan::{Plan, plan};
use crate::budget::{Left, Wish};
use crate::connection::Connection;
use crate::dns::Resolver;
use crate::issue::cleanup::{self, Which};
use crate::journal::Journal;
use crate::renewal::RenewalPolicy;
use crate::{
    Authority, Bundle, CertificateId, CertificateSpec, ChallengeKind, ChallengeSolver, Clock, Deployer,
    Error, ErrorKind, Event, Observer, Outcome, Result, Store, StoreKey, SystemClock, Timeouts, What, lease,
    metrics,
};
pub(crate) use run::{Order, span};

pub use status::Status;

/// How long the lease on a certificate lasts without renewal; it is renewed three times in it.
const LEASE: Duration = Duration::from_secs(60);

/// An authority, a store, solvers and deployers: all that a certificate needs.
///
/// ```no_run
/// use std::sync::Arc;
/// use acmekit_core::{Authority, CertificateSpec, Pipeline, solvers::Http01, stores::FileStore};
///
/// # async fn run() -> acmekit_core::Result<()> {
/// let pipeline = Pipeline::builder(
///     Authority::lets_encrypt_staging().contact("mailto:ops@example.com").agree_to_terms(),
///     Arc::new(FileStore::open("/var/lib/acme").await?),
/// )
/// .solver(Http01::webroot("/var/www/html"))
/// .build()?;
/// let issuance = pipeline.obtain(&CertificateSpec::new(["example.com"])?).await?;
/// println!("valid until {:?}", issuance.bundle.facts().not_after);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pipeline {
    /// In the order in which they are preferred; at least one.
    pub(crate) connections: Vec<Connection>,
    timeouts: Timeouts,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) solvers: Vec<Arc<dyn ChallengeSolver>>,
    deployers: Vec<Arc<dyn Deployer>>,
    observers: Vec<Arc<dyn Observer>>,
    pub(crate) policy: RenewalPolicy,
    caa: Option<Resolver>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What [`Pipeline::obtain`] and [`Pipeline::renew`] answer.
#[derive(Debug)]
#[non_exhaustive]
pub struct Issuance {
    /// The certificate, as it is in the store.
    pub bundle: Bundle,
    /// Whether it was ordered in this call.
    pub fresh: bool,
    /// What became of each deployment. A failed one does not fail the certificate: call
    /// [`Pipeline::obtain`] again to repeat it; nothing is ordered for that.
    pub deployments: Vec<Deployment>,
    /// When it is due: by what the CA suggests, or by its lifetime.
    pub renew_at: SystemTime,
}

/// What became of one deployment.
#[derive(Debug)]
#[non_exhaustive]
pub struct Deployment {
    /// The deployer's id.
    pub deployer: String,
    /// Served, or why not.
    pub result: Result<Outcome>,
}

impl Issuance {
    /// Itself, if every deployment succeeded; else the first failure.
    ///
    /// # Errors
    /// What the deployer failed with.
    pub fn served(mut self) -> Result<Self> {
        match self.deployments.iter().position(|deployment| deployment.result.is_err()) {
            None => Ok(self),
            Some(failed) => match self.deployments.swap_remove(failed).result {
                Err(error) => Err(error),
                Ok(_) => Ok(self),
            },
        }
    }
}

/// Puts a [`Pipeline`] together.
#[derive(Debug)]
pub struct PipelineBuilder {
    authorities: Vec<Authority>,
    store: Arc<dyn Store>,
    solvers: Vec<Arc<dyn ChallengeSolver>>,
    deployers: Vec<Arc<dyn Deployer>>,
    observers: Vec<Arc<dyn Observer>>,
    policy: RenewalPolicy,
    caa: Option<Resolver>,
    clock: Arc<dyn Clock>,
}

impl PipelineBuilder {
    /// Adds an authority to fall back to: a [`Manager`](crate::Manager) turns to it while those before it are out of
    /// order, and specs may ask for it by its id. Certificates it has issued are as good as the first one's.
    #[must_use]
    pub fn fall_back_to(mut self, authority: Authority) -> Self {
        self.authorities.push(authority);
        self
    }

    /// Renews by this policy rather than the [default](RenewalPolicy::default).
    #[must_use]
    pub fn renewal(mut self, policy: RenewalPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Adds a way to answer challenges. The first that the CA offers is taken; one of each kind.
    #[must_use]
    pub fn solver(mut self, solver: impl ChallengeSolver + 'static) -> Self {
        self.solvers.push(Arc::new(solver));
        self
    }

    /// Adds a place to deploy to. They are served in this order, each whatever befalls the others.
    #[must_use]
    pub fn deployer(mut self, deployer: impl Deployer + 'static) -> Self {
        self.deployers.push(Arc::new(deployer));
        self
    }

    /// Adds somebody to be told of each [`Event`].
    #[must_use]
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Looks up the CAA records of all names with this before anything is ordered ([`check_caa`](crate::dns::check_caa)): what they forbid costs
    /// the CA nothing then, and another authority may be asked for it. Names that cannot be looked up are left for the
    /// CA to decide on. By default they all are.
    #[must_use]
    pub fn caa(mut self, resolver: Resolver) -> Self {
        self.caa = Some(resolver);
        self
    }

    /// Sets the clock; by default the machine's own.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Puts it together. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no solver, or two of the same kind, or two deployers or
    /// authorities with the same id.
    pub fn build(self) -> Result<Pipeline> {
        let refuse = |why: String, hint: &str| {
            Err(Error::new(ErrorKind::Config, "pipeline.build", why).with_hint(hint))
        };
        if self.solvers.is_empty() {
            return refuse(
                "there is no challenge solver".to_owned(),
                "add one with `solver(…)`: dns-01 or http-01",
            );
        }
        let kinds: Vec<ChallengeKind> = self.solvers.iter().map(|solver| solver.kind()).collect();
        if let Some(twice) = repeated(&kinds) {
            return refuse(
                format!("there are two solvers for {twice}"),
                "one dns-01 solver can hold several DNS providers",
            );
        }
        let ids: Vec<&str> = self.deployers.iter().map(|deployer| deployer.id()).collect();
        if let Some(twice) = repeated(&ids) {
            return refuse(format!("there are two deployers with the id `{twice}`"), "give each its own id");
        }
        let ids: Vec<&str> = self.authorities.iter().map(Authority::id).collect();
        if let Some(twice) = repeated(&ids) {
            return refuse(
                format!("there are two authorities with the id `{twice}`"),
                "give one of them another id with `with_id`",
            );
        }
        metrics::describe();
        let timeouts = self.authorities.first().map(|first| *first.timeouts()).unwrap_or_default();
        let connections = self.authorities.into_iter();
        let connections = connections.map(|authority| Connection::new(authority, &self.store, &self.clock));
        Ok(Pipeline {
            connections: connections.collect::<Result<_>>()?,
            timeouts,
            store: self.store,
            solvers: self.solvers,
            deployers: self.deployers,
            observers: self.observers,
            policy: self.policy,
            caa: self.caa,
            clock: self.clock,
        })
    }
}

fn repeated<T: PartialEq>(list: &[T]) -> Option<&T> {
    list.iter()
        .enumerate()
        .find(|(position, item)| list.iter().take(*position).any(|other| other == *item))
        .map(|(_, item)| item)
}

impl Pipeline {
    /// Starts a pipeline with what it cannot do without.
    pub fn builder(authority: Authority, store: Arc<dyn Store>) -> PipelineBuilder {
        PipelineBuilder {
            authorities: vec![authority],
            store,
            solvers: Vec::new(),
            deployers: Vec::new(),
            observers: Vec::new(),
            policy: RenewalPolicy::default(),
            caa: None,
            clock: Arc::new(SystemClock),
        }
    }

    /// Makes sure that there is a certificate for the spec, that it is not due
    /// ([`RenewalPolicy`]), and that it is served. Orders one only if need be; goes on with an order from before a crash.
    ///
    /// The authority is the one the spec asks for, or else the first.
    ///
    /// Dropping this future takes nothing away from the DNS or a web root: the journal does, on the
    /// next call for this certificate or the next [`sweep`](Self::sweep).
    ///
    /// # Errors
    /// If there is no certificate. Failed deployments are in the [`Issuance`].
    pub async fn obtain(&self, spec: &CertificateSpec) -> Result<Issuance> {
        let order = Order::of(self.connection_for(spec)?);
        self.run(spec, &order).instrument(order.span(spec.id())).await
    }

    /// As [`obtain`](Self::obtain), but orders a new certificate also when the stored one is not
    /// due. If another process renews it meanwhile, that one counts.
    ///
    /// # Errors
    /// As [`obtain`](Self::obtain). The stored certificate stays in use.
    pub async fn renew(&self, spec: &CertificateSpec) -> Result<Issuance> {
        let order = Order { force: true, ..Order::of(self.connection_for(spec)?) };
        self.run(spec, &order).instrument(order.span(spec.id())).await
    }

    /// Loads the stored certificate.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] if it cannot be read.
    pub async fn load(&self, id: &CertificateId) -> Result<Option<Bundle>> {
        Ok(self.stored(id).await?.map(|(bundle, _)| bundle))
    }

    /// Takes away what crashes have left behind: the answers to challenges that journals still
    /// name. Call it at the start, and from time to time. Certificates that are being worked on are
    /// left alone; orders under way stay, to be gone on with, and with them answers of which the CA
    /// was told less than [`Timeouts::poll`](crate::Timeouts::poll) ago. Answers how many were taken
    /// away.
    ///
    /// # Errors
    /// The first thing that could not be taken away; the others are.
    pub async fn sweep(&self) -> Result<usize> {
        let mut swept = 0;
        let mut failed = None;
        for entry in self.store.list(&"journals".parse()?).await? {
            let Some(id) = entry.as_str().strip_prefix("journals/") else { continue };
            let one = async { self.sweep_one(&id.parse()?).await };
            match one.await {
                Ok(count) => swept += count,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(swept), Err)
    }

    async fn sweep_one(&self, id: &CertificateId) -> Result<usize> {
        let Some(lease) = self.store.lease(&certificate_key(id)?, LEASE).await? else { return Ok(0) };
        let work = async {
            let mut journal = Journal::open(&*self.store, &lease, id).await?;
            let before = journal.record.presented.len();
            let left = cleanup::clean_up(self, &mut journal, Which::NotNeeded).await?;
            let swept = before - journal.record.presented.len();
            if journal.record.attempt.is_none() && journal.record.presented.is_empty() {
                journal.close().await?;
            }
            left.map_or(Ok(swept), Err)
        };
        lease::holding(&*self.store, &lease, work).await
    }

    /// When each of these could be ordered now, under the limits of its authority, and when all are done; for that,
    /// those that would be renewed had better come first. What is stored is not looked at, and nothing is sent.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a spec asks for an authority there is not; [`ErrorKind::Storage`].
    pub async fn plan(&self, specs: &[CertificateSpec]) -> Result<Plan> {
        let now = self.now();
        let mut all = Plan { orders: Vec::new(), done_at: now };
        let mut places = Vec::new();
        for connection in &self.connections {
            let mut wishes = Vec::new();
            for (place, spec) in specs.iter().enumerate() {
                if std::ptr::eq(self.connection_for(spec)?, connection) {
                    wishes.push((spec.id().clone(), Wish::new(spec.identifiers())));
                    places.push(place);
                }
            }
            let mut pages: Vec<String> = wishes.iter().flat_map(|(_, wish)| wish.pages()).collect();
            pages.sort();
            pages.dedup();
            let ledger = connection.budget.ledger(&pages, now).await?;
            let planned = plan(ledger, connection.budget.limits(), &wishes, now);
            all.done_at = all.done_at.max(planned.done_at);
            all.orders.extend(planned.orders);
        }
        let mut in_place: Vec<_> = places.into_iter().zip(all.orders).collect();
        in_place.sort_by_key(|(place, _)| *place);
        all.orders = in_place.into_iter().map(|(_, planned)| planned).collect();
        Ok(all)
    }

    /// What is left of the limits of each authority.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`].
    pub async fn budget_left(&self) -> Result<Vec<Left>> {
        let mut left = Vec::new();
        for connection in &self.connections {
            left.push(connection.budget.left(self.now()).await?);
        }
        Ok(left)
    }

    /// The authority the spec asks for, or else the first.
    pub(crate) fn connection_for(&self, spec: &CertificateSpec) -> Result<&Connection> {
        let wanted = spec.wanted_authority();
        let found = self.connections.iter().find(|one| wanted.is_none_or(|wanted| wanted == one.id()));
        found.ok_or_else(|| {
            let ids: Vec<&str> = self.connections.iter().map(Connection::id).collect();
            let why = "the spec asks for an authority this pipeline does not have";
            Error::new(ErrorKind::Config, "pipeline.authority", why)
                .with("wanted", wanted.unwrap_or_default())
                .with("present", ids.join(" "))
        })
    }

    /// Those of the first authority: for what belongs to none.
    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Adds somebody to be told of each event.
    pub(crate) fn observe(&mut self, observer: Arc<dyn Observer>) {
        self.observers.push(observer);
    }

    pub(crate) fn deployer(&self, id: &str) -> Option<&dyn Deployer> {
        self.deployers.iter().find(|deployer| deployer.id() == id).map(|deployer| &**deployer)
    }

    pub(crate) fn deployer_ids(&self) -> impl Iterator<Item = &str> {
        self.deployers.iter().map(|deployer| deployer.id())
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    pub(crate) fn tell(&self, certificate: &CertificateId, what: What) {
        tracing::info!(certificate = %certificate, event = ?what);
        let event = Event::new(certificate.clone(), what);
        for observer in &self.observers {
            observer.observe(&event);
        }
    }
}

pub(crate) fn certificate_key(id: &CertificateId) -> Result<StoreKey> {
    format!("certificates/{id}").parse()
}
