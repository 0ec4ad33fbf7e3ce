//! Public keys as JWK (RFC 7517, RFC 8037): whose signatures the server checks.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as SubjectKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::provider::signature;
use crate::{Problem, ProblemType};

/// The strength of RSA keys taken, in octets of the modulus: 2048 to 4096 bits, as public CAs do.
const RSA_OCTETS: std::ops::RangeInclusive<usize> = 256..=512;

/// A public key an account or a certificate has.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Jwk(Material);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Material {
    /// x and y, one after the other.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

impl Jwk {
    /// Reads a key.
    ///
    /// # Errors
    /// `badPublicKey` that says what is wrong with it.
    pub fn from_json(json: &Value) -> Result<Self, Problem> {
        let refuse = |why: String| Problem::new(ProblemType::BadPublicKey, why);
        let text = |name: &str| {
            json.get(name)
                .and_then(Value::as_str)
                .ok_or_else(|| refuse(format!("the JWK has no {name:?} of text")))
        };
        let number = |name: &str| {
            let octets = BASE64.decode(text(name)?);
            octets.map_err(|_| refuse(format!("{name:?} of the JWK is not base64url without padding")))
        };
        let of_length = |name: &str, length: usize| {
            let octets = number(name)?;
            match octets.len() == length {
                true => Ok(octets),
                false => {
                    Err(refuse(format!("{name:?} of the JWK has {} octets, not {length}", octets.len())))
                }
            }
        };
        if json.get("d").is_some() {
            return Err(refuse(
                "the JWK holds a private key: make a new one, this one is known now".to_owned(),
            ));
        }
        let point = |length: usize| Ok([of_length("x", length)?, of_length("y", length)?].concat());
        let material = match (text("kty")?, json.get("crv").and_then(Value::as_str)) {
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(of_length("x", 32)?),
            ("RSA", _) => {
                let (n, e) = (stripped(&number("n")?), stripped(&number("e")?));
                if !RSA_OCTETS.contains(&n.len()) {
                    return Err(refuse(format!(
                        "an RSA key of {} bits is not taken: 2048 to 4096",
                        n.len() * 8
                    )));
                }
                Material::Rsa { n, e }
            }
            (kind, curve) => {
                return Err(refuse(format!("keys of type {kind:?} on curve {curve:?} are not supported")));
            }
        };
        Ok(Self(material))
    }

    /// The key in a certificate or CSR; `None` if it is of a kind that cannot sign for ACME.
    pub fn from_public_key_info(der: &[u8]) -> Option<Self> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
        let material = match info.parsed().ok()? {
            SubjectKey::RSA(rsa) => Material::Rsa { n: stripped(rsa.modulus), e: stripped(rsa.exponent) },
            SubjectKey::EC(point) => match point.data() {
                [4, rest @ ..] if rest.len() == 64 => Material::P256(rest.to_vec()),
                [4, rest @ ..] if rest.len() == 96 => Material::P384(rest.to_vec()),
                _ => return None,
            },
            // RFC 8410: id-Ed25519, the key itself.
            SubjectKey::Unknown(key) if info.algorithm.algorithm.to_id_string() == "1.3.101.112" => {
                Material::Ed25519(key.to_vec())
            }
            _ => return None,
        };
        Some(Self(material))
    }

    /// The thumbprint (RFC 7638), in base64url.
    pub fn thumbprint(&self) -> String {
        // serde_json's map is sorted, which is the canonical form.
        BASE64.encode(Sha256::digest(self.to_json().to_string()))
    }

    /// The key as JSON, with its required members only.
    pub fn to_json(&self) -> Value {
        let point = |crv: &str, octets: &[u8]| {
            let (x, y) = octets.split_at(octets.len() / 2);
            json!({ "kty": "EC", "crv": crv, "x": BASE64.encode(x), "y": BASE64.encode(y) })
        };
        match &self.0 {
            Material::P256(octets) => point("P-256", octets),
            Material::P384(octets) => point("P-384", octets),
            Material::Ed25519(x) => json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(x) }),
            Material::Rsa { n, e } => json!({ "kty": "RSA", "n": BASE64.encode(n), "e": BASE64.encode(e) }),
        }
    }

    /// The one signature algorithm this key is used with here (RFC 7518, RFC 8037).
    pub fn algorithm(&self) -> &'static str {
        match &self.0 {
            Material::P256(_) => "ES256",
            Material::P384(_) => "ES384",
            Material::Ed25519(_) => "EdDSA",
            Material::Rsa { .. } => "RS256",
        }
    }

    /// Whether this key made the signature.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let by = |algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        let uncompressed = |octets: &[u8]| [&[4], octets].concat();
        match &self.0 {
            Material::P256(point) => by(&signature::ECDSA_P256_SHA256_FIXED, &uncompressed(point)),
            Material::P384(point) => by(&signature::ECDSA_P384_SHA384_FIXED, &uncompressed(point)),
            Material::Ed25519(key) => by(&signature::ED25519, key),
            Material::Rsa { n, e } => signature::RsaPublicKeyComponents { n, e }
                .verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
        }
    }
}

/// A number without leading zeros: DER and some clients add one.
fn stripped(octets: &[u8]) -> Vec<u8> {
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    octets[zeros..].to_vec()
}

impl TryFrom<Value> for Jwk {
    type Error = Problem;

    fn try_from(json: Value) -> Result<Self, Problem> {
        Self::from_json(&json)
    }
}

impl From<Jwk> for Value {
    fn from(key: Jwk) -> Self {
        key.to_json()
    }
}

/// A key is known by its thumbprint.
impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwk({} {})", self.algorithm(), self.thumbprint())
    }
}
