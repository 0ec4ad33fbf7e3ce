//! The sockets: bound here, or handed over by who started the program.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use acmekit_core::{Error, ErrorKind, Result};
use socket2::{Domain, Protocol, Socket, Type};

/// How often another port is tried where any will do.
const ATTEMPTS: usize = 16;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Sockets that somebody else has bound: systemd's socket activation, or a parent that has the right to.
///
/// ```no_run
/// # use std::net::{TcpListener, UdpSocket};
/// # fn example(
/// #     config: acmekit_responder::Config, store: std::sync::Arc<dyn acmekit_core::Store>, udp: UdpSocket, tcp: TcpListener,
/// # ) -> acmekit_core::Result<()> {
/// use acmekit_responder::{Responder, Sockets};
///
/// // With the crate listenfd: `let mut fds = ListenFd::from_env();`, then
/// // `fds.take_udp_socket(0)?` and `fds.take_tcp_listener(1)?`, in the order of the .socket unit.
/// let responder = Responder::new(config, store)?;
/// responder.listen_on(Sockets::default().udp(udp).tcp(tcp))?;
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Sockets {
    /// Each answers questions over UDP.
    pub udp: Vec<UdpSocket>,
    /// Each answers questions over TCP.
    pub tcp: Vec<TcpListener>,
}

impl Sockets {
    /// Adds a socket for UDP.
    #[must_use]
    pub fn udp(mut self, socket: UdpSocket) -> Self {
        self.udp.push(socket);
        self
    }

    /// Adds a socket for TCP.
    #[must_use]
    pub fn tcp(mut self, listener: TcpListener) -> Self {
        self.tcp.push(listener);
        self
    }

    /// Binds each address over both: a resolver may ask over either (RFC 7766).
    pub(crate) fn bind(addresses: &[SocketAddr]) -> Result<Self> {
        let mut sockets = Self::default();
        for address in addresses {
            let (udp, tcp) = pair(*address).map_err(|e| refuse(*address, e))?;
            sockets = sockets.udp(udp).tcp(tcp);
        }
        Ok(sockets)
    }
}

/// Both at one port; at port 0, at any that is free for both.
fn pair(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempts = if address.port() == 0 { ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let tcp: TcpListener = open(address, Type::STREAM, Protocol::TCP)?.into();
        match open(tcp.local_addr()?, Type::DGRAM, Protocol::UDP) {
            Ok(udp) => return Ok((udp.into(), tcp)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // So that `[::]:53` and `0.0.0.0:53` go together.
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // Closed connections of the last run do not stand in the way.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    if kind == Type::STREAM {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

fn refuse(address: SocketAddr, e: io::Error) -> Error {
    let hint = match e.kind() {
        io::ErrorKind::AddrInUse => {
            "another program has it (`ss -lnup 'sport = :53'` tells which; often systemd-resolved on 127.0.0.53): \
             name an address of this machine on which nothing listens. Where that is another acmekit on the same store, \
             listen nowhere here: it answers for both"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE)"
        }
        io::ErrorKind::AddrNotAvailable => "name an address of this machine (`ip address` lists them)",
        _ => "name an address of this machine and a port, such as 192.0.2.53:53",
    };
    Error::new(ErrorKind::Config, "responder.listen", "could not bind the address")
        .with("address", address)
        .with("reason", &e)
        .with_hint(hint)
        .with_source(e)
}
