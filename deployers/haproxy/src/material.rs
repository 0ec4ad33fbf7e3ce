//! What is handed to HAProxy: chain and key as one canonical PEM text, and what is known of it.

use std::collections::BTreeSet;
use std::fmt;

use acmekit_core::{Bundle, Result};
use sha1::{Digest, Sha1};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::answer::{self, Shown};
use crate::config::refuse;

/// Leaf, chain and key in HAProxy's order, without an empty line, which would end the payload
/// early and have the key's lines taken for commands.
pub(crate) struct Material {
    text: Zeroizing<String>,
    pub(crate) leaf: Leaf,
}

/// How the leaf is recognised in what HAProxy shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) serial: String,
    pub(crate) sha1: String,
    /// How many certificates follow it.
    pub(crate) chain: usize,
}

impl Leaf {
    /// Whether HAProxy holds this certificate, with its whole chain.
    pub(crate) fn is(&self, shown: &Shown) -> bool {
        self.serial == shown.serial
            && shown.sha1.as_ref().is_none_or(|sha1| *sha1 == self.sha1)
            && shown.chain >= self.chain
    }

    fn read(der: &[u8], chain: usize) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let serial: String = certificate.raw_serial().iter().map(|octet| format!("{octet:02X}")).collect();
        let sha1 = Sha1::digest(der).iter().map(|octet| format!("{octet:02X}")).collect();
        Some(Self { serial: answer::canonical_serial(&serial), sha1, chain })
    }
}

impl Material {
    /// The bundle's, which has been checked: the chain fits together, and the key is the leaf's.
    pub(crate) fn of(bundle: &Bundle) -> Result<Self> {
        let Some(key) = bundle.key_pem() else {
            return Err(refuse("HAProxy needs the private key, and this bundle has none")
                .with("certificate", bundle.id())
                .with_hint("whoever made the CSR holds the key; deploy from there"));
        };
        let chain = bundle.chain_der();
        let leaf = chain.first().and_then(|der| Leaf::read(der, chain.len() - 1));
        let Some(leaf) = leaf else { return Err(refuse("the bundle holds no certificate")) };
        let text = Zeroizing::new(format!("{}{}", bundle.fullchain_pem(), key.expose()));
        if text.lines().any(|line| line.trim().is_empty()) || !text.ends_with('\n') {
            return Err(refuse("the certificate's PEM is not canonical"));
        }
        Ok(Self { text, leaf })
    }

    /// What a file on the disk holds; `None` if HAProxy could not have started with it. Empty
    /// lines are left out.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let source = std::str::from_utf8(bytes).ok()?;
        let mut text = Zeroizing::new(String::with_capacity(source.len() + 1));
        for line in source.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            text.push_str(line);
            text.push('\n');
        }
        let certificates = certificates(&text)?;
        let leaf = Leaf::read(certificates.first()?, certificates.len() - 1)?;
        text.contains("PRIVATE KEY-----").then_some(Self { text, leaf })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

fn certificates(text: &str) -> Option<Vec<Vec<u8>>> {
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(begin) {
        let block = rest.get(start..)?;
        let stop = block.find(end)? + end.len();
        found.push(pem::parse(block.get(..stop)?).ok()?.into_contents());
        rest = block.get(stop..)?;
    }
    Some(found)
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}

/// The bundle's names as `show ssl cert` writes them.
pub(crate) fn names(bundle: &Bundle) -> BTreeSet<String> {
    bundle.facts().identifiers.iter().map(|name| name.to_string().to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::certificate;

    #[test]
    fn what_is_sent_has_leaf_first_key_last_and_no_empty_line() {
        let bundle = certificate(&["a.test"]);
        let material = Material::of(&bundle).unwrap();
        assert!(material.text().starts_with(&bundle.leaf_pem()));
        assert!(material.text().ends_with("-----END PRIVATE KEY-----\n"));
        assert!(!material.text().contains("\n\n"));
        assert_eq!(material.leaf.chain, 1);
        assert!(!format!("{material:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_file_with_empty_lines_is_read_without_them() {
        let material = Material::of(&certificate(&["a.test"])).unwrap();
        let untidy = material.text().replace("-----BEGIN", "\r\n\n-----BEGIN").replace('\n', "\r\n");
        let read = Material::read(untidy.as_bytes()).unwrap();
        assert_eq!(read.text(), material.text());
        assert_eq!(read.leaf, material.leaf);
    }

    #[test]
    fn what_is_no_certificate_with_key_is_nothing_to_put_back() {
        let bundle = certificate(&["a.test"]);
        for bad in ["", "hello", &bundle.fullchain_pem(), "-----BEGIN CERTIFICATE-----\n"] {
            assert!(Material::read(bad.as_bytes()).is_none());
        }
    }
}
