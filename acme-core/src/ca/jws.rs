//! JSON Web Signatures as ACME wants them (RFC 8555 section 6.2, RFC 7515): flattened; ES256 for accounts, and what fits
//! the key of a certificate where that has to sign.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, Mac};
use rcgen::SigningKey;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey;

use crate::{Error, ErrorKind, PrivateKey, Result, Secret};

/// A key that signs requests, by the crypto provider: an account's, on P-256, or a certificate's.
pub(crate) struct JwsKey {
    pair: rcgen::KeyPair,
    jwk: Jwk,
    algorithm: &'static str,
}

/// A public key as JWK. The members are in the order of RFC 7638, which the thumbprint needs.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
enum Jwk {
    Curve { crv: &'static str, kty: &'static str, x: String, y: String },
    Rsa { e: String, kty: &'static str, n: String },
}

/// Who signs: before the account has a URL, and for a certificate, the key itself; else the account.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signer<'a> {
    Key,
    Account(&'a str),
}

impl JwsKey {
    /// The key of an account.
    pub(crate) fn new(key: &PrivateKey) -> Result<Self> {
        match Self::of_certificate(key)? {
            key if key.algorithm == "ES256" => Ok(key),
            _ => Err(Error::new(ErrorKind::Config, "ca.account_key", "the account key is not on P-256")
                .with_hint("let acmekit make the account key")),
        }
    }

    /// The key of a certificate, of whatever type it is (RFC 7518 section 3.1).
    pub(crate) fn of_certificate(key: &PrivateKey) -> Result<Self> {
        let pair = key.pair()?;
        let public = SubjectPublicKeyInfo::from_der(key.public_key_info());
        let (_, public) = public.map_err(|e| failed("public key").with_source(e))?;
        let (jwk, algorithm) = match public.parsed().map_err(|e| failed("public key").with_source(e))? {
            // SEC 1 section 2.3.3: an uncompressed point is 4, x, y.
            PublicKey::EC(point) => match point.data() {
                [4, rest @ ..] if rest.len() == 64 => (Jwk::curve("P-256", rest), "ES256"),
                [4, rest @ ..] if rest.len() == 96 => (Jwk::curve("P-384", rest), "ES384"),
                _ => return Err(failed("key: it is on another curve")),
            },
            PublicKey::RSA(key) => {
                let number = |octets: &[u8]| {
                    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
                    BASE64.encode(octets.get(zeros..).unwrap_or_default())
                };
                (Jwk::Rsa { e: number(key.exponent), kty: "RSA", n: number(key.modulus) }, "RS256")
            }
            _ => return Err(failed("key: it is of another kind")),
        };
        Ok(Self { pair, jwk, algorithm })
    }

    /// The thumbprint of RFC 7638, part of every key authorization.
    pub(crate) fn thumbprint(&self) -> Result<String> {
        let canonical = serde_json::to_vec(&self.jwk).map_err(|e| failed("thumbprint").with_source(e))?;
        Ok(BASE64.encode(Sha256::digest(canonical)))
    }

    /// Signs a request. `None` is the empty payload of a POST-as-GET (section 6.3).
    pub(crate) fn sign(
        &self,
        signer: Signer<'_>,
        nonce: &str,
        url: &str,
        payload: Option<&Value>,
    ) -> Result<Vec<u8>> {
        let mut header = json!({ "alg": self.algorithm, "nonce": nonce, "url": url });
        match signer {
            Signer::Account(kid) => header["kid"] = json!(kid),
            Signer::Key => header["jwk"] = json!(self.jwk),
        }
        let input = SigningInput::new(&header, payload);
        let der = self.pair.sign(input.text().as_bytes()).map_err(|e| failed("signature").with_source(e))?;
        // The provider signs in ASN.1; JWS wants the two numbers side by side (RFC 7518 section 3.4).
        let unwrapped = |e| failed("signature").with_source(e);
        let signature = match self.algorithm {
            "ES256" => p256::ecdsa::Signature::from_der(&der).map_err(unwrapped)?.to_bytes().to_vec(),
            "ES384" => p384::ecdsa::Signature::from_der(&der).map_err(unwrapped)?.to_bytes().to_vec(),
            _ => der,
        };
        Ok(input.signed(&signature))
    }

