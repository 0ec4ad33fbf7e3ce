//! No secret reaches a log: everything at trace level, searched for every secret of the run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use acmekit::files::Files;
use acmekit::haproxy::{Endpoint, HaProxy, Instance};
use acmekit::solvers::Http01;
use acmekit::stores::FileStore;
use acmekit::{CertificateSpec, Pipeline, PrivateKey, Store};
use acmekit_scenarios::{Recorder, authority, dns01};
use acmekit_testbed::{Bind, Pebble};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tracing_subscriber::util::SubscriberInitExt;

/// Everything that is logged, also by the crates below.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The lines of base64 inside PEM text: any one of them in a log is a leak.
fn lines(pem: &str) -> Vec<String> {
    pem.lines().filter(|line| !line.starts_with("-----") && line.len() > 20).map(str::to_owned).collect()
}

/// Every private key in the files of a store, kept versions and all.
fn keys_below(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(keys_below(&entry.path()));
            continue;
        }
        let text = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).replace("\\n", "\n");
        for block in text.split("-----BEGIN PRIVATE KEY-----").skip(1) {
            found.extend(lines(block.split("-----END").next().unwrap()));
        }
    }
    found
}

#[tokio::test]
async fn no_secret_reaches_a_log_at_trace_level() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish()
        .init();

    let eab = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let dns = Bind::builder().zone("example.test").loopback("www.example.test").start().await.unwrap();
    let ca = Pebble::builder().dns_server(dns.addr()).eab("kid", eab).nonce_reject(30).start().await.unwrap();
    let haproxy = acmekit_testbed::HaProxy::builder().names(&["example.test"]).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let seen = Recorder::default();

    let mut instance = Instance::new(Endpoint::unix(haproxy.socket_path()), haproxy.cert_path());
    instance.addresses = haproxy.tls_addrs();
    let authority = authority(&ca).unwrap().external_account("kid", &eab.into()).unwrap();
    let store = Arc::new(FileStore::open(folder.path().join("store")).await.unwrap());
    let by_dns = Pipeline::builder(authority.clone(), store.clone())
        .solver(dns01(&dns).unwrap())
        .deployer(HaProxy::new(acmekit::haproxy::Config::new(instance)).unwrap())
        .deployer(Files::new(acmekit::files::Config::new(folder.path().join("files"))).unwrap())
        .observer(seen.observer())
        .build()
        .unwrap();
    let spec = CertificateSpec::new(["example.test", "*.example.test"]).unwrap();
    by_dns.obtain(&spec).await.unwrap().served().unwrap();
    by_dns.renew(&spec).await.unwrap().served().unwrap();
    let address = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, ca.http_port()));
    let by_http = Pipeline::builder(authority, store.clone())
        .solver(Http01::standalone(address))
        .observer(seen.observer())
        .build()
        .unwrap();
    by_http.obtain(&CertificateSpec::new(["www.example.test"]).unwrap()).await.unwrap();
    // Failures talk most: a refused key, a wrong name.
    let wrong = acmekit::rfc2136::Key::new(
        dns.tsig_name(),
        acmekit::rfc2136::Algorithm::HmacSha256,
        "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmc=",
    );
    let wrong =
        acmekit::rfc2136::Rfc2136::new(acmekit::rfc2136::Config::new(dns.addr().to_string(), wrong)).unwrap();
    let solver = acmekit::solvers::Dns01::with_resolver(wrong, acmekit_scenarios::resolver(&dns).unwrap());
    let refused = Pipeline::builder(
        acmekit_scenarios::authority(&ca).unwrap(),
        Arc::new(FileStore::open(folder.path().join("store")).await.unwrap()),
    )
    .solver(solver)
    .build()
    .unwrap();
    let error = refused.obtain(&CertificateSpec::new(["mail.example.test"]).unwrap()).await.unwrap_err();

    let text = format!("{}{}{}", log.text(), seen.all().join("\n"), error.report());
    assert!(
        text.len() > 50_000 && text.contains("TRACE"),
        "the log is not the whole log: {} octets",
        text.len()
    );

    let mut secrets = keys_below(&folder.path().join("store"));
    assert!(secrets.len() >= 12, "account, three certificates and their versions: {}", secrets.len());
    secrets.extend([
        eab.to_owned(),
        dns.tsig_secret_base64().to_owned(),
        "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmc=".to_owned(),
    ]);
    for secret in &secrets {
        assert!(!text.contains(secret.as_str()), "a secret is in the log: {}…", &secret[..6]);
    }
    assert!(!text.contains("BEGIN PRIVATE KEY") && !text.contains("BEGIN EC PRIVATE KEY"));

    // Key authorizations are `token.thumbprint`: the thumbprint stands nowhere.
    let thumbprint = thumbprint(&store).await;
    assert_eq!(thumbprint.len(), 43);
    assert!(!text.contains(&thumbprint), "a key authorization is in the log");
}

/// The thumbprint of the account's key (RFC 7638), made from the stored key.
async fn thumbprint(store: &FileStore) -> String {
    let entry = store.load(&"accounts/pebble".parse().unwrap()).await.unwrap().unwrap();
    let account: serde_json::Value = serde_json::from_slice(entry.value.expose()).unwrap();
    let key = PrivateKey::from_pem(account["key"].as_str().unwrap()).unwrap();
    // A P-256 SubjectPublicKeyInfo ends with the point: 4, x, y.
    let point = key.public_key_info().last_chunk::<65>().unwrap();
    let (x, y) = point[1..].split_at(32);
    let part = |octets: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(octets);
    let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, part(x), part(y));
    part(&Sha256::digest(jwk))
}
