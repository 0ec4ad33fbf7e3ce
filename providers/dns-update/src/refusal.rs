//! What dns-update means when it fails. It says most of it in words alone.

use acmekit_core::child::without_secrets;
use acmekit_core::{Error, ErrorKind, Retry, Secret};
use dns_update::Error as Said;

/// More of what a vendor says helps nobody.
const MAX_WORDS: usize = 400;

/// What an error means. `secrets` are in none.
pub(crate) fn error(op: &'static str, said: &Said, secrets: &Secrets) -> Error {
    let (kind, message, words, hint) = match said {
        Said::Unauthorized => (ErrorKind::Auth, "the vendor refuses the credential", "", AUTH),
        Said::NotFound => (ErrorKind::NotFound, "the vendor does not know it", "", ZONE),
        Said::BadRequest => (ErrorKind::Protocol, "the vendor refuses the request", "", SETTINGS),
        Said::InvalidRegion => (ErrorKind::Config, "this is no region", "", SETTINGS),
        Said::Unsupported(words) => {
            (ErrorKind::Unsupported, "dns-update cannot do it here", words.as_str(), OTHER)
        }
        // A name server that does not know the key signs its refusal with nothing, which hickory calls truncated.
        Said::Client(words) if words.contains("TSIG") => {
            (ErrorKind::Auth, "the name server refuses the key", words.as_str(), AUTH)
        }
        Said::Client(words) => (unreached(words), "the vendor cannot be reached", words.as_str(), NETWORK),
        Said::Response(words) => by_answer(words),
        Said::Api(words) => by_words(words),
        Said::Parse(words) | Said::Serialize(words) | Said::Protocol(words) => {
            (ErrorKind::Protocol, "what came is no answer of the vendor's", words.as_str(), SETTINGS)
        }
        // The type may grow.
        other => return Error::new(ErrorKind::Other, op, secrets.words(&other.to_string())),
    };
    let error = Error::new(kind, op, message).with_hint(hint);
    let error = match kind {
        // Whether it helps to say it again, nobody knows; an order is not given up for it.
        ErrorKind::Protocol => error.with_retry(Retry::Backoff),
        _ => error,
    };
    if words.is_empty() { error } else { error.with("said", secrets.words(words)) }
}

const AUTH: &str =
    "check the settings of this provider, and whether the credential is for this zone and may change it";
const ZONE: &str = "check `zones`: each is to be a zone of this account, spelled as the vendor has it";
const SETTINGS: &str = "check the settings of this provider; what the vendor says is in `said`";
pub(crate) const NETWORK: &str = "check the network, and the address if it is one of the settings";
const OTHER: &str = "use another provider: `exec` with acme.sh's script for this vendor";
const WAIT: &str = "fewer certificates at once, or an account of their own for them";

type Meaning<'s> = (ErrorKind, &'static str, &'s str, &'static str);

/// A name server's code, in hickory's words.
fn by_answer(words: &str) -> Meaning<'_> {
    let refused = "the name server refuses";
    match words {
        "Query Refused" | "Server Not Authoritative for zone" | "Not Authorized" | "TSIG Failure" => {
            (ErrorKind::Auth, "the name server refuses the key, or it is not for this zone", words, AUTH)
        }
        "Server Failure" => (ErrorKind::Unavailable, "the name server is out of order", words, NETWORK),
        "Name not in zone" => (ErrorKind::NotFound, refused, words, ZONE),
        _ => (ErrorKind::Protocol, refused, words, SETTINGS),
    }
}

/// dns-update's HTTP client begins with what happened: `HTTP 403: …`, `BadRequest …`, `Failed to send request to …`.
fn by_words(words: &str) -> Meaning<'_> {
    let status =
        words.strip_prefix("HTTP ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse::<u16>().ok());
    match status {
        Some(401 | 403) => (ErrorKind::Auth, "the vendor refuses the credential", words, AUTH),
        Some(404 | 410) => (ErrorKind::NotFound, "the vendor does not know it", words, ZONE),
        Some(409 | 412) => (ErrorKind::Conflict, "something else is changing these records", words, SETTINGS),
        Some(429) => (ErrorKind::RateLimited, "the vendor bears no more requests now", words, WAIT),
        Some(500..) => (ErrorKind::Unavailable, "the vendor is out of order", words, NETWORK),
        _ if words.starts_with("Failed to send request") || words.starts_with("Failed to read response") => {
            (unreached(words), "the vendor cannot be reached", words, NETWORK)
        }
        _ => (ErrorKind::Protocol, "the vendor refuses", words, SETTINGS),
    }
}

