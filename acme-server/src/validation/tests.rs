//! Servers of a client's side, on free ports of this machine, and what a validator makes of them.

mod caa;
mod dns;
mod fakes;
mod http01;
mod persist;
mod tls_alpn01;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use acmekit_core::{ChallengeKind, KeyAuthorization};

use super::*;

const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
const THUMBPRINT: &str = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";
const ACCOUNT: &str = "https://ca.example/acct/1";

fn proof() -> KeyAuthorization {
    KeyAuthorization::new(TOKEN, THUMBPRINT)
}

fn proof_text() -> String {
    format!("{TOKEN}.{THUMBPRINT}")
}

fn kind(name: &str) -> ChallengeKind {
    name.to_owned().into()
}

fn validation(identifier: &str, name: &str) -> Validation {
    Validation::new(identifier.parse().unwrap(), kind(name), TOKEN, proof(), ACCOUNT)
        .with_issuer_domains(["ca.example", "other.ca.example"])
}

/// Every name leads to this machine, and no DNS is asked.
fn loopback() -> ValidationConfig {
    ValidationConfig::new().with_resolve_all_to(Ipv4Addr::LOCALHOST).with_timeout(Duration::from_secs(5))
}

fn by_dns(server: SocketAddr) -> ValidationConfig {
    ValidationConfig::new().with_dns_servers([server]).with_timeout(Duration::from_secs(5)).with_caa(false)
}

/// Validates, and looks whether a refusal keeps the secret.
async fn outcome(config: ValidationConfig, validation: &Validation) -> Result<(), Problem> {
    let validator = RealValidator::new(config).unwrap();
    let done = validator.validate(validation).await;
    if let Err(problem) = &done {
        for text in [problem.to_string(), format!("{problem:?}"), problem.to_json().to_string()] {
            assert!(!text.contains(&proof_text()), "the key authorization is shown: {text}");
        }
        assert_eq!(problem.identifier(), Some(&validation.identifier));
    }
    assert!(!format!("{validator:?} {validation:?}").contains(&proof_text()));
    done
}

#[track_caller]
fn assert_refused(done: Result<(), Problem>, kind: ProblemType, part: &str) {
    let problem = done.unwrap_err();
    assert_eq!(problem.kind(), kind, "{problem}");
    assert!(problem.detail().contains(part), "`{part}` is not in `{problem}`");
}

#[test]
fn kinds_fit_the_identifier_and_the_configuration() {
    let all = ["http-01", "tls-alpn-01", "dns-01", "dns-account-01", "dns-persist-01"];
    let offered = RealValidator::new(loopback()).unwrap();
    let only = loopback().with_kinds([ChallengeKind::Dns01, ChallengeKind::Http01]);
    let only = RealValidator::new(only).unwrap();
    for (identifier, want, want_only) in [
        ("www.example.org", &all[..], &["http-01", "dns-01"][..]),
        ("*.example.org", &all[2..], &["dns-01"]),
        ("127.0.0.1", &all[..2], &["http-01"]),
        ("2001:db8::1", &all[..2], &["http-01"]),
    ] {
        let identifier: Identifier = identifier.parse().unwrap();
        let kinds = |validator: &dyn Validator| {
            validator.kinds(&identifier).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&offered), want, "{identifier}");
        assert_eq!(kinds(&AlwaysValid), want, "{identifier}");
        assert_eq!(kinds(&only), want_only, "{identifier}");
    }
}

#[tokio::test]
async fn a_kind_that_cannot_prove_the_identifier_is_malformed() {
    for (identifier, name) in [
        ("*.example.org", "http-01"),
        ("*.example.org", "tls-alpn-01"),
        ("127.0.0.1", "dns-01"),
        ("a.org", "x"),
    ] {
        let done = outcome(loopback(), &validation(identifier, name)).await;
        assert_refused(done, ProblemType::Malformed, identifier);
    }
}

#[tokio::test]
async fn always_valid_accepts_everything() {
    AlwaysValid.validate(&validation("www.example.org", "http-01")).await.unwrap();
}

#[test]
fn quotes_are_escaped_cut_and_without_the_secret() {
    for (received, want) in [
        ("plain".to_owned(), "\"plain\"".to_owned()),
        ("a\"\n\u{1b}".to_owned(), "\"a\\\"\\n\\u{1b}\"".to_owned()),
        (format!("<{}>", proof_text()), "\"<[key authorization]>\"".to_owned()),
        ("x".repeat(129), format!("\"{}…\"", "x".repeat(128))),
    ] {
        assert_eq!(quote(received.as_bytes(), &proof_text()), want);
    }
    assert_eq!(quote(b"\xff", "s"), "\"\u{fffd}\"");
}

#[test]
fn the_systems_servers_are_read_from_resolv_conf() {
    let text = "# nameserver 9.9.9.9\nnameserver 192.0.2.1\nsearch a\nnameserver x\nnameserver 2001:db8::1\n";
    let want: Vec<SocketAddr> = vec!["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()];
    assert_eq!(super::dns::name_servers(text), want);
    assert_eq!(super::dns::name_servers(""), []);
}
