//! What is answered to which question: pure, from octets to octets.
//!
//! RFC 1035 and 6895 (messages), 2308 (negative answers), 4592 and 8020 (names with nothing but others below
//! them exist), 6891 (EDNS), 8482 (ANY), 5936 (no transfers). The name in the question is repeated as it was
//! spelled: resolvers recognise forged answers by its case.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::HINFO;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};

use crate::name::{Key, ancestors, key_of};
use crate::tree::Tree;

/// The largest answer over UDP: it fits into every path unfragmented (RFC 9715).
pub(crate) const UDP_PAYLOAD: u16 = 1232;
/// The largest answer over UDP to who does not say what it takes (RFC 1035 section 4.2.1).
const UDP_PLAIN: u16 = 512;
const ANY_TTL: u32 = 0;
const HEADER: usize = 12;

/// What a message asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Nothing that is to be answered.
    Nothing,
    /// Something whose answer follows from itself.
    Error(Vec<u8>),
    /// A question about a name.
    Question(Box<Question>),
}

#[derive(Debug)]
pub(crate) struct Question {
    metadata: Metadata,
    query: Query,
    edns: Option<Edns>,
    key: Key,
}

/// Reads a message. Whether it is about a zone of ours is not looked at yet.
pub(crate) fn read(octets: &[u8]) -> Asked {
    let Some(&[id1, id2, flags, _, questions1, questions2, ..]) = octets.get(..HEADER) else {
        return Asked::Nothing;
    };
    // An answer to an answer could go on for ever.
    if flags & 0x80 != 0 {
        return Asked::Nothing;
    }
    let only_header = |code: ResponseCode| {
        let flags = 0x80 | (flags & 0x79);
        Asked::Error(vec![id1, id2, flags, code.low(), 0, 0, 0, 0, 0, 0, 0, 0])
    };
    if flags & 0x78 != 0 {
        return only_header(ResponseCode::NotImp);
    }
    if [questions1, questions2] != [0, 1] {
        return only_header(ResponseCode::FormErr);
    }
    let Ok(mut message) = Message::from_vec(octets) else { return only_header(ResponseCode::FormErr) };
    let (Some(query), OpCode::Query, MessageType::Query) =
        (message.queries.pop(), message.metadata.op_code, message.metadata.message_type)
    else {
        return only_header(ResponseCode::FormErr);
    };
    let key = key_of(query.name());
    Asked::Question(Box::new(Question { metadata: message.metadata, query, edns: message.edns.take(), key }))
}

/// What an answer consists of.
struct Parts {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

impl Parts {
    fn only(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }
}

impl Question {
    /// Whether the answer depends on what is in the store.
    pub(crate) fn is_ours(&self, tree: &Tree) -> bool {
        self.refusal(tree).is_none()
    }

    /// Why the question is not looked into.
    fn refusal(&self, tree: &Tree) -> Option<ResponseCode> {
        let kind = u16::from(self.query.query_type());
        if self.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Some(ResponseCode::BADVERS);
        }
        if self.query.query_class() != DNSClass::IN {
            return Some(ResponseCode::Refused);
        }
        match self.query.query_type() {
            RecordType::ANY => {}
            RecordType::AXFR | RecordType::IXFR => return Some(ResponseCode::Refused),
            RecordType::OPT => return Some(ResponseCode::FormErr),
            // What is left of the types that are not records' (RFC 6895 section 3.1).
            _ if (128..=255).contains(&kind) => return Some(ResponseCode::NotImp),
            _ => {}
        }
        tree.zone_of(&self.key).is_none().then_some(ResponseCode::Refused)
    }

    /// The answer over TCP.
    pub(crate) fn answer_over_tcp(&self, tree: &Tree, complete: bool) -> Vec<u8> {
        self.write(self.parts(tree, complete), usize::from(u16::MAX))
    }

