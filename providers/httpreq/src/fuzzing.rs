//! For the fuzz targets only; no part of the API.

use acmekit_core::fuzzing;
use acmekit_core::rest::Client;

/// Reads arbitrary octets as the answer of a server: a line with the status, one with the content type, the body.
///
/// # Panics
/// If an error shows a credential, or is longer than a person reads.
#[doc(hidden)]
pub fn answer(client: &Client, octets: &[u8]) {
    let client = client.clone().with_text_answers().with_refusals(crate::refusal);
    if let Some(Err(error)) = fuzzing::vendor_answer(&client, octets) {
        assert!(error.message().chars().count() < 1000, "a server fills the log");
        assert!(!error.message().contains(char::is_control), "a server breaks a line of the log");
    }
}
