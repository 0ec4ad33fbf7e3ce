//! What goes over the wire: <https://developers.cloudflare.com/api/resources/dns/subresources/records/>
//! and <https://developers.cloudflare.com/api/resources/zones/methods/list/>.

use acmekit_core::rest::Refusal;
use acmekit_core::{DnsName, Error, ErrorKind, TxtRecord};
use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<T> {
    /// `null` where there is nothing.
    result: Option<Vec<T>>,
    result_info: Option<ResultInfo>,
}

#[derive(Debug, Deserialize)]
struct ResultInfo {
    per_page: Option<usize>,
    total_count: Option<usize>,
    total_pages: Option<usize>,
}

impl<T> Page<T> {
    pub(crate) fn into_entries(self) -> impl Iterator<Item = T> {
        self.result.into_iter().flatten()
    }

    /// Whether no page comes after this one, the `number`th, of which `asked` entries were wanted.
    pub(crate) fn is_last(&self, number: usize, asked: usize) -> bool {
        let info = self.result_info.as_ref();
        let size = info.and_then(|info| info.per_page).unwrap_or(asked);
        let total = info.and_then(|info| info.total_count);
        let pages = info.and_then(|info| info.total_pages);
        let entries = self.result.as_ref().map_or(0, Vec::len);
        entries == 0
            || match (pages, total) {
                (Some(pages), _) => number >= pages,
                (None, Some(total)) => number.saturating_mul(size) >= total,
                (None, None) => entries < size,
            }
    }
}

/// One thing.
#[derive(Debug, Deserialize)]
pub(crate) struct One<T> {
    pub(crate) result: T,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Zone {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) status: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    content: String,
}

impl Record {
    pub(crate) fn is_at(&self, name: &DnsName) -> bool {
        is_name(&self.name, name)
    }

    /// Whether it is this value at this name.
    pub(crate) fn is(&self, record: &TxtRecord) -> bool {
        self.kind == "TXT" && self.is_at(&record.name) && unquoted(&self.content) == record.value
    }
}

/// Whether a name as Cloudflare writes it is this one.
pub(crate) fn is_name(text: &str, name: &DnsName) -> bool {
    text.parse::<DnsName>().is_ok_and(|parsed| parsed == *name)
}

/// What is sent to make a record.
#[derive(Debug, Serialize)]
pub(crate) struct NewRecord<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    content: String,
    pub(crate) ttl: u64,
    comment: &'static str,
}

impl<'a> NewRecord<'a> {
    pub(crate) fn txt(record: &'a TxtRecord, ttl: u64) -> Self {
        let (name, content) = (record.name.as_str(), quoted(&record.value));
        Self { kind: "TXT", name, content, ttl, comment: "acmekit" }
    }
}

/// The value as a quoted character-string (RFC 1035 section 5.1), which the API documents as the
/// form of TXT content.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The value of TXT content: of character-strings in quotes, or as it stands, which is how older
/// records and other clients have it.
fn unquoted(content: &str) -> String {
    if !content.starts_with('"') {
        return content.to_owned();
    }
    let (mut value, mut inside) = (String::new(), false);
    let mut rest = content.chars();
    while let Some(next) = rest.next() {
        match next {
            '"' => inside = !inside,
            // `\"` and `\\`; an octet as `\DDD` cannot be in a value that acmekit has written.
            '\\' if inside => value.extend(rest.next()),
            other if inside => value.push(other),
            _ => {}
        }
    }
    value
}

/// Whether a value is read as it is written: for the fuzz targets only.
pub(crate) fn is_written(record: &TxtRecord) -> bool {
    unquoted(&quoted(&record.value)) == record.value
}

#[derive(Debug, Deserialize)]
struct Envelope {
    success: Option<bool>,
    #[serde(default, deserialize_with = "null_as_empty")]
    errors: Vec<Fault>,
}

#[derive(Debug, Deserialize)]
struct Fault {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default, deserialize_with = "null_as_empty")]
    error_chain: Vec<Self>,
}

fn null_as_empty<'de, D, T>(input: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// The record is there already, as it is (81058) or with other settings (81057).
pub(crate) const EXISTS: [&str; 2] = ["81057", "81058"];
/// The TTL is not one that the zone's plan has.
pub(crate) const BAD_TTL: &str = "9021";

