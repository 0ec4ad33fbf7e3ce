//! For the fuzz targets only; no part of the API.

use acmekit_core::rest::Client;
use acmekit_core::{DnsName, TxtRecord, fuzzing};

use crate::api::{self, One, Page, Record, Zone};

/// Reads arbitrary octets as an answer of Cloudflare's: a line with the status, one with the content type, the body.
///
/// # Panics
/// If a value is not the same in the form it is sent in, or an error shows a credential.
#[doc(hidden)]
pub fn answer(client: &Client, octets: &[u8]) {
    let client = client.clone().with_refusals(api::refusal);
    let Ok(name) = "_acme-challenge.example.com".parse::<DnsName>() else { return };
    let record = TxtRecord::new(name.clone(), String::from_utf8_lossy(octets));
    assert!(api::is_written(&record), "a value is not read as it was written");
    let body = match fuzzing::vendor_answer(&client, octets) {
        Some(Ok(body)) => body,
        Some(Err(error)) => {
            let _ = (api::has_code(&error, api::BAD_TTL), api::may_not_list(&error));
            return;
        }
        None => return,
    };
    if let Ok(page) = serde_json::from_slice::<Page<Record>>(&body) {
        page.is_last(1, 100);
        for found in page.into_entries() {
            assert!(!found.is(&record) || found.is_at(&name), "a record is elsewhere");
        }
    }
    if let Ok(page) = serde_json::from_slice::<Page<Zone>>(&body) {
        page.is_last(usize::MAX, 50);
        let _ = page.into_entries().any(|zone| api::is_name(&zone.name, &name));
    }
    let _ = serde_json::from_slice::<One<Record>>(&body);
}
