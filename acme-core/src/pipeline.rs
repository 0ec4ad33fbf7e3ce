//! The parts put together: [`Pipeline`].

mod status;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::sync::{Mutex, MutexGuard};

use crate::ca::Ca;
use crate::ca::account::{self, Account};
use crate::effect::effect;
use crate::issue::{Run, Which};
use crate::journal::Journal;
use crate::key::key_type;
use crate::renewal::{Decision, Suggestion};
use crate::{
    Authority, Bundle, CertificateId, CertificateSpec, ChallengeKind, ChallengeSolver, Clock, Condition,
    Deadline, Deployer, Error, ErrorKind, Event, Expected, Lease, Observer, Outcome, Result, Retry, Secret,
    Store, StoreKey, SystemClock, Version, What, issue, lease, renewal,
};

pub use status::Status;

/// How long the lease on a certificate lasts without renewal; it is renewed three times in it.
const LEASE: Duration = Duration::from_secs(60);

/// How long the CA may take to say when to renew: what it says is welcome, not needed.
const ASK: Duration = Duration::from_secs(5);

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
    pub(crate) ca: Ca,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) solvers: Vec<Arc<dyn ChallengeSolver>>,
    deployers: Vec<Arc<dyn Deployer>>,
    observers: Vec<Arc<dyn Observer>>,
    clock: Arc<dyn Clock>,
    account: Mutex<Option<Arc<Account>>>,
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
    authority: Authority,
    store: Arc<dyn Store>,
    solvers: Vec<Arc<dyn ChallengeSolver>>,
    deployers: Vec<Arc<dyn Deployer>>,
    observers: Vec<Arc<dyn Observer>>,
    clock: Arc<dyn Clock>,
}

impl PipelineBuilder {
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