fn unreached(words: &str) -> ErrorKind {
    let in_time = !words.contains("timed out") && !words.contains("timeout");
    if in_time { ErrorKind::Unavailable } else { ErrorKind::Timeout }
}

/// Settings that say where the vendor is: an error that hides them helps nobody.
const PLAIN: [&str; 11] = [
    "base_url",
    "endpoint",
    "host",
    "key_algorithm",
    "key_name",
    "port",
    "region",
    "scheme",
    "server",
    "server_name",
    "server_url",
];

/// The values of all other settings, which no error shows.
#[derive(Clone)]
pub(crate) struct Secrets(Vec<Secret<String>>);

impl Secrets {
    /// Some vendors want them in the URL, which dns-update's errors show.
    pub(crate) fn new<'s>(settings: impl Iterator<Item = (&'s String, &'s Secret<String>)>) -> Self {
        let secret = settings.filter(|(name, _)| !PLAIN.contains(&name.as_str()));
        Self(
            secret
                .flat_map(|(_, value)| [value.clone(), Secret::new(form_encoded(value.expose()))])
                .collect(),
        )
    }

    /// The words on one line, without secrets and without what URLs end in: what else was made of them may be there.
    pub(crate) fn words(&self, said: &str) -> String {
        let secrets: Vec<&str> = self.0.iter().map(|secret| secret.expose().as_str()).collect();
        let said = without_secrets(said, &secrets);
        let words: Vec<&str> = said.split_whitespace().map(without_query).collect();
        words.join(" ").chars().take(MAX_WORDS).collect()
    }
}

fn without_query(word: &str) -> &str {
    match word.contains("://") {
        true => word.split('?').next().unwrap_or_default(),
        false => word,
    }
}

/// As it stands in the query of a URL (<https://url.spec.whatwg.org/#application/x-www-form-urlencoded>).
fn form_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::new();
    for octet in text.bytes() {
        match octet {
            b'*' | b'-' | b'.' | b'_' => encoded.push(char::from(octet)),
            b' ' => encoded.push('+'),
            _ if octet.is_ascii_alphanumeric() => encoded.push(char::from(octet)),
            // Writing to a String cannot fail.
            _ => drop(write!(encoded, "%{octet:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(said: Said) -> Error {
        let settings =
            [("api_key", "s3cr3t+key/="), ("username", "me@example.com"), ("endpoint", "https://api.test")];
        let settings = settings.map(|(name, value)| (name.to_owned(), Secret::from(value)));
        error("op", &said, &Secrets::new(settings.iter().map(|(name, value)| (name, value))))
    }

    #[test]
    fn an_answer_is_known_by_its_status() {
        let api = |text: &str| meant(Said::Api(text.to_owned())).kind();
        for (text, kind) in [
            ("HTTP 403: {\"error\": \"no\"}", ErrorKind::Auth),
            ("HTTP 429", ErrorKind::RateLimited),
            ("HTTP 503: <html>", ErrorKind::Unavailable),
            ("HTTP 410", ErrorKind::NotFound),
            ("HTTP 409: busy", ErrorKind::Conflict),
            ("BadRequest {}", ErrorKind::Protocol),
            ("Failed to send request to https://a.test/: operation timed out", ErrorKind::Timeout),
            ("Failed to send request to https://a.test/: connection refused", ErrorKind::Unavailable),
        ] {
            assert_eq!(api(text), kind, "{text}");
        }
        assert_eq!(meant(Said::Unauthorized).kind(), ErrorKind::Auth);
        assert_eq!(meant(Said::NotFound).kind(), ErrorKind::NotFound);
        assert_eq!(meant(Said::Response("Query Refused".into())).kind(), ErrorKind::Auth);
        assert_eq!(meant(Said::Unsupported("no".into())).kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn no_setting_and_no_query_is_shown() {
        let url = "https://api.test/v1?user=me%40example.com&key=s3cr3t%2Bkey%2F%3D";
        let text = format!(
            "Failed to send request to {url}: error sending request for url ({url}): me@example.com s3cr3t+key/="
        );
        let shown = meant(Said::Api(text)).report();
        for secret in ["s3cr3t", "me%40", "me@", "user="] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("https://api.test/v1"), "{shown}");
    }
}
