//! Each DNS provider by a configuration file alone: apex and wildcard in one certificate, and a clean zone afterwards.
//!
//! The CA asks BIND. Fakes of vendors are those of the providers' own tests; where a fake does not change BIND by
//! itself, [`NameServers`] plays the vendor's name servers. The responder has its own story, `responder.rs`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use acmekit::config::{Config, Setup};
use acmekit::{Error, Issuance};
use acmekit_server::TestCa;
use acmekit_testbed::{Bind, Moto, wait_for};
use tempfile::TempDir;
use tokio::task::JoinSet;

#[path = "../../providers/acme-dns/tests/fake/mod.rs"]
mod acme_dns;
#[path = "../../providers/cloudflare/tests/fake/mod.rs"]
mod cloudflare;
#[path = "../../providers/desec/tests/fake/mod.rs"]
mod desec;
#[path = "../../providers/httpreq/tests/fake/mod.rs"]
mod httpreq;

/// A configuration with these DNS providers, and what it is about.
struct Configured {
    bind: Arc<Bind>,
    setup: Setup,
    _ca: TestCa,
    _folder: TempDir,
}

impl Configured {
    async fn new(bind: &Arc<Bind>, providers: &str) -> Self {
        Self::with(bind, "", providers).await
    }

    /// With these keys in `[dns]`, too.
    async fn with(bind: &Arc<Bind>, keys: &str, providers: &str) -> Self {
        let ca = TestCa::builder().dns_server(bind.addr()).start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let attributes = acmekit::atomic::FileAttributes::default();
        let roots = folder.path().join("roots.pem");
        acmekit::atomic::write_file(&roots, ca.root_pem().as_bytes(), attributes).unwrap();
        let text = format!(
            r#"
            [store]
            kind = "files"
            path = "store"

            [[authorities]]
            ca = "{}"
            agree_to_terms = true
            extra_roots = "roots.pem"

            [dns]
            resolvers = ["{}"]
            authoritative_port = {}
            check_caa = true
            {keys}

            {providers}

            [[certificates]]
            names = ["example.test", "*.example.test"]

            [[certificates]]
            names = ["alias.example.test"]
            "#,
            ca.directory_url(),
            bind.addr(),
            bind.addr().port(),
        );
        let config = Config::parse(&text, folder.path()).unwrap_or_else(|error| panic!("{}", error.report()));
        let setup = config.build().await.unwrap_or_else(|error| panic!("{}", error.report()));
        Self { bind: Arc::clone(bind), setup, _ca: ca, _folder: folder }
    }

    async fn obtain(&self, certificate: usize) -> Result<Issuance, Error> {
        self.setup.pipeline().unwrap().obtain(&self.setup.certificates()[certificate].spec).await
    }

    /// Apex and wildcard; then nothing is left in BIND.
    async fn has_a_certificate_and_leaves_nothing(&self) {
        let issued = self.obtain(0).await.unwrap_or_else(|error| panic!("{}", error.report()));
        assert_eq!(issued.bundle.facts().identifiers.len(), 2);
        assert!(issued.fresh);
        self.leaves_nothing_in("example.test").await;
        self.setup.close().await;
    }

    async fn leaves_nothing_in(&self, zone: &str) {
        let clean = || async { self.bind.txt_records(zone).await.unwrap().is_empty().then_some(()) };
        wait_for(Duration::from_secs(10), "a clean zone", clean).await.unwrap();
    }
}

/// Plays a vendor's name servers: what its API has at a name, BIND has a moment later.
struct NameServers(JoinSet<()>);

