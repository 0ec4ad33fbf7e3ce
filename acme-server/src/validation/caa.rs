//! CAA (RFC 8659) with the parameters of RFC 8657.

use hickory_resolver::proto::rr::rdata::CAA;

use super::Failure;
use super::dns::Dns;
use super::issue_value::{IssueValue, is_ours};
use crate::{ProblemType, Validation};

/// Climbs from the name towards the root until there are records (RFC 8659 section 3). An address has none.
pub(super) async fn check(validation: &Validation, dns: &Dns) -> Result<(), Failure> {
    let Some(domain) = validation.identifier.domain() else { return Ok(()) };
    for name in domain.ancestors() {
        let records = dns
            .caa(name.as_str())
            .await
            .map_err(|e| Failure::new(ProblemType::Caa, format!("While checking CAA for {domain}: {e}")))?;
        if records.is_empty() {
            continue;
        }
        return judge(&records, validation).map_err(|why| {
            Failure::new(ProblemType::Caa, format!("CAA record for {name} prevents issuance: {why}"))
        });
    }
    Ok(())
}

/// Whether a set of records lets this CA issue.
fn judge(records: &[CAA], validation: &Validation) -> Result<(), String> {
    let is = |record: &CAA, tag: &str| record.tag.eq_ignore_ascii_case(tag);
    let known = ["issue", "issuewild", "iodef", "issuemail", "contactemail", "contactphone"];
    if let Some(record) =
        records.iter().find(|record| record.issuer_critical && !known.iter().any(|tag| is(record, tag)))
    {
        return Err(format!("the critical property `{}` is unknown", record.tag.escape_debug()));
    }
    let issue = || records.iter().filter(|record| is(record, "issue")).collect::<Vec<_>>();
    let wild = || records.iter().filter(|record| is(record, "issuewild")).collect::<Vec<_>>();
    // Where there is an issuewild property, it alone counts for a wildcard (RFC 8659 section 4.3).
    let properties = match validation.identifier.is_wildcard().then(wild) {
        Some(wild) if !wild.is_empty() => wild,
        _ => issue(),
    };
    if properties.is_empty() {
        return Ok(());
    }
    let mut refusal = "no property names this CA".to_owned();
    for property in properties {
        match permits(property, validation) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(why) => refusal = why,
        }
    }
    Err(refusal)
}

/// The octets as the value of a property, beside one that keeps everybody out: for the fuzz targets only.
pub(super) fn fuzz(octets: &[u8], validation: &Validation) {
    let closed = CAA::new_issue(false, None, Vec::new());
    let mut open = closed.clone();
    open.value = octets.to_vec();
    if judge(&[closed, open], validation).is_ok() {
        let text = String::from_utf8_lossy(octets).to_ascii_lowercase();
        assert!(text.contains("ca.example"), "{text:?} names this CA");
    }
}

/// Whether one property is about this CA, and lets it issue.
fn permits(property: &CAA, validation: &Validation) -> Result<bool, String> {
    let text = String::from_utf8_lossy(&property.value);
    // What is malformed names nobody (RFC 8659 section 4.2).
    let Ok(value) = IssueValue::parse(&text) else { return Ok(false) };
    if !is_ours(&value.issuer, &validation.issuer_domains) {
        return Ok(false);
    }
    // A parameter that is there twice cannot be satisfied (RFC 8657 sections 3 and 4).
    if value.parameter("accounturi")?.is_some_and(|account| account != validation.account_url) {
        return Err("`accounturi` is another account".to_owned());
    }
    if let Some(methods) = value.parameter("validationmethods")?
        && !methods.split(',').any(|method| method == validation.kind.as_str())
    {
        return Err(format!("`validationmethods` does not have {}", validation.kind));
    }
    Ok(true)
}
