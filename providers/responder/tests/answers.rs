//! What `dig` is told, over UDP, TCP and IPv6.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::Duration;

use acmekit_responder::Responder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use self::common::{V4, V6, add, address, config, dig, start, values};

const AT: &str = "_acme-challenge.www.acme.test";

async fn with_value() -> Responder {
    let responder = start(config().listen("[::1]:0".parse().unwrap()));
    add(&responder, AT, "value").await;
    responder
}

/// The status, the flags and the counts, as in `NOERROR`, `qr aa rd`, `ANSWER: 1, AUTHORITY: 0`.
async fn says(responder: &Responder, question: &[&str], wanted: &[&str]) -> String {
    let mut whole = String::new();
    for (family, way) in [(V4, "+notcp"), (V4, "+tcp"), (V6, "+notcp"), (V6, "+tcp")] {
        let question = [&[way], question].concat();
        whole = dig(address(responder, family), &question).await;
        for part in wanted {
            assert!(whole.contains(part), "{question:?} at {family}: `{part}` is missing in\n{whole}");
        }
    }
    whole
}

#[tokio::test]
async fn each_type_is_answered_over_each_way() {
    let responder = with_value().await;
    let soa = "\tSOA\tns.acme.test. hostmaster.acme.test. 1 3600 600 86400 0";
    says(&responder, &["acme.test", "SOA"], &["NOERROR", "qr aa rd;", "ANSWER: 1,", soa]).await;
    let servers = ["NOERROR", "ANSWER: 2,", "\tNS\tns.acme.test.", "\tNS\tns.example.test."];
    let glue = ["ns.acme.test.\t\t300\tIN\tA\t192.0.2.53", "ns.acme.test.\t\t300\tIN\tAAAA\t2001:db8::53"];
    says(&responder, &["acme.test", "NS"], &[servers.as_slice(), &glue].concat()).await;
    says(&responder, &[AT, "TXT"], &["NOERROR", "qr aa rd;", "ANSWER: 1, AUTHORITY: 0", "\tTXT\t\"value\""])
        .await;
    says(&responder, &["ns.acme.test", "AAAA"], &["NOERROR", "ANSWER: 1,", "2001:db8::53"]).await;
}

#[tokio::test]
async fn nothing_there_is_no_name_no_data_or_not_our_business() {
    let responder = with_value().await;
    let none = ["qr aa rd;", "ANSWER: 0, AUTHORITY: 1", "\tSOA\t"];
    let no_data = [["NOERROR"].as_slice(), &none].concat();
    says(&responder, &[AT, "CAA"], &no_data).await;
    says(&responder, &["acme.test", "CAA"], &no_data).await;
    says(&responder, &["www.acme.test", "TXT"], &no_data).await;
    says(&responder, &["nothing.acme.test", "CAA"], &[["NXDOMAIN"].as_slice(), &none].concat()).await;
    says(&responder, &["www.example.test", "TXT"], &["REFUSED", "qr rd;", "ANSWER: 0, AUTHORITY: 0"]).await;
    says(&responder, &["version.bind", "CH", "TXT"], &["REFUSED"]).await;
    says(&responder, &[AT, "ANY"], &["NOERROR", "ANSWER: 1,", "\tHINFO\t\"RFC8482\" \"\""]).await;
    // Not over UDP: `dig` asks for transfers over TCP.
    let transfer = dig(address(&responder, V4), &["acme.test", "AXFR"]).await;
    assert!(transfer.contains("Transfer failed"), "{transfer}");
}

#[tokio::test]
async fn edns_and_the_spelling_are_respected() {
    let responder = with_value().await;
    let edns = "EDNS: version: 0, flags: do; udp: 1232";
    says(&responder, &["+dnssec", AT, "TXT"], &["NOERROR", edns, "\"value\""]).await;
    let plain = says(&responder, &["+noedns", AT, "TXT"], &["NOERROR", "\"value\""]).await;
    assert!(!plain.contains("EDNS"), "{plain}");
    says(&responder, &["+edns=1", "+noednsneg", AT, "TXT"], &["BADVERS", "EDNS: version: 0"]).await;
    says(&responder, &["+opcode=NOTIFY", "acme.test", "SOA"], &["NOTIMP"]).await;
    let odd = "_aCMe-CHALLenge.wWw.Acme.TeST";
    says(&responder, &[odd, "TXT"], &[&format!("\n;{odd}."), &format!("\n{odd}.")]).await;
}

#[tokio::test]
async fn what_is_too_large_for_udp_is_told_over_tcp() {
    let responder = start(config());
    for number in 0..30 {
        add(&responder, AT, &format!("{number:0>43}")).await;
    }
    let server = address(&responder, V4);
    let cut = dig(server, &["+ignore", "+notcp", AT, "TXT"]).await;
    assert!(cut.contains("qr aa tc rd;") && cut.contains("ANSWER: 0,"), "{cut}");
    let cut = dig(server, &["+ignore", "+notcp", "+noedns", AT, "TXT"]).await;
    assert!(cut.contains("qr aa tc rd;"), "{cut}");
    assert_eq!(values(server, AT).await.len(), 30, "dig comes back over TCP by itself");
}

/// A question for the SOA record of acme.test.
fn question(id: u16) -> Vec<u8> {
    let mut octets = id.to_be_bytes().to_vec();
    octets.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    octets.extend(b"\x04acme\x04test\0\0\x06\0\x01");
    octets
}

#[tokio::test]
async fn several_questions_on_one_connection_are_answered_in_order() {
    let responder = start(config());
    let mut stream = TcpStream::connect(responder.tcp_addresses()[0]).await.unwrap();
    let mut all = Vec::new();
    for id in 0..100 {
        let question = question(id);
        all.extend(u16::try_from(question.len()).unwrap().to_be_bytes());
        all.extend(question);
    }
    stream.write_all(&all).await.unwrap();
    for id in 0..100 {
        let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[..2], u16::to_be_bytes(id));
        assert_eq!(answer[3] & 0x0f, 0);
    }
}

#[tokio::test]
async fn answers_are_not_answered() {
    let responder = start(config());
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(address(&responder, V4)).await.unwrap();
    let mut answer_of_somebody = question(1);
    answer_of_somebody[2] |= 0x80;
    socket.send(&answer_of_somebody).await.unwrap();
    socket.send(&question(2)).await.unwrap();
    // Both came the same way: were the first one answered, its answer would be the first.
    let mut answer = [0; 512];
    let received = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut answer)).await;
    received.unwrap().unwrap();
    assert_eq!(answer[..2], [0, 2]);
}
