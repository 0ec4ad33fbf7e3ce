//! Proofs by TXT records: dns-01 (RFC 8555 section 8.4), dns-account-01, dns-persist-01.

use std::time::{Duration, SystemTime};

use acmekit_core::DnsName;
use sha2::{Digest, Sha256};

use super::lookup::Lookup;
use super::shown;
use crate::{Problem, ProblemType, Validation};

pub(super) async fn check_dns01(lookup: &Lookup, validation: &Validation) -> Result<(), Problem> {
    let name = below(validation, "_acme-challenge")?;
    check_value(lookup, validation, &name).await
}

/// draft-ietf-acme-dns-account-label: the label is made of the account's URL, so that several accounts can prove one
/// name at once.
pub(super) async fn check_account(lookup: &Lookup, validation: &Validation) -> Result<(), Problem> {
    let digest = Sha256::digest(&validation.account_url);
    let parent = below(validation, "_acme-challenge")?;
    let name = child(&parent, &format!("_{}", base32(&digest[..10])))?;
    check_value(lookup, validation, &name).await
}

async fn check_value(lookup: &Lookup, validation: &Validation, name: &DnsName) -> Result<(), Problem> {
    let wanted = validation.key_authorization.txt_value();
    let values = lookup.txt(name).await?;
    if values.iter().any(|value| value == wanted.as_bytes()) {
        return Ok(());
    }
    Err(Problem::unauthorized(match values.as_slice() {
        [] => format!("No TXT record found at {name}"),
        [one] => format!("Incorrect TXT record \"{}\" found at {name}", shown(one)),
        [first, rest @ ..] => {
            format!("Incorrect TXT record \"{}\" (and {} more) found at {name}", shown(first), rest.len())
        }
    }))
}

/// draft-ietf-acme-dns-persist: a record that stays, and names the CA and the account.
pub(super) async fn check_persist(
    lookup: &Lookup,
    validation: &Validation,
    now: SystemTime,
) -> Result<(), Problem> {
    let name = below(validation, "_validation-persist")?;
    let values = lookup.txt(&name).await?;
    let mut why = format!("No TXT record found at {name}");
    for value in &values {
        match persists(&String::from_utf8_lossy(value), validation, now) {
            Ok(()) => return Ok(()),
            Err(refused) => why = format!("TXT record \"{}\" at {name}: {refused}", shown(value)),
        }
    }
    Err(Problem::unauthorized(why))
}

/// `issuer; accounturi=…; policy=wildcard; persistUntil=…`, in the form of CAA's issue property (RFC 8659 section 4.2).
fn persists(value: &str, validation: &Validation, now: SystemTime) -> Result<(), &'static str> {
    let mut parts = value.split(';').map(str::trim);
    let issuer = parts.next().unwrap_or_default();
    if !validation.issuer_domains.iter().any(|domain| domain.eq_ignore_ascii_case(issuer)) {
        return Err("it is for another CA");
    }
    let (mut account, mut wildcard, mut until) = (None, false, None);
    for part in parts.filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').ok_or("a parameter has no value")?;
        match name.trim().to_ascii_lowercase().as_str() {
            "accounturi" if account.replace(value.trim()).is_some() => {
                return Err("`accounturi` is there twice");
            }
            "policy" => wildcard = value.trim().eq_ignore_ascii_case("wildcard"),
            "persistuntil" => {
                until = Some(value.trim().parse::<u64>().map_err(|_| "`persistUntil` is no time")?)
            }
            _ => {}
        }
    }
    if account != Some(validation.account_url.as_str()) {
        return Err("it is for another account");
    }
    if validation.identifier.is_wildcard() && !wildcard {
        return Err("it does not allow wildcards");
    }
    let ended = |until| {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(until)).is_some_and(|until| until <= now)
    };
    match until.is_some_and(ended) {
        true => Err("its time is over"),
        false => Ok(()),
    }
}

fn below(validation: &Validation, label: &str) -> Result<DnsName, Problem> {
    let domain = validation.identifier.domain().ok_or_else(|| {
        Problem::malformed(format!("{} cannot be proved by the DNS (RFC 8738)", validation.identifier))
    })?;
    child(domain, label)
}

fn child(parent: &DnsName, label: &str) -> Result<DnsName, Problem> {
    parent
        .child(label)
        .map_err(|_| Problem::new(ProblemType::Dns, format!("{label}.{parent} is too long for a DNS name")))
}

/// RFC 4648 section 6, in lower case, of a multiple of five octets.
fn base32(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::new();
    for five in octets.chunks(5) {
        let bits = five.iter().fold(0u64, |bits, octet| bits << 8 | u64::from(*octet));
        for place in (0..8).rev() {
            let index = usize::try_from(bits >> (place * 5) & 31).unwrap_or_default();
            text.push(char::from(ALPHABET[index]));
        }
    }
    text
}
