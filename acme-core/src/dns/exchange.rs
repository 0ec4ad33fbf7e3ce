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

/// A response with the same id and the same question (RFC 5452 section 9.1). Only errors and
/// answers to updates may come without the question.
pub(super) fn answers(message: &[u8], answer: &[u8]) -> bool {
    let (Some(asked), Some(head)) = (message.get(..12), answer.get(..12)) else { return false };
    let is_response = head.get(2).is_some_and(|flags| flags & 0x80 != 0);
    if !is_response || head.get(..2) != asked.get(..2) {
        return false;
    }
    let may_lack_question =
        matches!(head, [_, _, flags, code, ..] if code & 0x0f != 0 || flags & 0x78 == UPDATE);
    match head.get(4..6) {
        Some([0, 0]) => may_lack_question,
        _ => question(message).is_none_or(|question| {
            let echoed = answer.get(12..12 + question.len()).unwrap_or_default();
            // Names compare without case; what follows them are numbers.
            let (name, numbers) = question.split_at(question.len() - 4);
            echoed.split_at_checked(name.len()).is_some_and(|(echoed_name, echoed_numbers)| {
                echoed_name.eq_ignore_ascii_case(name) && echoed_numbers == numbers
            })
        }),
    }
}

/// The opcode of RFC 2136, where it stands in a header.
const UPDATE: u8 = 5 << 3;

/// The first question of a message acmekit wrote, which has no compressed names: name, type, class.
fn question(message: &[u8]) -> Option<&[u8]> {
    let mut at = 12;
    loop {
        match *message.get(at)? {
            0 => return message.get(12..at + 5),
            length => at += 1 + usize::from(length),
        }
    }
}

fn is_truncated(answer: &[u8]) -> bool {
    answer.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u8, flags: [u8; 2], name: &[u8], kind: u8) -> Vec<u8> {
        let mut bytes = vec![0, id, flags[0], flags[1], 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.push(u8::try_from(name.len()).unwrap());
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&[0, 0, kind, 0, 1]);
        bytes
    }

    #[test]
    fn only_a_response_with_the_same_id_and_question_is_an_answer() {
        let asked = message(7, [0, 0], b"name", 16);
        assert!(answers(&asked, &message(7, [0x80, 0], b"name", 16)));
        assert!(answers(&asked, &message(7, [0x80, 0], b"NAME", 16)));
        for stranger in [
            message(8, [0x80, 0], b"name", 16),
            message(7, [0x00, 0], b"name", 16),
            message(7, [0x80, 0], b"nome", 16),
            message(7, [0x80, 0], b"name", 48),
            message(7, [0x80, 0], b"names", 16),
            vec![0, 7, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(!answers(&asked, &stranger), "{stranger:?}");
        }
    }

    #[test]
    fn only_errors_and_answers_to_updates_may_lack_the_question() {
        let bare = |flags: u8, code: u8| vec![0, 7, flags, code, 0, 0, 0, 0, 0, 0, 0, 0];
        let asked = message(7, [0, 0], b"name", 16);
        assert!(!answers(&asked, &bare(0x80, 0)));
        assert!(answers(&asked, &bare(0x80, 1)), "FORMERR");
        assert!(answers(&message(7, [UPDATE, 0], b"zone", 6), &bare(0x80 | UPDATE, 0)));
    }

    proptest::proptest! {
        #[test]
        fn any_two_messages_can_be_compared(
            one in proptest::collection::vec(0u8.., 0..40),
            two in proptest::collection::vec(0u8.., 0..40),
        ) {
            answers(&one, &two);
            let mut echoed = one.clone();
            if let Some(flags) = echoed.get_mut(2) {
                *flags |= 0x80;
            }
            answers(&one, &echoed);
        }
    }
}