    /// Sets the clock; by default the machine's own.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Puts it together. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no solver, or two of the same kind, or two deployers with
    /// the same id.
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
        Ok(Pipeline {
            ca: Ca::new(self.authority, Arc::clone(&self.clock))?,
            store: self.store,
            solvers: self.solvers,
            deployers: self.deployers,
            observers: self.observers,
            clock: self.clock,
            account: Mutex::new(None),
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
            authority,
            store,
            solvers: Vec::new(),
            deployers: Vec::new(),
            observers: Vec::new(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Makes sure that there is a certificate for the spec, that it is not due ([`renewal`]), and that it is
    /// served. Orders one only if need be; goes on with an order from before a crash.
    ///
    /// Dropping this future takes nothing away from the DNS or a web root: the journal does, on the
    /// next call for this certificate or the next [`sweep`](Self::sweep).
    ///
    /// # Errors
    /// If there is no certificate. Failed deployments are in the [`Issuance`].
    pub async fn obtain(&self, spec: &CertificateSpec) -> Result<Issuance> {
        self.run(spec, false).await
    }

    /// As [`obtain`](Self::obtain), but orders a new certificate also when the stored one is not
    /// due. If another process renews it meanwhile, that one counts.
    ///
    /// # Errors
    /// As [`obtain`](Self::obtain). The stored certificate stays in use.
    pub async fn renew(&self, spec: &CertificateSpec) -> Result<Issuance> {
        self.run(spec, true).await
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
            match self.sweep_one(&id.parse()?).await {
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
            let left = issue::clean_up(self, &mut journal, Which::NotNeeded).await?;
            let swept = before - journal.record.presented.len();
            if journal.record.attempt.is_none() && journal.record.presented.is_empty() {
                journal.close().await?;
            }
            left.map_or(Ok(swept), Err)
        };
        lease::holding(&*self.store, &lease, work).await
    }

    #[tracing::instrument(name = "certificate", skip_all, fields(id = %spec.id(), authority = self.ca.authority.id()))]
    async fn run(&self, spec: &CertificateSpec, force: bool) -> Result<Issuance> {
        if let Some(wanted) = spec.wanted_authority()
            && wanted != self.ca.authority.id()
        {
            return Err(Error::new(
                ErrorKind::Config,
                "pipeline.authority",
                "the spec asks for an authority this pipeline does not have",
            )
            .with("wanted", wanted)
            .with("present", self.ca.authority.id()));
        }
        let seen = self.stored(spec.id()).await?.map(|(_, version)| version);
        let key = certificate_key(spec.id())?;
        let lease = lease::take(&*self.store, &key, LEASE, self.ca.authority.timeouts().lease).await?;
        let work = self.run_alone(spec, force, seen, &lease).boxed();
        lease::holding(&*self.store, &lease, work).await
    }

    async fn run_alone(
        &self,
        spec: &CertificateSpec,
        force: bool,
        seen: Option<Version>,
        lease: &Lease,
    ) -> Result<Issuance> {
        let stored = self.stored(spec.id()).await?;
        let decision = match &stored {
            Some((bundle, _)) => Some(self.decide(bundle, lease).await),
            None => None,
        };
        let due = decision.is_none_or(|decision| decision.at <= self.clock.now());
        let mut journal = Journal::open(&*self.store, lease, spec.id()).await?;
        // An order whose certificate is stored already has come to its end: the crash fell between storing the bundle
        // and closing the journal. It is closed now, or the same certificate would be downloaded again for a renewal.
        let ended = matches!((&stored, &journal.record.attempt), (Some((bundle, _)), Some(attempt))
            if attempt.order.as_deref() == Some(bundle.origin().order.as_str()));
        if ended {
            issue::clean_up_quietly(self, &mut journal, Which::All).await?;
            journal.close().await?;
        }
        let done = stored.as_ref().filter(|(bundle, version)| {
            let underway = journal.record.attempt.is_some();
            let renewed_meanwhile = Some(*version) != seen;
            let wanted = force && !renewed_meanwhile && !ended;
            !underway && !wanted && !due && self.is_fit(spec, bundle)
        });
        let (bundle, fresh) = match done {
            Some((bundle, _)) => {
                issue::clean_up_quietly(self, &mut journal, Which::All).await?;
                journal.close().await?;
                (bundle.clone(), false)
            }
            None => {
                let account = self.account(spec.id()).await?;
                let replaces = stored.as_ref().and_then(|(bundle, _)| self.replaced(spec, bundle));
                let mut run = Run::new(self, spec, account, journal, replaces);
                let bundle = issue::issue(&mut run).await?;
                self.save(&bundle, stored.map(|(_, version)| version), lease).await?;
                run.journal.close().await?;
                (bundle, true)
            }
        };
        // Whoever was stopped for longer than the lease lasts must not put an old certificate over a newer one.
        self.store.renew(lease).await?;
        let deployments = self.deploy(&bundle).await;
        let renew_at = match decision {
            Some(decision) if !fresh => decision.at,
            // Of a new one the CA is asked next time.
            _ => renewal::decide(bundle.facts(), None).at,
        };
        self.tell(spec.id(), What::RenewalScheduled { at: renew_at });
        Ok(Issuance { bundle, fresh, deployments, renew_at })
    }

    /// When a stored certificate is due. The CA is asked what it suggests when it wants to be asked; one that is down
    /// keeps nobody from using the certificate there is.
    async fn decide(&self, bundle: &Bundle, lease: &Lease) -> Decision {
        let facts = bundle.facts();
        let now = self.clock.now();
        let by_lifetime = renewal::decide(facts, None);
        let Some(id) =
            facts.ari_id.as_deref().filter(|_| bundle.origin().authority == self.ca.authority.id())
        else {
            return by_lifetime;
        };
        match self.suggestion(bundle.id(), id, now, lease).await {
            Ok(suggested) => renewal::decide(facts, suggested),
            Err(error) => {
                tracing::warn!(%error, "what the CA suggests could not be kept: the lifetime decides");
                by_lifetime
            }
        }
    }

    /// What the CA suggests for the certificate it knows as `ari_id`, asked if it is time to.
    async fn suggestion(
        &self,
        id: &CertificateId,
        ari_id: &str,
        now: SystemTime,
        lease: &Lease,
    ) -> Result<Option<SystemTime>> {
        let key: StoreKey = format!("renewals/{id}").parse()?;
        let entry = self.store.load(&key).await?;
        let expected = entry.as_ref().map_or(Expected::Absent, |entry| Expected::Version(entry.version));
        // One that cannot be read is made anew: it holds nothing that cannot be asked for.
        let known = entry.and_then(|entry| serde_json::from_slice::<Suggestion>(entry.value.expose()).ok());
        let known = known.filter(|known| known.is_of(ari_id));
        let mut known = known.unwrap_or_else(|| Suggestion::none(ari_id, now));
        if !known.is_stale(now) {
            return Ok(known.at());
        }
        let patience = self.ca.authority.timeouts().request.min(ASK);
        let asked = self.ca.renewal_info(ari_id);
        match Deadline::after(patience).run("ca.renewal_info", "renewalInfo", asked).await {
            Ok(Some((window, retry_after))) => {
                if known.told(window.clone(), retry_after, rand::random(), now)
                    && let Some(at) = known.at()
                {
                    self.tell(id, What::RenewalSuggested { at, explanation_url: window.explanation_url });
                }
            }
            Ok(None) => return Ok(None),
            Err(error) => {
                tracing::info!(%error, "the CA does not say when to renew");
                let after = match error.retry() {
                    Retry::After(pause) => Some(pause),
                    _ => None,
                };
                known.untold(after, now);
            }
        }
        let value = serde_json::to_vec(&known).map_err(|e| {
            Error::new(ErrorKind::Storage, "pipeline.suggestion", "could not be encoded").with_source(e)
        })?;
        let condition = Condition::expecting(expected).under(lease);
        self.store.save(&key, &Secret::new(value), &condition).await?;
        Ok(known.at())
    }

    /// Whether a stored certificate is what the spec wants.
    fn is_fit(&self, spec: &CertificateSpec, bundle: &Bundle) -> bool {
        let key_fits = match spec.csr() {
            Some(csr) => bundle.public_key_info() == csr.public_key_info(),
            None => {
                bundle.key().is_some() && key_type(bundle.public_key_info()) == Some(spec.wanted_key_type())
            }
        };
        key_fits
            && bundle.facts().identifiers.is_superset(spec.identifiers())
            && bundle.origin().authority == self.ca.authority.id()
    }

    /// What a renewal of `bundle` tells the CA to replace (RFC 9773 section 5): a certificate of its own, with a name
    /// in common.
    fn replaced(&self, spec: &CertificateSpec, bundle: &Bundle) -> Option<String> {
        let facts = bundle.facts();
        let is_its_own = bundle.origin().authority == self.ca.authority.id();
        let in_common = !facts.identifiers.is_disjoint(spec.identifiers());
        facts.ari_id.clone().filter(|_| is_its_own && in_common)
    }

    async fn stored(&self, id: &CertificateId) -> Result<Option<(Bundle, Version)>> {
        let Some(entry) = self.store.load(&certificate_key(id)?).await? else { return Ok(None) };
        Ok(Some((Bundle::from_stored(entry.value.expose())?, entry.version)))
    }

    async fn save(&self, bundle: &Bundle, replaces: Option<Version>, lease: &Lease) -> Result<()> {
        let value = Secret::new(bundle.to_stored()?.to_vec());
        let expected = replaces.map_or(Expected::Absent, Expected::Version);
        let condition = Condition::expecting(expected).under(lease);
        let key = certificate_key(bundle.id())?;
        effect("certificate.store", self.store.save(&key, &value, &condition)).await?;
        self.tell(bundle.id(), What::CertificateStored { serial: bundle.facts().serial.clone() });
        Ok(())
    }

    /// Brings the bundle to every deployer; one that fails does not keep the others from theirs.
    async fn deploy(&self, bundle: &Bundle) -> Vec<Deployment> {
        let mut deployments = Vec::new();
        for deployer in &self.deployers {
            let deadline = Deadline::after(self.ca.authority.timeouts().deploy);
            let work = async {
                let outcome = deployer.deploy(bundle).await?;
                deployer.verify(bundle).await?;
                Ok(outcome)
            };
            let result =
                effect("certificate.deploy", deadline.run("pipeline.deploy", deployer.id(), work)).await;
            // It was dropped wherever it stood: neither served nor rolled back is known.
            let result = result.map_err(|error| match error.op() {
                "pipeline.deploy" => error.with_hint(
                    "what is served now is not known; the next run deploys again, or look for yourself",
                ),
                _ => error,
            });
            let id = deployer.id().to_owned();
            self.tell(
                bundle.id(),
                match &result {
                    Ok(outcome) => What::Deployed { deployer: id.clone(), outcome: *outcome },
                    Err(error) => What::DeployFailed { deployer: id.clone(), error: error.to_string() },
                },
            );
            deployments.push(Deployment { deployer: id, result });
        }
        deployments
    }

    /// The account, loaded or made once per pipeline.
    async fn account(&self, certificate: &CertificateId) -> Result<Arc<Account>> {
        let mut slot = self.account_slot().await?;
        if let Some(account) = &*slot {
            return Ok(Arc::clone(account));
        }
        let account = Arc::new(account::ensure(&self.ca, &*self.store).await?);
        let authority = self.ca.authority.id().to_owned();
        self.tell(certificate, What::AccountReady { authority, created: account.created });
        *slot = Some(Arc::clone(&account));
        Ok(account)
    }

    /// One at a time asks for the account. Who waits behind others that a silent CA costs their time has an end, too.
    async fn account_slot(&self) -> Result<MutexGuard<'_, Option<Arc<Account>>>> {
        let turn = async { Ok(self.account.lock().await) };
        let patience = self.ca.authority.timeouts().lease;
        Deadline::after(patience).run("pipeline.account", "waiting for the account", turn).await
    }

    /// The CA does not know the account any more: registers the same key again.
    pub(crate) async fn account_again(
        &self,
        certificate: &CertificateId,
        lost: &Account,
    ) -> Result<Arc<Account>> {
        account::forget_url(&self.ca, &*self.store, &lost.url).await?;
        let mut slot = self.account_slot().await?;
        if slot.as_ref().is_some_and(|account| account.url == lost.url) {
            *slot = None;
        }
        drop(slot);
        self.account(certificate).await
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

fn certificate_key(id: &CertificateId) -> Result<StoreKey> {
    format!("certificates/{id}").parse()
}
