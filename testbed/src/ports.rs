//! Ports that no other test process takes meanwhile.
//!
//! Binding port 0, closing it and telling a server the number loses races as soon as tests run in parallel. Here
//! a port is reserved by a lock on a file named after it, for as long as the [`Port`] lives, and comes from below
//! the range the system hands to outgoing connections. A server may therefore be stopped and started again on it.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};

use crate::{TestbedError, files};

const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A loopback port reserved against every other process that uses this crate; given back on drop.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Where a server on it listens: 127.0.0.1 and the number.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

/// Reserves a port on which nothing listens, over TCP or UDP.
pub fn free_port() -> Result<Port, TestbedError> {
    let locks = lock_dir()?;
    for _ in 0..1_000 {
        let number = rand::random_range(RANGE);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(locks.join(number.to_string()))
            .map_err(TestbedError::io("open a port's lock file"))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() && nothing_listens(number) {
            return Ok(Port { number, _lock: lock });
        }
    }
    Err(TestbedError::unexpected("reserve a free port", "every one tried is taken"))
}

/// A random address of this machine's loopback network at which this port is free, over UDP and TCP: for servers that
/// must have one port, such as 53, beside others that run at the same time.
///
/// # Errors
/// If the port cannot be bound anywhere: one below 1024 needs root, `CAP_NET_BIND_SERVICE` or a lower
/// `net.ipv4.ip_unprivileged_port_start`.
pub fn free_loopback(port: u16) -> Result<Ipv4Addr, TestbedError> {
    let mut failed = None;
    for _ in 0..100 {
        let ip = Ipv4Addr::new(127, rand::random_range(2..250), rand::random(), rand::random_range(1..250));
        match (TcpListener::bind((ip, port)), UdpSocket::bind((ip, port))) {
            (Ok(_), Ok(_)) => return Ok(ip),
            (Err(error), _) | (_, Err(error)) => failed = Some(error),
        }
    }
    let what = format!(
        "bind port {port} of a loopback address (below 1024: run as root, with CAP_NET_BIND_SERVICE, or after `sysctl \
         net.ipv4.ip_unprivileged_port_start={port}`)"
    );
    Err(TestbedError::io(what)(failed.unwrap_or_else(|| std::io::ErrorKind::AddrNotAvailable.into())))
}

pub(crate) fn free_ports(count: usize) -> Result<Vec<Port>, TestbedError> {
    (0..count).map(|_| free_port()).collect()
}

/// The wildcard address too: a server bound there would take the loopback port with it.
fn nothing_listens(number: u16) -> bool {
    [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED]
        .iter()
        .all(|ip| TcpListener::bind((*ip, number)).is_ok() && UdpSocket::bind((*ip, number)).is_ok())
}

fn lock_dir() -> Result<PathBuf, TestbedError> {
    let user = rustix::process::getuid().as_raw();
    let dir = std::env::temp_dir().join(format!("acmekit-testbed-ports-{user}"));
    files::make_dir(&dir)?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_not_handed_out_again() {
        let held: Vec<Port> = free_ports(200).unwrap();
        let mut numbers: Vec<u16> = held.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 200);
    }

    #[test]
    fn a_loopback_address_has_the_port_free() {
        let port = free_port().unwrap();
        let ip = free_loopback(port.number()).unwrap();
        assert!(ip.is_loopback() && ip != Ipv4Addr::LOCALHOST);
        UdpSocket::bind((ip, port.number())).unwrap();
    }

    #[test]
    fn a_port_in_use_is_not_free() {
        let port = free_port().unwrap();
        let _listener = TcpListener::bind(port.addr()).unwrap();
        assert!(!nothing_listens(port.number()));
    }
}
