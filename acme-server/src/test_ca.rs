//! A whole CA in this process.

mod hierarchy;
mod in_process;
mod no_proof;
mod serve;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use acmekit_core::{Error, ErrorKind, Exchange, Result, Secret};
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use x509_parser::pem::Pem;

use crate::faults::Faults;
use crate::limits::{Limits, RateLimits};
use crate::validation::{AlwaysValid, RealValidator, ValidationConfig};
use crate::{AcmeServer, Endpoint, MemoryState, MovableClock, RenewalInfo, Settings, Validator};

use hierarchy::{Hierarchy, Profile};
pub use no_proof::NoProof;
use serve::Service;

/// A CA for tests: real RFC 8555 by HTTPS on loopback, real validation, certificates from roots made when it starts.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> acmekit_core::Result<()> {
/// use acmekit_server::TestCa;
///
/// let ca = TestCa::start().await?;
/// let (url, trust) = (ca.directory_url(), ca.root_pem());
/// // … point any ACME client at `url`, let it trust `trust`, and look:
/// assert_eq!(ca.certificates_issued(), 0);
/// # let _ = (url, trust);
/// # Ok(()) }
/// ```
///
/// It ends when it is dropped.
#[derive(Debug)]
pub struct TestCa {
    address: SocketAddr,
    server: AcmeServer,
    hierarchy: Arc<Hierarchy>,
    state: MemoryState,
    clock: MovableClock,
    faults: Faults,
    counts: Arc<Counts>,
    https_root: String,
    service: Service,
    serving: JoinHandle<()>,
}

/// What a [`TestCa`] is to be like.
#[derive(Debug)]
#[must_use]
pub struct TestCaBuilder {
    listen: SocketAddr,
    validation: ValidationConfig,
    validator: Option<Arc<dyn Validator>>,
    limits: Limits,
    settings: Settings,
    profiles: BTreeMap<String, Profile>,
    clock: MovableClock,
    faults: Option<Faults>,
    rsa: bool,
}

/// What was asked of it, and how long it took.
#[derive(Debug, Default)]
struct Counts {
    requests: [AtomicU64; Endpoint::ALL.len()],
    nanoseconds: AtomicU64,
}

impl Counts {
    fn of(&self, endpoint: Endpoint) -> Option<&AtomicU64> {
        let place = Endpoint::ALL.iter().position(|one| *one == endpoint)?;
        self.requests.get(place)
    }
}

impl TestCa {
    /// One that checks challenges on this machine: http-01 at port 80, tls-alpn-01 at port 443, every name at
    /// 127.0.0.1, dns-01 with the system's resolvers.
    ///
    /// # Errors
    /// As [`TestCaBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// One that is told where to look.
    pub fn builder() -> TestCaBuilder {
        let settings = Settings { caa_identities: vec!["ca.example.test".to_owned()], ..Settings::default() };
        TestCaBuilder {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            validation: ValidationConfig::new().with_resolve_all_to(Ipv4Addr::LOCALHOST),
            validator: None,
            limits: Limits::none(),
            settings,
            profiles: hierarchy::profiles(),
            clock: MovableClock::new(),
            faults: None,
            rsa: false,
        }
    }

    /// The URL an ACME client is given.
    pub fn directory_url(&self) -> String {
        self.server.directory_url()
    }

