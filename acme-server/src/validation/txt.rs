//! dns-01 (RFC 8555 section 8.4) and dns-account-01 (draft-ietf-acme-dns-account-label): a TXT record with a digest.

use acmekit_core::DnsName;
use sha2::{Digest, Sha256};

use super::dns::Dns;
use super::{Failure, quote, unfit};
use crate::Validation;

pub(super) async fn dns01(validation: &Validation, dns: &Dns) -> Result<(), Failure> {
    let domain = domain(validation)?;
    check(validation, dns, &format!("_acme-challenge.{domain}")).await
}

pub(super) async fn dns_account01(validation: &Validation, dns: &Dns) -> Result<(), Failure> {
    let domain = domain(validation)?;
    let label = account_label(&validation.account_url);
    check(validation, dns, &format!("{label}._acme-challenge.{domain}")).await
}

pub(super) fn domain(validation: &Validation) -> Result<&DnsName, Failure> {
    validation.identifier.domain().ok_or_else(|| unfit(&validation.kind, &validation.identifier))
}

async fn check(validation: &Validation, dns: &Dns, name: &str) -> Result<(), Failure> {
    let found = dns.txt(name).await?;
    let wanted = validation.key_authorization.txt_value();
    if found.iter().any(|value| value == wanted.as_bytes()) {
        return Ok(());
    }
    let Some(first) = found.first() else {
        return Err(Failure::unauthorized(format!("No TXT record found at {name}")));
    };
    let more = match found.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let shown = quote(first, validation.key_authorization.as_secret().expose());
    Err(Failure::unauthorized(format!("Incorrect TXT record {shown}{more} found at {name}")))
}

/// `_` and the base32 of the first ten octets of the digest of the account's URL.
pub(super) fn account_label(account_url: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let digest = Sha256::digest(account_url);
    let mut label = String::from("_");
    // Five octets are eight letters (RFC 4648 section 6), so ten need no padding.
    for group in digest[..10].chunks_exact(5) {
        let bits = group.iter().fold(0_u64, |bits, octet| bits << 8 | u64::from(*octet));
        label.extend((0..8).rev().map(|letter| char::from(ALPHABET[(bits >> (5 * letter) & 31) as usize])));
    }
    label
}
