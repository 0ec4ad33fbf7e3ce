//! Certificate signing requests (RFC 2986): made here, or brought by the caller and checked.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509CertificationRequest};

use crate::key::encode_pem;
use crate::{Error, ErrorKind, Identifier, PrivateKey, Result};

/// A CSR whose signature and names have been checked.
///
/// With a CSR brought by the caller no private key ever passes through acmekit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Csr {
    der: Vec<u8>,
    identifiers: BTreeSet<Identifier>,
    public_key_info: Vec<u8>,
}

impl Csr {
    /// Makes a CSR for `identifiers`, signed by `key`: only a subjectAltName, an empty subject.
    ///
    /// # Errors
    /// [`ErrorKind::Other`] if the crypto provider refuses to sign.
    pub fn generate<'a>(
        key: &PrivateKey,
        identifiers: impl IntoIterator<Item = &'a Identifier>,
    ) -> Result<Self> {
        let failed = |e: rcgen::Error| {
            Error::new(ErrorKind::Other, "csr.generate", "could not make the CSR").with_source(e)
        };
        let names: Vec<String> = identifiers.into_iter().map(ToString::to_string).collect();
        let mut params = rcgen::CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        let csr = params.serialize_request(&key.pair()?).map_err(failed)?;
        Self::from_der(csr.der().to_vec())
    }

    /// Reads a CSR from PEM.
    ///
    /// # Errors
    /// As [`from_der`](Self::from_der), and [`ErrorKind::Config`] if it is not one PEM block.
    pub fn from_pem(text: &str) -> Result<Self> {
        let block = pem::parse(text).map_err(|_| refuse("this is not PEM"))?;
        if !matches!(block.tag(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
            return Err(refuse("the PEM block is not a CERTIFICATE REQUEST").with("found", block.tag()));
        }
        Self::from_der(block.into_contents())
    }

    /// Reads a CSR from DER and checks that its signature is by its own key, and that every name
    /// in it is one a CA can validate. Names come from the subjectAltName and the common name.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that says what is wrong with it.
    pub fn from_der(der: Vec<u8>) -> Result<Self> {
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|_| refuse("this is not a PKCS#10 request"))?;
        if !rest.is_empty() {
            return Err(refuse("there is something behind the request"));
        }
        request
            .verify_signature()
            .map_err(|_| refuse("its signature is not by its own key, or of a kind that is not supported"))?;
        let info = &request.certification_request_info;
        let mut identifiers = BTreeSet::new();
        for attribute in info.subject.iter_common_name() {
            let name = attribute.as_str().map_err(|_| refuse("its common name is not text"))?;
            identifiers.insert(name.parse::<Identifier>()?);
        }
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(san) = extension {
                for name in &san.general_names {
                    identifiers.insert(identifier(name)?);
                }
            }
        }
        if identifiers.is_empty() {
            return Err(refuse("it names neither a domain nor an address"));
        }
        let public_key_info = info.subject_pki.raw.to_vec();
        Ok(Self { identifiers, public_key_info, der })
    }

    /// The names it asks for.
    pub fn identifiers(&self) -> &BTreeSet<Identifier> {
        &self.identifiers
    }

    /// DER.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// Canonical PEM.
    pub fn to_pem(&self) -> String {
        encode_pem("CERTIFICATE REQUEST", &self.der)
    }

    /// Its public key as DER `SubjectPublicKeyInfo`.
    pub fn public_key_info(&self) -> &[u8] {
        &self.public_key_info
    }
}

impl TryFrom<String> for Csr {
    type Error = Error;
    fn try_from(pem: String) -> Result<Self> {
        Self::from_pem(&pem)
    }
}

impl From<Csr> for String {
    fn from(csr: Csr) -> Self {
        csr.to_pem()
    }
}

fn refuse(why: &str) -> Error {
    Error::new(ErrorKind::Config, "csr.parse", format!("the CSR cannot be used: {why}"))
        .with_hint("`openssl req -in FILE -noout -text -verify` shows what is in it")
}

/// A subjectAltName entry as an identifier; other kinds of names cannot be validated over ACME.
pub(crate) fn identifier(name: &GeneralName<'_>) -> Result<Identifier> {
    match name {
        GeneralName::DNSName(text) => text.parse(),
        GeneralName::IPAddress(octets) => address(octets).map(Identifier::Ip),
        _ => Err(refuse("it asks for a name that is neither a domain nor an address")),
    }
}

fn address(octets: &[u8]) -> Result<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(octets) {
        return Ok(four.into());
    }
    <[u8; 16]>::try_from(octets)
        .map(IpAddr::from)
        .map_err(|_| refuse("an address in it has neither 4 nor 16 octets"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyType;

    fn names(list: &[&str]) -> BTreeSet<Identifier> {
        list.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_csr_names_what_was_asked_and_nothing_else() {
        let key = PrivateKey::generate(KeyType::EcdsaP256).await.unwrap();
        let want = names(&["example.com", "*.example.com", "192.0.2.1", "2001:db8::1"]);
        let csr = Csr::generate(&key, &want).unwrap();
        assert_eq!(csr.identifiers(), &want);
        assert_eq!(csr.public_key_info(), key.public_key_info());
        let text = serde_json::to_string(&csr).unwrap();
        assert_eq!(serde_json::from_str::<Csr>(&text).unwrap(), csr);
    }

    #[tokio::test]
    async fn a_csr_with_a_flipped_bit_is_refused() {
        let key = PrivateKey::generate(KeyType::EcdsaP256).await.unwrap();
        let mut der = Csr::generate(&key, &names(&["example.com"])).unwrap().as_der().to_vec();
        let last = der.len() - 1;
        der[last] ^= 1;
        assert_eq!(Csr::from_der(der).unwrap_err().kind(), ErrorKind::Config);
    }

    #[tokio::test]
    async fn a_csr_with_an_email_or_no_name_is_refused() {
        let key = PrivateKey::generate(KeyType::EcdsaP256).await.unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let none = params.serialize_request(&key.pair().unwrap()).unwrap();
        assert!(Csr::from_der(none.der().to_vec()).unwrap_err().to_string().contains("names neither"));
        params.subject_alt_names = vec![rcgen::SanType::Rfc822Name("a@example.com".try_into().unwrap())];
        let mail = params.serialize_request(&key.pair().unwrap()).unwrap();
        assert!(Csr::from_der(mail.der().to_vec()).unwrap_err().to_string().contains("neither a domain"));
    }

    proptest::proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(0u8.., 0..300)) {
            proptest::prop_assert!(Csr::from_der(bytes).is_err());
        }
    }
}
