//! From what a service says to what runs.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::follow::Follow;
use super::{AutoTls, Configure, Inner};
use crate::backoff::Class;
use crate::manager::{Managed, ManagerBuilder};
use crate::pipeline::PipelineBuilder;
use crate::solvers::{Http01, Http01Responder, TlsAlpn01};
use crate::stores::FileStore;
use crate::tls::CertResolver;
use crate::tls::certified::Served;
use crate::tls::on_demand::{Gate, Names, OnDemand};
use crate::tls::waiting::Waiting;
use crate::{
    Authority, Bundle, CertificateId, CertificateSpec, ChallengeSolver, Error, ErrorKind, Event, Manager,
    Pipeline, Result, Store, What,
};

/// How long the first certificates are waited for, unless it is told otherwise.
const FIRST: Duration = Duration::from_secs(120);
/// How often the store is looked at for what others have got, unless it is told otherwise.
const FOLLOW: Duration = Duration::from_secs(5);
/// How long a handshake waits for a certificate that is being got.
const PATIENCE: Duration = Duration::from_secs(30);

/// Says what an [`AutoTls`] is to be.
#[must_use]
pub struct AutoTlsBuilder {
    authority: Authority,
    names: Vec<String>,
    specs: Vec<CertificateSpec>,
    folder: Option<PathBuf>,
    store: Option<Arc<dyn Store>>,
    solvers: Vec<Arc<dyn ChallengeSolver>>,
    by_http: bool,
    first: First,
    follow: Duration,
    on_demand: Option<OnDemand>,
    configure: Vec<Box<Configure>>,
    pipeline: Vec<Box<dyn FnOnce(PipelineBuilder) -> PipelineBuilder + Send>>,
    manager: Vec<Box<dyn FnOnce(ManagerBuilder) -> ManagerBuilder + Send>>,
}

/// What is done until there is a first certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Wait(Duration),
    Placeholder,
    Nothing,
}

impl AutoTlsBuilder {
    pub(super) fn new(authority: Authority, names: Vec<String>) -> Self {
        Self {
            authority,
            names,
            specs: Vec::new(),
            folder: None,
            store: None,
            solvers: Vec::new(),
            by_http: false,
            first: First::Wait(FIRST),
            follow: FOLLOW,
            on_demand: None,
            configure: Vec::new(),
            pipeline: Vec::new(),
            manager: Vec::new(),
        }
    }

    /// Where the CA can write to: `you@example.com`.
    pub fn contact(mut self, address: impl Into<String>) -> Self {
        self.authority = self.authority.contact(address);
        self
    }

    /// Agrees to the CA's terms of service. Nothing else does: read them first; the error that asks for this call shows
    /// where they are.
    pub fn agree_to_terms(mut self) -> Self {
        self.authority = self.authority.agree_to_terms();
        self
    }

    /// Keeps account, keys and certificates in this folder ([`FileStore::open`]). Processes on one machine may share it.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Keeps them in this store. Processes that can reach it may share it.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Gets another certificate, too.
    pub fn certificate(mut self, spec: CertificateSpec) -> Self {
        self.specs.push(spec);
        self
    }

    /// Gets certificates for names that clients ask for, too.
    pub fn on_demand(mut self, on_demand: OnDemand) -> Self {
        self.on_demand = Some(on_demand);
        self
    }

    /// Has names proved by this, rather than by tls-alpn-01; the first of several that the CA offers is taken.
    pub fn solver(mut self, solver: impl ChallengeSolver + 'static) -> Self {
        self.solvers.push(Arc::new(solver));
        self
    }

    /// Has names proved by http-01, rather than by tls-alpn-01: [`AutoTls::http`] or [`AutoTls::responder`] is to be
    /// served on port 80 before certificates are waited for.
    pub fn by_http(mut self) -> Self {
        self.by_http = true;
        self
    }

    /// How long [`AutoTls::listen`] waits for the first certificates (default 2 min).
    pub fn first_within(mut self, patience: Duration) -> Self {
        self.first = First::Wait(patience);
        self
    }

    /// Serves certificates that nobody trusts until there are others, rather than to wait.
    pub fn placeholder(mut self) -> Self {
        self.first = First::Placeholder;
        self
    }

    /// Neither waits nor serves a placeholder: handshakes wait for half a minute each, and end with an alert then.
    pub fn without_waiting(mut self) -> Self {
        self.first = First::Nothing;
        self
    }

