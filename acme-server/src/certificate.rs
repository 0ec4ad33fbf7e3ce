//! What the server reads out of a certificate.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

pub(crate) struct Facts {
    /// Its name in renewal information, if it names its issuer's key (RFC 9773 section 4.1).
    pub(crate) renewal_id: Option<String>,
    #[cfg_attr(not(feature = "test-ca"), expect(dead_code, reason = "only TestCa suggests windows"))]
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) public_key_info: Vec<u8>,
}

/// `None` if this is not a certificate.
pub(crate) fn facts(der: &[u8]) -> Option<Facts> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let issuer_key =
        certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(key) => key.key_identifier.as_ref(),
            _ => None,
        });
    let time = |seconds: i64| {
        let magnitude = Duration::from_secs(seconds.unsigned_abs());
        match seconds < 0 {
            true => SystemTime::UNIX_EPOCH.checked_sub(magnitude),
            false => SystemTime::UNIX_EPOCH.checked_add(magnitude),
        }
    };
    Some(Facts {
        renewal_id: issuer_key
            .map(|key| format!("{}.{}", BASE64.encode(key.0), BASE64.encode(certificate.raw_serial()))),
        not_before: time(certificate.validity().not_before.timestamp())?,
        not_after: time(certificate.validity().not_after.timestamp())?,
        public_key_info: certificate.public_key().raw.to_vec(),
    })
}
