//! The line client: one connection, one command, one answer, read to its end.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream as BlockingTcp};
use std::os::unix::net::UnixStream as BlockingUnix;
use std::time::Duration;

use acmekit_core::{Deadline, Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use zeroize::Zeroizing;

use crate::answer;
use crate::endpoint::{Address, Endpoint};

/// The longest answer that is kept: `show ssl cert` names every certificate of the process.
const MAX_ANSWER: usize = 16 << 20;

/// What happened to a command that was not answered.
#[derive(Debug)]
pub(crate) enum Lost {
    /// There was no connection: HAProxy has not seen it.
    Unsent(Error),
    /// It was sent, and no whole answer came: HAProxy may have obeyed.
    Unanswered(Error),
}

impl Lost {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Unsent(error) | Self::Unanswered(error) => error,
        }
    }
}

/// Asks HAProxy. Nothing is kept open between commands.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    endpoint: Endpoint,
    timeout: Duration,
    commit_budget: Duration,
}

impl Client {
    pub(crate) fn new(endpoint: Endpoint, timeout: Duration, commit_budget: Duration) -> Self {
        Self { endpoint, timeout, commit_budget }
    }

    /// Sends one command, with its payload, and reads the answer to its end.
    pub(crate) async fn ask(&self, line: &str) -> Result<String, Lost> {
        let deadline = Deadline::after(self.timeout);
        let connection = self.connect(deadline).await.map_err(Lost::Unsent)?;
        let exchange = async {
            match connection {
                Connection::Unix(stream) => self.exchange(stream, line).await,
                Connection::Tcp(stream) => self.exchange(stream, line).await,
            }
        };
        deadline.run("haproxy.command", "answer", exchange).await.map_err(Lost::Unanswered)
    }

    async fn exchange(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, line: &str) -> Result<String> {
        stream.write_all(line.as_bytes()).await.map_err(|e| lost(e, "could not send the command"))?;
        let mut answer = Vec::new();
        let mut buffer = vec![0; 16 << 10];
        let mut said_goodbye = false;
        // The sending side stays open until the answer is there: 3.2.0 dies of a half-closed socket.
        loop {
            let count = stream.read(&mut buffer).await.map_err(|e| lost(e, "could not read the answer"))?;
            if count == 0 {
                return Ok(String::from_utf8_lossy(&answer).into_owned());
            }
            answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
            if answer.len() > MAX_ANSWER {
                return Err(Error::new(ErrorKind::Protocol, "haproxy.command", "the answer does not end"));
            }
            if self.endpoint.is_master() && !said_goodbye && answer::is_whole(&answer, false) {
                said_goodbye = true;
                stream.write_all(b"quit\n").await.ok();
            }
        }
    }

    /// Sends a commit and stays with it to its end.
    ///
    /// If the connection closes while HAProxy works on a commit, HAProxy is left with a dangling
    /// pointer and may crash at the next command. So the exchange runs on a blocking thread, which
    /// neither a dropped future nor the end of the runtime takes down.
    pub(crate) async fn commit(&self, line: String) -> Result<String, Lost> {
        let connection = self.connect(Deadline::after(self.timeout)).await.map_err(Lost::Unsent)?;
        let (budget, master) = (self.commit_budget, self.endpoint.is_master());
        let exchange = tokio::task::spawn_blocking(move || {
            let deadline = Deadline::after(budget);
            match connection {
                Connection::Unix(stream) => {
                    let stream =
                        stream.into_std().and_then(|stream| stream.set_nonblocking(false).map(|()| stream));
                    stream.and_then(|stream| commit_blocking(stream, &line, deadline, master))
                }
                Connection::Tcp(stream) => {
                    let stream =
                        stream.into_std().and_then(|stream| stream.set_nonblocking(false).map(|()| stream));
                    stream.and_then(|stream| commit_blocking(stream, &line, deadline, master))
                }
            }
        });
        match exchange.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Lost::Unanswered(lost(error, "the commit was not answered"))),
            Err(error) => Err(Lost::Unanswered(
                Error::new(ErrorKind::Cancelled, "haproxy.commit", "the runtime ended").with_source(error),
            )),
        }
    }

    async fn connect(&self, deadline: Deadline) -> Result<Connection> {
        let connect = async {
            let connection = match self.endpoint.address() {
                Address::Unix(path) => UnixStream::connect(path).await.map(Connection::Unix),
                Address::Tcp(address) => TcpStream::connect(address).await.map(Connection::Tcp),
            };
            connection.map_err(|e| {
                let hint = match e.kind() {
                    io::ErrorKind::PermissionDenied => "run as a user who may use the socket",
                    _ => "is HAProxy running, with `stats socket … level admin` there?",
                };
                lost(e, "HAProxy cannot be reached").with("endpoint", &self.endpoint).with_hint(hint)
            })
        };
        deadline.run("haproxy.connect", "connect", connect).await
    }
}

enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

fn lost(error: io::Error, what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, "haproxy.command", what).with("reason", &error).with_source(error)
}

/// What the two kinds of blocking sockets have in common.
trait Blocking: Read + Write {
    fn wait_at_most(&self, wait: Duration) -> io::Result<()>;
    fn close(&self);
}

impl Blocking for BlockingUnix {
    fn wait_at_most(&self, wait: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(wait)).and_then(|()| self.set_write_timeout(Some(wait)))
    }
    fn close(&self) {
        self.shutdown(Shutdown::Both).ok();
    }
}

impl Blocking for BlockingTcp {
    fn wait_at_most(&self, wait: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(wait)).and_then(|()| self.set_write_timeout(Some(wait)))
    }
    fn close(&self) {
        self.shutdown(Shutdown::Both).ok();
    }
}

fn commit_blocking(
    mut stream: impl Blocking,
    line: &str,
    deadline: Deadline,
    master: bool,
) -> io::Result<String> {
    let wait = |stream: &dyn Blocking| match deadline.remaining() {
        left if left.is_zero() => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => stream.wait_at_most(left),
    };
    wait(&stream)?;
    stream.write_all(line.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        wait(&stream)?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        // Reading goes on in any case; only what is kept is limited.
        if answer.len() > MAX_ANSWER {
            answer.drain(4096..answer.len() - 4096);
        }
        if master && answer::is_whole(&answer, true) {
            break;
        }
    }
    stream.close();
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A command with a payload, as it goes over the wire. It holds the private key.
pub(crate) fn with_payload(command: &str, payload: &str, own_terminator: bool) -> Zeroizing<String> {
    let (start, end) = if own_terminator { (" <<%EOF%\n", "%EOF%\n") } else { (" <<\n", "\n") };
    let mut line = Zeroizing::new(String::with_capacity(command.len() + payload.len() + 24));
    for part in [command, start, payload, end] {
        line.push_str(part);
    }
    line
}