    /// How often the store is looked at for what other processes have got (default 5 s): so late they are served here.
    pub fn follow_every(mut self, interval: Duration) -> Self {
        self.follow = interval.max(Duration::from_millis(10));
        self
    }

    /// Changes how rustls is configured: the protocols of ALPN where it is not HTTP (leave
    /// [`ACME_TLS`](crate::tls::ACME_TLS) there), limits, a log of keys, …
    ///
    /// ```no_run
    /// # use acmekit_core::tls::{ACME_TLS, AutoTls};
    /// let tls = AutoTls::staging(["mail.example.com"]).configure(|config| {
    ///     config.alpn_protocols.retain(|name| name == ACME_TLS);
    ///     config.alpn_protocols.push(b"imap".to_vec());
    /// });
    /// # let _ = tls;
    /// ```
    pub fn configure(mut self, change: impl Fn(&mut ServerConfig) + Send + Sync + 'static) -> Self {
        self.configure.push(Box::new(change));
        self
    }

    /// Changes the pipeline: other authorities to fall back to, a renewal policy, observers, more places to deploy to, …
    pub fn pipeline(
        mut self,
        change: impl FnOnce(PipelineBuilder) -> PipelineBuilder + Send + 'static,
    ) -> Self {
        self.pipeline.push(Box::new(change));
        self
    }

    /// Changes the manager: how much is done at once, …
    pub fn manager(mut self, change: impl FnOnce(ManagerBuilder) -> ManagerBuilder + Send + 'static) -> Self {
        self.manager.push(Box::new(change));
        self
    }

    /// Serves what is stored, and begins to get what is not.
    ///
    /// # Errors
    /// `Config` if a name is not valid, nothing says where to keep things, or there is nothing to serve; `Storage` if the
    /// store cannot be read. That the CA cannot be reached is none.
    pub async fn start(mut self) -> Result<AutoTls> {
        let specs = self.wanted()?;
        let store = self.opened().await?;
        let (resolver, names) = (CertResolver::new(), Arc::new(Names::default()));
        let responder = Http01Responder::shared(Arc::clone(&store));
        let pipeline = self.built(&store, &resolver, &responder, &names)?;
        let unfit = serve_stored(&pipeline, &specs, &resolver).await?;
        let mistakes = mistakes(&pipeline, &specs, &resolver).await?;
        if self.first == First::Placeholder {
            for spec in specs.iter().filter(|spec| resolver.of(spec.id()).is_none()) {
                resolver.stand_in(spec)?;
            }
        }
        // What a crash has left behind. Answers are taken away here; no CA is asked.
        if let Err(error) = pipeline.sweep().await {
            tracing::warn!(%error, "what a crash has left behind stays for now");
        }
        let clock = Arc::clone(&pipeline.clock);
        let started_at = clock.now();
        let manager =
            self.manager.into_iter().fold(Manager::builder(pipeline), |manager, change| change(manager));
        let manager = manager.start();
        for spec in &specs {
            let managed = Managed::new(spec.clone());
            let is_mended = mistakes.contains(spec.id());
            manager.add(if is_mended { managed.at_once() } else { managed }).await?;
        }
        let gate = self.on_demand.map(|settings| {
            let (resolver, store, clock) = (resolver.clone(), Arc::clone(&store), Arc::clone(&clock));
            let fixed = specs.iter().map(|spec| spec.id().clone()).collect();
            Gate::new(settings, Arc::clone(&names), resolver, store, manager.handle(), clock, fixed)
        });
        if let Some(gate) = &gate {
            gate.restore().await?;
        }
        let follow = Follow {
            store: Arc::clone(&store),
            resolver: resolver.clone(),
            manager: manager.handle(),
            expected: specs.iter().map(|spec| spec.id().clone()).collect(),
            every: self.follow,
            on_demand: gate.clone(),
            seen: HashMap::new(),
            under_way: BTreeSet::new(),
        };
        let mut following = JoinSet::new();
        following.spawn(follow.run());
        if let Some(gate) = &gate {
            following.spawn(gate.clone().keep_asking(self.follow));
        }
        let expected = specs.iter().flat_map(|spec| spec.identifiers().clone()).collect();
        let first_within = match self.first {
            First::Wait(patience) => Some(patience),
            First::Placeholder | First::Nothing => None,
        };
        let waiting = Waiting::new(expected, PATIENCE, gate);
        let (configure, following) = (self.configure, Mutex::new(following));
        Ok(AutoTls(Arc::new(Inner {
            resolver,
            manager,
            store,
            clock,
            waiting,
            specs,
            unfit,
            first_within,
            started_at,
            responder,
            configure,
            names,
            following,
        })))
    }

