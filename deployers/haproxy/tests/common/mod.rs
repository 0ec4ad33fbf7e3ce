//! Certificates, and a deployer for a running HAProxy.
#![expect(clippy::unwrap_used, reason = "a test panics on what it does not expect")]
#![expect(unreachable_pub, reason = "shared by the tests in this folder")]

use acmekit_core::{Bundle, Origin, PrivateKey};
use acmekit_haproxy::{Config, Endpoint, HaProxy, Instance};
use acmekit_testbed::{HaProxy as Server, handshake};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SerialNumber};

pub const NAME: &str = "example.test";

/// A fresh certificate with a chain of one intermediate.
pub fn certificate(id: &str, names: &[&str]) -> Bundle {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(names).unwrap();
    let mut serial = rand::random::<[u8; 16]>();
    serial[0] |= 0x80;
    leaf.serial_number = Some(SerialNumber::from_slice(&serial));
    let chain = format!("{}{ca_pem}", leaf.signed_by(&key, &issuer).unwrap().pem());
    let key = PrivateKey::from_pem(&key.serialize_pem()).unwrap();
    Bundle::new(id.parse().unwrap(), &chain, Some(key), Origin::default()).unwrap()
}

/// The server's first certificate, checked at all its addresses.
pub fn instance(server: &Server) -> Instance {
    let mut instance = Instance::new(Endpoint::unix(server.socket_path()), server.cert_path());
    instance.addresses = server.tls_addrs();
    instance
}

pub fn deployer(instance: Instance) -> HaProxy {
    HaProxy::new(Config::new(instance)).unwrap()
}

pub async fn serves(server: &Server, name: &str, bundle: &Bundle) -> bool {
    let mut all = true;
    for address in server.tls_addrs() {
        all &= handshake(address, name).await.unwrap().leaf() == bundle.chain_der()[0];
    }
    all
}

/// Whether the first address still serves what the server started with.
pub async fn serves_the_first(server: &Server) -> bool {
    let seen = handshake(server.tls_addrs()[0], NAME).await.unwrap().serial().unwrap();
    seen == server.initial_certificates()[0].serial
}

pub fn file_of(server: &Server) -> String {
    std::fs::read_to_string(server.cert_path()).unwrap()
}

/// The process id of the worker that answers: another one means that it died or was reloaded.
pub async fn worker(server: &Server) -> String {
    let info = server.command("show info").await.unwrap();
    info.lines().find(|line| line.starts_with("Pid:")).unwrap().to_owned()
}

/// Opens a transaction as a deployment that is killed afterwards leaves it, with its note.
pub async fn left_over(server: &Server, endpoint: &str, state: &str) -> Bundle {
    let path = server.cert_path().display().to_string();
    let half = certificate("site", &[NAME]);
    let payload = format!("{}{}", half.fullchain_pem(), half.key_pem().unwrap().expose());
    let opened = server.command(&format!("set ssl cert {path} <<\n{payload}")).await.unwrap();
    assert!(opened.starts_with("Transaction created"), "{opened}");
    let info = server.command("show info").await.unwrap();
    let field = |key: &str| info.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
    let note = format!("{state}\t{endpoint}\t{}@{}\t{path}\n", field("Pid:"), field("Start_time_sec:"));
    let file = server.cert_dir().join(".site.pem.acmekit-txn");
    acmekit_core::atomic::write_file(&file, note.as_bytes(), Default::default()).unwrap();
    half
}
