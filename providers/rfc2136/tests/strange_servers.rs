//! Servers that do not answer as BIND does, byte by byte: accepted where the standard allows it,
//! and never believed without the signature.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use acmekit_core::{DnsName, DnsProvider, ErrorKind, TxtRecord};
use acmekit_rfc2136::{Algorithm, Config, Key, Rfc2136};
use common::{NAME, is_update, reply, signed, with_value, zone};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A server over TCP whose answers are what a function makes of the questions.
struct Fake {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Fake {
    async fn start(answer: impl Fn(&Message) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut question).await.unwrap();
                let answer = answer(&Message::from_vec(&question).unwrap());
                let _ = stream.write_u16(answer.len().try_into().unwrap()).await;
                let _ = stream.write_all(&answer).await;
            }
        });
        Self { address, _serving: serving }
    }

    fn provider(&self) -> Rfc2136 {
        let key = Key::new("k.test", Algorithm::HmacSha256, "c2VjcmV0");
        let mut config = Config::new(self.address.to_string(), key);
        config.timeout = Duration::from_secs(2);
        Rfc2136::new(config).unwrap()
    }

    async fn add(&self) -> acmekit_core::Result<()> {
        let record = TxtRecord::new(NAME.parse().unwrap(), "value");
        self.provider().add_txt(&zone(), &record).await.map(drop)
    }
}

#[tokio::test]
async fn done_without_a_signature_is_not_believed() {
    let fake = Fake::start(|message| reply(message, ResponseCode::NoError).to_vec().unwrap()).await;
    let error = fake.add().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth, "{}", error.report());
    assert!(error.to_string().contains("not signed"), "{error}");
}

#[tokio::test]
async fn a_refusal_without_a_signature_says_both_that_it_may_be() {
    let fake = Fake::start(|message| reply(message, ResponseCode::Refused).to_vec().unwrap()).await;
    let error = fake.add().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth, "{}", error.report());
    assert!(error.to_string().contains("wrong TSIG secret, or updates are not allowed"), "{error}");
}

#[tokio::test]
async fn noerror_with_nothing_changed_is_an_error() {
    let fake = Fake::start(|message| signed(message, reply(message, ResponseCode::NoError))).await;
    let error = fake.add().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{}", error.report());
    assert!(error.to_string().contains("NOERROR, but does not have the value"), "{error}");

    let keeps = |message: &Message| match is_update(message) {
        true => signed(message, reply(message, ResponseCode::NoError)),
        false => signed(message, with_value(message)),
    };
    let fake = Fake::start(keeps).await;
    let handle =
        fake.provider().add_txt(&zone(), &TxtRecord::new(NAME.parse().unwrap(), "value")).await.unwrap();
    let error = fake.provider().remove_txt(&handle).await.unwrap_err();
    assert!(error.to_string().contains("NOERROR, but still has the value"), "{error}");
}

#[tokio::test]
async fn a_server_that_answers_no_questions_is_taken_at_its_signed_word() {
    let hidden = |message: &Message| match is_update(message) {
        true => signed(message, reply(message, ResponseCode::NoError)),
        false => signed(message, reply(message, ResponseCode::Refused)),
    };
    Fake::start(hidden).await.add().await.unwrap();
}

#[tokio::test]
async fn a_server_that_wants_no_signature_on_questions_is_asked_without() {
    let plain = |message: &Message| match (is_update(message), message.signature.is_some()) {
        (true, _) => signed(message, reply(message, ResponseCode::NoError)),
        (false, true) => reply(message, ResponseCode::FormErr).to_vec().unwrap(),
        (false, false) => with_value(message).to_vec().unwrap(),
    };
    Fake::start(plain).await.add().await.unwrap();
}

#[tokio::test]
async fn a_server_with_views_is_asked_in_the_one_of_the_key() {
    let views = |message: &Message| match (is_update(message), message.signature.is_some()) {
        (true, _) => signed(message, reply(message, ResponseCode::NoError)),
        (false, true) => signed(message, with_value(message)),
        (false, false) => reply(message, ResponseCode::NXDomain).to_vec().unwrap(),
    };
    Fake::start(views).await.add().await.unwrap();
}

#[tokio::test]
async fn a_broken_zone_is_not_mistaken_for_its_parent() {
    let broken = |message: &Message| {
        let asked = message.queries[0].name().to_ascii();
        if asked != "example.test." {
            return signed(message, reply(message, ResponseCode::ServFail));
        }
        let mut parent = reply(message, ResponseCode::NoError);
        let name = Name::from_ascii("example.test.").unwrap();
        let soa = SOA::new(name.clone(), name.clone(), 1, 1, 1, 1, 1);
        parent.add_answer(Record::from_rdata(name, 1, RData::SOA(soa)));
        signed(message, parent)
    };
    let fake = Fake::start(broken).await;
    let deep: DnsName = "_acme-challenge.deep.example.test".parse().unwrap();
    let error = fake.provider().zone(&deep).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
    let found = fake.provider().zone(&"example.test".parse().unwrap()).await.unwrap();
    assert_eq!(found, Some(zone()));
}

#[tokio::test]
async fn nonsense_and_hanging_up_are_errors() {
    let nonsense = |message: &Message| {
        let mut bytes = reply(message, ResponseCode::NoError).to_vec().unwrap();
        bytes.truncate(14);
        bytes
    };
    let error = Fake::start(nonsense).await.add().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Unavailable), "{}", error.report());
    let error = Fake::start(|_| Vec::new()).await.add().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
}

#[tokio::test]
async fn an_answer_to_somebody_else_is_passed_over_until_the_timeout() {
    let stranger = |message: &Message| {
        let mut reply = reply(message, ResponseCode::NoError);
        reply.metadata.id = message.metadata.id.wrapping_add(1);
        let bytes = reply.to_vec().unwrap();
        // The length of what follows never comes: the connection is left open by a second, empty frame.
        [bytes.as_slice(), &[0, 0]].concat()
    };
    let error = Fake::start(stranger).await.add().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{}", error.report());
}
