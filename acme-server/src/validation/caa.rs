//! CAA records (RFC 8659, RFC 8657): whether this CA may issue.

use super::lookup::{Lookup, Property};
use crate::{Problem, ProblemType, Validation};

/// Climbs from the name to the root; the first properties found decide.
pub(super) async fn check(lookup: &Lookup, validation: &Validation) -> Result<(), Problem> {
    // RFC 8659 is about names.
    let Some(domain) = validation.identifier.domain() else { return Ok(()) };
    for name in domain.ancestors() {
        let properties = lookup.caa(&name).await.map_err(|problem| {
            Problem::new(ProblemType::Caa, format!("CAA of {name} is not known: {}", problem.detail()))
        })?;
        if !properties.is_empty() {
            return decide(&properties, validation).map_err(|why| {
                Problem::new(ProblemType::Caa, format!("CAA record for {name} prevents issuance: {why}"))
            });
        }
    }
    Ok(())
}

fn decide(properties: &[Property], validation: &Validation) -> Result<(), &'static str> {
    if properties.iter().any(|property| {
        property.critical && !matches!(property.tag.as_str(), "issue" | "issuewild" | "iodef" | "issuemail")
    }) {
        return Err("a critical property is not understood");
    }
    let tagged = |tag: &str| properties.iter().filter(|property| property.tag == tag).collect::<Vec<_>>();
    let mut deciding = tagged("issue");
    if validation.identifier.is_wildcard() {
        let wild = tagged("issuewild");
        if !wild.is_empty() {
            deciding = wild;
        }
    }
    if deciding.is_empty() || deciding.iter().any(|property| allows(&property.value, validation)) {
        return Ok(());
    }
    Err("no property allows this CA, account and method")
}

/// `ca.example; accounturi=…; validationmethods=dns-01,http-01` (RFC 8659 section 4.2, RFC 8657).
fn allows(value: &[u8], validation: &Validation) -> bool {
    let value = String::from_utf8_lossy(value);
    let mut parts = value.split(';').map(str::trim);
    let issuer = parts.next().unwrap_or_default();
    let is_us = validation.issuer_domains.iter().any(|domain| domain.eq_ignore_ascii_case(issuer));
    is_us
        && parts.filter(|part| !part.is_empty()).all(|part| match part.split_once('=') {
            None => false,
            Some((name, value)) => match name.trim().to_ascii_lowercase().as_str() {
                "accounturi" => value.trim() == validation.account_url,
                "validationmethods" => value
                    .split(',')
                    .any(|method| method.trim().eq_ignore_ascii_case(validation.kind.as_str())),
                _ => true,
            },
        })
}
