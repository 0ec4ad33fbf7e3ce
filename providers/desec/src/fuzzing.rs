//! For the fuzz targets only; no part of the API.

use acmekit_core::fuzzing;
use acmekit_core::rest::Client;

use crate::api::{self, Domain, Rrset};
use crate::txt;

/// Reads arbitrary octets as an answer of deSEC's: a line with the status, one with the content type, the body.
///
/// # Panics
/// If a value is not the same in the form it is sent in, or an error shows a credential.
#[doc(hidden)]
pub fn answer(client: &Client, octets: &[u8]) {
    let client = client.clone().with_refusals(api::refusal);
    let value = String::from_utf8_lossy(octets);
    assert!(txt::is(&txt::quoted(&value), &value), "a value is not read as it was written");
    match fuzzing::vendor_answer(&client, octets) {
        Some(Ok(body)) => {
            let _ = serde_json::from_slice::<Domain>(&body);
            if let Ok(found) = serde_json::from_slice::<Rrset>(&body) {
                let _ = found.records.iter().any(|content| txt::is(content, &value));
            }
        }
        Some(Err(error)) => {
            let _ = api::has_code(&error, api::WHOLE);
        }
        None => {}
    }
}