    fn wanted(&mut self) -> Result<Vec<CertificateSpec>> {
        let mut specs = std::mem::take(&mut self.specs);
        if !self.names.is_empty() {
            specs.insert(0, CertificateSpec::new(&self.names)?);
        }
        if specs.is_empty() && self.on_demand.is_none() {
            let why = "there is no name to serve";
            return Err(Error::new(ErrorKind::Config, "tls.start", why)
                .with_hint("name the service's domains, as in `AutoTls::staging([\"www.example.com\"])`"));
        }
        Ok(specs)
    }

    async fn opened(&mut self) -> Result<Arc<dyn Store>> {
        match (self.store.take(), self.folder.take()) {
            (Some(store), None) => Ok(store),
            (None, Some(folder)) => Ok(Arc::new(FileStore::open(folder).await?)),
            (store, _) => {
                let why = match store {
                    Some(_) => "there are a folder and a store to keep certificates in",
                    None => "nothing says where certificates are kept",
                };
                Err(Error::new(ErrorKind::Config, "tls.start", why).with_hint(
                    "name one folder that outlives the process, as in `.folder(\"/var/lib/my-service/acme\")`",
                ))
            }
        }
    }

    fn built(
        &mut self,
        store: &Arc<dyn Store>,
        resolver: &CertResolver,
        responder: &Http01Responder,
        names: &Arc<Names>,
    ) -> Result<Pipeline> {
        let mut pipeline = Pipeline::builder(self.authority.clone(), Arc::clone(store));
        if self.by_http {
            pipeline = pipeline.solver(Http01::new(responder.clone()));
        }
        let has_none = !self.by_http && self.solvers.is_empty();
        for solver in std::mem::take(&mut self.solvers) {
            pipeline = pipeline.solver(solver);
        }
        if has_none {
            pipeline = pipeline.solver(TlsAlpn01::new(resolver.clone()).shared(Arc::clone(store)));
        }
        let (teller, names) = (resolver.clone(), Arc::clone(names));
        let pipeline = pipeline.deployer(resolver.clone()).observer(move |event: &Event| {
            // Whoever waits for a certificate learns that there will be none.
            let failed = matches!(event.what, What::Failed { .. } | What::BudgetSpent { .. });
            if names.hear(event) || failed {
                teller.tell();
            }
        });
        let changes = std::mem::take(&mut self.pipeline);
        changes.into_iter().fold(pipeline, |pipeline, change| change(pipeline)).build()
    }
}

/// The certificates that could not be had because of something a person has to change, and costs the CA nothing: a new
/// start may mean that it is changed, and somebody waits for it.
async fn mistakes(
    pipeline: &Pipeline,
    specs: &[CertificateSpec],
    resolver: &CertResolver,
) -> Result<BTreeSet<CertificateId>> {
    let mut mistakes = BTreeSet::new();
    for spec in specs.iter().filter(|spec| resolver.of(spec.id()).is_none()) {
        let trouble = pipeline.status(spec).await?.trouble;
        if trouble.is_some_and(|trouble| trouble.class == Class::NeedsPerson && !trouble.validation) {
            mistakes.insert(spec.id().clone());
        }
    }
    Ok(mistakes)
}

/// Serves what there is, and answers what of it is not as wanted.
async fn serve_stored(
    pipeline: &Pipeline,
    specs: &[CertificateSpec],
    resolver: &CertResolver,
) -> Result<HashMap<CertificateId, Arc<Served>>> {
    let mut unfit = HashMap::new();
    for spec in specs {
        let Some(bundle): Option<Bundle> = pipeline.load(spec.id()).await? else { continue };
        resolver.serve(&bundle)?;
        if !pipeline.is_fit(spec, &bundle) {
            unfit.extend(resolver.of(spec.id()).map(|served| (spec.id().clone(), served)));
        }
    }
    Ok(unfit)
}

impl fmt::Debug for AutoTlsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AutoTlsBuilder")
            .field("authority", &self.authority)
            .field("names", &self.names)
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}