impl NameServers {
    fn new<V, F>(bind: &Arc<Bind>, zone: &'static str, name: &'static str, values: V) -> Self
    where
        V: Fn() -> F + Send + 'static,
        F: Future<Output = Vec<String>> + Send,
    {
        let (bind, mut serving) = (Arc::clone(bind), JoinSet::new());
        serving.spawn(async move {
            let mut served = Vec::new();
            loop {
                let there = values().await;
                if there != served {
                    let mut update = format!("delete {name}. TXT");
                    for value in &there {
                        update.push_str(&format!("\nadd {name}. 1 TXT \"{value}\""));
                    }
                    bind.update(bind.tsig(), zone, &update).await.unwrap();
                    served = there;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self(serving)
    }

    /// Ends it, and looks whether it had to end by itself.
    async fn end(mut self) {
        assert!(self.0.try_join_next().is_none(), "the name servers are gone");
        self.0.shutdown().await;
    }
}

const NAME: &str = "_acme-challenge.example.test";

async fn bind() -> Arc<Bind> {
    Arc::new(
        Bind::builder().zone("example.test").zone("other.test").zone(acme_dns::ZONE).start().await.unwrap(),
    )
}

fn rfc2136(bind: &Bind) -> String {
    let key = bind.tsig();
    format!(
        r#"
        [[dns.providers]]
        kind = "rfc2136"
        server = "{}"
        key_name = "{}"
        key_algorithm = "{}"
        secret = "{}"
        "#,
        bind.addr(),
        key.name(),
        key.algorithm(),
        key.secret_base64()
    )
}

#[tokio::test]
async fn by_rfc2136() {
    let bind = bind().await;
    Configured::new(&bind, &rfc2136(&bind)).await.has_a_certificate_and_leaves_nothing().await;
}

#[tokio::test]
#[cfg(feature = "aws-lc-rs")]
async fn by_dns_update() {
    let bind = bind().await;
    let provider = format!(
        r#"
        [[dns.providers]]
        kind = "dns-update"
        vendor = "rfc2136"
        settings = {{ server = "tcp://{}", key_name = "{}", key_secret = "{}" }}
        zones = ["example.test"]
        "#,
        bind.addr(),
        bind.tsig_name(),
        bind.tsig_secret_base64()
    );
    Configured::new(&bind, &provider).await.has_a_certificate_and_leaves_nothing().await;
}

#[tokio::test]
async fn by_exec() {
    let bind = bind().await;
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../providers/exec/tests/programs/lego.sh");
    let (addr, key) = (bind.addr(), bind.tsig());
    let provider = format!(
        r#"
        [[dns.providers]]
        kind = "exec"
        dialect = "lego"
        program = ["sh", "{}"]
        zones = ["example.test"]
        env = {{ SERVER = "{} {}", TSIG_NAME = "{}:{}", TSIG_SECRET = "{}" }}
        "#,
        program.display(),
        addr.ip(),
        addr.port(),
        key.algorithm(),
        key.name(),
        key.secret_base64()
    );
    Configured::new(&bind, &provider).await.has_a_certificate_and_leaves_nothing().await;
}

#[tokio::test]
async fn by_httpreq() {
    let bind = bind().await;
    let fake = httpreq::Fake::before(Arc::clone(&bind)).await;
    let provider = format!(
        r#"
        [[dns.providers]]
        kind = "httpreq"
        endpoint = "{}/acme"
        zones = ["example.test"]
        username = "{}"
        password = "{}"
        "#,
        fake.api.url(),
        httpreq::USER,
        httpreq::PASSWORD
    );
    Configured::new(&bind, &provider).await.has_a_certificate_and_leaves_nothing().await;
    assert_eq!((fake.api.count("POST /acme/present"), fake.api.count("POST /acme/cleanup")), (2, 2));
    assert!(fake.is_clean());
}

#[tokio::test]
async fn by_cloudflare() {
    let bind = bind().await;
    let fake = Arc::new(cloudflare::Fake::start().await);
    let there = Arc::clone(&fake);
    let servers = NameServers::new(&bind, "example.test", NAME, move || {
        std::future::ready(
            there.values(NAME).into_iter().map(|value| value.trim_matches('"').to_owned()).collect(),
        )
    });
    let provider = format!(
        r#"
        [[dns.providers]]
        kind = "cloudflare"
        token = "{}"
        base_url = "{}/client/v4"
        "#,
        cloudflare::TOKEN,
        fake.api.url()
    );
    Configured::new(&bind, &provider).await.has_a_certificate_and_leaves_nothing().await;
    assert_eq!(fake.values(NAME), Vec::<String>::new());
    servers.end().await;
}

fn by_desec_at(fake: &desec::Fake) -> String {
    format!(
        r#"
        [[dns.providers]]
        kind = "desec"
        token = "{}"
        base_url = "{}/api/v1/"
        settle = "20 ms"
        "#,
        desec::TOKEN,
        fake.api.url()
    )
}

#[tokio::test]
async fn by_desec() {
    let bind = bind().await;
    let fake = desec::Fake::before(Arc::clone(&bind)).await;
    Configured::new(&bind, &by_desec_at(&fake)).await.has_a_certificate_and_leaves_nothing().await;
    // One is made, the other put beside it; one is taken from beside the other, the last with the RRset.
    let one = "/domains/example.test/rrsets/_acme-challenge/TXT/";
    for (write, times) in [
        ("POST /domains/example.test/rrsets/".to_owned(), 1),
        (format!("PATCH {one}"), 2),
        (format!("DELETE {one}"), 1),
    ] {
        assert_eq!(fake.count(&write), times, "{write}");
    }
    assert!(fake.change(|inner| inner.rrsets.is_empty()));
}

#[tokio::test]
async fn by_route53() {
    let bind = bind().await;
    let moto = Arc::new(Moto::start().await.unwrap());
    let zone = moto.create_zone("example.test", false).await.unwrap();
    let (there, of) = (Arc::clone(&moto), zone.clone());
    let servers = NameServers::new(&bind, "example.test", NAME, move || {
        let (there, of) = (Arc::clone(&there), of.clone());
        async move {
            let records = there.records(&of).await.unwrap();
            let here = records.into_iter().filter(|record| record.name == format!("{NAME}."));
            here.flat_map(|record| record.values).map(|value| value.trim_matches('"').to_owned()).collect()
        }
    });
    let provider = format!(
        r#"
        [[dns.providers]]
        kind = "route53"
        access_key_id = "AKIAIOSFODNN7EXAMPLE"
        secret_access_key = "made-up-secret"
        endpoint = "{}"
        "#,
        moto.url()
    );
    Configured::new(&bind, &provider).await.has_a_certificate_and_leaves_nothing().await;
    assert_eq!(moto.records(&zone).await.unwrap(), []);
    let log = moto.log();
    assert!(log.matches("POST /2013-04-01/hostedzone/").count() >= 4, "two came and two went: {log}");
    servers.end().await;
}

#[tokio::test]
async fn by_acme_dns_once_the_alias_it_asks_for_is_set() {
    let bind = bind().await;
    let fake = acme_dns::Fake::before(Arc::clone(&bind)).await;
    let provider = format!(
        r#"
        [[dns.providers]]
        kind = "acme-dns"
        base_url = "{}"
        storage = "acme-dns"
        domains = ["example.test"]
        "#,
        fake.api.url()
    );
    let configured = Configured::new(&bind, &provider).await;
    let error = configured.obtain(0).await.unwrap_err();
    let record = error.hint().unwrap().split_once("then run again: ").unwrap().1.to_owned();
    let line = format!("add {}", record.replace(" CNAME ", " 1 CNAME "));
    bind.update(bind.tsig(), "example.test", &line).await.unwrap();
    // Its own zone keeps the values: the server can remove none.
    configured.has_a_certificate_and_leaves_nothing().await;
    assert_eq!(fake.api.count("POST /register"), 1);
}

#[tokio::test]
async fn by_records_that_stand_without_a_provider() {
    let bind = bind().await;
    let configured = Configured::with(&bind, "standing_records = true", "").await;
    let certificate = &configured.setup.certificates()[0].spec;
    let records = configured.setup.pipeline().unwrap().standing_records(certificate).await.unwrap();
    assert_eq!(records.len(), 1, "{records:?}");
    let name = records[0].name().unwrap();
    bind.add_txt("example.test", name.as_str(), &records[0].value()).await.unwrap();
    let issued = configured.obtain(0).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!(issued.bundle.facts().identifiers.len(), 2);
    assert_eq!(bind.txt_records("example.test").await.unwrap(), [(name.to_string(), records[0].value())]);
    configured.setup.close().await;
}

#[tokio::test]
async fn an_alias_says_where_the_records_go() {
    let bind = bind().await;
    let aliases = "aliases = { \"example.test\" = \"elsewhere.other.test\" }";
    let configured = Configured::with(&bind, aliases, &rfc2136(&bind)).await;
    let error = configured.obtain(0).await.unwrap_err();
    assert_eq!(
        error.kind(),
        acmekit::ErrorKind::Validation,
        "the CA has looked elsewhere: {}",
        error.report()
    );
    configured.leaves_nothing_in("other.test").await;

    let alias = "add _acme-challenge.example.test. 1 CNAME elsewhere.other.test.";
    bind.update(bind.tsig(), "example.test", alias).await.unwrap();
    configured.has_a_certificate_and_leaves_nothing().await;
    configured.leaves_nothing_in("other.test").await;
}

#[tokio::test]
async fn a_cname_leads_into_the_zone_of_another_provider() {
    const PROOF: &str = "proof.other.test";
    let bind = bind().await;
    let alias = format!("add _acme-challenge.alias.example.test. 1 CNAME {PROOF}.");
    bind.update(bind.tsig(), "example.test", &alias).await.unwrap();
    let fake = Arc::new(desec::Fake::start().await);
    fake.change(|inner| inner.domains = vec![("other.test".to_owned(), 60)]);
    let there = Arc::clone(&fake);
    let servers =
        NameServers::new(&bind, "other.test", PROOF, move || std::future::ready(there.values(PROOF)));

    let providers = format!("{}\n{}", by_desec_at(&fake), rfc2136(&bind));
    let configured = Configured::new(&bind, &providers).await;
    configured.obtain(1).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert!(fake.writes() >= 2, "one value came and went there");
    assert!(fake.change(|inner| inner.rrsets.is_empty()));
    configured.leaves_nothing_in("other.test").await;
    // The other names are with the other provider.
    let writes = fake.writes();
    configured.has_a_certificate_and_leaves_nothing().await;
    assert_eq!(fake.writes(), writes);
    servers.end().await;
}
