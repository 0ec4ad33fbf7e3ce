//! Private keys of certificates: made here or read from elsewhere, always PKCS#8 inside.
//!
//! ring reads neither SEC1 nor PKCS#1, so every key is turned into PKCS#8 when it comes in and
//! both crypto providers behave alike.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use p256::pkcs8::EncodePrivateKey;
use rcgen::PublicKeyData;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::{Zeroize, Zeroizing};

use crate::{Error, ErrorKind, Result, Secret};

/// The kind of key a certificate is for. P-256 is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum KeyType {
    /// ECDSA on NIST P-256.
    #[default]
    EcdsaP256,
    /// ECDSA on NIST P-384.
    EcdsaP384,
    /// RSA with a modulus of 2048 bits.
    #[cfg(feature = "rsa")]
    Rsa2048,
    /// RSA with a modulus of 3072 bits.
    #[cfg(feature = "rsa")]
    Rsa3072,
    /// RSA with a modulus of 4096 bits. Making one takes seconds.
    #[cfg(feature = "rsa")]
    Rsa4096,
}

impl KeyType {
    /// The name used in configuration and identifiers: `ecdsa-p256`, `rsa-2048`, …
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            #[cfg(feature = "rsa")]
            Self::Rsa2048 => "rsa-2048",
            #[cfg(feature = "rsa")]
            Self::Rsa3072 => "rsa-3072",
            #[cfg(feature = "rsa")]
            Self::Rsa4096 => "rsa-4096",
        }
    }
}

/// The kind of a public key, given as DER `SubjectPublicKeyInfo`; `None` if it is none of ours.
pub(crate) fn key_type(public_key_info: &[u8]) -> Option<KeyType> {
    let (_, info) = SubjectPublicKeyInfo::from_der(public_key_info).ok()?;
    match info.parsed().ok()? {
        PublicKey::EC(point) => match point.key_size() {
            256 => Some(KeyType::EcdsaP256),
            384 => Some(KeyType::EcdsaP384),
            _ => None,
        },
        #[cfg(feature = "rsa")]
        PublicKey::RSA(key) => match key.key_size() {
            2048 => Some(KeyType::Rsa2048),
            3072 => Some(KeyType::Rsa3072),
            4096 => Some(KeyType::Rsa4096),
            _ => None,
        },
        _ => None,
    }
}

/// A private key. `Debug` shows only its kind; see [`to_pem`](Self::to_pem) for the key itself.
#[derive(Clone)]
pub struct PrivateKey {
    pkcs8: Secret<Vec<u8>>,
    public: Vec<u8>,
}

impl PrivateKey {
    /// Makes a new key, off the async threads (an RSA key of 4096 bits takes seconds).
    ///
    /// # Errors
    /// [`ErrorKind::Other`] if the crypto provider has no randomness.
    pub async fn generate(kind: KeyType) -> Result<Self> {
        tokio::task::spawn_blocking(move || Self::generate_blocking(kind)).await.map_err(|e| {
            Error::new(ErrorKind::Other, "key.generate", "the key maker stopped").with_source(e)
        })?
    }

