//! Connections that have shaken hands: slow and silent clients keep nobody else waiting.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::ACME_TLS;

/// How long a client has for its handshake, unless it is told otherwise.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many handshakes are under way at most, unless it is told otherwise.
const AT_ONCE: usize = 1024;
/// How long nothing is accepted after this machine could not: it has no file left, mostly.
const PAUSE: Duration = Duration::from_millis(500);

/// A TCP listener whose connections are TLS connections.
///
/// Handshakes go on beside each other, each within its [time](Self::handshake_timeout); of too many
/// [at once](Self::handshakes_at_once), the oldest is given up: a flood of silent clients costs those who dawdle. A CA that
/// validates tls-alpn-01 is answered, and its connection handed to nobody.
///
/// With the feature `axum` it is a listener for `axum::serve`.
///
/// ```no_run
/// # async fn example(resolver: acmekit_core::tls::CertResolver) -> Result<(), Box<dyn std::error::Error>> {
/// use acmekit_core::tls::{ACME_TLS, TlsListener, server_config};
///
/// let mut config = server_config(&resolver)?;
/// config.alpn_protocols.retain(|name| name == ACME_TLS); // it is no HTTP
/// let tcp = tokio::net::TcpListener::bind("[::]:8443").await?;
/// let mut listener = TlsListener::new(tcp, config);
/// loop {
///     let (stream, peer) = listener.accept().await;
///     # drop((stream, peer));
/// }
/// # }
/// ```
pub struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
    handshakes: JoinSet<Option<Accepted>>,
    /// The oldest first; some may have ended.
    under_way: VecDeque<AbortHandle>,
    timeout: Duration,
    at_once: usize,
}

type Accepted = (TlsStream<TcpStream>, SocketAddr);

impl TlsListener {
    /// Shakes hands by this configuration with whoever connects there.
    pub fn new(tcp: TcpListener, config: impl Into<Arc<ServerConfig>>) -> Self {
        Self {
            tcp,
            acceptor: TlsAcceptor::from(config.into()),
            handshakes: JoinSet::new(),
            under_way: VecDeque::new(),
            timeout: HANDSHAKE,
            at_once: AT_ONCE,
        }
    }

    /// How long a client has for its handshake (default 10 s).
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many handshakes are under way at most (default 1024, and one at least).
    #[must_use]
    pub fn handshakes_at_once(mut self, count: usize) -> Self {
        self.at_once = count.max(1);
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The next connection that has shaken hands, and who is there. May be dropped at any moment: no connection is lost.
    pub async fn accept(&mut self) -> Accepted {
        loop {
            tokio::select! {
                // What has shaken hands waits no longer.
                biased;
                Some(ended) = self.handshakes.join_next() => {
                    if let Ok(Some(accepted)) = ended {
                        return accepted;
                    }
                }
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, peer)) => self.begin(stream, peer),
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "no connection can be accepted now");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
    }

    fn begin(&mut self, stream: TcpStream, peer: SocketAddr) {
        if self.under_way.len() >= self.at_once {
            self.under_way.retain(|handshake| !handshake.is_finished());
        }
        if self.under_way.len() >= self.at_once {
            tracing::debug!(at_once = self.at_once, "the oldest handshake is given up for a new one");
            self.under_way.pop_front().inspect(AbortHandle::abort);
        }
        let handshake = shake(self.acceptor.clone(), stream, peer, self.timeout);
        self.under_way.push_back(self.handshakes.spawn(handshake));
    }
}

async fn shake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    timeout: Duration,
) -> Option<Accepted> {
    // An answer of a few octets shall not wait for more.
    stream.set_nodelay(true).ok();
    let accepted = tokio::time::timeout(timeout, acceptor.accept(stream)).await;
    match accepted {
        Ok(Ok(mut stream)) if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) => {
            // A CA has seen what it wanted (RFC 8737 section 3).
            tokio::time::timeout(timeout, stream.shutdown()).await.ok();
            None
        }
        Ok(Ok(stream)) => Some((stream, peer)),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "the handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, ?timeout, "the handshake took too long");
            None
        }
    }
}

/// Errors that are about who has just connected (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(feature = "axum")]
impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        Self::accept(self).await
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Self::local_addr(self)
    }
}

impl fmt::Debug for TlsListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsListener").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}
