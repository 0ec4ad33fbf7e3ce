//! One connection's handshake: what it needs is there before it goes on.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::certified::Served;
use super::resolver::is_challenge;
use super::waiting::Waiting;
use super::{ACME_TLS, AutoTls, CertResolver};
use crate::solvers::shared::SharedAnswers;
use crate::{ChallengeKind, Deadline, DnsName, Error, ErrorKind, Result, Store};

/// How long a client has for each half of its handshake, unless it is told otherwise.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Shakes hands on connections of any kind: TCP, a Unix socket, what a proxy protocol has been read from.
///
/// What a handshake needs and is not there yet is got before it goes on: a challenge's answer that another process has
/// presented, or a certificate that [`AutoTls`](super::AutoTls) is about to have. Clones share everything.
///
/// ```no_run
/// # async fn example(resolver: acmekit_core::tls::CertResolver) -> Result<(), Box<dyn std::error::Error>> {
/// use acmekit_core::tls::{TlsAcceptor, server_config};
///
/// let acceptor = TlsAcceptor::new(&resolver, server_config(&resolver)?);
/// let listener = tokio::net::UnixListener::bind("/run/service.sock")?;
/// loop {
///     let (stream, _) = listener.accept().await?;
///     // As a task of its own in real life: this one waits for the client.
///     if let Some(stream) = acceptor.accept(stream, None).await? {
///         # drop(stream);
///     }
/// }
/// # }
/// ```
///
/// What comes of it is a stream for hyper, too:
///
/// ```no_run
/// # use acmekit_core::tls::TlsAcceptor;
/// # async fn serve(acceptor: &TlsAcceptor, tcp: tokio::net::TcpStream) -> Result<(), Box<dyn std::error::Error>> {
/// use hyper::{server::conn::http1, service::service_fn};
/// use hyper_util::rt::TokioIo;
///
/// let address = tcp.local_addr()?.ip();
/// if let Some(stream) = acceptor.accept(tcp, Some(address)).await? {
///     let hello = service_fn(async |_| Ok::<_, std::convert::Infallible>(http::Response::new("hello".to_owned())));
///     http1::Builder::new().serve_connection(TokioIo::new(stream), hello).await?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TlsAcceptor {
    config: Arc<ServerConfig>,
    resolver: Option<CertResolver>,
    answers: Option<SharedAnswers>,
    waiting: Option<Waiting>,
    /// Who renews what is served here: for as long as somebody shakes hands.
    keeps: Option<AutoTls>,
    timeout: Duration,
}

impl TlsAcceptor {
    /// Shakes hands by this configuration, which has this resolver ([`server_config`](super::server_config)).
    pub fn new(resolver: &CertResolver, config: impl Into<Arc<ServerConfig>>) -> Self {
        Self { resolver: Some(resolver.clone()), ..Self::from(config.into()) }
    }

    /// Gives the answers to tls-alpn-01 challenges that other processes have presented to this store
    /// ([`TlsAlpn01::shared`](crate::solvers::TlsAlpn01::shared)), when a CA asks for one. At most 16 are looked for at
    /// once, each for 5 seconds at most.
    #[must_use]
    pub fn shared_answers(mut self, store: Arc<dyn Store>) -> Self {
        self.answers = Some(SharedAnswers::new(store));
        self
    }

    pub(super) fn of(mut self, waiting: Waiting, keeps: AutoTls) -> Self {
        (self.waiting, self.keeps) = (Some(waiting), Some(keeps));
        self
    }

