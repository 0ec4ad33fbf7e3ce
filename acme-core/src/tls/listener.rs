//! Connections that have shaken hands: slow and silent clients keep nobody else waiting.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::server::TlsStream;

use super::TlsAcceptor;

/// How many handshakes are under way at most, unless it is told otherwise.
const AT_ONCE: usize = 1024;
/// How long nothing is accepted after this machine could not: it has no file left, mostly.
const PAUSE: Duration = Duration::from_millis(500);

/// A TCP listener whose connections are TLS connections.
///
/// Handshakes go on beside each other, each within its [time](Self::handshake_timeout); of too many
/// [at once](Self::handshakes_at_once), the oldest is given up: a flood of silent clients costs those who dawdle, and not
/// those that wait for this side. A CA that validates tls-alpn-01 is answered, and its connection handed to nobody.
///
/// Hands are shaken while somebody waits in [`accept`](Self::accept): whoever has enough connections accepts and hangs up,
/// or the CA is shut out, too.
///
/// With the feature `axum` it is a listener for `axum::serve`.
///
/// ```no_run
/// # async fn example(resolver: acmekit_core::tls::CertResolver) -> Result<(), Box<dyn std::error::Error>> {
/// use acmekit_core::tls::{ACME_TLS, TlsAcceptor, TlsListener, server_config};
///
/// let mut config = server_config(&resolver)?;
/// config.alpn_protocols.retain(|name| name == ACME_TLS); // it is no HTTP
/// let tcp = tokio::net::TcpListener::bind("[::]:8443").await?;
/// let mut listener = TlsListener::new(tcp, TlsAcceptor::new(&resolver, config));
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
    under_way: VecDeque<UnderWay>,
    /// Those that nobody has been given yet.
    accepted: VecDeque<Accepted>,
    at_once: usize,
}

type Accepted = (TlsStream<TcpStream>, SocketAddr);

/// A handshake.
struct UnderWay {
    handle: AbortHandle,
    /// It is not the client that takes its time.
    waits: Arc<AtomicBool>,
}

impl UnderWay {
    fn dawdles(&self) -> bool {
        !self.waits.load(Ordering::Relaxed)
    }
}

impl TlsListener {
    /// Shakes hands with whoever connects there: by an acceptor, or a configuration alone.
    pub fn new(tcp: TcpListener, acceptor: impl Into<TlsAcceptor>) -> Self {
        Self {
            tcp,
            acceptor: acceptor.into(),
            handshakes: JoinSet::new(),
            under_way: VecDeque::new(),
            accepted: VecDeque::new(),
            at_once: AT_ONCE,
        }
    }

    /// How long a client has for each half of its handshake, as [`TlsAcceptor::handshake_timeout`] (default 10 s).
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.acceptor = self.acceptor.handshake_timeout(timeout);
        self
    }

    /// How many handshakes are under way at most (default 1024, and one at least). Those that wait for a certificate
    /// have a limit of their own.
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
        if let Some(accepted) = self.accepted.pop_front() {
            return accepted;
        }
        self.shake_hands().await
    }

    /// Shakes hands until this has ended. Who has done so by then is [accepted](Self::accept) afterwards.
    pub(super) async fn until<T>(&mut self, ends: impl Future<Output = T>) -> T {
        let mut ends = pin!(ends);
        loop {
            tokio::select! {
                ended = &mut ends => return ended,
                accepted = self.shake_hands() => self.accepted.push_back(accepted),
            }
            // Not to go on would shut the CA out.
            if self.accepted.len() > self.at_once {
                self.accepted.pop_front();
            }
        }
    }

    async fn shake_hands(&mut self) -> Accepted {
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
            self.under_way.retain(|handshake| !handshake.handle.is_finished());
        }
        if self.under_way.iter().filter(|handshake| handshake.dawdles()).count() >= self.at_once {
            tracing::debug!(at_once = self.at_once, "the oldest handshake is given up for a new one");
            let oldest = self.under_way.iter().position(UnderWay::dawdles);
            let oldest = oldest.and_then(|oldest| self.under_way.remove(oldest));
            oldest.inspect(|oldest| oldest.handle.abort());
        }
        let waits = Arc::new(AtomicBool::new(false));
        let handle = self.handshakes.spawn(shake(self.acceptor.clone(), stream, peer, Arc::clone(&waits)));
        self.under_way.push_back(UnderWay { handle, waits });
    }
}

async fn shake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    waits: Arc<AtomicBool>,
) -> Option<Accepted> {
    // An answer of a few octets shall not wait for more.
    stream.set_nodelay(true).ok();
    let address = stream.local_addr().ok().map(|local| local.ip());
    match acceptor.accept_telling(stream, address, &waits).await {
        Ok(stream) => stream.map(|stream| (stream, peer)),
        Err(error) => {
            tracing::debug!(%peer, %error, "the handshake failed");
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
