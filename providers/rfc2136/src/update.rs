//! Update messages (RFC 2136), their signatures (RFC 8945), and what a server's answer means.

use acmekit_core::{DnsName, Error, ErrorKind, Result, Secret, TxtRecord};
use hickory_proto::op::{Message, ResponseCode, update_message};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::{TSIG, TsigAlgorithm, TsigError};
use hickory_proto::rr::{Name, RData, Record, RecordSet, TSigner};

use crate::key::{Algorithm, Key};

/// How far the two clocks may be apart, in seconds: what RFC 8945 section 10 recommends.
const FUDGE: u16 = 300;

const MAX_TTL: u32 = u32::MAX >> 1;

/// What is done to one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Add,
    Remove,
}

pub(crate) fn signer(key: &Key, octets: &Secret<Vec<u8>>) -> Result<TSigner> {
    let algorithm = match key.algorithm {
        Algorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
        Algorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
        Algorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
    };
    let refuse = |why: &str| Error::new(ErrorKind::Config, "rfc2136.key", why).with("key", &key.name);
    let name =
        Name::from_ascii(&key.name).map_err(|e| refuse("the key's name is no domain name").with_source(e))?;
    TSigner::new(octets.expose().clone(), algorithm, name, FUDGE)
        .map_err(|e| refuse("the crypto provider cannot use the key").with_source(e))
}

pub(crate) fn name(name: &DnsName) -> Result<Name> {
    let mut found = Name::from_ascii(name.as_str()).map_err(|e| {
        Error::new(ErrorKind::Config, "rfc2136.name", "the name cannot be written")
            .with("name", name)
            .with_source(e)
    })?;
    found.set_fqdn(true);
    Ok(found)
}

/// One value added (section 2.5.1) or removed (section 2.5.4); others are never touched.
pub(crate) fn message(zone: &DnsName, record: &TxtRecord, change: Change) -> Result<Message> {
    if !record.name.is_within(zone) {
        return Err(Error::new(ErrorKind::Config, "rfc2136.update", "the record is not in the zone")
            .with("name", &record.name)
            .with("zone", zone));
    }
    if record.value.len() > 255 {
        return Err(Error::new(
            ErrorKind::Config,
            "rfc2136.update",
            "the TXT value is longer than 255 octets",
        )
        .with("name", &record.name)
        .with("length", record.value.len()));
    }
    // A larger one counts as zero (RFC 2181 section 8).
    let ttl = u32::try_from(record.ttl.as_secs()).unwrap_or(u32::MAX).min(MAX_TTL);
    let data = RData::TXT(TXT::from_bytes(vec![record.value.as_bytes()]));
    let set = RecordSet::from(Record::from_rdata(name(&record.name)?, ttl, data));
    Ok(match change {
        Change::Add => update_message::append(set, name(zone)?, false, false),
        Change::Remove => update_message::delete_by_rdata(set, name(zone)?, false),
    })
}

/// What the server says against the signature itself (RFC 8945 section 5.2), if anything.
pub(crate) fn signature_refused(answer: &Message, key: &str) -> Option<Error> {
    let tsig = &answer.signature.as_deref()?.data;
    let (why, hint) = match tsig.error? {
        TsigError::BadKey => (
            "the server does not know this TSIG key (BADKEY)".to_owned(),
            "compare the key's name and algorithm with the server's configuration, letter by letter",
        ),
        TsigError::BadSig => (
            "the TSIG secret is not the server's (BADSIG)".to_owned(),
            "copy the secret again: the name is known there, the signature does not fit",
        ),
        TsigError::BadTime => (
            format!("the clocks differ by more than {FUDGE} s (BADTIME){}", skew(tsig)),
            "set this machine's clock or the server's; TSIG allows five minutes",
        ),
        TsigError::BadTrunc => (
            "the server does not accept the signature's length (BADTRUNC)".to_owned(),
            "use a key whose algorithm the server accepts at full length",
        ),
        other => (format!("the server refuses the signature ({other:?})"), "its log may say why"),
    };
    let refused = Error::new(ErrorKind::Auth, "rfc2136.tsig", why).with("key", key).with_hint(hint);
    Some(refused.with_vendor_code(answer.metadata.response_code.to_str()))
}

/// Whether the server says that it does not know the key.
pub(crate) fn is_bad_key(answer: &Message) -> bool {
    answer.signature.as_deref().is_some_and(|tsig| tsig.data.error == Some(TsigError::BadKey))
}

/// The server knows the key, and that is not enough.
pub(crate) fn not_allowed(zone: &DnsName, name: &DnsName, key: &str) -> Error {
    Error::new(ErrorKind::Auth, "rfc2136.update", "the key is not allowed to change this name")
        .with("zone", zone)
        .with("name", name)
        .with("key", key)
        .with_hint(
            "extend the server's policy for this key. BIND: update-policy { grant KEY name _acme-challenge.… TXT; }; \
             Knot: an ACL with `action: update`; PowerDNS: TSIG-ALLOW-DNSUPDATE",
        )
}

