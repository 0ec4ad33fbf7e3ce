//! Against DNS servers made of one function each.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::{A, CNAME, NS, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::*;

/// A DNS server over UDP and TCP. What is answered to a question is sent, one message each.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Fake {
    pub(crate) async fn start(
        answers: impl Fn(&Message, Transport) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let (answers, asked) = (Arc::new(answers), Arc::new(AtomicUsize::new(0)));
        let mut serving = JoinSet::new();
        let (over_udp, count) = (Arc::clone(&answers), Arc::clone(&asked));
        serving.spawn(async move {
            let mut buffer = [0; 1500];
            loop {
                let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                for answer in over_udp(&Message::from_vec(&buffer[..length]).unwrap(), Transport::Udp) {
                    udp.send_to(&answer, client).await.unwrap();
                }
            }
        });
        serving.spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut question).await.unwrap();
                for answer in answers(&Message::from_vec(&question).unwrap(), Transport::Tcp) {
                    stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                    stream.write_all(&answer).await.unwrap();
                }
            }
        });
        Self { address, asked, _serving: serving }
    }

    /// One that has these records, and the SOA of `zone` beside every answer that has none.
    pub(crate) async fn with(zone: &'static str, records: Vec<(&'static str, RData)>) -> Self {
        Self::start(move |message, _| vec![zone_answer(message, zone, &records)]).await
    }

    /// One that receives and is silent.
    pub(crate) async fn silent() -> Self {
        Self::start(|_, _| Vec::new()).await
    }

    pub(crate) fn resolver(&self) -> Resolver {
        Resolver::new([self.address]).unwrap().authoritative_port(self.address.port())
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn wire(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

pub(crate) fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

pub(crate) fn text(value: &str) -> RData {
    RData::TXT(TXT::new(vec![value.to_owned()]))
}

pub(crate) fn alias(target: &str) -> RData {
    RData::CNAME(CNAME(wire(target)))
}

fn soa(zone: &str) -> Record {
    Record::from_rdata(wire(zone), 1, RData::SOA(SOA::new(wire(zone), wire(zone), 1, 1, 1, 1, 1)))
}

pub(crate) fn reply(to: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(to.metadata.id, to.metadata.op_code);
    reply.metadata.response_code = code;
    reply.metadata.authoritative = true;
    reply.queries = to.queries.clone();
    reply
}

pub(crate) fn zone_answer(message: &Message, zone: &str, records: &[(&str, RData)]) -> Vec<u8> {
    let asked = &message.queries[0];
    let here: Vec<&RData> =
        records.iter().filter(|(owner, _)| wire(owner) == *asked.name()).map(|(_, data)| data).collect();
    let is_apex = *asked.name() == wire(zone);
    let code = if here.is_empty() && !is_apex { ResponseCode::NXDomain } else { ResponseCode::NoError };
    let mut answer = reply(message, code);
    for data in here {
        if data.record_type() == asked.query_type() || data.record_type() == RecordType::CNAME {
            answer.add_answer(Record::from_rdata(asked.name().clone(), 1, data.clone()));
        }
    }
    if is_apex && asked.query_type() == RecordType::SOA {
        answer.add_answer(soa(zone));
    } else if answer.answers.is_empty() {
        answer.add_authority(soa(zone));
    }
    answer.to_vec().unwrap()
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

pub(crate) fn fixed(servers: &[&Fake]) -> Resolver {
    let unused = Resolver::new([servers[0].address]).unwrap();
    unused.authoritative(servers.iter().map(|server| server.address))
}

/// What the server says of a value at `a.test`.
async fn look(server: &Fake, value: &str) -> Verdict {
    let seen = fixed(&[server]).look_for_txt(&name("test"), &name("a.test"), value, soon()).await;
    seen.unwrap().remove(0).1
}

#[test]
fn resolvers_are_read_from_resolv_conf() {
    let text = "# c\nsearch example.com\nnameserver 192.0.2.1 # here\nnameserver\t2001:db8::1 \nnameserver fe80::1%eth0\nnameservers 192.0.2.9\n";
    assert_eq!(resolv_conf(text), ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
    assert!(Resolver::new(resolv_conf("")).is_err());
}

#[tokio::test]
async fn a_chain_of_aliases_is_followed_and_told() {
    let server = Fake::with(
        "test",
        vec![("a.test", alias("b.test")), ("b.test", alias("c.test")), ("c.test", text("v"))],
    );
    let found = server.await.resolver().canonical(&name("a.test"), soon()).await.unwrap();
    assert_eq!((found.name, found.hops), (name("c.test"), vec![name("a.test"), name("b.test")]));
}

#[tokio::test]
async fn a_circle_or_an_endless_chain_of_aliases_is_told_with_each_hop() {
    let circle = Fake::with("test", vec![("a.test", alias("b.test")), ("b.test", alias("a.test"))]).await;
    let error = circle.resolver().canonical(&name("a.test"), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("a.test -> b.test -> a.test"), "{error}");

    let endless = Fake::start(|message, _| {
        let asked = message.queries[0].name().clone();
        let number: u32 = asked.to_ascii().trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        let mut answer = reply(message, ResponseCode::NoError);
        answer.add_answer(Record::from_rdata(asked, 1, alias(&format!("n{}.test", number + 1))));
        vec![answer.to_vec().unwrap()]
    });
    let endless = endless.await;
    let error = endless.resolver().canonical(&name("n1.test"), soon()).await.unwrap_err();
    assert!(
        error.to_string().contains("n1.test -> n2.test") && error.to_string().contains("n17.test"),
        "{error}"
    );
    assert_eq!(endless.asked(), MAX_HOPS);
}

#[tokio::test]
async fn an_alias_to_a_name_that_cannot_be_written_is_an_error() {
    let target = Name::from_labels(["a b".as_bytes(), b"test"]).unwrap();
    let server = Fake::with("test", vec![("a.test", RData::CNAME(CNAME(target)))]).await;
    let error = server.resolver().canonical(&name("a.test"), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("target=a"), "{error}");
}

#[tokio::test]
async fn the_zone_is_found_in_passing_and_by_walking_up() {
    let server = Fake::with("zone.test", vec![]).await;
    assert_eq!(server.resolver().zone_apex(&name("a.b.zone.test"), soon()).await.unwrap(), name("zone.test"));
    assert_eq!(server.asked(), 1);

    // This one says nothing in passing, and answers for an alias with the SOA of where that leads.
    let terse = Fake::start(|message, _| {
        let mut answer = reply(message, ResponseCode::NoError);
        match message.queries[0].name().to_ascii().as_str() {
            "b.deep.zone.test." => {
                answer.add_answer(Record::from_rdata(wire("b.deep.zone.test"), 1, alias("x.zone.test")));
                answer.add_authority(soa("zone.test"));
            }
            "deep.zone.test." => drop(answer.add_answer(soa("deep.zone.test"))),
            _ => {}
        }
        vec![answer.to_vec().unwrap()]
    });
    let found = terse.await.resolver().zone_apex(&name("a.b.deep.zone.test"), soon()).await.unwrap();
    assert_eq!(found, name("deep.zone.test"));
}

#[tokio::test]
async fn a_name_in_no_zone_is_an_error() {
    let empty =
        Fake::start(|message, _| vec![reply(message, ResponseCode::NXDomain).to_vec().unwrap()]).await;
    let error = empty.resolver().zone_apex(&name("a.test"), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ZoneNotFound);
}

#[tokio::test]
async fn servers_are_found_by_name_and_asked_at_our_port() {
    let records = vec![
        ("zone.test", RData::NS(NS(wire("ns1.zone.test")))),
        ("zone.test", RData::NS(NS(wire("ns.gone.test")))),
        ("ns1.zone.test", RData::A(A::new(127, 0, 0, 1))),
        ("a.zone.test", text("value")),
    ];
    let server = Fake::with("zone.test", records).await;
    let resolver = server.resolver();
    let found = resolver.authoritative_servers(&name("zone.test"), soon()).await.unwrap();
    assert_eq!(found, [NameServer { name: name("ns1.zone.test"), address: server.address }]);
    resolver.wait_for_txt(&name("zone.test"), &name("a.zone.test"), "value", soon()).await.unwrap();
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let server = Fake::start(|message, transport| {
        let mut answer = reply(message, ResponseCode::NoError);
        match transport {
            Transport::Udp => answer.metadata.truncation = true,
            _ => drop(answer.add_answer(Record::from_rdata(wire("a.test"), 1, text(&"v".repeat(255))))),
        }
        vec![answer.to_vec().unwrap()]
    });
    let server = server.await;
    assert_eq!(look(&server, &"v".repeat(255)).await, Verdict::Seen);
}

#[tokio::test]
async fn a_forged_answer_is_passed_over() {
    let server = Fake::start(|message, _| {
        let mut forged = reply(message, ResponseCode::NXDomain);
        forged.metadata.id = message.metadata.id.wrapping_add(1);
        let mut other = reply(message, ResponseCode::NXDomain);
        other.queries[0].set_name(wire("other.test"));
        let mut right = reply(message, ResponseCode::NoError);
        right.add_answer(Record::from_rdata(wire("a.test"), 1, text("value")));
        [forged, other, right].map(|answer| answer.to_vec().unwrap()).to_vec()
    });
    let server = server.await;
    assert_eq!(look(&server, "value").await, Verdict::Seen);
}

#[tokio::test]
async fn a_server_that_does_not_know_edns_is_asked_without() {
    let server = Fake::start(|message, _| {
        let code = if message.edns.is_some() { ResponseCode::FormErr } else { ResponseCode::NoError };
        let mut answer = reply(message, code);
        if code == ResponseCode::NoError {
            answer.add_answer(Record::from_rdata(wire("a.test"), 1, text("value")));
        }
        vec![answer.to_vec().unwrap()]
    });
    let server = server.await;
    assert_eq!(look(&server, "value").await, Verdict::Seen);
}

#[tokio::test]
async fn nonsense_is_an_error() {
    let server = Fake::start(|message, _| {
        let mut bytes = reply(message, ResponseCode::NoError).to_vec().unwrap();
        // Three answers are promised; none comes.
        bytes[7] = 3;
        vec![bytes]
    });
    let error = server.await.resolver().canonical(&name("a.test"), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}

#[tokio::test]
async fn a_dead_resolver_costs_its_time_once() {
    let (dead, server) = (Fake::silent().await, Fake::with("test", vec![]).await);
    let resolver = Resolver::new([dead.address, server.address]).unwrap();
    resolver.canonical(&name("a.test"), soon()).await.unwrap();
    let before = dead.asked();
    for _ in 0..3 {
        resolver.canonical(&name("a.test"), soon()).await.unwrap();
    }
    assert_eq!((dead.asked(), server.asked()), (before, 4));
}

#[tokio::test]
async fn a_resolver_that_fails_is_asked_three_times() {
    let times = AtomicUsize::new(0);
    let flaky = Fake::start(move |message, _| {
        let code = match times.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => ResponseCode::ServFail,
            _ => ResponseCode::NXDomain,
        };
        vec![reply(message, code).to_vec().unwrap()]
    });
    flaky.await.resolver().canonical(&name("a.test"), soon()).await.unwrap();

    let broken =
        Fake::start(|message, _| vec![reply(message, ResponseCode::ServFail).to_vec().unwrap()]).await;
    let error = broken.resolver().canonical(&name("a.test"), soon()).await.unwrap_err();
    assert_eq!((error.kind(), broken.asked()), (ErrorKind::Unavailable, 3), "{error}");
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn a_silent_resolver_costs_the_deadline() {
    let silent = Fake::silent().await;
    let deadline = Deadline::after(Duration::from_millis(300));
    let error = silent.resolver().canonical(&name("a.test"), deadline).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains(&silent.address.to_string()), "{error}");
}

#[tokio::test]
async fn a_server_that_lags_is_waited_for() {
    let times = AtomicUsize::new(0);
    let lags = Fake::start(move |message, _| {
        let records = match times.fetch_add(1, Ordering::Relaxed) {
            0..=2 => vec![("a.test", text("old"))],
            _ => vec![("a.test", text("old")), ("a.test", text("value"))],
        };
        vec![zone_answer(message, "test", &records)]
    });
    let (quick, lags) = (Fake::with("test", vec![("a.test", text("value"))]).await, lags.await);
    let resolver = fixed(&[&quick, &lags]);
    resolver.wait_for_txt(&name("test"), &name("a.test"), "value", soon()).await.unwrap();
    // Who has the value is not asked again.
    assert_eq!((quick.asked(), lags.asked()), (1, 4));
}

#[tokio::test]
async fn a_dead_server_is_tolerated_when_the_others_agree() {
    let (good, down) = (Fake::with("test", vec![("a.test", text("value"))]).await, Fake::silent().await);
    let closed = down.address;
    drop(down);
    let resolver = fixed(&[&good]).authoritative([good.address, closed]);
    resolver.wait_for_txt(&name("test"), &name("a.test"), "value", soon()).await.unwrap();
}

#[tokio::test]
async fn who_does_not_see_it_is_told_by_name_and_address() {
    let good = Fake::with("test", vec![("a.test", text("value"))]).await;
    let other = Fake::with("test", vec![("a.test", text("old")), ("a.test", text("older"))]).await;
    let unknown = Fake::with("test", vec![]).await;
    let refuses =
        Fake::start(|message, _| vec![reply(message, ResponseCode::Refused).to_vec().unwrap()]).await;
    let silent = Fake::silent().await;
    let resolver = fixed(&[&good, &other, &unknown, &refuses, &silent]);
    let deadline = Deadline::after(Duration::from_secs(2));
    let error = resolver.wait_for_txt(&name("test"), &name("a.test"), "value", deadline).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    for (server, says) in [
        (&good, "has it"),
        (&other, "has 2 other value(s), but not this one yet"),
        (&unknown, "does not know the name yet"),
        (&refuses, "does not serve the zone (Query Refused)"),
        (&silent, "does not answer"),
    ] {
        let told = format!("test at {} {says}", server.address);
        assert!(error.to_string().contains(&told), "`{told}` is not in: {error}");
    }
    assert!(error.to_string().contains("phase=propagation"), "{error}");
}

#[tokio::test]
async fn that_nobody_answers_is_no_agreement() {
    let (one, two) = (Fake::silent().await, Fake::silent().await);
    let resolver = fixed(&[&one, &two]);
    drop((one, two));
    let deadline = Deadline::after(Duration::from_secs(1));
    let error = resolver.wait_for_txt(&name("test"), &name("a.test"), "value", deadline).await.unwrap_err();
    assert_eq!(error.to_string().matches("does not answer").count(), 2, "{error}");
}
