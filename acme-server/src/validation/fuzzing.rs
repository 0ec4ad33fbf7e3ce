//! For the fuzz targets only: what a validation finds, without the network.

use std::time::{Duration, SystemTime};

use acmekit_core::{ChallengeKind, KeyAuthorization};

use super::issue_value::{IssueValue, issuer};
use super::{caa, persist, quote, tls, tls_alpn01};
use crate::Validation;

const SECRET: &str = "the-token.the-thumbprint-of-the-account";

/// The octets as a value of a TXT record, of a CAA record, and as a certificate.
pub(crate) fn found(octets: &[u8]) {
    let proof = KeyAuthorization::new("the-token", "the-thumbprint-of-the-account");
    let Ok(identifier) = "*.example.com".parse() else { return };
    let account = "https://ca.example/acct/1";
    let validation = Validation::new(identifier, ChallengeKind::DnsPersist01, "the-token", proof, account)
        .with_issuer_domains(["ca.example"]);
    let text = String::from_utf8_lossy(octets);

    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    if persist::proves(&text, &validation, now) {
        assert!(
            text.contains(account) && text.to_ascii_lowercase().contains("ca.example"),
            "{text:?} proves it"
        );
    }
    if let Ok(value) = IssueValue::parse(&text) {
        assert_eq!(value.issuer, issuer(&text), "an issuer is read in two ways");
    }
    caa::fuzz(octets, &validation);

    let shown = quote(octets, SECRET);
    assert!(!shown.contains(SECRET) && !shown.contains(char::is_control), "{shown}");
    assert!(shown.chars().count() <= 128 * 10 + 3, "what is shown is too long");

    let algorithms = tls::crypto_provider().signature_verification_algorithms;
    for name in ["example.com", "192.0.2.1"].into_iter().filter_map(|name| name.parse().ok()) {
        // Nobody but its key's owner can make one, and the corpus has none with this digest.
        let right = tls_alpn01::check_certificate(octets, &name, &[7; 32], &algorithms);
        assert!(right.is_err(), "a certificate that proves nothing is taken");
    }
}
