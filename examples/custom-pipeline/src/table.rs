//! What came of it, for a person.

use std::fmt::Write;

use acmekit::manager::{CertificateStatus, Status};

const DAY: u64 = 24 * 3600;

/// Whether there is a certificate, it is where it belongs, and nothing is wrong with it.
pub(crate) fn is_well(one: &CertificateStatus) -> bool {
    let is_there = one.deployments.values().all(|there| there.current && there.trouble.is_none());
    one.not_after.is_some() && one.trouble.is_none() && is_there
}

/// One line for each certificate, and one for what is wrong with it.
pub(crate) fn table(status: &Status) -> String {
    let ids = status.certificates.iter().map(|one| one.id.as_str().len());
    let width = ids.max().unwrap_or_default().max("CERTIFICATE".len());
    let mut out = String::new();
    // Writing to a string cannot fail.
    writeln!(out, "{:width$}  {:12}  {:9}  STATE", "CERTIFICATE", "OWNER", "VALID FOR").ok();
    for one in &status.certificates {
        let left = one.not_after.and_then(|end| end.duration_since(status.at).ok());
        let left = left.map_or_else(|| "-".to_owned(), |left| format!("{} days", left.as_secs() / DAY));
        let state = if is_well(one) { "deployed" } else { "not deployed" };
        writeln!(out, "{:width$}  {:12}  {left:9}  {state}", one.id.as_str(), one.group).ok();
        let troubles = one.deployments.values().map(|there| &there.trouble);
        for trouble in troubles.chain([&one.trouble]).flatten() {
            writeln!(out, "    {}", trouble.error).ok();
            if let Some(hint) = &trouble.hint {
                writeln!(out, "    hint: {hint}").ok();
            }
        }
    }
    out
}
