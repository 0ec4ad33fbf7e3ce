//! For the fuzz targets only; no part of the API.
//!
//! What a client, or whoever a validation asks, can send. Nothing here may panic, whatever comes.

use serde_json::Value;

use crate::jws::{Jws, Signer};
use crate::{Jwk, server, validation};

/// Reads arbitrary octets as the body of a request, as a public key in JSON, and as one in DER.
///
/// # Panics
/// If a key is not the same once it was written, or if octets nobody has signed are taken for signed.
#[doc(hidden)]
pub fn jws(octets: &[u8]) {
    if let Ok(json) = serde_json::from_slice::<Value>(octets)
        && let Ok(key) = Jwk::from_json(&json)
    {
        known(&key);
    }
    if let Some(key) = Jwk::from_public_key_info(octets) {
        let again = Jwk::from_json(&key.to_json());
        assert!(again.is_err() || again.is_ok_and(|again| again == key), "a key is another one as JSON");
    }
    match Jws::from_json(octets) {
        Ok(jws) => {
            if let Signer::Key(key) = &jws.signer {
                known(key);
                let _ = jws.verify(key);
            }
            assert!(jws.verify_mac(b"a key that no input has").is_err(), "anybody can bind an account");
            // What says so much as a mail address stays out of logs.
            let shown = format!("{jws:?}");
            assert!(shown.len() < 1000 + 3 * octets.len(), "a request fills the log");
        }
        Err(problem) => {
            assert_eq!(problem.status() / 100, 4, "a request is the server's fault: {problem}");
            assert!(problem.detail().chars().count() < 1000 + 3 * octets.len(), "a problem fills the log");
        }
    }
}

fn known(key: &Jwk) {
    let again = Jwk::from_json(&key.to_json());
    assert!(again.is_ok_and(|again| again == *key && again.thumbprint() == key.thumbprint()), "{key:?}");
    assert_eq!(key.thumbprint().len(), 43);
    assert!(!key.verifies(b"", b""), "nothing is a signature");
}

/// Reads arbitrary octets as the payload of a request whose signature is right, at each URL that takes one: by an
/// account that has an order which is ready. The first octet says where.
///
/// # Panics
/// If the answer says that the fault is the server's.
#[doc(hidden)]
pub fn payload(octets: &[u8]) {
    server::fuzzing::payload(octets);
}

/// Reads arbitrary octets as what a validation finds: TXT records, CAA values, a certificate of tls-alpn-01.
///
/// # Panics
/// If they prove what they do not say.
#[doc(hidden)]
pub fn validation(octets: &[u8]) {
    validation::fuzzing::found(octets);
}
