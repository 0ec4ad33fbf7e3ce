//! What goes over the wire: <https://desec.readthedocs.io/en/latest/dns/domains.html> and
//! <https://desec.readthedocs.io/en/latest/dns/rrsets.html>.

use acmekit_core::rest::Refusal;
use acmekit_core::{DnsName, Error};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The smallest TTL of a domain that tells none: all that are not below `dedyn.io` begin with it.
const MIN_TTL: u64 = 3600;

/// A domain, which is what deSEC calls a zone.
#[derive(Debug, Deserialize)]
pub(crate) struct Domain {
    pub(crate) name: DnsName,
    #[serde(default = "min_ttl")]
    pub(crate) minimum_ttl: u64,
}

fn min_ttl() -> u64 {
    MIN_TTL
}

/// All records of a name and type.
#[derive(Debug, Deserialize)]
pub(crate) struct Rrset {
    pub(crate) records: Vec<String>,
}

/// An RRset that is not there yet.
#[derive(Debug, Serialize)]
pub(crate) struct NewRrset<'a> {
    pub(crate) subname: &'a str,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) ttl: u64,
    pub(crate) records: [String; 1],
}

/// Other records for an RRset, with the TTL it has.
#[derive(Debug, Serialize)]
pub(crate) struct OtherRecords {
    pub(crate) records: Vec<String>,
}

/// The code of a refusal that is about the whole: the RRset is there already, or a CNAME is.
pub(crate) const WHOLE: &str = "non_field_errors";
/// The code of a refusal of the TTL.
pub(crate) const TTL: &str = "ttl";

/// What an error body says: `{"detail": "…"}`, or the faults of each field: `{"ttl": ["…"]}`. deSEC
/// has no codes, so the names of the fields are taken for them.
pub(crate) fn refusal(status: StatusCode, body: &[u8]) -> Option<Refusal> {
    if status.is_success() {
        return None;
    }
    let said: Value = serde_json::from_slice(body).ok()?;
    let (mut words, mut codes) = (Vec::new(), Vec::new());
    match &said {
        Value::Object(fields) => {
            for (field, faults) in fields {
                let told = match field.as_str() {
                    "detail" | WHOLE => words_of(faults),
                    _ => format!("{field}: {}", words_of(faults)),
                };
                words.push(told);
                codes.extend(Some(field.as_str()).filter(|field| *field != "detail"));
            }
        }
        other => words.push(words_of(other)),
    }
    let mut refusal = Refusal::new(words.join("; "));
    if !codes.is_empty() {
        refusal = refusal.with_code(codes.join("/"));
    }
    Some(match hint(status, &codes, &refusal.message) {
        Some(hint) => refusal.with_hint(hint),
        None => refusal,
    })
}

fn hint(status: StatusCode, codes: &[&str], words: &str) -> Option<&'static str> {
    Some(match status {
        StatusCode::UNAUTHORIZED => {
            "check that the token is right, was not deleted and has not expired; it is its secret value, not its id, \
             and not the password of the account"
        }
        StatusCode::FORBIDDEN => {
            "the token may not do this: its policies must have perm_write for TXT at this name, and its \
             allowed_subnets this machine's address"
        }
        StatusCode::NOT_FOUND => "the account that the token is of has no such domain",
        StatusCode::TOO_MANY_REQUESTS => {
            "deSEC takes so many changes of a domain in a second, minute, hour and day, by whatever program; \
             its support may raise the limits of an account"
        }
        _ if codes == [WHOLE] && words.contains("CNAME") => {
            "the name has a CNAME, so its value belongs where that leads: let the CNAME be followed"
        }
        _ if codes == [TTL] => "the domain's smallest TTL has changed: try again",
        _ => return None,
    })
}

/// The texts in a fault, however deep they are.
fn words_of(fault: &Value) -> String {
    match fault {
        Value::String(text) => text.clone(),
        Value::Array(faults) => faults.iter().map(words_of).collect::<Vec<_>>().join(" "),
        Value::Object(fields) => fields.values().map(words_of).collect::<Vec<_>>().join(" "),
        _ => String::new(),
    }
}

/// Whether an error carries this code.
pub(crate) fn has_code(error: &Error, code: &str) -> bool {
    error.vendor_code().is_some_and(|codes| codes.split('/').any(|one| one == code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Option<Refusal> {
        refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn what_is_refused_is_told_by_field() {
        let said = read(404, r#"{"detail":"Not found."}"#).unwrap();
        assert_eq!((said.message.as_str(), said.code), ("Not found.", None));
        let said = read(400, r#"{"ttl":["Ensure this value is greater than or equal to 3600."]}"#).unwrap();
        assert_eq!(said.message, "ttl: Ensure this value is greater than or equal to 3600.");
        assert_eq!(said.code.as_deref(), Some(TTL));
        let said = read(400, r#"{"records":[{"content":["Too long."]},{}],"non_field_errors":["A","B"]}"#);
        let said = said.unwrap();
        assert_eq!(said.code.as_deref(), Some("non_field_errors/records"));
        assert_eq!(said.message.trim(), "A B; records: Too long.");
        assert_eq!(read(400, r#"["One"]"#).unwrap().message, "One");
    }

    #[test]
    fn what_is_no_refusal_is_none() {
        assert_eq!(read(200, r#"{"detail":"x"}"#), None);
        assert_eq!(read(400, "no JSON"), None);
        assert_eq!(read(400, "null").unwrap().message, "");
    }

    #[test]
    fn a_domain_that_tells_no_smallest_ttl_has_that_of_most() {
        let domain: Domain = serde_json::from_str(r#"{"name":"example.com"}"#).unwrap();
        assert_eq!(domain.minimum_ttl, 3600);
    }
}
