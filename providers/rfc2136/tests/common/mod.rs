//! What a server that has the key `k.test` writes, octet by octet.

use std::time::UNIX_EPOCH;

use acmekit_core::{Clock, SystemClock, Zone};
use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, Record, TSigResponseContext, TSigner};

pub(crate) const NAME: &str = "_acme-challenge.example.test";

pub(crate) fn zone() -> Zone {
    Zone::new("example.test".parse().unwrap())
}

pub(crate) fn reply(to: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(to.metadata.id, to.metadata.op_code);
    reply.metadata.response_code = code;
    reply.metadata.authoritative = true;
    reply.queries = to.queries.clone();
    reply
}

/// Signed as a server does that has the key.
pub(crate) fn signed(to: &Message, mut reply: Message) -> Vec<u8> {
    let key = Name::from_ascii("k.test.").unwrap();
    let signer = TSigner::new(b"secret".to_vec(), TsigAlgorithm::HmacSha256, key, 300).unwrap();
    let now = SystemClock::default().now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mac = to.signature.as_ref().unwrap().data.mac.clone();
    let context = TSigResponseContext::new(to.metadata.id, now, signer, mac, None);
    let signature = context.sign(&reply.to_vec().unwrap()).unwrap();
    reply.set_signature(signature);
    reply.to_vec().unwrap()
}

pub(crate) fn with_value(to: &Message) -> Message {
    let mut reply = reply(to, ResponseCode::NoError);
    let text = RData::TXT(TXT::from_bytes(vec![b"value"]));
    reply.add_answer(Record::from_rdata(Name::from_ascii(format!("{NAME}.")).unwrap(), 1, text));
    reply
}

pub(crate) fn is_update(message: &Message) -> bool {
    message.metadata.op_code == OpCode::Update
}