    /// Binds this key to an account the CA knows from elsewhere (section 7.3.4).
    pub(crate) fn external_binding(&self, kid: &str, key: &Secret<Vec<u8>>, url: &str) -> Result<Value> {
        let header = json!({ "alg": "HS256", "kid": kid, "url": url });
        let input = SigningInput::new(&header, Some(&json!(self.jwk)));
        let mut mac =
            Hmac::<Sha256>::new_from_slice(key.expose()).map_err(|e| failed("EAB").with_source(e))?;
        mac.update(input.text().as_bytes());
        Ok(input.object(&mac.finalize().into_bytes()))
    }
}

impl Jwk {
    fn curve(crv: &'static str, point: &[u8]) -> Self {
        let (x, y) = point.split_at(point.len() / 2);
        Self::Curve { crv, kty: "EC", x: BASE64.encode(x), y: BASE64.encode(y) }
    }
}

impl fmt::Debug for JwsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JwsKey(…)")
    }
}

fn failed(what: &str) -> Error {
    Error::new(ErrorKind::Other, "ca.sign", format!("could not make the {what}"))
}

/// What a signature is over (RFC 7515 section 5.1), and then the object around it.
struct SigningInput {
    protected: String,
    payload: String,
}

impl SigningInput {
    fn new(header: &Value, payload: Option<&Value>) -> Self {
        Self {
            protected: BASE64.encode(header.to_string()),
            payload: payload.map(|payload| BASE64.encode(payload.to_string())).unwrap_or_default(),
        }
    }

    fn text(&self) -> String {
        format!("{}.{}", self.protected, self.payload)
    }

    fn object(&self, signature: &[u8]) -> Value {
        json!({ "protected": self.protected, "payload": self.payload, "signature": BASE64.encode(signature) })
    }

    fn signed(&self, signature: &[u8]) -> Vec<u8> {
        self.object(signature).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::Verifier;
    use rcgen::PublicKeyData;

    use super::*;
    use crate::KeyType;

    fn part(object: &Value, name: &str) -> Vec<u8> {
        BASE64.decode(object[name].as_str().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn requests_are_signed_over_header_and_payload() {
        let key = PrivateKey::generate(KeyType::EcdsaP256).await.unwrap();
        let account = JwsKey::new(&key).unwrap();
        let signed =
            account.sign(Signer::Account("https://ca/acct/1"), "n0nce", "https://ca/x", None).unwrap();
        let object: Value = serde_json::from_slice(&signed).unwrap();
        let header: Value = serde_json::from_slice(&part(&object, "protected")).unwrap();
        assert_eq!(
            header,
            json!({"alg":"ES256","kid":"https://ca/acct/1","nonce":"n0nce","url":"https://ca/x"})
        );
        assert_eq!(object["payload"], "", "a POST-as-GET has an empty payload");

        let point = p256::EncodedPoint::from_bytes(account.pair.der_bytes()).unwrap();
        let public = p256::ecdsa::VerifyingKey::from_encoded_point(&point).unwrap();
        let input =
            format!("{}.{}", object["protected"].as_str().unwrap(), object["payload"].as_str().unwrap());
        let signature = p256::ecdsa::Signature::from_slice(&part(&object, "signature")).unwrap();
        public.verify(input.as_bytes(), &signature).unwrap();
    }

    #[tokio::test]
    async fn the_first_request_carries_the_key_and_no_kid() {
        let account = JwsKey::new(&PrivateKey::generate(KeyType::EcdsaP256).await.unwrap()).unwrap();
        let signed = account.sign(Signer::Key, "n", "u", Some(&json!({}))).unwrap();
        let header: Value =
            serde_json::from_slice(&part(&serde_json::from_slice(&signed).unwrap(), "protected")).unwrap();
        assert_eq!(header["jwk"]["kty"], "EC");
        assert!(header.get("kid").is_none());
    }

    #[tokio::test]
    async fn a_p384_account_key_is_refused() {
        let key = PrivateKey::generate(KeyType::EcdsaP384).await.unwrap();
        assert_eq!(JwsKey::new(&key).unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn thumbprints_are_those_of_rfc_7638() {
        // The members in lexical order, no white space (RFC 7638 section 3).
        let jwk = Jwk::Curve { crv: "P-256", kty: "EC", x: "a".into(), y: "b".into() };
        assert_eq!(serde_json::to_string(&jwk).unwrap(), r#"{"crv":"P-256","kty":"EC","x":"a","y":"b"}"#);
    }
}
