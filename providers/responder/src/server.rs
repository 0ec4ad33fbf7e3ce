//! The server: one task a socket, and one a connection; all owned by [`Server`].

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use acmekit_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::answer::{self, Asked, Question};
use crate::limit::{Limiter, Network, Verdict};
use crate::listen::Sockets;
use crate::records::Records;

/// The longest question read: one has some 300 octets, with EDNS padding (RFC 8467) 512.
const MAX_QUESTION: usize = 4096;
/// How many questions over UDP may wait for the store at once, for each socket; more are dropped, and asked again.
const MAX_WAITING: usize = 256;
/// How many connections there may be at once, at all and for each network.
const MAX_CONNECTIONS: usize = 128;
const MAX_PER_NETWORK: usize = 16;
/// How many questions a connection may bring.
const MAX_QUESTIONS: usize = 256;
/// How long a client may take for its next question, or to take an answer.
const IDLE: Duration = Duration::from_secs(5);
/// How long a connection may last in all.
const CONNECTION: Duration = Duration::from_secs(30);
/// How long connections may go on when the server stops.
const GRACE: Duration = Duration::from_millis(500);

/// What all tasks work with.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) records: Records,
    pub(crate) limiter: Limiter,
}

impl Desk {
    /// Whether the question has to wait until the store has been looked at.
    fn must_wait(&self, question: &Question) -> bool {
        !self.records.is_fresh() && self.records.with(|tree, _| question.is_ours(tree))
    }
}

/// A running server. Dropping it aborts everything and closes the sockets.
#[derive(Debug)]
pub(crate) struct Server {
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Server {
    /// Serves on these sockets. To be called within a tokio runtime.
    pub(crate) fn start(sockets: Sockets, desk: &Arc<Desk>) -> Result<Self> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(Error::new(ErrorKind::Config, "responder.listen", "there is no tokio runtime here")
                .with_hint("call it from within one: `runtime.block_on(async { responder.listen() })`"));
        }
        let failed = |e: io::Error| {
            Error::new(ErrorKind::Config, "responder.listen", "a socket cannot be used")
                .with("reason", &e)
                .with_source(e)
        };
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for socket in sockets.udp {
            socket.set_nonblocking(true).map_err(failed)?;
            udp.push(UdpSocket::from_std(socket).map_err(failed)?);
        }
        for listener in sockets.tcp {
            listener.set_nonblocking(true).map_err(failed)?;
            tcp.push(TcpListener::from_std(listener).map_err(failed)?);
        }
        let address = |found: io::Result<SocketAddr>| found.map_err(failed);
        let (stop, stopped) = watch::channel(false);
        let mut server = Self {
            udp: udp.iter().map(|socket| address(socket.local_addr())).collect::<Result<_>>()?,
            tcp: tcp.iter().map(|listener| address(listener.local_addr())).collect::<Result<_>>()?,
            stop,
            tasks: JoinSet::new(),
        };
        for socket in udp {
            server.tasks.spawn(serve_udp(socket, Arc::clone(desk), stopped.clone()));
        }
        for listener in tcp {
            server.tasks.spawn(serve_tcp(listener, Arc::clone(desk), stopped.clone()));
        }
        tracing::info!(udp = ?server.udp, tcp = ?server.tcp, "answering questions for delegated zones");
        Ok(server)
    }

    pub(crate) fn udp(&self) -> &[SocketAddr] {
        &self.udp
    }

    pub(crate) fn tcp(&self) -> &[SocketAddr] {
        &self.tcp
    }

    pub(crate) async fn stop(mut self) {
        // Nobody listens if all tasks have ended already.
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
        tracing::info!(udp = ?self.udp, tcp = ?self.tcp, "stopped answering questions");
    }
}

