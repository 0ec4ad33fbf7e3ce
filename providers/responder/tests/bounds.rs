//! What strangers can do: floods, connections that only stand, and noise.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use acmekit_testbed::wait_for;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::Instant;

use self::common::{V4, add, address, config, start, values};

const SOON: Duration = Duration::from_secs(20);

fn question() -> Vec<u8> {
    let mut octets = vec![0x2a, 0x2a, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    octets.extend(b"\x04acme\x04test\0\0\x06\0\x01");
    octets
}

async fn asker(from: &str, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((from.parse::<IpAddr>().unwrap(), 0)).await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}

/// Asks once; `None` if no answer comes in the time.
async fn ask(socket: &UdpSocket, within: Duration) -> Option<Vec<u8>> {
    socket.send(&question()).await.unwrap();
    let mut answer = vec![0; 1500];
    let length = tokio::time::timeout(within, socket.recv(&mut answer)).await.ok()?.unwrap();
    answer.truncate(length);
    Some(answer)
}

#[tokio::test]
async fn a_flood_from_one_network_is_limited_and_others_are_served() {
    let responder = start(config().answers_per_second(5));
    let server = address(&responder, V4);
    let flood = asker("127.0.0.1", server).await;
    let began = Instant::now();
    for _ in 0..200 {
        flood.send(&question()).await.unwrap();
    }
    let (mut whole, mut cut, mut answer) = (0, 0, vec![0; 1500]);
    let quiet = Duration::from_secs(1);
    while let Ok(length) = tokio::time::timeout(quiet, flood.recv(&mut answer)).await {
        if answer[2] & 0x02 != 0 {
            assert_eq!(length.unwrap(), question().len(), "no larger than the question");
            cut += 1;
        } else {
            whole += 1;
        }
    }
    // Two seconds' worth at once, and then five a second for as long as they came.
    let most = 10.0 + 5.0 * began.elapsed().as_secs_f64();
    assert!(whole >= 10 && f64::from(whole) <= most, "{whole} whole, {cut} cut");
    assert!(cut >= 20 && whole + cut <= 180, "{whole} whole, {cut} cut");
    let other = asker("127.0.1.1", server).await;
    let answer = ask(&other, Duration::from_secs(5)).await.unwrap();
    assert_eq!(answer[2] & 0x02, 0, "another network has its own share");
    // And who is limited still gets everything over TCP.
    let mut stream = TcpStream::connect(server).await.unwrap();
    assert_eq!(ask_over(&mut stream).await.unwrap()[3] & 0x0f, 0);
}

async fn ask_over(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let question = question();
    stream.write_u16(u16::try_from(question.len()).unwrap()).await?;
    stream.write_all(&question).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from.parse::<IpAddr>().unwrap(), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Whether the other side has closed it.
fn is_closed(stream: &TcpStream) -> bool {
    !matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn many_connections_of_one_network_shut_nobody_out() {
    let responder = start(config());
    let server = responder.tcp_addresses()[0];
    let mut other = connect("127.0.1.1", server).await;
    ask_over(&mut other).await.unwrap();
    let mut flood = Vec::new();
    for _ in 0..60 {
        flood.push(connect("127.0.0.1", server).await);
    }
    let open = || flood.iter().filter(|stream| !is_closed(stream)).count();
    let bounded =
        wait_for(SOON, "16 connections are left", || std::future::ready((open() == 16).then_some(())));
    bounded.await.unwrap();
    ask_over(&mut other).await.unwrap();
    ask_over(flood.last_mut().unwrap()).await.unwrap();
}

#[tokio::test]
async fn connections_of_many_networks_are_bounded_too() {
    let responder = start(config());
    let server = responder.tcp_addresses()[0];
    let mut flood = Vec::new();
    for number in 0..200 {
        flood.push(connect(&format!("127.1.{number}.1"), server).await);
    }
    let open = || flood.iter().filter(|stream| !is_closed(stream)).count();
    let bounded =
        wait_for(SOON, "128 connections are left", || std::future::ready((open() == 128).then_some(())));
    bounded.await.unwrap();
    ask_over(&mut connect("127.0.0.1", server).await).await.unwrap();
}

#[tokio::test]
async fn silent_and_slow_clients_are_hung_up_on() {
    let responder = start(config());
    let server = responder.tcp_addresses()[0];
    let silent = connect("127.0.0.1", server).await;
    let mut half = connect("127.0.0.1", server).await;
    half.write_all(&[0, 30, 1, 2, 3]).await.unwrap();
    // One octet a second would be no silence, but it is one question all the time.
    let mut slow = connect("127.0.0.1", server).await;
    let trickle = async {
        for octet in [0, 200].into_iter().chain(std::iter::repeat_n(7, 60)) {
            if slow.write_all(&[octet]).await.is_err() || is_closed(&slow) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        false
    };
    let ended = wait_for(SOON, "idle connections are closed", || {
        std::future::ready((is_closed(&silent) && is_closed(&half)).then_some(()))
    });
    let (ended, trickled) = tokio::join!(ended, trickle);
    ended.unwrap();
    assert!(trickled, "a question that never ends was waited for");
}

#[tokio::test]
async fn too_long_a_message_ends_its_connection_alone() {
    let responder = start(config());
    let server = responder.tcp_addresses()[0];
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(&[0xff, 0xff, 0, 0]).await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap().ok();
    assert!(rest.is_empty());
    ask_over(&mut TcpStream::connect(server).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn noise_is_survived() {
    let responder = start(config().answers_per_second(0));
    add(&responder, "www.acme.test", "value").await;
    let server = address(&responder, V4);
    let socket = asker("127.0.0.1", server).await;
    let mut octets = question();
    for round in 0..20_000_usize {
        // Each octet of a question takes each value, and it is cut everywhere.
        let at = round % octets.len();
        octets[at] = octets[at].wrapping_add(37);
        let length = octets.len() - round % 5;
        // A full queue is noise, too.
        let _ = socket.try_send(&octets[..length]);
    }
    let shown = wait_for(SOON, "the value is still answered", || async {
        (values(server, "www.acme.test").await == ["value"]).then_some(())
    });
    shown.await.unwrap();
}
