//! The server: one message, and its answer.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use acmekit_core::dns::exchange;
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
        let mut failed = None;
        for address in self.addresses(deadline).await? {
            match exchange(address, &bytes, self.config.transport, deadline).await {
                Err(error) if error.kind() == ErrorKind::Unavailable => failed = Some(error),
                Err(error) if error.kind() == ErrorKind::Timeout => {
                    return Err(deadline
                        .missed("rfc2136.exchange", phase)
                        .with("server", address)
                        .with_hint("the server takes the connection or the datagram, and does not answer"));
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

    use super::*;
    use crate::{Algorithm, Key};

    fn server() -> Server {
        let key = Key::new("k", Algorithm::HmacSha256, "c2VjcmV0");
        Server::new(Config::new("127.0.0.1", key), Arc::new(SystemClock::default())).unwrap()
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
