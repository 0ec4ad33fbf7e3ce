//! [`Http01Standalone`]: a small HTTP server that lives as long as there is something to answer.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tower_service::Service;

use super::fetch::fetch_until_right;
use super::{Http01Responder, check};
use crate::{Challenge, ChallengeKind, ChallengeSolver, Deadline, Error, ErrorKind, Presentation, Result};

/// A request's header takes a CA milliseconds.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A whole connection, including the answer; each serves one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long connections may go on when the server stops.
const GRACE: Duration = Duration::from_secs(1);
const MAX_CONNECTIONS: usize = 128;

/// Answers http-01 challenges by a server of its own. Made by
/// [`Http01::standalone`](super::Http01::standalone).
///
/// It binds its address when the **first challenge is presented**, and closes it when the last one
/// has been cleaned up: port 80 is free in between. Dropping the solver closes it at once.
/// `[::]:80` serves IPv4 too on most systems. Ports below 1024 need root or `CAP_NET_BIND_SERVICE`.
///
/// A client gets 5 seconds for its header and 10 in all. Of more than 128 connections at once the
/// oldest is closed, so that idle ones shut nobody out.
///
/// Nothing outlives the process: after a restart acmekit presents again. A dropped `present` may
/// leave the server running, until clean-up; a dropped `cleanup` stops it without grace.
#[derive(Debug)]
pub struct Http01Standalone {
    address: SocketAddr,
    responder: Http01Responder,
    running: Mutex<Option<Server>>,
}

impl Http01Standalone {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, responder: Http01Responder::default(), running: Mutex::new(None) }
    }

    /// Where it listens now; `None` while there is nothing to answer.
    pub async fn local_addr(&self) -> Option<SocketAddr> {
        self.running.lock().await.as_ref().map(|server| server.local)
    }
}

#[async_trait]
impl ChallengeSolver for Http01Standalone {
    fn kind(&self) -> ChallengeKind {
        ChallengeKind::Http01
    }

    /// # Errors
    /// `Unsupported` if it is a wildcard or no http-01 challenge, `Protocol` if the token is not
    /// base64url.
    async fn prepare(&self, challenge: &Challenge, _: Deadline) -> Result<Presentation> {
        check(challenge)?;
        Ok(Presentation::new(challenge.clone()))
    }

    /// # Errors
    /// `Config` if the address cannot be bound.
    async fn present(&self, presentation: &Presentation, _: Deadline) -> Result<Presentation> {
        check(presentation.challenge())?;
        let mut running = self.running.lock().await;
        if running.as_mut().is_none_or(Server::has_ended) {
            *running = Some(Server::start(self.address, self.responder.clone()).await?);
        }
        self.responder.insert(presentation.challenge());
        Ok(presentation.clone())
    }

    /// Fetches the answer from the own listener.
    ///
    /// # Errors
    /// `NotFound` if nothing was presented here; `Timeout`.
    async fn ready(&self, presentation: &Presentation, deadline: Deadline) -> Result<()> {
        let Some(local) = self.local_addr().await else {
            return Err(Error::new(ErrorKind::NotFound, "http01.ready", "nothing has been presented here")
                .with("address", self.address));
        };
        let base = format!("http://{}", reachable(local));
        fetch_until_right(&base, presentation.challenge(), deadline).await
    }

    async fn cleanup(&self, presentation: &Presentation, _: Deadline) -> Result<()> {
        let mut running = self.running.lock().await;
        self.responder.remove(&presentation.challenge().token);
        if self.responder.count() == 0
            && let Some(server) = running.take()
        {
            server.stop().await;
        }
        Ok(())
    }
}

/// The address by which a listener is reached from this machine.
fn reachable(local: SocketAddr) -> SocketAddr {
    let ip = match local.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, local.port())
}

/// A running server. Dropping it aborts everything and closes the address.
#[derive(Debug)]
struct Server {
    local: SocketAddr,
    stop: oneshot::Sender<()>,
    tasks: JoinSet<()>,
}

impl Server {
    async fn start(address: SocketAddr, responder: Http01Responder) -> Result<Self> {
        let failed = |e: io::Error| {
            let hint = match e.kind() {
                io::ErrorKind::AddrInUse => {
                    "another server has it: use a webroot, or route to a responder in it"
                }
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need root or CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities)"
                }
                _ => "name an address of this machine, such as [::]:80",
            };
            Error::new(ErrorKind::Config, "http01.listen", "could not bind the address")
                .with("address", address)
                .with("reason", &e)
                .with_hint(hint)
                .with_source(e)
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, responder, stopped));
        tracing::info!(address = %local, "answering http-01 challenges");
        Ok(Self { local, stop, tasks })
    }

    fn has_ended(&mut self) -> bool {
        self.tasks.try_join_next().is_some()
    }

    async fn stop(mut self) {
        // Nobody listens if the task has ended already.
        let _ = self.stop.send(());
        while self.tasks.join_next().await.is_some() {}
        tracing::info!(address = %self.local, "stopped answering http-01 challenges");
    }
}

/// Serves until told to stop; then closes the address and gives connections a little time.
async fn accept(listener: TcpListener, responder: Http01Responder, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stopped => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() >= MAX_CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                open.push_back(connections.spawn(serve(stream, responder.clone())));
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

async fn serve(stream: TcpStream, responder: Http01Responder) {
    let service = service_fn(move |request| responder.clone().call(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an http-01 connection failed"),
        Err(_) => tracing::debug!("an http-01 connection took too long"),
    }
}
