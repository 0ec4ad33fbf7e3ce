//! A certificate as it is kept and delivered: chain, key and facts, checked against each other.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};
use zeroize::Zeroizing;

use crate::csr::identifier;
use crate::key::encode_pem;
use crate::{CertificateId, Error, ErrorKind, Identifier, PrivateKey, Result, Retry, Secret};

/// The chain of one certificate, leaf first, with its key where acmekit made it.
///
/// A value of this type has been checked: each certificate is signed by the next, and the key, if
/// present, is the leaf's. PEM comes out canonical however it came in.
#[derive(Debug, Clone)]
pub struct Bundle {
    id: CertificateId,
    chain: Vec<Vec<u8>>,
    public: Vec<u8>,
    key: Option<PrivateKey>,
    facts: CertificateFacts,
    origin: Origin,
}

/// What a certificate says of itself (RFC 5280), read once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateFacts {
    /// The serial number as upper-case hexadecimal, two digits an octet, no separators.
    pub serial: String,
    /// SHA-256 over the leaf's DER, as lower-case hexadecimal.
    pub sha256: String,
    /// The names in its subjectAltName.
    pub identifiers: BTreeSet<Identifier>,
    /// The start of its validity.
    pub not_before: SystemTime,
    /// The end of its validity.
    pub not_after: SystemTime,
    /// The name by which ACME Renewal Information knows it (RFC 9773 section 4.1).
    pub ari_id: Option<String>,
    /// The common name of who signed the leaf.
    pub issuer: String,
    /// The common name of who signed the topmost certificate of the chain: usually the root.
    pub root: String,
}

/// Where a bundle comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Origin {
    /// The id of the authority that issued it.
    pub authority: String,
    /// The URL of the order it was issued for.
    pub order: String,
}

impl Origin {
    /// An order at an authority.
    pub fn new(authority: impl Into<String>, order: impl Into<String>) -> Self {
        Self { authority: authority.into(), order: order.into() }
    }
}

impl Bundle {
    /// Reads a chain in PEM, leaf first, and checks it against itself and the key.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if there is no certificate, one does not follow from the next, or
    /// the key is not the leaf's.
    pub fn new(id: CertificateId, chain_pem: &str, key: Option<PrivateKey>, origin: Origin) -> Result<Self> {
        let blocks = pem::parse_many(chain_pem).map_err(|e| refuse("the chain is not PEM").with_source(e))?;
        if let Some(other) = blocks.iter().find(|block| block.tag() != "CERTIFICATE") {
            return Err(
                refuse("there is something other than certificates in the chain").with("found", other.tag())
            );
        }
        if is_cut(chain_pem) {
            return Err(refuse("the chain ends in the middle of a certificate"));
        }
        let chain: Vec<Vec<u8>> = blocks.into_iter().map(pem::Pem::into_contents).collect();
        let (facts, public) = check(&chain, key.as_ref())?;
        Ok(Self { id, chain, public, key, facts, origin })
    }

    /// The same with its private key.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if it is another's.
    pub(crate) fn with_key(mut self, key: PrivateKey) -> Result<Self> {
        if self.public != key.public_key_info() {
            return Err(refuse(NOT_ITS_KEY));
        }
        self.key = Some(key);
        Ok(self)
    }

    /// Checks that this is what was asked for: the names are covered, and it is valid at `now`.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] that names what is missing.
    pub fn check_against(&self, identifiers: &BTreeSet<Identifier>, now: SystemTime) -> Result<()> {
        if let Some(missing) = identifiers.difference(&self.facts.identifiers).next() {
            return Err(
                refuse("the certificate does not cover a name that was ordered").with("name", missing)
            );
        }
        if self.facts.not_after <= now {
            // By a clock that is ahead the next one has expired, too: not one after the other.
            let life = self.facts.not_after.duration_since(self.facts.not_before).unwrap_or_default();
            return Err(refuse("the certificate has already expired")
                .with_retry(Retry::After((life / 20).max(Duration::from_secs(3600))))
                .with_hint("check this machine's clock"));
        }
        Ok(())
    }

    /// The certificate's identity over its renewals.
    pub fn id(&self) -> &CertificateId {
        &self.id
    }

    /// What the leaf says of itself.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// The private key; `None` if the caller brought a CSR.
    pub fn key(&self) -> Option<&PrivateKey> {
        self.key.as_ref()
    }

    /// The leaf's public key as DER `SubjectPublicKeyInfo`.
    pub fn public_key_info(&self) -> &[u8] {
        &self.public
    }

    /// The authority and order it comes from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The certificates as DER, leaf first.
    pub fn chain_der(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// Leaf and intermediates as canonical PEM: what servers call the full chain.
    pub fn fullchain_pem(&self) -> String {
        self.chain.iter().map(|der| encode_pem("CERTIFICATE", der)).collect()
    }

    /// The leaf alone as canonical PEM.
    pub fn leaf_pem(&self) -> String {
        self.chain.first().map(|der| encode_pem("CERTIFICATE", der)).unwrap_or_default()
    }

    /// The intermediates alone as canonical PEM; empty if there are none.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().skip(1).map(|der| encode_pem("CERTIFICATE", der)).collect()
    }

    /// The private key as canonical PEM.
    pub fn key_pem(&self) -> Option<Secret<String>> {
        self.key.as_ref().map(PrivateKey::to_pem)
    }

