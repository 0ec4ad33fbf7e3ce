//! The bodies of the fuzz targets: foreign bytes go in, and nothing may panic.
//!
//! cargo-fuzz runs them (`fuzz_targets/`), and so does a test on stable Rust, which replays the corpus
//! (`scenarios/tests/fuzz_replay.rs`). A target is its name: of the function, of the file in
//! `fuzz_targets/` and of the folder in `corpus/`.

use std::sync::LazyLock;

use acmekit::rest::{Client, Pool};
use acmekit::rfc2136::{Config, Key, Rfc2136};
use acmekit::solvers::{Http01Redirect, Http01Responder};
use acmekit::{Bundle, CertificateSpec, Csr, DnsName, Identifier, Origin, PrivateKey, Secret, StoreKey};
use http::{Method, Request, StatusCode};

/// A target: its name, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target there is.
pub const TARGETS: [Target; 19] = [
    ("names", names),
    ("csr", csr),
    ("bundle", bundle),
    ("acme_json", acme_json),
    ("http_headers", http_headers),
    ("stored", stored),
    ("haproxy_answers", haproxy_answers),
    ("rfc2136_key", rfc2136_key),
    ("config_toml", config_toml),
    ("config_csv", config_csv),
    ("dns_answers", dns_answers),
    ("dns_questions", dns_questions),
    ("program_output", program_output),
    ("vendor_answers", vendor_answers),
    ("route53_values", route53_values),
    ("http_requests", http_requests),
    ("server_jws", server_jws),
    ("server_payloads", server_payloads),
    ("server_findings", server_findings),
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
        let other = Key::new(key.name.clone(), key.algorithm, "b3RoZXI=");
        assert_eq!(format!("{key:?}"), format!("{other:?}"), "what is shown of a key depends on its secret");
        let _ = Rfc2136::new(Config::new("192.0.2.53", key));
    }
}

/// A configuration, and single values of one. No secret may be in what is told of it.
pub fn config_toml(octets: &[u8]) {
    acmekit::config::fuzzing::toml(octets);
}

/// The CSV file of certificates: what was read is read again as itself.
pub fn config_csv(octets: &[u8]) {
    acmekit::config::fuzzing::csv(octets);
}

/// What DNS servers answer, and the values of CAA and standing records in it.
pub fn dns_answers(octets: &[u8]) {
    acmekit::fuzzing::dns_answers(octets);
}

/// What strangers ask the responder. No answer is larger than it may be.
pub fn dns_questions(octets: &[u8]) {
    acmekit::responder::fuzzing::question(octets);
}

/// What a program of the provider `exec` prints. No secret may be in what is shown or kept of it.
pub fn program_output(octets: &[u8]) {
    acmekit::exec::fuzzing::output(octets);
}

/// Making one reads the well-known roots, which takes longer than all else here.
static VENDOR: LazyLock<Option<Client>> = LazyLock::new(|| {
    let client = Client::new("https://vendor.test/api", &Pool::new().ok()?).ok()?;
    client.with_bearer(&Secret::from("s3cr3t-t0ken-0f-the-vend0r")).ok()
});

/// What vendors' APIs answer, each read as every vendor's. No credential may be in what is told of it.
pub fn vendor_answers(octets: &[u8]) {
    let Some(client) = &*VENDOR else { panic!("there is no client") };
    acmekit::cloudflare::fuzzing::answer(client, octets);
    acmekit::desec::fuzzing::answer(client, octets);
    acmekit::httpreq::fuzzing::answer(client, octets);
    acmekit::acme_dns::fuzzing::answer(client, octets);
}

/// TXT values as Route 53 writes them, and its refusals.
pub fn route53_values(octets: &[u8]) {
    acmekit::route53::fuzzing::values(octets);
}

/// What comes to port 80: a line with the target, and one with the host. It is sent nowhere else.
pub fn http_requests(octets: &[u8]) {
    let mut lines = octets.split(|octet| *octet == b'\n');
    let (target, host) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let Ok(request) = Request::get(target).header("host", host).body(()) else { return };
    let responder = Http01Responder::default();
    assert_eq!(responder.answer(&Method::GET, request.uri().path()).status(), StatusCode::NOT_FOUND);
    let redirect = Http01Redirect::new(responder).https_port(8443);
    let Some(location) = redirect.location(&request) else { return };
    let sent: http::Uri = match location.to_str().map(str::parse) {
        Ok(Ok(uri)) => uri,
        _ => panic!("{location:?} is nowhere"),
    };
    assert_eq!((sent.scheme_str(), sent.port_u16()), (Some("https"), Some(8443)), "{location:?}");
    let asked = String::from_utf8_lossy(host);
    assert!(sent.host().is_some_and(|host| asked.contains(host)), "{location:?} is not {asked}");
    assert_eq!(sent.path(), if request.uri().path().is_empty() { "/" } else { request.uri().path() });
}

/// What a client of the server sends: signed, or not.
pub fn server_jws(octets: &[u8]) {
    acmekit_server::fuzzing::jws(octets);
}

/// What a client of the server asks for, once its signature is right.
pub fn server_payloads(octets: &[u8]) {
    acmekit_server::fuzzing::payload(octets);
}

/// What the server's validation finds.
pub fn server_findings(octets: &[u8]) {
    acmekit_server::fuzzing::validation(octets);
}
