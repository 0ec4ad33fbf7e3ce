//! The server: one message, and its answer.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use acmekit_core::dns::{Transport, exchange};
use acmekit_core::{Clock, Deadline, DnsName, Error, ErrorKind, Result};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::tsig::TSIG;
use hickory_proto::rr::{RData, Record, RecordType, TSigVerifier, TSigner};

use crate::config::{Config, Target};
use crate::update::{name, signature_refused, signer};

/// A name server, and the key it shares with us.
#[derive(Clone)]
pub(crate) struct Server {
    target: Target,
    signer: TSigner,
    clock: Arc<dyn Clock>,
    config: Config,
}

/// What a server says of one TXT value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    There,
    Absent,
    /// The name is a CNAME: it can hold nothing else, and updates that try are ignored.
    Alias,
    /// The server does not let us look.
    Hidden(ResponseCode),
}

impl Server {
    pub(crate) fn new(config: Config, clock: Arc<dyn Clock>) -> Result<Self> {
        let signer = signer(&config.key, &config.key.octets()?)?;
        if config.timeout.is_zero() {
            return Err(Error::new(
                ErrorKind::Config,
                "rfc2136.timeout",
                "a timeout of nothing is over at once",
            )
            .with_hint("give whole seconds; 10 is the default"));
        }
        Ok(Self { target: config.target()?, signer, clock, config })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        self.clock = clock;
    }

    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.config.timeout)
    }

    /// Sends an update, signed, and answers what the server says.
    ///
    /// # Errors
    /// `Auth` if the server says it is done without a signature that proves it has the key.
    pub(crate) async fn update(&self, mut message: Message, deadline: Deadline) -> Result<Message> {
        let mut verifier = self.sign(&mut message)?;
        let answer = self.exchange(&message, "sending the update", deadline).await?;
        let read = read(&answer)?;
        if read.metadata.response_code == ResponseCode::NoError {
            verify(verifier.as_mut(), &read, &answer).map_err(|why| {
                Error::new(
                    ErrorKind::Auth,
                    "rfc2136.update",
                    "the server's answer is not signed with the key, so it may be forged",
                )
                .with("server", &self.config.server)
                .with("key", &self.config.key.name)
                .with("reason", why)
                .with_hint("check the key's secret; a server that ignores TSIG is not trusted with updates")
            })?;
        }
        Ok(read)
    }

    /// Asks for records the server itself has.
    ///
    /// The question is signed, too: servers with several views choose one by the key. Where a
    /// server wants no signature on a question, it is asked again without one.
    pub(crate) async fn ask(
        &self,
        at: &DnsName,
        kind: RecordType,
        phase: &str,
        deadline: Deadline,
    ) -> Result<Message> {
        let mut question = Message::query();
        question.metadata.recursion_desired = false;
        question.add_query(Query::query(name(at)?, kind));
        let mut signed = question.clone();
        let mut verifier = self.sign(&mut signed)?;
        let answer = self.exchange(&signed, phase, deadline).await?;
        let read_signed = read(&answer)?;
        if let Some(error) = signature_refused(&read_signed, &self.config.key.name) {
            return Err(error.with("server", &self.config.server));
        }
        if read_signed.signature.is_some() {
            verify(verifier.as_mut(), &read_signed, &answer).map_err(|why| {
                Error::new(ErrorKind::Auth, "rfc2136.query", "the server's answer is signed wrongly")
                    .with("server", &self.config.server)
                    .with("key", &self.config.key.name)
                    .with("reason", why)
                    .with_hint("check the key's secret")
            })?;
            return Ok(read_signed);
        }
        if matches!(read_signed.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
            return Ok(read_signed);
        }
        read(&self.exchange(&question, phase, deadline).await?)
    }

    /// Whether the server has this TXT value.
    pub(crate) async fn look(&self, at: &DnsName, value: &str, deadline: Deadline) -> Result<Look> {
        let answer = self.ask(at, RecordType::TXT, "looking whether the update was done", deadline).await?;
        if !matches!(answer.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
            return Ok(Look::Hidden(answer.metadata.response_code));
        }
        let owner = name(at)?;
        let mut found = Look::Absent;
        for record in answer.answers.iter().filter(|record| record.name == owner) {
            match &record.data {
                RData::TXT(text) if text.txt_data.concat() == value.as_bytes() => return Ok(Look::There),
                RData::CNAME(_) => found = Look::Alias,
                _ => {}
            }
        }
        Ok(found)
    }

    fn sign(&self, message: &mut Message) -> Result<Option<TSigVerifier>> {
        let now = self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        message.finalize(&self.signer, now).map_err(|e| unsendable(&e))
    }

    async fn exchange(&self, message: &Message, phase: &str, deadline: Deadline) -> Result<Vec<u8>> {
        let bytes = message.to_vec().map_err(|e| unsendable(&e))?;
        self.ask_one_of(self.addresses(deadline).await?, &bytes, phase, deadline).await
    }

    /// The first of a server's addresses that answers. Each has its share of the time: one that is silent, as where
    /// there is no way to IPv6, leaves the rest to the others.
    async fn ask_one_of(
        &self,
        addresses: Vec<SocketAddr>,
        message: &[u8],
        phase: &str,
        deadline: Deadline,
    ) -> Result<Vec<u8>> {
        let mut failed = None;
        let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        for address in addresses {
            let share = deadline.capped(deadline.remaining() / left.max(1));
            left = left.saturating_sub(1);
            match exchange(address, message, self.config.transport, share).await {
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    failed = Some(error.with_hint(match self.config.transport {
                        Transport::Udp => {
                            "is this its port? A server that takes TCP alone wants `transport` to be `tcp`"
                        }
                        _ => "is this its port? A server that takes UDP alone wants `transport` to be `udp`",
                    }));
                }
                Err(error) if error.kind() == ErrorKind::Timeout => {
                    let missed = deadline.missed("rfc2136.exchange", phase).with("server", address);
                    failed = Some(missed.with_hint(match self.config.transport {
                        Transport::Udp => "datagrams get no answer: the server is frozen, or a firewall is in between, or it takes TCP alone: then `transport` is `tcp`",
                        _ => "the server is frozen, or a firewall drops what is sent; if it takes UDP alone, `transport` is `udp`",
                    }));
                }
                done => return done,
            }
        }
        Err(failed.unwrap_or_else(|| self.not_found(&"its name has no address")))
    }

    async fn addresses(&self, deadline: Deadline) -> Result<Vec<SocketAddr>> {
        match &self.target {
            Target::Address(address) => Ok(vec![*address]),
            Target::Host(host, port) => {
                let lookup = async {
                    let found = tokio::net::lookup_host((host.as_str(), *port)).await;
                    found.map(Iterator::collect).map_err(|e| self.not_found(&e))
                };
                deadline.run("rfc2136.server", "looking up the server's address", lookup).await
            }
        }
    }

    fn not_found(&self, why: &dyn fmt::Display) -> Error {
        Error::new(ErrorKind::Unavailable, "rfc2136.server", "the server's address is not found")
            .with("server", &self.config.server)
            .with("reason", why)
    }
}

