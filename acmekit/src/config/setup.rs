//! What a configuration becomes: [`Setup`].

use std::fmt;
use std::sync::Arc;

use acmekit_core::dns::Resolver;
use acmekit_core::manager::Managed;
use acmekit_core::renewal::RenewalPolicy;
use acmekit_core::solvers::{Dns01, DnsPersist01, Http01};
use acmekit_core::{
    Authority, CertificateSpec, ChallengeSolver, Clock, Csr, Deployer, DnsProvider, Error, ErrorKind, Event,
    Observer, Pipeline, Result, Store, SystemClock,
};

use super::check::{self, Certificates, Findings, Origin};
use super::plugins::{Ending, Flaw, Server, ServerPlugin};
use super::problem::{self, Problem};
use super::secret::read_text;
use super::serving::Serving;
use super::{Config, document, table};

/// Everything a configuration asks for, ready to be used: a pipeline, and the certificates for it.
pub struct Setup {
    authorities: Vec<Authority>,
    store: Arc<dyn Store>,
    solvers: Vec<Arc<dyn ChallengeSolver>>,
    servers: Vec<Arc<dyn Server>>,
    /// With what CAA records are looked up before an order.
    caa: Option<Resolver>,
    deployers: Vec<Arc<dyn Ending>>,
    certificates: Vec<Wanted>,
    observers: Vec<Arc<dyn Observer>>,
    clock: Arc<dyn Clock>,
    policy: RenewalPolicy,
}

/// One certificate that a configuration asks for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Wanted {
    /// What is wanted of the CA.
    pub spec: CertificateSpec,
    /// The ids of the deployers it is brought to, in the order of the configuration.
    pub deployers: Vec<String>,
    /// Its group, if it has one.
    pub group: Option<String>,
    /// Where it is asked for, for a person: `certificates[2], line 40`, or `domains.csv, line 7`.
    pub place: String,
}

impl From<&Wanted> for Managed {
    fn from(wanted: &Wanted) -> Self {
        Self::new(wanted.spec.clone())
            .group(wanted.group.as_deref().unwrap_or_default())
            .deployers(&wanted.deployers)
    }
}

impl Config {
    /// Reads the files that the configuration names, and makes everything ready. Nothing is sent; the
    /// folders of the store and of acme-dns are created if they are not there.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] as the [module](super) tells, and what the store cannot be opened for.
    pub async fn build(&self) -> Result<Setup> {
        let mut found = Findings::new(&self.places);
        let authorities = self.build_authorities(&mut found).await;
        let mut solvers = self.http_solvers();
        let (providers, resolver) = self.build_providers(&mut found).await;
        let deployers = self.build_deployers(&mut found);
        let certificates = self.build_certificates(&mut found).await;
        // The store is opened last: a configuration that is wrong leaves nothing on the disk, but perhaps an empty folder
        // for acme-dns.
        problem::error("config.build", self.places.file.as_ref(), found.problems)?;
        let store = match self.store.plugin.build(&self.base).await {
            Ok(store) => store,
            Err(flaw) => return Err(self.refused("store", flaw)),
        };
        let mut servers = Vec::new();
        if let Some(resolver) = &resolver {
            solvers.extend(self.dns_solvers(providers, resolver, &store, &mut servers)?);
        }
        Ok(Setup {
            authorities,
            store,
            solvers,
            servers,
            caa: resolver.filter(|_| self.dns.check_caa),
            deployers,
            certificates,
            observers: Vec::new(),
            clock: Arc::new(SystemClock::default()),
            policy: self.renewal.policy(),
        })
    }

    /// What a section refused after everything had been looked at.
    fn refused(&self, section: &str, flaw: Flaw) -> Error {
        let key = if flaw.key.is_empty() { section.to_owned() } else { document::join(section, &flaw.key) };
        let place = self.places.find(&key);
        let error = flaw.error.with("key", key);
        let error = match &self.places.file {
            Some(file) => error.with("file", file.display()),
            None => error,
        };
        match place {
            Some(place) => error.with("line", place.line),
            None => error,
        }
    }

    async fn build_authorities(&self, found: &mut Findings<'_>) -> Vec<Authority> {
        let mut authorities = Vec::new();
        for (at, section) in self.authorities.iter().enumerate() {
            let key = |name: &str| format!("authorities[{at}].{name}");
            let mut authority = match check::authority(section) {
                Ok(authority) => authority,
                Err((name, error)) => {
                    found.add(Problem::of(key(name), &error));
                    continue;
                }
            };
            if let Some(eab) = &section.eab {
                let secret = eab.secret().read(&self.base).await;
                match secret.and_then(|secret| authority.clone().external_account(&eab.kid, &secret)) {
                    Ok(bound) => authority = bound,
                    Err(error) => {
                        let name = format!("eab.{}", eab.secret().key());
                        found.add(Problem::of(key(&name), &error));
                    }
                }
            }
            if let Some(path) = &section.extra_roots {
                let text = read_text(&self.base.join(path)).await;
                match text.and_then(|text| authority.clone().extra_roots_pem(&text)) {
                    Ok(trusting) => authority = trusting,
                    Err(error) => {
                        found.add(Problem::of(key("extra_roots"), &error).value(path.display()));
                    }
                }
            }
            authorities.push(authority);
        }
        authorities
    }

