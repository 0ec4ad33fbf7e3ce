//! The bodies of the fuzz targets: foreign bytes go in, and nothing may panic.
//!
//! cargo-fuzz runs them (`fuzz_targets/`), and so does a test on stable Rust, which replays the corpus
//! (`scenarios/tests/fuzz_replay.rs`). A target is its name: of the function, of the file in
//! `fuzz_targets/` and of the folder in `corpus/`.

use acmekit::rfc2136::{Config, Key, Rfc2136};
use acmekit::{Bundle, CertificateSpec, Csr, DnsName, Identifier, Origin, PrivateKey, Secret, StoreKey};

/// A target: its name, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target there is.
pub const TARGETS: [Target; 8] = [
    ("names", names),
    ("csr", csr),
    ("bundle", bundle),
    ("acme_json", acme_json),
    ("http_headers", http_headers),
    ("stored", stored),
    ("haproxy_answers", haproxy_answers),
    ("rfc2136_key", rfc2136_key),
];

/// A name has one spelling: what was read is read again as itself.
pub fn names(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    if let Ok(identifier) = text.parse::<Identifier>() {
        assert_eq!(identifier.to_string().parse().ok(), Some(identifier), "{text:?}");
    }
    if let Ok(name) = text.parse::<DnsName>() {
        assert_eq!(name.as_str().parse().ok(), Some(name.clone()), "{text:?}");
        assert!(name.ancestors().all(|zone| name.is_within(&zone)), "{text:?}");
    }
    if let Ok(spec) = CertificateSpec::new(text.lines()) {
        // The certificate's id becomes the key of an entry.
        assert!(format!("certificates/{}", spec.id()).parse::<StoreKey>().is_ok(), "{text:?}");
    }
    let _ = text.parse::<StoreKey>();
}

/// A CSR that is taken comes out as it came in.
pub fn csr(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    for csr in [Csr::from_der(octets.to_vec()), Csr::from_pem(&text)].into_iter().flatten() {
        assert!(!csr.identifiers().is_empty());
        assert_eq!(Csr::from_pem(&csr.to_pem()).ok(), Some(csr));
    }
}

/// A chain, with a key if there is one in the same text; what is taken is canonical.
pub fn bundle(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let Ok(spec) = CertificateSpec::new(["fuzz.example.com"]) else { return };
    let read = |chain: &str, key| Bundle::new(spec.id().clone(), chain, key, Origin::default());
    let key = PrivateKey::from_pem(&text).ok();
    let _ = PrivateKey::from_pkcs8(octets.to_vec());
    // A file of both: certificates up to the key.
    let chain = text.split("-----BEGIN PRIVATE").next().unwrap_or_default();
    for bundle in [read(&text, None), read(chain, key)].into_iter().flatten() {
        let again = read(&bundle.fullchain_pem(), bundle.key().cloned());
        assert!(again.is_ok_and(|again| again.facts() == bundle.facts()), "a bundle is not canonical");
    }
}

/// What a CA answers.
pub fn acme_json(octets: &[u8]) {
    acmekit::fuzzing::acme_json(octets);
}

/// What a CA answers it with.
pub fn http_headers(octets: &[u8]) {
    acmekit::fuzzing::http_headers(octets);
}

/// Files of the store, journals, accounts and bundles.
pub fn stored(octets: &[u8]) {
    acmekit::fuzzing::stored(octets);
}

/// What HAProxy answers on its socket.
pub fn haproxy_answers(octets: &[u8]) {
    acmekit::haproxy::fuzzing::answers(octets);
}

/// A TSIG key file, and the provider made with it.
pub fn rfc2136_key(octets: &[u8]) {
    let text = Secret::new(String::from_utf8_lossy(octets).into_owned());
    if let Ok(key) = Key::parse(&text) {
        let _ = Rfc2136::new(Config::new("192.0.2.53", key));
    }
}