/// What an error body says. The codes are documented nowhere as a whole; each of these is seen in
/// public reports, with the meaning given here.
pub(crate) fn refusal(status: StatusCode, body: &[u8]) -> Option<Refusal> {
    let said: Envelope = serde_json::from_slice(body).ok()?;
    // The answer to a deletion has no `success`.
    if status.is_success() && said.success != Some(false) {
        return None;
    }
    let (mut codes, mut words) = (Vec::new(), Vec::new());
    flatten(&said.errors, &mut codes, &mut words);
    let mut refusal = Refusal::new(words.join(": "));
    if !codes.is_empty() {
        let shown: Vec<String> = codes.iter().map(i64::to_string).collect();
        refusal = refusal.with_code(shown.join("/"));
    }
    let has = |some: &[i64]| codes.iter().any(|code| some.contains(code));
    Some(if has(&[81057, 81058]) {
        refusal.with_kind(ErrorKind::Conflict)
    } else if has(&[81044]) {
        refusal.with_kind(ErrorKind::NotFound)
    } else if has(&[7000, 7003]) {
        refusal.with_kind(ErrorKind::Config).with_hint(
            "this is no zone id: it is the 32 hexadecimal digits on the zone's overview page, not its name",
        )
    } else if has(&[6003, 6102, 6103, 6111]) {
        refusal.with_kind(ErrorKind::Auth).with_hint(
            "the credential is not of the form Cloudflare expects: an API token is no Global API Key, \
             and the key goes with the e-mail address of its owner",
        )
    } else if has(&[9103, 9106, 9107, 9109, 10000]) {
        refusal.with_kind(ErrorKind::Auth)
    } else if has(&[81053, 81054, 81056]) {
        refusal.with_hint(
            "the name has a CNAME or NS record, so its value belongs where that leads: let the CNAME be followed, \
             or use the provider of the zone it is delegated to",
        )
    } else {
        refusal
    })
}

fn flatten(faults: &[Fault], codes: &mut Vec<i64>, words: &mut Vec<String>) {
    for fault in faults {
        codes.push(fault.code);
        words.push(fault.message.clone());
        flatten(&fault.error_chain, codes, words);
    }
}

/// Whether an error carries this code of Cloudflare's.
pub(crate) fn has_code(error: &Error, code: &str) -> bool {
    error.vendor_code().is_some_and(|codes| codes.split('/').any(|one| one == code))
}

/// A token for single zones may be refused, rather than told "none", when it asks for a zone it
/// may not see.
pub(crate) fn may_not_list(error: &Error) -> bool {
    error.kind() == ErrorKind::Auth && error.message().contains("com.cloudflare.api.account.zone.list")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_read_with_quotes_and_without() {
        for (content, value) in [
            ("abc", "abc"),
            ("\"abc\"", "abc"),
            ("\"ab\" \"c\"", "abc"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            ("", ""),
            ("\"", ""),
            ("\"\\", ""),
        ] {
            assert_eq!(unquoted(content), value, "{content}");
        }
        for value in ["", "abc", "a b", r#"a"b\c"#, "-_"] {
            assert_eq!(unquoted(&quoted(value)), value);
        }
    }

    #[test]
    fn the_last_page_is_known_by_whatever_is_told() {
        let page = |entries: usize, info: &str| -> Page<u8> {
            let entries = vec!["1"; entries].join(",");
            serde_json::from_str(&format!(r#"{{"result":[{entries}],"result_info":{info}}}"#)).unwrap()
        };
        assert!(!page(2, r#"{"total_pages":2}"#).is_last(1, 2));
        assert!(page(1, r#"{"total_pages":2}"#).is_last(2, 2));
        assert!(!page(2, r#"{"total_count":3,"per_page":2}"#).is_last(1, 100));
        assert!(page(1, r#"{"total_count":3,"per_page":2}"#).is_last(2, 100));
        assert!(!page(2, "null").is_last(1, 2));
        assert!(page(1, "null").is_last(1, 2));
        assert!(page(0, r#"{"total_pages":9}"#).is_last(1, 2));
        let none: Page<u8> = serde_json::from_str(r#"{"result":null}"#).unwrap();
        assert!(none.is_last(1, 2));
    }

    #[test]
    fn codes_decide_what_a_refusal_means() {
        let read = |status: u16, errors: &str| {
            let body = format!(r#"{{"success":false,"errors":[{errors}],"messages":[],"result":null}}"#);
            refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes()).unwrap()
        };
        let chain = r#"{"code":6003,"message":"Invalid request headers","error_chain":[{"code":6111,"message":"Invalid format for Authorization header"}]}"#;
        let said = read(400, chain);
        assert_eq!(said.code.as_deref(), Some("6003/6111"));
        assert_eq!(said.message, "Invalid request headers: Invalid format for Authorization header");
        for (code, kind) in [
            (6003, Some(ErrorKind::Auth)),
            (9109, Some(ErrorKind::Auth)),
            (10000, Some(ErrorKind::Auth)),
            (7003, Some(ErrorKind::Config)),
            (7000, Some(ErrorKind::Config)),
            (81044, Some(ErrorKind::NotFound)),
            (81057, Some(ErrorKind::Conflict)),
            (81058, Some(ErrorKind::Conflict)),
            (1004, None),
        ] {
            assert_eq!(read(400, &format!(r#"{{"code":{code},"message":"x"}}"#)).kind, kind, "{code}");
        }
        // With status 200 only `success` decides.
        assert_eq!(read(200, r#"{"code":10000,"message":"x"}"#).kind, Some(ErrorKind::Auth));
        assert_eq!(refusal(StatusCode::OK, br#"{"result":{"id":"1"}}"#), None);
        assert_eq!(refusal(StatusCode::BAD_REQUEST, b"[]"), None);
        assert_eq!(refusal(StatusCode::BAD_REQUEST, br#"{"errors":null}"#).unwrap().message, "");
    }
}