    fn generate_blocking(kind: KeyType) -> Result<Self> {
        let failed = |e: rcgen::Error| {
            Error::new(ErrorKind::Other, "key.generate", "the crypto provider could not make a key")
                .with_source(e)
        };
        let mut pair = match kind {
            KeyType::EcdsaP256 => {
                rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?
            }
            KeyType::EcdsaP384 => {
                rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).map_err(failed)?
            }
            #[cfg(feature = "rsa")]
            KeyType::Rsa2048 => return Self::generate_rsa(2048),
            #[cfg(feature = "rsa")]
            KeyType::Rsa3072 => return Self::generate_rsa(3072),
            #[cfg(feature = "rsa")]
            KeyType::Rsa4096 => return Self::generate_rsa(4096),
        };
        let der = pair.serialize_der();
        pair.zeroize();
        Self::from_pkcs8(der)
    }

    #[cfg(feature = "rsa")]
    fn generate_rsa(bits: usize) -> Result<Self> {
        let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::Other, "key.generate", "could not make an RSA key").with_source(e)
        };
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).map_err(|e| failed(e.into()))?;
        let der = rsa::pkcs8::EncodePrivateKey::to_pkcs8_der(&key).map_err(|e| failed(e.into()))?;
        Self::from_pkcs8(der.as_bytes().to_vec())
    }

    /// Reads a key from PEM: PKCS#8, SEC1 (`EC PRIVATE KEY`) or, with feature `rsa`, PKCS#1.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no unencrypted private key of a supported kind in it.
    pub fn from_pem(text: &str) -> Result<Self> {
        let refuse = |why: String| {
            Error::new(ErrorKind::Config, "key.from_pem", why).with_hint(
                "give one unencrypted private key in PEM: `PRIVATE KEY` (PKCS#8), `EC PRIVATE KEY` or `RSA PRIVATE KEY`",
            )
        };
        let blocks = pem::parse_many(text).map_err(|_| refuse("this is not PEM".to_owned()))?;
        let block = blocks
            .into_iter()
            .find(|block| block.tag().ends_with("PRIVATE KEY"))
            .ok_or_else(|| refuse("there is no private key in this PEM".to_owned()))?;
        let tag = block.tag().to_owned();
        let mut contents = Zeroizing::new(block.into_contents());
        match tag.as_str() {
            "PRIVATE KEY" => Self::from_pkcs8(std::mem::take(&mut *contents)),
            "EC PRIVATE KEY" => {
                let der = p256::SecretKey::from_sec1_der(&contents)
                    .ok()
                    .and_then(|key| key.to_pkcs8_der().ok())
                    .or_else(|| p384::SecretKey::from_sec1_der(&contents).ok()?.to_pkcs8_der().ok())
                    .ok_or_else(|| refuse("the EC key is damaged, or not on P-256 or P-384".to_owned()))?;
                Self::from_pkcs8(der.as_bytes().to_vec())
            }
            #[cfg(feature = "rsa")]
            "RSA PRIVATE KEY" => {
                use rsa::pkcs1::DecodeRsaPrivateKey;
                let key = rsa::RsaPrivateKey::from_pkcs1_der(&contents)
                    .map_err(|_| refuse("the RSA key is damaged".to_owned()))?;
                let der = rsa::pkcs8::EncodePrivateKey::to_pkcs8_der(&key)
                    .map_err(|_| refuse("the RSA key cannot be written as PKCS#8".to_owned()))?;
                Self::from_pkcs8(der.as_bytes().to_vec())
            }
            other => Err(refuse(format!("keys of form `{other}` are not supported"))),
        }
    }

    /// Reads a key from PKCS#8 DER.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the crypto provider cannot use it.
    pub fn from_pkcs8(der: Vec<u8>) -> Result<Self> {
        let pkcs8 = Secret::new(der);
        let pair = key_pair(&pkcs8)?;
        let public = pair.subject_public_key_info();
        Ok(Self { pkcs8, public })
    }

    /// PKCS#8 DER.
    pub fn to_pkcs8(&self) -> &Secret<Vec<u8>> {
        &self.pkcs8
    }

    /// PKCS#8 PEM, lines of 64 characters, one newline at the end.
    pub fn to_pem(&self) -> Secret<String> {
        Secret::new(encode_pem("PRIVATE KEY", self.pkcs8.expose()))
    }

    /// The public half as DER `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7).
    pub fn public_key_info(&self) -> &[u8] {
        &self.public
    }

    /// The pair in the crypto provider's own form, to sign with.
    pub(crate) fn pair(&self) -> Result<rcgen::KeyPair> {
        key_pair(&self.pkcs8)
    }
}