fn unsendable(why: &dyn fmt::Display) -> Error {
    Error::new(ErrorKind::Other, "rfc2136.message", "the message could not be made").with("reason", why)
}

fn read(answer: &[u8]) -> Result<Message> {
    Message::from_vec(answer).map_err(|e| {
        Error::new(ErrorKind::Protocol, "rfc2136.answer", "the server's answer is not DNS").with("reason", e)
    })
}

fn verify(verifier: Option<&mut TSigVerifier>, read: &Message, answer: &[u8]) -> Result<(), String> {
    let verifier = verifier.ok_or("the message was not signed")?;
    let record: &Record<TSIG> = read.signature.as_deref().ok_or("it has no signature")?;
    // The verifier subtracts the one from the other.
    if record.data.time < u64::from(record.data.fudge) {
        return Err("its signature is from 1970".to_owned());
    }
    verifier.verify(answer).map(drop).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use acmekit_core::SystemClock;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{Algorithm, Key};

    fn server() -> Server {
        let key = Key::new("k", Algorithm::HmacSha256, "c2VjcmV0");
        Server::new(Config::new("127.0.0.1", key), Arc::new(SystemClock::default())).unwrap()
    }

    /// Listens, and never answers; or answers each message with itself, as a response.
    async fn listening(answers: bool) -> (SocketAddr, tokio::task::JoinSet<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                if answers {
                    let mut message = vec![0; usize::from(stream.read_u16().await.unwrap())];
                    stream.read_exact(&mut message).await.unwrap();
                    message[2] |= 0x80;
                    stream.write_u16(message.len().try_into().unwrap()).await.unwrap();
                    stream.write_all(&message).await.unwrap();
                }
                held.push(stream);
            }
        });
        (address, serving)
    }

    #[tokio::test]
    async fn a_silent_address_leaves_time_for_the_next_one() {
        let mut question = Message::query();
        question.add_query(Query::query(name(&"example.com".parse().unwrap()).unwrap(), RecordType::TXT));
        let question = question.to_vec().unwrap();
        let ((silent, _one), (good, _two)) = (listening(false).await, listening(true).await);
        let soon = || Deadline::after(std::time::Duration::from_secs(2));
        let server = server();
        server.ask_one_of(vec![silent, good], &question, "asking", soon()).await.unwrap();
        // The one that answers first is enough, and one that refuses costs nothing.
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        server.ask_one_of(vec![closed, good, silent], &question, "asking", soon()).await.unwrap();
        let error = server.ask_one_of(vec![silent, silent], &question, "asking", soon()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.to_string().contains("asking: no end within 2s"), "{error}");
    }

    proptest::proptest! {
        /// Half of the cases begin like an answer, so that more than the header is read.
        #[test]
        fn any_answer_is_read_or_refused(like_one: bool, mut bytes in proptest::collection::vec(0u8.., 12..300)) {
            let zone: DnsName = "example.com".parse().unwrap();
            let mut message = Message::query();
            let mut verifier = server().sign(&mut message).unwrap();
            if like_one {
                bytes[2..12].copy_from_slice(&[0xa8, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            }
            if let Ok(message) = read(&bytes) {
                let _ = crate::update::judge(&message, &zone, &zone, "k");
                let _ = verify(verifier.as_mut(), &message, &bytes);
            }
        }

        #[test]
        fn a_signed_answer_with_one_bit_wrong_is_read_or_refused(at in 12usize.., bit in 0u8..8) {
            let mut answer = Message::query();
            answer.add_query(Query::query(name(&"example.com".parse().unwrap()).unwrap(), RecordType::TXT));
            server().sign(&mut answer).unwrap();
            let mut bytes = answer.to_vec().unwrap();
            let at = 12 + at % (bytes.len() - 12);
            bytes[at] ^= 1 << bit;
            let mut verifier = server().sign(&mut Message::query()).unwrap();
            if let Ok(message) = read(&bytes) {
                proptest::prop_assert!(verify(verifier.as_mut(), &message, &bytes).is_err());
            }
        }
    }
}