    /// The answer over UDP: as large as the other side takes, or only the word to come back over TCP.
    pub(crate) fn answer_over_udp(&self, tree: &Tree, complete: bool) -> Vec<u8> {
        let takes = self.edns.as_ref().map_or(UDP_PLAIN, |edns| edns.max_payload());
        self.write(self.parts(tree, complete), usize::from(takes.clamp(UDP_PLAIN, UDP_PAYLOAD)))
    }

    /// Only the word to come back over TCP.
    pub(crate) fn truncated(&self) -> Vec<u8> {
        self.octets(self.message(&Parts::only(ResponseCode::NoError), true))
    }

    fn parts(&self, tree: &Tree, complete: bool) -> Parts {
        if let Some(code) = self.refusal(tree) {
            return Parts::only(code);
        }
        let kind = self.query.query_type();
        // Of a zone's signatures its parent tells (RFC 4035 section 3.1.4.1), where that is here, too.
        let above = ancestors(&self.key).nth(1).and_then(|parent| tree.zone_of(parent));
        let Some(zone) = above.filter(|_| kind == RecordType::DS).or_else(|| tree.zone_of(&self.key)) else {
            return Parts::only(ResponseCode::Refused);
        };
        // What the store did not tell is not denied.
        let may_be_more = matches!(kind, RecordType::TXT | RecordType::ANY) || !tree.exists(&self.key);
        if !complete && may_be_more && !tree.has_texts(&self.key) {
            return Parts::only(ResponseCode::ServFail);
        }
        let mut parts = Parts::only(ResponseCode::NoError);
        parts.authoritative = true;
        parts.answers = match kind {
            RecordType::ANY if tree.has_records(&self.key) => {
                let data = RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new()));
                vec![Record::from_rdata(self.query.name().clone(), ANY_TTL, data)]
            }
            kind => tree.records(zone, &self.key, self.query.name(), kind),
        };
        if parts.answers.is_empty() {
            parts.authorities.push(tree.negative(zone).clone());
            // acmekit asks whether a name is an alias, and in which zone it is, before it adds a value there. A resolver that
            // is told that the name does not exist denies the value, too, to a CA behind it: BIND for the rest of the
            // second, even with a TTL of 0. So to such a question only what it is about is denied.
            let before_adding = matches!(kind, RecordType::CNAME | RecordType::SOA);
            if !tree.exists(&self.key) && !before_adding {
                parts.code = ResponseCode::NXDomain;
            }
        } else if kind == RecordType::NS {
            parts.additionals = tree.glue(zone);
        }
        parts
    }

    fn write(&self, parts: Parts, limit: usize) -> Vec<u8> {
        let octets = self.octets(self.message(&parts, false));
        if octets.len() <= limit { octets } else { self.octets(self.message(&parts, true)) }
    }

    fn message(&self, parts: &Parts, truncated: bool) -> Message {
        let mut message = Message::response(self.metadata.id, OpCode::Query);
        message.metadata = Metadata::response_from_request(&self.metadata);
        message.metadata.response_code = parts.code;
        message.metadata.authoritative = parts.authoritative;
        message.metadata.truncation = truncated;
        message.add_query(self.query.clone());
        if !truncated {
            message.answers.clone_from(&parts.answers);
            message.authorities.clone_from(&parts.authorities);
            message.additionals.clone_from(&parts.additionals);
        }
        if let Some(asked) = &self.edns {
            let mut edns = Edns::new();
            edns.set_version(0).set_max_payload(UDP_PAYLOAD);
            // To be copied (RFC 3225 section 3), although nothing here is signed.
            edns.set_dnssec_ok(asked.flags().dnssec_ok);
            message.set_edns(edns);
        }
        message
    }

    fn octets(&self, message: Message) -> Vec<u8> {
        message.to_vec().unwrap_or_else(|error| {
            tracing::debug!(%error, "an answer cannot be written");
            let [id1, id2] = self.metadata.id.to_be_bytes();
            vec![id1, id2, 0x80, ResponseCode::ServFail.low(), 0, 0, 0, 0, 0, 0, 0, 0]
        })
    }
}

#[cfg(test)]
mod tests;