    /// A way to it that leaves out network, TLS and HTTP, for [`Authority::through`](acmekit_core::Authority::through):
    /// with paused time ([`MovableClock::paced`]), and where many certificates are to be had.
    pub fn in_process(&self) -> Arc<dyn Exchange> {
        Arc::new(in_process::InProcess::new(self.service.clone(), self.address))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What an ACME client must trust to talk to it: the root of its HTTPS certificate, in PEM.
    pub fn root_pem(&self) -> &str {
        &self.https_root
    }

    /// The roots of the certificates it issues, in PEM: the default chain's first, then the alternates'.
    pub fn issuing_roots_pem(&self) -> &[String] {
        self.hierarchy.roots_pem()
    }

    /// Its clock, to be moved.
    pub fn clock(&self) -> &MovableClock {
        &self.clock
    }

    /// How it misbehaves; may be changed at any time.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// How many certificates it has issued.
    pub fn certificates_issued(&self) -> u64 {
        self.hierarchy.issued_count()
    }

    /// The accounts it knows and the orders it was asked for, to look at.
    pub fn state(&self) -> &MemoryState {
        &self.state
    }

    /// How many requests an endpoint has seen.
    pub fn requests(&self, endpoint: Endpoint) -> u64 {
        self.counts.of(endpoint).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How long it has taken over all answers together, from a request's head to its answer's.
    pub fn time_spent(&self) -> Duration {
        Duration::from_nanos(self.counts.nanoseconds.load(Ordering::Relaxed))
    }

    /// Whether the first certificate in this PEM text was revoked.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is none in it.
    pub fn is_revoked(&self, certificate_pem: &str) -> Result<bool> {
        Ok(self.hierarchy.is_revoked(&leaf(certificate_pem)?))
    }

    /// Sets what renewal information says of the first certificate in this PEM text.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is none in it.
    pub fn set_renewal_window(&self, certificate_pem: &str, window: RenewalInfo) -> Result<()> {
        self.hierarchy.set_window(&leaf(certificate_pem)?, window);
        Ok(())
    }

    /// Ends it, once the validations and issuances under way have ended.
    pub async fn shutdown(mut self) {
        self.serving.abort();
        // Aborted, as asked: there is no other way for it to end.
        (&mut self.serving).await.ok();
        self.server.close().await;
    }
}

impl Drop for TestCa {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl TestCaBuilder {
    /// Listens here (default: a free port of 127.0.0.1).
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Asks this DNS server about TXT, CAA and, if it knows them, addresses.
    pub fn dns_server(mut self, server: SocketAddr) -> Self {
        self.validation = self.validation.with_dns_servers([server]);
        self
    }

    /// Looks for http-01 answers at this port (default 80).
    pub fn http_port(mut self, port: u16) -> Self {
        self.validation = self.validation.with_http_port(port);
        self
    }

    /// Looks for tls-alpn-01 answers at this port (default 443).
    pub fn tls_port(mut self, port: u16) -> Self {
        self.validation = self.validation.with_tls_port(port);
        self
    }

    /// Takes every challenge for met, without looking.
    pub fn always_valid(self) -> Self {
        self.validator(AlwaysValid::default())
    }

    /// Checks challenges by this instead.
    pub fn validator(mut self, validator: impl Validator + 'static) -> Self {
        self.validator = Some(Arc::new(validator));
        self
    }

    /// Lets only accounts in that are bound to this external one, or another one given. The key is in base64url, as
    /// CAs hand it out.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the key is not base64url.
    pub fn external_account(mut self, kid: &str, key: &str) -> Result<Self> {
        let octets = BASE64.decode(key.trim_end_matches('=')).map_err(|_| {
            Error::new(ErrorKind::Config, "test_ca.external_account", "the key is not base64url")
                .with("kid", kid)
        })?;
        self.settings.external_accounts.insert(kid.to_owned(), Secret::new(octets));
        Ok(self)
    }

    /// Limits clients (default: not at all), such as [`Limits::lets_encrypt`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Changes what the server says of itself, and how long things last.
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Adds a profile, or changes one (default: `classic` 90 days, `tlsserver` 45 days, `shortlived` 160 hours).
    pub fn profile(mut self, name: &str, description: &str, lifetime: Duration) -> Self {
        self.profiles.insert(name.to_owned(), Profile { description: description.to_owned(), lifetime });
        self
    }

    /// Lives by this clock.
    pub fn clock(mut self, clock: MovableClock) -> Self {
        self.clock = clock;
        self
    }

    /// Misbehaves like this.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Signs certificates for RSA keys from an RSA intermediate. Making its key takes a moment.
    #[cfg(feature = "rsa")]
    pub fn rsa(mut self) -> Self {
        self.rsa = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if it cannot listen, [`ErrorKind::Config`] if the validation cannot be set up.
    pub async fn start(self) -> Result<TestCa> {
        let failed = |what: &str, reason: String| {
            Error::new(ErrorKind::Other, "test_ca.start", what.to_owned()).with("reason", reason)
        };
        let listener = TcpListener::bind(self.listen).await.map_err(|error| {
            Error::new(ErrorKind::Unavailable, "test_ca.start", "the address cannot be listened on")
                .with("address", self.listen)
                .with("reason", &error)
                .with_source(error)
        })?;
        let address =
            listener.local_addr().map_err(|error| failed("the address is not known", error.to_string()))?;
        let (https_root, tls) = serve::certificate(address)
            .map_err(|reason| failed("the HTTPS certificate could not be made", reason))?;
        let hierarchy = Hierarchy::new(self.rsa_key().await?, self.profiles, Arc::new(self.clock.clone()))
            .map_err(|error| failed("the roots could not be made", error.to_string()))?;
        let hierarchy = Arc::new(hierarchy);
        let clock: Arc<MovableClock> = Arc::new(self.clock.clone());
        let validator = match self.validator {
            Some(validator) => validator,
            None => Arc::new(RealValidator::new(self.validation.with_clock(clock.clone()))?),
        };
        let state = MemoryState::new();
        let server = AcmeServer::builder(format!("https://{address}"), Arc::clone(&hierarchy), validator)
            .policy(RateLimits::new(self.limits, clock.clone()))
            .state(state.clone())
            .settings(self.settings)
            .clock(self.clock.clone())
            .build();
        let counts = Arc::new(Counts::default());
        let counting = Arc::clone(&counts);
        let router =
            server.router().layer(axum::middleware::from_fn(move |request: Request<Body>, next: Next| {
                let counting = Arc::clone(&counting);
                async move { counted(&counting, request, next).await }
            }));
        let faults = self.faults.unwrap_or_else(|| Faults::with_clock(clock));
        let service = Service::new(faults.wrap(router));
        let serving = serve::serve(listener, tls, service.clone());
        #[expect(clippy::disallowed_methods, reason = "the TestCa owns the task, ends it and awaits it")]
        let serving = tokio::spawn(serving);
        Ok(TestCa {
            address,
            server,
            hierarchy,
            state,
            clock: self.clock,
            faults,
            counts,
            https_root,
            service,
            serving,
        })
    }

    async fn rsa_key(&self) -> Result<Option<rcgen::KeyPair>> {
        #[cfg(feature = "rsa")]
        if self.rsa {
            let key = acmekit_core::PrivateKey::generate(acmekit_core::KeyType::Rsa2048).await?;
            let pkcs8 = rustls::pki_types::PrivatePkcs8KeyDer::from(key.to_pkcs8().expose().as_slice());
            let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_RSA_SHA256);
            return pair.map(Some).map_err(|error| {
                Error::new(ErrorKind::Other, "test_ca.start", "the RSA key could not be used")
                    .with("reason", error)
            });
        }
        let _ = self.rsa;
        Ok(None)
    }
}

async fn counted(counts: &Counts, request: Request<Body>, next: Next) -> Response {
    let endpoint = Endpoint::of_path(request.uri().path());
    let begun = tokio::time::Instant::now();
    let response = next.run(request).await;
    let nanoseconds = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    counts.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    if let Some(count) = endpoint.and_then(|endpoint| counts.of(endpoint)) {
        count.fetch_add(1, Ordering::Relaxed);
    }
    response
}

fn leaf(certificate_pem: &str) -> Result<Vec<u8>> {
    let first = Pem::iter_from_buffer(certificate_pem.as_bytes()).next();
    match first {
        Some(Ok(pem)) if pem.label == "CERTIFICATE" => Ok(pem.contents),
        _ => Err(Error::new(ErrorKind::Config, "test_ca.certificate", "this is not a certificate in PEM")),
    }
}
