//! For the fuzz targets only; no part of the API.
//!
//! What a CA or a disk can hold, read as acmekit reads it. Nothing here may panic, whatever comes.

use crate::stores::{decode_entry, encode_entry};
use crate::{Bundle, ca, journal};

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
}