fn key_pair(pkcs8: &Secret<Vec<u8>>) -> Result<rcgen::KeyPair> {
    let mut pair = rcgen::KeyPair::try_from(pkcs8.expose().as_slice()).map_err(|e| {
        Error::new(
            ErrorKind::Config,
            "key.from_pkcs8",
            "the private key is damaged or of a kind that is not supported",
        )
        .with_source(e)
        .with_hint("supported are ECDSA P-256 and P-384, and RSA of 2048 to 4096 bits")
    })?;
    // Wipes the pair's own copy of the DER, which it does not need to sign, and would leave behind.
    pair.zeroize();
    Ok(pair)
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

impl Serialize for PrivateKeyStored<'_> {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        self.0.to_pem().expose().serialize(out)
    }
}

/// A key on its way into a 0600 file of the store.
struct PrivateKeyStored<'a>(&'a PrivateKey);

/// For `#[serde(with = "…")]` where a key is part of what a store keeps.
pub(crate) mod stored {
    use super::{Deserialize, PrivateKey, PrivateKeyStored, Serialize, Zeroizing};
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(key: &Option<PrivateKey>, out: S) -> Result<S::Ok, S::Error> {
        key.as_ref().map(PrivateKeyStored).serialize(out)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<PrivateKey>, D::Error> {
        let Some(text) = Option::<Zeroizing<String>>::deserialize(input)? else { return Ok(None) };
        PrivateKey::from_pem(&text).map(Some).map_err(serde::de::Error::custom)
    }
}

/// Canonical PEM: 64 columns, `\n`, no blank line, one newline at the end (RFC 7468). It may be a key: it is written
/// into one piece of memory, which does not grow and so leaves nothing behind.
pub(crate) fn encode_pem(tag: &str, der: &[u8]) -> String {
    const COLUMNS: usize = 64;
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(der));
    // Two lines of `-----BEGIN …-----`, and a line break for each line between them.
    let room = 2 * (tag.len() + "-----BEGIN -----\n".len()) + encoded.len() + encoded.len() / COLUMNS + 1;
    let mut text = String::with_capacity(room);
    for part in ["-----BEGIN ", tag, "-----\n"] {
        text.push_str(part);
    }
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII: any place is between two characters.
        let (line, behind) = rest.split_at(rest.len().min(COLUMNS));
        text.push_str(line);
        text.push('\n');
        rest = behind;
    }
    for part in ["-----END ", tag, "-----\n"] {
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_generated_key_survives_pem() {
        for kind in [KeyType::EcdsaP256, KeyType::EcdsaP384] {
            let key = PrivateKey::generate(kind).await.unwrap();
            let again = PrivateKey::from_pem(key.to_pem().expose()).unwrap();
            assert_eq!(again.public_key_info(), key.public_key_info());
            assert_eq!(format!("{key:?}"), "PrivateKey(…)");
            assert_eq!(key_type(key.public_key_info()), Some(kind));
        }
    }

    #[test]
    fn sec1_becomes_pkcs8() {
        let secret = p256::SecretKey::random(&mut p256::elliptic_curve::rand_core::OsRng);
        let pem = secret.to_sec1_pem(p256::pkcs8::LineEnding::LF).unwrap();
        let key = PrivateKey::from_pem(&pem).unwrap();
        assert!(key.to_pem().expose().starts_with("-----BEGIN PRIVATE KEY-----\n"));
    }

    #[cfg(feature = "rsa")]
    #[tokio::test]
    async fn rsa_keys_are_made_and_pkcs1_is_read() {
        use rsa::pkcs1::EncodeRsaPrivateKey;
        let key = PrivateKey::generate(KeyType::Rsa2048).await.unwrap();
        assert_eq!(key_type(key.public_key_info()), Some(KeyType::Rsa2048));
        let inner: rsa::RsaPrivateKey =
            rsa::pkcs8::DecodePrivateKey::from_pkcs8_der(key.to_pkcs8().expose()).unwrap();
        let pkcs1 = inner.to_pkcs1_pem(rsa::pkcs1::LineEnding::LF).unwrap();
        assert_eq!(PrivateKey::from_pem(&pkcs1).unwrap().public_key_info(), key.public_key_info());
    }

    #[test]
    fn what_is_no_key_is_refused_without_printing_it() {
        for bad in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
        ] {
            let error = PrivateKey::from_pem(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!error.report().contains("c2VjcmV0"));
        }
    }
}