/// Resolves once the server is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the server is gone, and that this task is about to be aborted.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn serve_udp(socket: UdpSocket, desk: Arc<Desk>, mut stop: watch::Receiver<bool>) {
    let socket = Arc::new(socket);
    let mut waiting = JoinSet::new();
    let mut buffer = vec![0; MAX_QUESTION];
    loop {
        let received = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = waiting.join_next(), if !waiting.is_empty() => continue,
            received = socket.recv_from(&mut buffer) => received,
        };
        let (length, from) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "could not receive a question");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let Some(octets) = buffer.get(..length) else { continue };
        let verdict = desk.limiter.check(from.ip());
        if verdict == Verdict::Drop {
            continue;
        }
        let answer = match answer::read(octets) {
            Asked::Nothing => continue,
            Asked::Error(answer) => answer,
            Asked::Question(question) if verdict == Verdict::Truncate => question.truncated(),
            Asked::Question(question) if desk.must_wait(&question) => {
                if waiting.len() < MAX_WAITING {
                    let (socket, desk) = (Arc::clone(&socket), Arc::clone(&desk));
                    waiting.spawn(async move {
                        desk.records.freshen().await;
                        let answer =
                            desk.records.with(|tree, complete| question.answer_over_udp(tree, complete));
                        send(&socket, &answer, from).await;
                    });
                }
                continue;
            }
            Asked::Question(question) => {
                desk.records.with(|tree, complete| question.answer_over_udp(tree, complete))
            }
        };
        send(&socket, &answer, from).await;
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(answer, to).await {
        tracing::debug!(%error, %to, "could not send an answer");
    }
}

/// The connections there are, the oldest first.
#[derive(Debug, Default)]
struct Open(VecDeque<(Network, AbortHandle)>);

impl Open {
    /// Makes room for one more by closing the oldest, of the same network if that has its share: who opens many
    /// shuts nobody else out, and a client that only wants an answer has it before it is the oldest.
    fn make_room(&mut self, network: Network) {
        self.0.retain(|(_, connection)| !connection.is_finished());
        let of_network = self.0.iter().filter(|(of, _)| *of == network).count();
        let oldest = if of_network >= MAX_PER_NETWORK {
            self.0.iter().position(|(of, _)| *of == network)
        } else {
            (self.0.len() >= MAX_CONNECTIONS).then_some(0)
        };
        if let Some((_, connection)) = oldest.and_then(|index| self.0.remove(index)) {
            connection.abort();
        }
    }
}

async fn serve_tcp(listener: TcpListener, desk: Arc<Desk>, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut open = Open::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let network = Network::of(from.ip());
                open.make_room(network);
                let connection = connections.spawn(connection(stream, from.ip(), Arc::clone(&desk)));
                open.0.push_back((network, connection));
            }
            Err(error) => {
                // Such as no file descriptors left: accepting again at once would spin.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let finished = async { while connections.join_next().await.is_some() {} };
    // What is left then is aborted with the set.
    let _ = tokio::time::timeout(GRACE, finished).await;
}

async fn connection(mut stream: TcpStream, from: IpAddr, desk: Arc<Desk>) {
    match tokio::time::timeout(CONNECTION, converse(&mut stream, &desk)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, %from, "a connection failed"),
        Err(_) => tracing::debug!(%from, "a connection took too long"),
    }
}

/// Answers one question after the other, in their order (RFC 7766 section 6.2.1.1).
async fn converse(stream: &mut TcpStream, desk: &Desk) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; MAX_QUESTION];
    for _ in 0..MAX_QUESTIONS {
        let Some(length) = in_time(read_question(stream, &mut buffer)).await? else { return Ok(()) };
        let Some(octets) = buffer.get(..length) else { return Ok(()) };
        let answer = match answer::read(octets) {
            Asked::Nothing => return Ok(()),
            Asked::Error(answer) => answer,
            Asked::Question(question) => {
                if desk.must_wait(&question) {
                    desk.records.freshen().await;
                }
                desk.records.with(|tree, complete| question.answer_over_tcp(tree, complete))
            }
        };
        let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
        let framed = [length.to_be_bytes().as_slice(), &answer].concat();
        in_time(stream.write_all(&framed)).await?;
    }
    Ok(())
}

/// The length of the next question; `None` if there is none any more, or it is too long.
async fn read_question(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let length = match stream.read_u16().await {
        Ok(length) => usize::from(length),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(question) = buffer.get_mut(..length) else { return Ok(None) };
    stream.read_exact(question).await?;
    Ok(Some(length))
}

async fn in_time<T>(call: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(IDLE, call).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