    /// http-01 first: it needs nobody else. A wildcard has the DNS alone.
    fn http_solvers(&self) -> Vec<Arc<dyn ChallengeSolver>> {
        let mut solvers: Vec<Arc<dyn ChallengeSolver>> = Vec::new();
        if let Some(http) = &self.http {
            match (&http.webroot, http.listen) {
                (Some(folder), _) => solvers.push(Arc::new(Http01::webroot(self.base.join(folder)))),
                (None, Some(address)) => solvers.push(Arc::new(Http01::standalone(address))),
                (None, None) => {}
            }
        }
        solvers
    }

    /// The providers in their order, as far as they can be made without the store, and who is asked for the DNS.
    async fn build_providers(&self, found: &mut Findings<'_>) -> (Vec<Made<'_>>, Option<Resolver>) {
        let mut providers = Vec::new();
        let resolver = self.resolver();
        for (at, provider) in self.providers.iter().enumerate() {
            let section = format!("dns.providers[{at}]");
            if let Some(server) = provider.plugin.server() {
                providers.push(Made::Server(section, server));
                continue;
            }
            match provider.plugin.build(&self.base, resolver.as_ref().ok()).await {
                Ok(provider) => providers.push(Made::Provider(provider)),
                Err(flaw) => found.add(flawed(&section, &flaw)),
            }
        }
        let is_asked = !providers.is_empty() || self.dns.standing_records || self.dns.check_caa;
        if let (Err(error), true) = (&resolver, is_asked) {
            found.add(Problem::of("dns.resolvers", error));
        }
        (providers, resolver.ok())
    }

    /// dns-01 and dns-account-01 by the providers, then dns-persist-01, which needs a person.
    fn dns_solvers(
        &self,
        providers: Vec<Made<'_>>,
        resolver: &Resolver,
        store: &Arc<dyn Store>,
        servers: &mut Vec<Arc<dyn Server>>,
    ) -> Result<Vec<Arc<dyn ChallengeSolver>>> {
        let mut ready: Vec<Arc<dyn DnsProvider>> = Vec::new();
        for made in providers {
            match made {
                Made::Provider(provider) => ready.push(provider),
                Made::Server(section, plugin) => {
                    let server = plugin.build(store).map_err(|flaw| self.refused(&section, flaw))?;
                    servers.push(Arc::clone(&server));
                    ready.push(server);
                }
            }
        }
        let mut solvers: Vec<Arc<dyn ChallengeSolver>> = Vec::new();
        let mut ready = ready.into_iter();
        if let Some(first) = ready.next() {
            let mut dns = Dns01::with_resolver(first, resolver.clone());
            for provider in ready {
                dns = dns.or(provider);
            }
            if let Some(ttl) = self.dns.ttl {
                dns = dns.ttl(ttl);
            }
            if let Some(pause) = self.dns.wait {
                dns = dns.wait_instead_of_asking(pause);
            }
            for (domain, name) in &self.dns.aliases {
                dns = dns.alias(domain.clone(), name.clone());
            }
            for dns in [dns.clone(), dns.for_account()] {
                solvers.push(match servers.is_empty() {
                    true => Arc::new(dns),
                    false => Arc::new(Serving { dns, servers: servers.clone() }),
                });
            }
        }
        if self.dns.standing_records {
            solvers.push(Arc::new(DnsPersist01::with_resolver(resolver.clone())));
        }
        Ok(solvers)
    }

    fn resolver(&self) -> Result<Resolver> {
        let mut resolver = match self.dns.resolvers.is_empty() {
            true => Resolver::system()?,
            false => Resolver::new(self.dns.resolvers.iter().copied())?,
        };
        if let Some(port) = self.dns.authoritative_port {
            resolver = resolver.authoritative_port(port);
        }
        if !self.dns.authoritative.is_empty() {
            resolver = resolver.authoritative(self.dns.authoritative.iter().copied());
        }
        Ok(resolver)
    }

    fn build_deployers(&self, found: &mut Findings<'_>) -> Vec<Arc<dyn Ending>> {
        let mut deployers = Vec::new();
        for (at, deployer) in self.deployers.iter().enumerate() {
            match deployer.plugin.build(&deployer.id, &self.base) {
                Ok(deployer) => deployers.push(deployer),
                Err(flaw) => found.add(flawed(&format!("deployers[{at}]"), &flaw)),
            }
        }
        deployers
    }

