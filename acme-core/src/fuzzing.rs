//! For the fuzz targets only; no part of the API.
//!
//! What a CA or a disk can hold, read as acmekit reads it. Nothing here may panic, whatever comes.

use bytes::Bytes;

use crate::budget::ledger;
use crate::renewal::upkeep;
use crate::solvers::shared;
use crate::stores::{decode_entry, encode_entry, lease_record};
use crate::{Bundle, Result, ca, child, dns, journal, rest};

/// Reads arbitrary octets as the body of each answer a CA gives.
#[doc(hidden)]
pub fn acme_json(octets: &[u8]) {
    ca::fuzzing::bodies(octets);
}

/// Reads arbitrary octets as the headers of an answer, one to a line, with the status in front:
/// `429`, `retry-after: 120`, …
#[doc(hidden)]
pub fn http_headers(octets: &[u8]) {
    ca::fuzzing::headers(octets);
}

/// Reads arbitrary octets as the file of an entry, and as what the pipeline keeps in entries.
///
/// # Panics
/// If a value does not come out of its file as it went in.
#[doc(hidden)]
pub fn stored(octets: &[u8]) {
    // Any version is tried: the one a file has is its name, which a disk can damage as well.
    for version in [1, 17, u64::MAX] {
        if let Ok(value) = decode_entry(version, octets) {
            assert_eq!(encode_entry(version, value.expose()).as_slice(), octets, "an entry has two forms");
        }
        let file = encode_entry(version, octets);
        let back = decode_entry(version, &file).map(|value| value.expose() == octets);
        assert_eq!(back, Ok(true), "an entry is not what was saved");
    }
    // A file's value, where it is whole; else the octets as they are: a checksum lets no mutation pass.
    let whole = decode_entry(17, octets);
    let value = whole.as_ref().map_or(octets, |value| value.expose().as_slice());
    journal::fuzzing::record(value);
    ca::account::fuzzing::stored(value);
    let _ = Bundle::from_stored(value);
    upkeep::fuzzing::upkeep(value);
    ledger::fuzzing::page(value, "", None);
    shared::fuzzing::answer(value);
    lease_record(value);
}

/// Reads arbitrary octets as what DNS servers answer: messages, CAA records, values that stand.
#[doc(hidden)]
pub fn dns_answers(octets: &[u8]) {
    dns::fuzzing::answers(octets);
}

/// What is kept and shown of a program that has written this.
#[doc(hidden)]
pub fn program_output(stdout: &[u8], stderr: &[u8], keep: usize, secrets: &[&str]) -> child::Ended {
    child::fuzzing::ended(stdout, stderr, keep, secrets)
}

/// Reads arbitrary octets as the answer of a vendor's API: a line with the status, one with the content type, the
/// body. `None` where no server could say so.
#[doc(hidden)]
pub fn vendor_answer(client: &rest::Client, octets: &[u8]) -> Option<Result<Bytes>> {
    rest::fuzzing::answer(client, octets)
}
