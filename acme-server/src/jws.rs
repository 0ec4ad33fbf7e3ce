//! JSON Web Signatures as ACME uses them (RFC 8555 section 6.2, RFC 7515): flattened, read strictly.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde_json::{Map, Value};

use crate::provider::hmac;
use crate::{Jwk, Problem, ProblemType};

/// The algorithms accepted, in the words of RFC 7518.
pub(crate) const ALGORITHMS: [&str; 4] = ["ES256", "ES384", "EdDSA", "RS256"];

/// Who says to have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signer {
    /// The key itself: for newAccount, and to revoke by a certificate's key.
    Key(Jwk),
    /// The account of this URL, or in an external binding the MAC key of this name.
    Known(String),
}

/// A JWS whose form is right, and whose signature has not been checked yet.
pub(crate) struct Jws {
    pub(crate) signer: Signer,
    pub(crate) algorithm: String,
    pub(crate) url: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) payload: Vec<u8>,
    input: String,
    signature: Vec<u8>,
}

impl Jws {
    /// Reads a flattened JWS (RFC 7515 section 7.2.2).
    ///
    /// # Errors
    /// `malformed` that says what is wrong with its form.
    pub(crate) fn from_json(body: &[u8]) -> Result<Self, Problem> {
        let object: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|_| Problem::malformed("the request body is not a JSON object"))?;
        Self::from_object(&object)
    }

    pub(crate) fn from_object(object: &Map<String, Value>) -> Result<Self, Problem> {
        if object.contains_key("signatures") {
            return Err(Problem::malformed(
                "the JWS has `signatures`: one signature, flattened, is required",
            ));
        }
        if object.contains_key("header") {
            return Err(Problem::malformed("the JWS has an unprotected `header`, which ACME forbids"));
        }
        let member = |name: &str| {
            let text = object.get(name).and_then(Value::as_str);
            text.ok_or_else(|| Problem::malformed(format!("the JWS has no member `{name}` of text")))
        };
        let octets = |name: &str| {
            let octets = BASE64.decode(member(name)?);
            octets.map_err(|_| Problem::malformed(format!("`{name}` is not base64url without padding")))
        };
        let input = format!("{}.{}", member("protected")?, member("payload")?);
        let header: Map<String, Value> = serde_json::from_slice(&octets("protected")?)
            .map_err(|_| Problem::malformed("the protected header is not a JSON object"))?;
        for forbidden in ["crit", "b64"] {
            if header.contains_key(forbidden) {
                return Err(Problem::malformed(format!(
                    "the header parameter `{forbidden}` is not supported"
                )));
            }
        }
        let parameter = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Problem::malformed(format!("the header parameter `{name}` is not text"))),
        };
        let algorithm = parameter("alg")?.ok_or_else(|| Problem::malformed("the header has no `alg`"))?;
        let signer = match (header.get("jwk"), parameter("kid")?) {
            // An algorithm nobody takes is told before a key that may be none of ours (`HS256`).
            (Some(_), None) if !ALGORITHMS.contains(&algorithm.as_str()) => {
                return Err(bad_algorithm(&algorithm));
            }
            (Some(key), None) => Signer::Key(Jwk::from_json(key)?),
            (None, Some(known)) => Signer::Known(known),
            (None, None) => return Err(Problem::malformed("the header has neither `jwk` nor `kid`")),
            (Some(_), Some(_)) => return Err(Problem::malformed("the header has both `jwk` and `kid`")),
        };
        Ok(Self {
            signer,
            algorithm,
            url: parameter("url")?,
            nonce: parameter("nonce")?,
            payload: octets("payload")?,
            signature: octets("signature")?,
            input,
        })
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// `badSignatureAlgorithm` for one that is not accepted or does not fit the key, else `malformed`.
    pub(crate) fn verify(&self, key: &Jwk) -> Result<(), Problem> {
        if self.algorithm != key.algorithm() {
            return Err(bad_algorithm(&self.algorithm));
        }
        match key.verifies(self.input.as_bytes(), &self.signature) {
            true => Ok(()),
            false => Err(Problem::malformed("the signature of the JWS is not by the key it names")),
        }
    }

    /// Checks the MAC of an external account binding (RFC 8555 section 7.3.4).
    pub(crate) fn verify_mac(&self, key: &[u8]) -> Result<(), Problem> {
        let algorithm = match self.algorithm.as_str() {
            "HS256" => hmac::HMAC_SHA256,
            "HS384" => hmac::HMAC_SHA384,
            "HS512" => hmac::HMAC_SHA512,
            other => return Err(bad_algorithm(other).with_algorithms(&["HS256", "HS384", "HS512"])),
        };
        hmac::verify(&hmac::Key::new(algorithm, key), self.input.as_bytes(), &self.signature)
            .map_err(|_| Problem::unauthorized("the external account binding is not signed by its key"))
    }
}

/// Not the payload: newAccount may carry an e-mail address, and a CSR is long.
impl fmt::Debug for Jws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jws").field("signer", &self.signer).field("url", &self.url).finish_non_exhaustive()
    }
}

pub(crate) fn bad_algorithm(algorithm: &str) -> Problem {
    Problem::new(
        ProblemType::BadSignatureAlgorithm,
        format!(
            "the JWS is signed by `{}`, which is not accepted or does not fit its key",
            algorithm.escape_debug()
        ),
    )
    .with_algorithms(&ALGORITHMS)
}
