//! dns-persist-01 (draft-ietf-acme-dns-persist): a TXT record that names the CA and the account, and stays.

use std::time::{SystemTime, UNIX_EPOCH};

use acmekit_core::DnsName;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::dns::Dns;
use super::issue_value::{IssueValue, is_ours, issuer};
use super::{Failure, quote, txt};
use crate::Validation;

pub(super) async fn check(
    validation: &Validation,
    dns: &Dns,
    hash_prefix: Option<&str>,
    now: SystemTime,
) -> Result<(), Failure> {
    let domain = txt::domain(validation)?;
    let name = format!("_validation-persist.{domain}");
    let records = dns.txt(&name).await?;
    if records.is_empty() {
        return Err(Failure::unauthorized(format!("No TXT record found at {name}")));
    }
    let accounts = account_uris(validation, domain, hash_prefix);
    let mut malformed = None;
    let mut refused = None;
    for record in &records {
        let text = String::from_utf8_lossy(record);
        // The record of another CA is nothing to us, whatever its form.
        if !is_ours(&issuer(&text), &validation.issuer_domains) {
            continue;
        }
        let shown = quote(record, validation.key_authorization.as_secret().expose());
        let at = |why: &str| format!("The TXT record {shown} at {name} is not usable: {why}");
        match judge(&text, validation, &accounts, now) {
            Ok(()) => return Ok(()),
            Err(Refusal::Malformed(why)) => malformed = Some(Failure::malformed(at(&why))),
            Err(Refusal::Unauthorized(why)) => refused = Some(Failure::unauthorized(at(&why))),
        }
    }
    // As Boulder: a record meant for this CA with a mistake in it is what its owner should hear of first.
    Err(malformed.or(refused).unwrap_or_else(|| {
        let count = records.len();
        Failure::unauthorized(format!("None of {count} TXT records at {name} names this CA as the issuer"))
    }))
}

#[derive(Debug)]
enum Refusal {
    Malformed(String),
    Unauthorized(String),
}

/// What `accounturi` may be. From draft 02 on (section 4.1) it is a hash over the name of the record, or over `*`, and
/// the account; the account's key is in the key authorization.
fn account_uris(validation: &Validation, domain: &DnsName, hash_prefix: Option<&str>) -> Vec<String> {
    let Some(prefix) = hash_prefix else { return vec![validation.account_url.clone()] };
    let proof = validation.key_authorization.as_secret().expose();
    let thumbprint = proof.rsplit('.').next().unwrap_or_default();
    let hashed = |name: &str| {
        // No name is longer than 253 octets.
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        let parts: [&[u8]; 4] =
            [&[length], name.as_bytes(), thumbprint.as_bytes(), validation.account_url.as_bytes()];
        let digest = Sha256::digest(parts.concat());
        format!("{prefix}sha-256/{}", BASE64_URL_SAFE_NO_PAD.encode(digest))
    };
    vec![hashed(domain.as_str()), hashed("*")]
}

/// Whether one value proves control: for the fuzz targets only.
pub(super) fn proves(text: &str, validation: &Validation, now: SystemTime) -> bool {
    let accounts = [validation.account_url.clone()];
    is_ours(&issuer(text), &validation.issuer_domains) && judge(text, validation, &accounts, now).is_ok()
}

fn judge(text: &str, validation: &Validation, accounts: &[String], now: SystemTime) -> Result<(), Refusal> {
    let value = IssueValue::parse(text).map_err(Refusal::Malformed)?;
    let parameter = |tag: &str| value.parameter(tag).map_err(Refusal::Malformed);
    let unauthorized = |why: &str| Err(Refusal::Unauthorized(why.to_owned()));
    let account = parameter("accounturi")?;
    let policy = parameter("policy")?;
    let until = match parameter("persistuntil")? {
        None => None,
        Some(text) => Some(text.parse::<u64>().map_err(|_| {
            Refusal::Malformed("`persistUntil` is not a number of seconds since 1970".to_owned())
        })?),
    };
    let Some(account) = account.filter(|account| !account.is_empty()) else {
        return Err(Refusal::Malformed("the parameter `accounturi` is missing".to_owned()));
    };
    if !accounts.iter().any(|ours| ours == account) {
        return unauthorized("`accounturi` is another account");
    }
    // Any other policy is as none.
    let below = policy.is_some_and(|policy| policy.eq_ignore_ascii_case("wildcard"));
    if validation.identifier.is_wildcard() && !below {
        return unauthorized("a wildcard needs `policy=wildcard`");
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if until.is_some_and(|until| now > until) {
        return unauthorized("`persistUntil` has passed");
    }
    Ok(())
}
