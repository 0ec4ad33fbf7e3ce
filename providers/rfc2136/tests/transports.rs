//! Servers that take one transport only, are slow, cut their answers, or leave the question out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use acmekit_core::dns::Transport;
use acmekit_core::{DnsName, DnsProvider, Error, ErrorKind, RecordHandle, Result, TxtRecord};
use acmekit_rfc2136::{Algorithm, Config, Key, Rfc2136};
use acmekit_testbed::Bind;
use common::{NAME, is_update, reply, signed, with_value, zone};
use hickory_proto::op::{Message, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

/// What is answered, and after how long.
type Answer = dyn Fn(&Message, Transport) -> (Duration, Option<Vec<u8>>) + Send + Sync;

/// A server over either transport, or both, at one port.
struct Fake {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Fake {
    async fn start(
        transports: &[Transport],
        answer: impl Fn(&Message, Transport) -> (Duration, Option<Vec<u8>>) + Send + Sync + 'static,
    ) -> Self {
        let answer: Arc<Answer> = Arc::new(answer);
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let mut serving = JoinSet::new();
        // The other one's socket is closed here.
        if transports.contains(&Transport::Udp) {
            serving.spawn(over_udp(udp, Arc::clone(&answer)));
        }
        if transports.contains(&Transport::Tcp) {
            serving.spawn(over_tcp(tcp, answer));
        }
        Self { address, _serving: serving }
    }

    async fn add(&self, transport: Transport) -> Result<RecordHandle> {
        let key = Key::new("k.test", Algorithm::HmacSha256, "c2VjcmV0");
        let mut config = Config::new(self.address.to_string(), key);
        (config.timeout, config.transport) = (Duration::from_secs(4), transport);
        let record = TxtRecord::new(NAME.parse().unwrap(), "value");
        Rfc2136::new(config).unwrap().add_txt(&zone(), &record).await
    }
}

async fn over_udp(udp: UdpSocket, answer: Arc<Answer>) {
    let mut buffer = [0; 1500];
    loop {
        let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
        let (after, answer) = answer(&Message::from_vec(&buffer[..length]).unwrap(), Transport::Udp);
        tokio::time::sleep(after).await;
        if let Some(answer) = answer {
            udp.send_to(&answer, client).await.unwrap();
        }
    }
}

async fn over_tcp(tcp: TcpListener, answer: Arc<Answer>) {
    let mut held = Vec::new();
    while let Ok((mut stream, _)) = tcp.accept().await {
        let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut question).await.unwrap();
        let (after, answer) = answer(&Message::from_vec(&question).unwrap(), Transport::Tcp);
        tokio::time::sleep(after).await;
        if let Some(answer) = answer {
            let _ = stream.write_u16(answer.len().try_into().unwrap()).await;
            let _ = stream.write_all(&answer).await;
        }
        held.push(stream);
    }
}

/// As a server does that has the key and does what it is told.
fn right(message: &Message) -> Vec<u8> {
    match is_update(message) {
        true => signed(message, reply(message, ResponseCode::NoError)),
        false => signed(message, with_value(message)),
    }
}

const AT_ONCE: Duration = Duration::ZERO;

#[track_caller]
fn advises(error: &Error, kind: ErrorKind, transport: &str) {
    assert_eq!(error.kind(), kind, "{}", error.report());
    let hint = error.hint().unwrap_or_default();
    assert!(hint.contains("`transport`") && hint.contains(&format!("`{transport}`")), "{hint}");
}

#[tokio::test]
async fn a_server_that_takes_tcp_alone_is_told_to_whoever_uses_udp() {
    let tcp_alone = Fake::start(&[Transport::Tcp], |message, _| (AT_ONCE, Some(right(message)))).await;
    tcp_alone.add(Transport::Tcp).await.unwrap();
    advises(&tcp_alone.add(Transport::Udp).await.unwrap_err(), ErrorKind::Unavailable, "tcp");
    // Datagrams are dropped on the way.
    let dropped = Fake::start(&[Transport::Udp, Transport::Tcp], |message, transport| {
        (AT_ONCE, (transport == Transport::Tcp).then(|| right(message)))
    })
    .await;
    dropped.add(Transport::Tcp).await.unwrap();
    let error = dropped.add(Transport::Udp).await.unwrap_err();
    advises(&error, ErrorKind::Timeout, "tcp");
    assert!(error.to_string().contains("sending the update"), "{error}");
}

#[tokio::test]
async fn a_server_that_takes_udp_alone_is_told_to_whoever_uses_tcp() {
    let udp_alone = Fake::start(&[Transport::Udp], |message, _| (AT_ONCE, Some(right(message)))).await;
    udp_alone.add(Transport::Udp).await.unwrap();
    advises(&udp_alone.add(Transport::Tcp).await.unwrap_err(), ErrorKind::Unavailable, "udp");
    let silent = Fake::start(&[Transport::Udp, Transport::Tcp], |message, transport| {
        (AT_ONCE, (transport == Transport::Udp).then(|| right(message)))
    })
    .await;
    advises(&silent.add(Transport::Tcp).await.unwrap_err(), ErrorKind::Timeout, "udp");
}

#[tokio::test]
async fn a_truncated_answer_is_had_over_tcp_for_updates_and_questions_alike() {
    let cut = |message: &Message, transport| {
        let answer = match transport {
            Transport::Udp => {
                let mut cut = reply(message, ResponseCode::NoError);
                cut.metadata.truncation = true;
                signed(message, cut)
            }
            _ => right(message),
        };
        (AT_ONCE, Some(answer))
    };
    Fake::start(&[Transport::Udp, Transport::Tcp], cut).await.add(Transport::Udp).await.unwrap();
    // Where there is no TCP to go to, that is an error and no success.
    let error = Fake::start(&[Transport::Udp], cut).await.add(Transport::Udp).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
}

#[tokio::test]
async fn a_slow_server_is_waited_for_within_the_timeout() {
    for transport in [Transport::Tcp, Transport::Udp] {
        let slow = |message: &Message, _| {
            let after = if is_update(message) { Duration::from_millis(1500) } else { AT_ONCE };
            (after, Some(right(message)))
        };
        Fake::start(&[transport], slow).await.add(transport).await.unwrap();
        let stuck = |message: &Message, _| (Duration::from_secs(60), Some(right(message)));
        let error = Fake::start(&[transport], stuck).await.add(transport).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
        assert!(error.to_string().contains("sending the update: no end within 4s"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_to_an_update_need_not_repeat_the_zone() {
    // RFC 2136 section 3.8: the other sections may be empty. Twelve octets of header, and the signature.
    for transport in [Transport::Tcp, Transport::Udp] {
        let bare = |message: &Message, _| {
            let answer = match is_update(message) {
                true => {
                    let mut bare = reply(message, ResponseCode::NoError);
                    bare.queries.clear();
                    assert_eq!(bare.to_vec().unwrap().len(), 12);
                    signed(message, bare)
                }
                false => right(message),
            };
            (AT_ONCE, Some(answer))
        };
        Fake::start(&[transport], bare).await.add(transport).await.unwrap();
    }
}

/// Only a header: the message's id, a response to an update, the code, and nothing in any section.
fn header(message: &Message, code: u8) -> Vec<u8> {
    let [high, low] = message.metadata.id.to_be_bytes();
    vec![high, low, 0xa8, code, 0, 0, 0, 0, 0, 0, 0, 0]
}

#[tokio::test]
async fn a_refusal_of_twelve_octets_is_understood() {
    for (code, kind, words) in [
        (1, ErrorKind::Protocol, "Form Error"),
        (2, ErrorKind::Unavailable, "SERVFAIL"),
        (4, ErrorKind::Unsupported, "NOTIMP"),
        (5, ErrorKind::Auth, "refuses, unsigned"),
        (9, ErrorKind::Auth, "neither key nor zone (NOTAUTH, unsigned)"),
        (10, ErrorKind::Config, "NOTZONE"),
    ] {
        let refuses = move |message: &Message, _| (AT_ONCE, Some(header(message, code)));
        let error = Fake::start(&[Transport::Tcp], refuses).await.add(Transport::Tcp).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{}", error.report());
        assert!(error.to_string().contains(words), "`{words}` is not in: {error}");
    }
    // Only a refusal: that it was done has to be signed.
    let done = |message: &Message, _| (AT_ONCE, Some(header(message, 0)));
    let error = Fake::start(&[Transport::Tcp], done).await.add(Transport::Tcp).await.unwrap_err();
    assert!(error.to_string().contains("not signed"), "{error}");
}

#[tokio::test]
async fn a_signed_notauth_is_about_the_zone_and_not_about_the_key() {
    let elsewhere =
        |message: &Message, _| (AT_ONCE, Some(signed(message, reply(message, ResponseCode::NotAuth))));
    let error = Fake::start(&[Transport::Tcp], elsewhere).await.add(Transport::Tcp).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.report());
    assert!(error.to_string().contains("zone=example.test"), "{error}");
}

#[tokio::test]
async fn a_server_on_ipv6_takes_updates_over_both_transports() {
    let bind = Bind::builder().zone("example.test").on_ipv6().start().await.unwrap();
    assert!(bind.addr().is_ipv6());
    for transport in [Transport::Tcp, Transport::Udp] {
        let key = Key::new(bind.tsig_name(), Algorithm::HmacSha256, bind.tsig_secret_base64());
        let mut config = Config::new(bind.addr().to_string(), key);
        config.transport = transport;
        let provider = Rfc2136::new(config).unwrap();
        let name: DnsName = NAME.parse().unwrap();
        assert_eq!(provider.zone(&name).await.unwrap(), Some(zone()));
        let handle = provider.add_txt(&zone(), &TxtRecord::new(name, "value")).await.unwrap();
        assert_eq!(bind.query_txt(NAME).await.unwrap(), ["value"]);
        provider.remove_txt(&handle).await.unwrap();
        assert_eq!(bind.txt_records("example.test").await.unwrap(), []);
    }
}
