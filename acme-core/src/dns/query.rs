//! One question, and an answer as plain values.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Header, Message, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::caa::CaaRecord;
use super::exchange::{Transport, exchange};
use crate::{Deadline, DnsName, Error, ErrorKind, Result};

/// What an answer says, as far as acmekit asks.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) code: ResponseCode,
    pub(super) authoritative: bool,
    pub(super) answers: Vec<Data>,
    pub(super) authorities: Vec<Data>,
    pub(super) additionals: Vec<Data>,
}

/// One record.
#[derive(Debug, Clone)]
pub(super) struct Data {
    pub(super) owner: DnsName,
    pub(super) ttl: Duration,
    pub(super) value: Value,
}

/// The data of a record of a type acmekit asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Address(IpAddr),
    Alias(DnsName),
    /// A CNAME to a name acmekit cannot hold.
    StrangeAlias(String),
    NameServer(DnsName),
    Property(CaaRecord),
    Authority,
    Text(Vec<u8>),
}

/// The types of records acmekit asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    A,
    Aaaa,
    Caa,
    Cname,
    Ns,
    Soa,
    Txt,
}

impl Kind {
    fn record_type(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Caa => RecordType::CAA,
            Self::Cname => RecordType::CNAME,
            Self::Ns => RecordType::NS,
            Self::Soa => RecordType::SOA,
            Self::Txt => RecordType::TXT,
        }
    }
}

/// The largest answer asked for over UDP: it fits into every path unfragmented (RFC 9715).
const UDP_PAYLOAD: u16 = 1232;

/// Asks one server one question; again without EDNS if it does not understand that (RFC 6891 section 7).
pub(super) async fn ask(
    server: SocketAddr,
    name: &DnsName,
    kind: Kind,
    recurse: bool,
    deadline: Deadline,
) -> Result<Answer> {
    let mut message = Message::query();
    message.metadata.recursion_desired = recurse;
    message.add_query(Query::query(to_name(name)?, kind.record_type()));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD).set_version(0);
    message.set_edns(edns);
    let answer = send(server, name, kind, &message, deadline).await?;
    if !matches!(answer.code, ResponseCode::FormErr | ResponseCode::NotImp) {
        return Ok(answer);
    }
    message.edns = None;
    send(server, name, kind, &message, deadline).await
}

async fn send(
    server: SocketAddr,
    name: &DnsName,
    kind: Kind,
    message: &Message,
    deadline: Deadline,
) -> Result<Answer> {
    let malformed = |why: &str| {
        Error::new(ErrorKind::Protocol, "dns.query", why).with("server", server).with("name", name)
    };
    let bytes = message.to_vec().map_err(|e| malformed("the question cannot be written").with_source(e))?;
    let answer = exchange(server, &bytes, Transport::Udp, deadline).await?;
    if matches!(kind, Kind::Caa) {
        return read_caa(&answer, name).ok_or_else(|| malformed("the answer is not DNS"));
    }
    Message::from_vec(&answer)
        .map(read)
        .map_err(|e| malformed("the answer is not DNS").with("reason", &e).with_source(e))
}

/// The CAA records of an answer; `None` if it is not DNS.
///
/// Read record by record: `Message` refuses an answer as a whole for one tag of more than 15 octets, which
/// RFC 8659 allows. Records the resolver has reached through an alias that acmekit cannot hold count as the name's own.
pub(super) fn read_caa(octets: &[u8], name: &DnsName) -> Option<Answer> {
    let mut decoder = BinDecoder::new(octets);
    let header = Header::read(&mut decoder).ok()?;
    for _ in 0..header.counts.queries {
        Query::read(&mut decoder).ok()?;
    }
    let mut code = header.metadata.response_code;
    let mut answers = Vec::new();
    let counts = [header.counts.answers, header.counts.authorities, header.counts.additionals];
    for (section, count) in counts.into_iter().enumerate() {
        for _ in 0..count {
            let owner = Name::read(&mut decoder).ok()?;
            let kind = RecordType::from(decoder.read_u16().ok()?.unverified());
            let class = decoder.read_u16().ok()?.unverified();
            let [high, ..] = decoder.read_u32().ok()?.unverified().to_be_bytes();
            let length = decoder.read_u16().ok()?.unverified();
            let rdata = decoder.read_slice(usize::from(length)).ok()?.unverified();
            match (section, kind) {
                (0, RecordType::CAA) if class == u16::from(DNSClass::IN) => answers.push(Data {
                    owner: from_name(&owner).unwrap_or_else(|| name.clone()),
                    ttl: Duration::ZERO,
                    value: Value::Property(CaaRecord::from_rdata(rdata).ok()?),
                }),
                // The upper half of the code, in place of a TTL (RFC 6891 section 6.1.3).
                (2, RecordType::OPT) => code = ResponseCode::from(high, code.low()),
                _ => {}
            }
        }
    }
    let authoritative = header.metadata.authoritative;
    Some(Answer { code, authoritative, answers, authorities: Vec::new(), additionals: Vec::new() })
}

pub(super) fn read(message: Message) -> Answer {
    let authoritative = message.metadata.authoritative;
    let code = message.metadata.response_code;
    let list = |records: Vec<Record>| records.into_iter().filter_map(data).collect();
    Answer {
        code,
        authoritative,
        answers: list(message.answers),
        authorities: list(message.authorities),
        additionals: list(message.additionals),
    }
}

/// A record of a type that is asked for, with an owner name acmekit can hold.
fn data(record: Record) -> Option<Data> {
    let value = match record.data {
        RData::A(address) => Value::Address(IpAddr::V4(address.0)),
        RData::AAAA(address) => Value::Address(IpAddr::V6(address.0)),
        RData::CNAME(target) => {
            from_name(&target.0).map_or_else(|| Value::StrangeAlias(target.0.to_ascii()), Value::Alias)
        }
        RData::NS(target) => Value::NameServer(from_name(&target.0)?),
        RData::SOA(_) => Value::Authority,
        RData::TXT(text) => Value::Text(text.txt_data.concat()),
        _ => return None,
    };
    Some(Data { owner: from_name(&record.name)?, ttl: Duration::from_secs(record.ttl.into()), value })
}

fn to_name(name: &DnsName) -> Result<Name> {
    let mut found = Name::from_ascii(name.as_str()).map_err(|e| {
        Error::new(ErrorKind::Config, "dns.query", "this name cannot be asked for")
            .with("name", name)
            .with_source(e)
    })?;
    found.set_fqdn(true);
    Ok(found)
}

fn from_name(name: &Name) -> Option<DnsName> {
    name.to_ascii().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(0u8.., 0..200)) {
            if let Ok(message) = Message::from_vec(&bytes) {
                let _ = read(message);
            }
            let _ = read_caa(&bytes, &"example.com".parse().unwrap());
        }
    }
}