    /// The form in which a store keeps it: one value with key, chain and a checksum over both.
    pub(crate) fn to_stored(&self) -> Result<Secret<Vec<u8>>> {
        let chain = self.fullchain_pem();
        let key = self.key_pem().map(|pem| Zeroizing::new(pem.expose().clone()));
        let checksum = checksum(&self.id, &chain, key.as_ref().map(|key| key.as_str()), &self.origin);
        let stored =
            Stored { format: 1, id: self.id.clone(), chain, key, origin: self.origin.clone(), checksum };
        crate::secret::json(&stored).map_err(|e| {
            Error::new(ErrorKind::Storage, "bundle.encode", "could not encode the bundle").with_source(e)
        })
    }

    /// Reads the form of [`to_stored`](Self::to_stored).
    pub(crate) fn from_stored(bytes: &[u8]) -> Result<Self> {
        let damaged = |why: &str| {
            Error::new(ErrorKind::Storage, "bundle.decode", format!("the stored bundle is damaged: {why}"))
                .with_hint("the store keeps older versions of each bundle; restore one, or delete the entry to order anew")
        };
        let stored: Stored = serde_json::from_slice(bytes)
            .map_err(|e| damaged("it is not what acmekit wrote").with("at", position(&e)))?;
        if stored.format != 1 {
            return Err(damaged("its format is newer than this program").with("format", stored.format));
        }
        let key = stored.key.as_ref().map(|key| key.as_str());
        if stored.checksum != checksum(&stored.id, &stored.chain, key, &stored.origin) {
            return Err(damaged("the checksum does not fit"));
        }
        let key = key.map(PrivateKey::from_pem).transpose()?;
        Self::new(stored.id, &stored.chain, key, stored.origin)
    }
}

/// Where in a JSON text an error lies; never the text itself, which may hold a key.
pub(crate) fn position(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    id: CertificateId,
    chain: String,
    key: Option<Zeroizing<String>>,
    origin: Origin,
    checksum: String,
}

fn checksum(id: &CertificateId, chain: &str, key: Option<&str>, origin: &Origin) -> String {
    let mut hash = Sha256::new();
    for part in [id.as_str(), chain, key.unwrap_or(""), &origin.authority, &origin.order] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// Lower-case hexadecimal.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

const NOT_ITS_KEY: &str = "the private key is not the certificate's";

/// Whether something begins behind the last certificate and has no end: the PEM parser takes what is whole, and says
/// nothing of the rest. An answer that was cut off on its way is no shorter chain.
fn is_cut(chain_pem: &str) -> bool {
    const BEGIN: &str = "-----BEGIN";
    let rest = chain_pem.rsplit("-----END CERTIFICATE-----").next().unwrap_or_default().trim();
    rest.contains(BEGIN) || (!rest.is_empty() && BEGIN.starts_with(rest))
}

fn refuse(why: &str) -> Error {
    Error::new(ErrorKind::Protocol, "bundle.check", why)
}

fn check(chain: &[Vec<u8>], key: Option<&PrivateKey>) -> Result<(CertificateFacts, Vec<u8>)> {
    let parsed = chain
        .iter()
        .map(|der| match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Ok(certificate),
            _ => Err(refuse("the chain holds something that is no X.509 certificate")),
        })
        .collect::<Result<Vec<_>>>()?;
    let Some((leaf, top)) = parsed.first().zip(parsed.last()) else {
        return Err(refuse("the chain is empty"));
    };
    for (position, pair) in parsed.windows(2).enumerate() {
        let [lower, upper] = pair else { continue };
        if lower.verify_signature(Some(upper.public_key())).is_err() {
            return Err(refuse("a certificate of the chain is not signed by the next one")
                .with("position", position + 1)
                .with("subject", lower.subject())
                .with("next", upper.subject()));
        }
    }
    if let Some(key) = key
        && leaf.public_key().raw != key.public_key_info()
    {
        return Err(refuse(NOT_ITS_KEY));
    }
    let facts = facts(leaf, top, chain.first().map_or(&[], Vec::as_slice))?;
    Ok((facts, leaf.public_key().raw.to_vec()))
}

fn facts(leaf: &X509Certificate<'_>, top: &X509Certificate<'_>, der: &[u8]) -> Result<CertificateFacts> {
    let mut identifiers = BTreeSet::new();
    let mut key_identifier = None;
    for extension in leaf.iter_extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(san) => {
                // Names of a kind acmekit cannot order are not its business here.
                identifiers.extend(san.general_names.iter().filter_map(|name| identifier(name).ok()));
            }
            ParsedExtension::AuthorityKeyIdentifier(authority) => {
                key_identifier = authority.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            _ => {}
        }
    }
    let ari_id = key_identifier.map(|authority| {
        format!(
            "{}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(authority),
            BASE64_URL_SAFE_NO_PAD.encode(leaf.raw_serial())
        )
    });
    Ok(CertificateFacts {
        serial: leaf.raw_serial().iter().map(|octet| format!("{octet:02X}")).collect(),
        sha256: hex(&Sha256::digest(der)),
        identifiers,
        not_before: time(leaf.validity().not_before.timestamp())?,
        not_after: time(leaf.validity().not_after.timestamp())?,
        ari_id,
        issuer: common_name(leaf.issuer()),
        root: common_name(top.issuer()),
    })
}

fn common_name(name: &x509_parser::x509::X509Name<'_>) -> String {
    name.iter_common_name().find_map(|cn| cn.as_str().ok()).unwrap_or_default().to_owned()
}

fn time(seconds: i64) -> Result<SystemTime> {
    u64::try_from(seconds)
        .ok()
        .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .ok_or_else(|| refuse("the certificate's validity lies before 1970 or beyond what a clock can say"))
}

#[cfg(test)]
pub(crate) mod tests;