/// A server that finds the time wrong tells its own, as 48 bits of seconds (RFC 8945 section 5.2.3).
fn skew(tsig: &TSIG) -> String {
    let &[a, b, c, d, e, f] = tsig.other.as_slice() else { return String::new() };
    let server = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    match server.checked_sub(tsig.time) {
        Some(ahead) => format!(": the server's is {ahead} s ahead"),
        None => format!(": the server's is {} s behind", tsig.time - server),
    }
}

/// What a server's answer to an update means: done, or whose fault it is.
pub(crate) fn judge(answer: &Message, zone: &DnsName, name: &DnsName, key: &str) -> Result<()> {
    if let Some(error) = signature_refused(answer, key) {
        return Err(error.with("zone", zone));
    }
    let (kind, why, hint) = match (answer.metadata.response_code, answer.signature.is_some()) {
        (ResponseCode::NoError, _) => return Ok(()),
        (ResponseCode::NotAuth, true) => (
            ErrorKind::NotFound,
            "the server does not serve this zone (NOTAUTH)".to_owned(),
            "ask the primary server of the zone",
        ),
        (ResponseCode::NotAuth, false) => (
            ErrorKind::Auth,
            "the server accepts neither key nor zone (NOTAUTH, unsigned)".to_owned(),
            "check the key's name and secret, and that this is the zone's primary server",
        ),
        (ResponseCode::Refused, true) => {
            return Err(not_allowed(zone, name, key).with_vendor_code(ResponseCode::Refused.to_str()));
        }
        (ResponseCode::Refused, false) => (
            ErrorKind::Auth,
            "the server refuses, unsigned: unknown key, wrong TSIG secret, or updates are not allowed from here"
                .to_owned(),
            "its log says which; check the key's name and secret, then what it allows: BIND: allow-update or \
             update-policy; PowerDNS: dnsupdate=yes, allow-dnsupdate-from, TSIG-ALLOW-DNSUPDATE",
        ),
        (ResponseCode::NotZone, _) => (
            ErrorKind::Config,
            "the name is not in the zone (NOTZONE)".to_owned(),
            "the zone was found wrong; is there a zone cut in between?",
        ),
        (ResponseCode::ServFail, _) => (
            ErrorKind::Unavailable,
            "the server failed (SERVFAIL)".to_owned(),
            "its log says why; often the zone file or journal is not writable",
        ),
        (ResponseCode::NotImp, _) => (
            ErrorKind::Unsupported,
            "the server does not know dynamic updates (NOTIMP)".to_owned(),
            "ask a server that implements RFC 2136",
        ),
        (other, _) => {
            (ErrorKind::Protocol, format!("the server answers {}", other.to_str()), "its log may say why")
        }
    };
    Err(Error::new(kind, "rfc2136.update", why)
        .with_vendor_code(answer.metadata.response_code.to_str())
        .with("zone", zone)
        .with("name", name)
        .with("key", key)
        .with_hint(hint))
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{MessageType, OpCode};

    use super::*;

    fn answer(code: ResponseCode) -> Message {
        let mut answer = Message::new(1, MessageType::Response, OpCode::Update);
        answer.metadata.response_code = code;
        answer
    }

    #[test]
    fn each_refusal_says_whose_fault_it_is() {
        let zone: DnsName = "example.com".parse().unwrap();
        judge(&answer(ResponseCode::NoError), &zone, &zone, "k").unwrap();
        for (code, kind) in [
            (ResponseCode::NotAuth, ErrorKind::Auth),
            (ResponseCode::Refused, ErrorKind::Auth),
            (ResponseCode::NotZone, ErrorKind::Config),
            (ResponseCode::ServFail, ErrorKind::Unavailable),
            (ResponseCode::NotImp, ErrorKind::Unsupported),
            (ResponseCode::FormErr, ErrorKind::Protocol),
        ] {
            let error = judge(&answer(code), &zone, &zone, "k").unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn a_record_outside_the_zone_or_too_long_is_refused_before_it_is_sent() {
        let zone: DnsName = "example.com".parse().unwrap();
        let outside = TxtRecord::new("_acme-challenge.badexample.com".parse().unwrap(), "v");
        assert_eq!(message(&zone, &outside, Change::Add).unwrap_err().kind(), ErrorKind::Config);
        let long = TxtRecord::new("a.example.com".parse().unwrap(), "v".repeat(256));
        assert_eq!(message(&zone, &long, Change::Add).unwrap_err().kind(), ErrorKind::Config);
    }
}