    /// How long a client has until it has said what it wants, and again until it has shaken hands (default 10 s each).
    /// What this side needs in between has its own deadline.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The configuration, to be changed: protocols that are not HTTP, limits, a log of keys, …
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut ServerConfig)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }

    /// Shakes hands. `None` if it was a CA that has seen its answer (RFC 8737): such a connection has no use.
    ///
    /// `address` is the one the client has connected to, where there is one: clients that name nothing get its
    /// certificate.
    ///
    /// # Errors
    /// `Timeout` if the client dawdles; `Unavailable` if the connection breaks off; `Protocol` if the handshake fails: the
    /// client has been told why by a TLS alert then.
    pub async fn accept<IO>(&self, stream: IO, address: Option<IpAddr>) -> Result<Option<TlsStream<IO>>>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin,
    {
        self.accept_telling(stream, address, &AtomicBool::new(false)).await
    }

    /// As [`accept`](Self::accept), and tells while it is this side that takes its time.
    pub(super) async fn accept_telling<IO>(
        &self,
        stream: IO,
        address: Option<IpAddr>,
        is_waiting: &AtomicBool,
    ) -> Result<Option<TlsStream<IO>>>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let hello = async { LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(failed) };
        let deadline = Deadline::after(self.timeout);
        let begun = deadline.run("tls.accept", "reading the ClientHello", hello).await?;
        let asked = Asked::by(&begun.client_hello());
        let special = match self.at_address(&begun.client_hello(), address) {
            None => {
                is_waiting.store(true, Ordering::Relaxed);
                let special = self.prepare(&asked).await;
                is_waiting.store(false, Ordering::Relaxed);
                special
            }
            special => special,
        };
        let config = match special {
            None => Arc::clone(&self.config),
            Some(special) => {
                let mut config = ServerConfig::clone(&self.config);
                config.cert_resolver = Arc::new(Only(special));
                Arc::new(config)
            }
        };
        let rest = async { begun.into_stream(config).await.map_err(failed) };
        let deadline = Deadline::after(self.timeout);
        let mut stream = deadline.run("tls.accept", "the handshake", rest).await?;
        if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) {
            // A CA has seen what it wanted (RFC 8737 section 3).
            tokio::time::timeout(self.timeout, stream.shutdown()).await.ok();
            return Ok(None);
        }
        Ok(Some(stream))
    }

    /// The certificate of the address that was connected to, for a client that names nothing.
    fn at_address(&self, hello: &ClientHello<'_>, address: Option<IpAddr>) -> Option<Arc<CertifiedKey>> {
        match hello.server_name() {
            Some(_) => None,
            // RFC 8737 section 3.
            None if is_challenge(hello) => None,
            None => self.resolver.as_ref()?.of_address(address?, hello.signature_schemes()),
        }
    }

    /// Has what the resolver needs for this handshake, or answers what is to be served instead. If there is nothing, the
    /// resolver will find nothing either, and rustls tell the client.
    async fn prepare(&self, asked: &Asked) -> Option<Arc<CertifiedKey>> {
        let (resolver, name) = (self.resolver.as_ref()?, asked.name.as_deref()?);
        if asked.is_challenge {
            return match resolver.answers_for(name) {
                true => None,
                false => self.answer_of_others(name).await,
            };
        }
        if let Some(waiting) = self.waiting.as_ref().filter(|_| !resolver.has(name)) {
            waiting.wait(resolver, name).await;
        }
        None
    }

    async fn answer_of_others(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let answers = self.answers.as_ref()?;
        let name: DnsName = name.parse().ok()?;
        match answers.find(&ChallengeKind::TlsAlpn01, name.as_str()).await {
            Ok(challenge) => {
                let made = Served::answering(&challenge?);
                made.inspect_err(|error| tracing::warn!(%error, "a challenge is not answered"))
                    .ok()
                    .map(|served| Arc::clone(&served.certified))
            }
            Err(error) => {
                tracing::debug!(%error, "whether another process has the answer cannot be told");
                None
            }
        }
    }
}

/// What is asked for: the hello itself cannot be kept.
struct Asked {
    name: Option<String>,
    is_challenge: bool,
}

impl Asked {
    fn by(hello: &ClientHello<'_>) -> Self {
        Self { name: hello.server_name().map(str::to_owned), is_challenge: is_challenge(hello) }
    }
}

/// One certificate, for one connection.
#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn failed(error: std::io::Error) -> Error {
    let of_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    let kind = if of_tls { ErrorKind::Protocol } else { ErrorKind::Unavailable };
    Error::new(kind, "tls.accept", "the handshake failed").with("reason", &error).with_source(error)
}

/// With a configuration alone: certificates and answers are what its resolver has.
impl From<Arc<ServerConfig>> for TlsAcceptor {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self { config, resolver: None, answers: None, waiting: None, keeps: None, timeout: HANDSHAKE }
    }
}

impl From<ServerConfig> for TlsAcceptor {
    fn from(config: ServerConfig) -> Self {
        Self::from(Arc::new(config))
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAcceptor").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
