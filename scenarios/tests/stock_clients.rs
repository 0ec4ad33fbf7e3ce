//! ACME clients that nobody here wrote get, renew and revoke certificates: certbot, lego and uacme as Debian
//! packages them, and the crate instant-acme.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write as _;

use acmekit::{Bundle, Identifier, Origin};
use acmekit_server::TestCa;
use acmekit_testbed::{
    Bind, CaAccess, Certbot, Lego, Port, Proof, StockClient, TestbedError, Uacme, free_port, serial_of,
    verify_chain,
};
use instant_acme::{
    Account, ChallengeType, Identifier as AcmeIdentifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
    RevocationRequest,
};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// The CA that the clients are run against, and the DNS it asks: all that these tests know about it.
struct Ca {
    server: TestCa,
    http_port: Port,
    dns: Bind,
}

impl Ca {
    async fn start() -> Self {
        let dns = Bind::builder()
            .zone("example.test")
            .loopback("www.example.test")
            .loopback("api.example.test")
            .start()
            .await
            .unwrap();
        let http_port = free_port().unwrap();
        let server =
            TestCa::builder().dns_server(dns.addr()).http_port(http_port.number()).start().await.unwrap();
        Self { server, http_port, dns }
    }

    fn access(&self) -> CaAccess {
        CaAccess::new(self.server.directory_url(), self.server.root_pem(), self.http_port.number())
    }

    fn is_revoked(&self, fullchain: &str) -> bool {
        self.server.is_revoked(fullchain).unwrap()
    }

    /// The serial number of a chain that proves exactly `names`.
    fn serial_of_good(&self, fullchain: &str, names: &[&str]) -> String {
        let hosts: Vec<String> = names.iter().map(|name| name.replace('*', "any")).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let leaf = verify_chain(fullchain, self.server.issuing_roots_pem(), &hosts).unwrap();
        let bundle = Bundle::new("stock".parse().unwrap(), fullchain, None, Origin::default()).unwrap();
        let wanted: Vec<Identifier> = names.iter().map(|name| name.parse().unwrap()).collect();
        let certified = &bundle.facts().identifiers;
        assert!(wanted.len() == certified.len() && wanted.iter().all(|name| certified.contains(name)));
        serial_of(&leaf).unwrap()
    }
}

/// Get, renew, revoke; skipped where the client is not to be had.
#[expect(clippy::print_stderr, reason = "whoever runs the tests is told what was not tested")]
async fn story<C: StockClient>(ca: &Ca, names: &[&str], proof: &Proof) {
    let mut client = match C::new(&ca.access()).await {
        Err(error @ (TestbedError::MissingBinary { .. } | TestbedError::Unavailable { .. })) => {
            return eprintln!("skipped: {error}");
        }
        client => ran(client),
    };
    ran(client.obtain(names, proof).await);
    let first = client.fullchain_pem().unwrap();
    ran(client.renew().await);
    let second = client.fullchain_pem().unwrap();
    assert_ne!(ca.serial_of_good(&first, names), ca.serial_of_good(&second, names));
    ran(client.revoke().await);
    assert!(ca.is_revoked(&second));
    assert!(!ca.is_revoked(&first));
    assert_eq!(ca.dns.txt_records("example.test").await.unwrap(), []);
}

/// With what the client wrote, line by line.
fn ran<T>(result: Result<T, TestbedError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

async fn by_http_01<C: StockClient>(ca: &Ca) {
    story::<C>(ca, &["www.example.test", "api.example.test"], &Proof::Http01).await;
}

async fn by_dns_01<C: StockClient>(ca: &Ca) {
    story::<C>(ca, &["example.test", "*.example.test"], &Proof::Dns01((&ca.dns).into())).await;
}

#[tokio::test]
async fn certbot_by_http_01() {
    by_http_01::<Certbot>(&Ca::start().await).await;
}

#[tokio::test]
async fn certbot_by_dns_01() {
    by_dns_01::<Certbot>(&Ca::start().await).await;
}

#[tokio::test]
async fn lego_by_http_01() {
    by_http_01::<Lego>(&Ca::start().await).await;
}

#[tokio::test]
async fn lego_by_dns_01() {
    by_dns_01::<Lego>(&Ca::start().await).await;
}

#[tokio::test]
async fn uacme_by_http_01() {
    by_http_01::<Uacme>(&Ca::start().await).await;
}

#[tokio::test]
async fn uacme_by_dns_01() {
    by_dns_01::<Uacme>(&Ca::start().await).await;
}

#[tokio::test]
async fn instant_acme_gets_and_revokes_a_certificate() {
    choose_provider();
    let ca = Ca::start().await;
    let names = ["example.test", "*.example.test"];
    let access = ca.access();
    let mut root = tempfile::NamedTempFile::new().unwrap();
    root.write_all(access.root_pem.as_bytes()).unwrap();

    let new = NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
    let builder = Account::builder_with_root(root.path()).unwrap();
    let (account, _) = builder.create(&new, access.directory_url, None).await.unwrap();
    let identifiers = names.map(|name| AcmeIdentifier::Dns(name.to_owned()));
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await.unwrap();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.unwrap();
        let mut challenge = authorization.challenge(ChallengeType::Dns01).unwrap();
        let value = challenge.key_authorization().dns_value();
        ca.dns.add_txt("example.test", "_acme-challenge.example.test", &value).await.unwrap();
        challenge.set_ready().await.unwrap();
    }
    assert_eq!(order.poll_ready(&RetryPolicy::default()).await.unwrap(), OrderStatus::Ready);
    order.finalize().await.unwrap();
    let chain = order.poll_certificate(&RetryPolicy::default()).await.unwrap();

    ca.serial_of_good(&chain, &names);
    assert!(!ca.is_revoked(&chain));
    let leaf =
        CertificateDer::from(verify_chain(&chain, ca.server.issuing_roots_pem(), &["example.test"]).unwrap());
    account.revoke(&RevocationRequest { certificate: &leaf, reason: None }).await.unwrap();
    assert!(ca.is_revoked(&chain));
}

/// Its HTTP client takes the process's default, which is undecided where both providers are linked.
fn choose_provider() {
    #[cfg(feature = "aws-lc-rs")]
    use tokio_rustls::rustls::crypto::aws_lc_rs as chosen;
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    use tokio_rustls::rustls::crypto::ring as chosen;
    let provider: CryptoProvider = chosen::default_provider();
    provider.install_default().ok();
}
