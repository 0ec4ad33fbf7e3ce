//! One DNS message to one server, and its answer.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::{Deadline, Error, ErrorKind, Result};

/// How a DNS message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Transport {
    /// UDP (RFC 1035 section 4.2.1). A truncated answer is asked for again over TCP.
    Udp,
    /// TCP (RFC 7766).
    Tcp,
}

/// Sends one message in wire format and answers the server's, whose id and question fit.
///
/// What does not fit is passed over as the forgery it may be (RFC 5452 section 9), until the
/// deadline.
///
/// # Errors
/// `Unavailable` if the server cannot be reached or hangs up, `Timeout` at the deadline.
pub async fn exchange(
    server: SocketAddr,
    message: &[u8],
    transport: Transport,
    deadline: Deadline,
) -> Result<Vec<u8>> {
    let ask = async {
        let answer = match transport {
            Transport::Udp => match over_udp(server, message).await? {
                answer if is_truncated(&answer) => over_tcp(server, message).await?,
                answer => answer,
            },
            Transport::Tcp => over_tcp(server, message).await?,
        };
        Ok(answer)
    };
    let unreachable = |e: io::Error| {
        Error::new(ErrorKind::Unavailable, "dns.exchange", "the DNS server cannot be reached")
            .with("server", server)
            .with("reason", &e)
            .with_source(e)
    };
    let asked = deadline.run("dns.exchange", "DNS query", async { ask.await.map_err(unreachable) }).await;
    asked.map_err(|e| if e.kind() == ErrorKind::Timeout { e.with("server", server) } else { e })
}

async fn over_udp(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let mut buffer = vec![0; 4096];
    // A datagram may be lost either way: ask again after one second, then two, then four, …
    let mut patience = std::time::Duration::from_secs(1);
    loop {
        socket.send(message).await?;
        let listen = async {
            loop {
                let length = socket.recv(&mut buffer).await?;
                let answer = buffer.get(..length).unwrap_or_default();
                if answers(message, answer) {
                    return io::Result::Ok(answer.to_vec());
                }
            }
        };
        if let Ok(done) = tokio::time::timeout(patience, listen).await {
            return done;
        }
        patience *= 2;
    }
}

async fn over_tcp(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let length = u16::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await?;
    loop {
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        if answers(message, &answer) {
            return Ok(answer);
        }
    }
}

/// Same id, and a response. The question is compared by who decodes: some servers leave it out of
/// answers to updates.
fn answers(message: &[u8], answer: &[u8]) -> bool {
    answer.len() >= 12
        && answer.get(..2) == message.get(..2)
        && answer.get(2).is_some_and(|flags| flags & 0x80 != 0)
}

fn is_truncated(answer: &[u8]) -> bool {
    answer.get(2).is_some_and(|flags| flags & 0x02 != 0)
}