    async fn build_certificates(&self, found: &mut Findings<'_>) -> Vec<Wanted> {
        let mut checked = Certificates::new(self);
        let mut certificates = Vec::new();
        let mut want = |origin: &Origin<'_>, section, csr, found: &mut Findings<'_>| {
            let Some(spec) = checked.check(origin, section, csr, found) else { return };
            certificates.push(Wanted {
                spec,
                deployers: self.deployers_of(section),
                group: section.group.clone(),
                place: origin.describe(&self.places),
            });
        };
        for (at, section) in self.certificates.iter().enumerate() {
            let mut csr = None;
            if let Some(path) = &section.csr {
                match read_text(&self.base.join(path)).await.and_then(|text| Csr::from_pem(&text)) {
                    Ok(read) => csr = Some(read),
                    Err(error) => {
                        let key = format!("certificates[{at}].csr");
                        found.add(Problem::of(key, &error).value(path.display()));
                    }
                }
            }
            want(&Origin::Text(at), section, csr, found);
        }
        if let Some(path) = &self.certificates_csv {
            match read_text(&self.base.join(path)).await {
                Ok(text) => {
                    let (rows, problems) = table::read(&text, path);
                    problems.into_iter().for_each(|problem| found.add(problem));
                    for (line, section) in &rows {
                        want(&Origin::Line(path, *line), section, None, found);
                    }
                }
                Err(error) => found.add(Problem::of("certificates_csv", &error).value(path.display())),
            }
        }
        certificates
    }

    /// In the order of the configuration, whatever the order in the certificate.
    fn deployers_of(&self, section: &super::CertificateConfig) -> Vec<String> {
        let wanted = |id: &&String| section.deployers.as_ref().is_none_or(|ids| ids.contains(id));
        self.deployers.iter().map(|deployer| &deployer.id).filter(wanted).cloned().collect()
    }
}

/// A DNS provider, or what makes it out of the store.
enum Made<'c> {
    Provider(Arc<dyn DnsProvider>),
    Server(String, &'c dyn ServerPlugin),
}

fn flawed(section: &str, flaw: &Flaw) -> Problem {
    let key = if flaw.key.is_empty() { section.to_owned() } else { document::join(section, &flaw.key) };
    Problem::of(key, &flaw.error)
}

impl Setup {
    /// Tells somebody of each event. To be called before [`pipeline`](Self::pipeline).
    #[must_use]
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Sets the clock; by default the machine's own. To be called before
    /// [`pipeline`](Self::pipeline).
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The authorities, the preferred one first.
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The deployers, in the order of the configuration.
    pub fn deployers(&self) -> Vec<Arc<dyn Deployer>> {
        self.deployers.iter().map(|deployer| -> Arc<dyn Deployer> { Arc::clone(deployer) as _ }).collect()
    }

    /// The certificates: those of the configuration, then those of the CSV file.
    pub fn certificates(&self) -> &[Wanted] {
        &self.certificates
    }

    /// A pipeline with everything: each certificate says itself which authority, which kind of challenge and, as
    /// [`Managed`], which deployers it wants.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no authority.
    pub fn pipeline(&self) -> Result<Pipeline> {
        let mut authorities = self.authorities.iter().cloned();
        let first = authorities.next().ok_or_else(|| {
            Error::new(ErrorKind::Config, "setup.pipeline", "there is no authority")
                .with_hint("add `[[authorities]]`")
        })?;
        let mut builder = Pipeline::builder(first, Arc::clone(&self.store))
            .clock(Arc::clone(&self.clock))
            .renewal(self.policy.clone());
        for other in authorities {
            builder = builder.fall_back_to(other);
        }
        for solver in &self.solvers {
            builder = builder.solver(Arc::clone(solver));
        }
        if let Some(resolver) = &self.caa {
            builder = builder.caa(resolver.clone());
        }
        for deployer in &self.deployers {
            let deployer: Arc<dyn Deployer> = Arc::clone(deployer) as _;
            builder = builder.deployer(deployer);
        }
        for observer in &self.observers {
            let observer = Arc::clone(observer);
            builder = builder.observer(move |event: &Event| observer.observe(event));
        }
        builder.build()
    }

    /// Lets the DNS providers that are servers in this program answer from now on, until [`close`](Self::close); else
    /// they begin with the first challenge. For programs that run for long: others on the same store may rely on them. To
    /// be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if an address cannot be bound.
    pub fn listen(&self) -> Result<()> {
        self.servers.iter().try_for_each(|server| server.listen())
    }

    /// Waits for what deployers still have to do, and ends DNS servers in this program. Call it before the program ends.
    pub async fn close(&self) {
        for server in &self.servers {
            server.end().await;
        }
        for deployer in &self.deployers {
            deployer.end().await;
        }
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("authorities", &self.authorities)
            .field("store", &self.store)
            .field("deployers", &self.deployers)
            .field("certificates", &self.certificates.len())
            .finish_non_exhaustive()
    }
}
