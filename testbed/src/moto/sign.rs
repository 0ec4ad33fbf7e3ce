//! AWS's Signature Version 4, as far as these tests need it.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

use super::MotoKey;

/// moto compares signatures, not clocks.
const DATE: &str = "20260101";
const TIME: &str = "20260101T000000Z";

pub(super) struct Request<'a> {
    pub(super) service: &'a str,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) body: &'a str,
    pub(super) host: &'a str,
}

impl Request<'_> {
    /// The request's head, signed.
    pub(super) fn head(&self, key: &MotoKey) -> String {
        let Self { service, method, path, query, body, host } = self;
        let digest = hex(&Sha256::digest(body));
        let signed = "host;x-amz-date";
        let canonical =
            format!("{method}\n{path}\n{query}\nhost:{host}\nx-amz-date:{TIME}\n\n{signed}\n{digest}");
        let scope = format!("{DATE}/us-east-1/{service}/aws4_request");
        let to_sign = format!("AWS4-HMAC-SHA256\n{TIME}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let first = format!("AWS4{}", key.secret).into_bytes();
        let signing =
            [DATE, "us-east-1", service, "aws4_request"].iter().fold(first, |key, text| mac(&key, text));
        let signature = hex(&mac(&signing, &to_sign));
        let mark = if query.is_empty() { "" } else { "?" };
        format!(
            "{method} {path}{mark}{query} HTTP/1.0\r\nHost: {host}\r\nX-Amz-Date: {TIME}\r\nContent-Length: {}\r\n\
             Content-Type: {}\r\nAuthorization: AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, \
             Signature={signature}\r\n\r\n",
            body.len(),
            if *service == "iam" { "application/x-www-form-urlencoded" } else { "application/xml" },
            key.id,
        )
    }
}

/// All but RFC 3986's unreserved characters as `%XX`.
pub(super) fn percent_encoded(text: &str) -> String {
    let one = |octet: u8| match octet {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(octet).to_string(),
        _ => format!("%{octet:02X}"),
    };
    text.bytes().map(one).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
