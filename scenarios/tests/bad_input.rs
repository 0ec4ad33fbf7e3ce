//! Bad input: one clear error each, nothing half done, and the same store works once it is put right.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use acmekit::atomic::{FileAttributes, write_file};
use acmekit::rfc2136::{Algorithm, Config, Key, Rfc2136};
use acmekit::solvers::Dns01;
use acmekit::stores::FileStore;
use acmekit::{
    Authority, CertificateSpec, Challenge, ChallengeKind, ChallengeSolver, Csr, Deadline, Error, ErrorKind,
    KeyType, Manager, Pipeline, Presentation, PrivateKey, Result, Store, async_trait,
};
use acmekit_scenarios::{NoProof, authority, dns01, resolver, timeouts, trusted};
use acmekit_server::TestCa;
use acmekit_testbed::{Bind, Nginx, Pebble};
use rustix::process::{Resource, Rlimit, setrlimit};

fn spec(names: &[&str]) -> CertificateSpec {
    CertificateSpec::new(names).unwrap()
}

async fn credulous() -> Pebble {
    Pebble::builder().always_valid(true).start().await.unwrap()
}

/// A new pipeline on this folder: nothing is remembered but what the store holds.
async fn on(folder: &Path, authority: Authority, solver: impl ChallengeSolver + 'static) -> Result<Pipeline> {
    Pipeline::builder(authority, Arc::new(FileStore::open(folder).await?)).solver(solver).build()
}

/// The error is of this kind, says each of these words, has a hint, and none of the secrets.
#[track_caller]
fn clear(case: &str, error: &Error, kind: ErrorKind, says: &[&str], secrets: &[&str]) {
    let all = format!("{error}\n{error:?}\n{}", error.report());
    assert_eq!(error.kind(), kind, "{case}: {all}");
    for words in says {
        assert!(all.contains(words), "{case}: it does not say {words:?}: {all}");
    }
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{case}: no hint: {all}");
    for secret in secrets {
        assert!(!all.contains(secret), "{case}: it shows a secret");
    }
}

/// Every file below the folder that an interrupted write leaves.
fn half_written(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("tmp")).map_or(0, Iterator::count)
}

#[test]
fn names_that_cannot_be_certified() {
    let long_label = format!("{}.test", "a".repeat(64));
    let long_name = format!("{}test", "abcdefghi.".repeat(25));
    for bad in [
        "",
        " ",
        "example .test",
        "https://example.test/",
        "example.test:443",
        "a..test",
        ".test",
        "-a.test",
        "a-.test",
        "a_b.test",
        "*",
        "*.*.test",
        "www.*.test",
        "*a.test",
        "*.192.0.2.1",
        "192.0.2.0/24",
        "user@example.test",
        "a\0.test",
        "a\n.test",
        long_label.as_str(),
        long_name.as_str(),
    ] {
        let error = CertificateSpec::new(["good.test", bad]).unwrap_err();
        let shown = format!("{}`", bad.strip_prefix("*.").unwrap_or(bad).escape_debug());
        clear(bad, &error, ErrorKind::Config, &[&shown], &[]);
        assert!(!error.to_string().contains(['\0', '\n']), "{error:?}");
    }
    let none = CertificateSpec::new(Vec::<String>::new()).unwrap_err();
    clear("no name", &none, ErrorKind::Config, &["name"], &[]);
    let many = CertificateSpec::new((0..101).map(|i| format!("h{i}.test"))).unwrap_err();
    clear("101 names", &many, ErrorKind::Config, &["101"], &[]);
}

#[tokio::test]
async fn requests_that_are_damaged_or_for_something_else() {
    let key = PrivateKey::generate(KeyType::EcdsaP256).await.unwrap();
    let good = Csr::generate(&key, spec(&["www.example.test"]).identifiers()).unwrap();
    let changed = |at: usize| {
        let mut der = good.as_der().to_vec();
        der[at] ^= 1;
        der
    };
    let name = good.as_der().windows(3).position(|three| three == b"www").unwrap();
    let last = good.as_der().len() - 1;
    let longer = [good.as_der(), b"\0"].concat();
    for (case, der, says) in [
        ("another name than was signed", changed(name), "signature"),
        ("a tampered signature", changed(last), "signature"),
        ("cut", good.as_der()[..last].to_vec(), "PKCS#10"),
        ("something behind it", longer, "behind"),
        ("nothing", Vec::new(), "PKCS#10"),
    ] {
        clear(case, &Csr::from_der(der).unwrap_err(), ErrorKind::Config, &["CSR", says], &[]);
    }
    let pem = key.to_pem();
    let secret = pem.expose().lines().nth(1).unwrap();
    let mistaken = Csr::from_pem(pem.expose()).unwrap_err();
    clear("a key", &mistaken, ErrorKind::Config, &["CERTIFICATE REQUEST", "PRIVATE KEY"], &[secret]);
    clear("no PEM", &Csr::from_pem("hello").unwrap_err(), ErrorKind::Config, &["PEM"], &[]);
    for (names, says) in [
        (vec![rcgen::SanType::Rfc822Name("ops@example.test".try_into().unwrap())], "neither a domain"),
        (vec![rcgen::SanType::DnsName("a_b.test".try_into().unwrap())], "a_b.test"),
        (Vec::new(), "neither a domain nor an address"),
    ] {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = names;
        let made = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let error = Csr::from_der(made.der().to_vec()).unwrap_err();
        clear(says, &error, ErrorKind::Config, &[says], &[]);
    }
}

#[tokio::test]
async fn an_external_account_key_that_is_wrong_leaves_no_account() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let wrong = "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc";
    let ca = Pebble::builder().always_valid(true).eab("kid-1", key).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let with = |key: &str| authority(&ca).unwrap().external_account("kid-1", &key.into());
    let spec = spec(&["example.test"]);
    clear("no base64", &with("not a key!").unwrap_err(), ErrorKind::Config, &["EAB key"], &["not a key!"]);

    let acme = on(folder.path(), with(wrong).unwrap(), NoProof::default()).await.unwrap();
    let error = acme.obtain(&spec).await.unwrap_err();
    clear("wrong key", &error, error.kind(), &["kid-1", "newAccount"], &[wrong]);
    assert!(matches!(error.kind(), ErrorKind::Auth | ErrorKind::Protocol), "{}", error.report());
    assert_eq!((ca.accounts(), ca.orders()), (0, 0));

    let acme = on(folder.path(), with(key).unwrap(), NoProof::default()).await.unwrap();
    acme.obtain(&spec).await.unwrap();
    assert_eq!((ca.accounts(), ca.orders(), half_written(folder.path())), (1, 1, 0));
}

#[tokio::test]
async fn a_key_the_dns_server_does_not_take_leaves_no_record() {
    let dns = Bind::builder()
        .zone("example.test")
        .add_key("narrow", "example.test", "name _acme-challenge.www.example.test. TXT")
        .start()
        .await
        .unwrap();
    let ca = Pebble::builder().dns_server(dns.addr()).start().await.unwrap();
    let wrong = "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3I=";
    let narrow = dns.key("narrow").unwrap().secret_base64();
    let (name, secret) = (dns.tsig_name(), dns.tsig_secret_base64());
    for (case, key, secret, algorithm, says) in [
        ("wrong secret", name, wrong, Algorithm::HmacSha256, "secret"),
        ("unknown name", "nobody", secret, Algorithm::HmacSha256, "nobody"),
        ("wrong algorithm", name, secret, Algorithm::HmacSha512, "algorithm"),
        ("not for this name", "narrow", narrow, Algorithm::HmacSha256, "not allowed"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let host = format!("{}.example.test", case.replace(' ', "-"));
        let spec = spec(&[&host]);
        let (accounts, orders) = (ca.accounts(), ca.orders());
        let config = Config::new(dns.addr().to_string(), Key::new(key, algorithm, secret));
        let bad = Dns01::with_resolver(Rfc2136::new(config).unwrap(), resolver(&dns).unwrap());
        let acme = on(folder.path(), authority(&ca).unwrap(), bad).await.unwrap();
        let error = acme.obtain(&spec).await.unwrap_err();
        clear(case, &error, ErrorKind::Auth, &[key, "example.test", says], &[secret]);
        assert_eq!(dns.txt_records("example.test").await.unwrap(), [], "{case}");

        let good = on(folder.path(), authority(&ca).unwrap(), dns01(&dns).unwrap()).await.unwrap();
        good.obtain(&spec).await.unwrap();
        assert_eq!(
            (ca.accounts(), ca.orders()),
            (accounts + 1, orders + 1),
            "{case}: the order is gone on with"
        );
        assert_eq!(dns.txt_records("example.test").await.unwrap(), [], "{case}");
        assert_eq!(half_written(folder.path()), 0, "{case}");
    }
    let config = Config::new(dns.addr().to_string(), Key::new(name, Algorithm::HmacSha256, "not base64!"));
    let error = Rfc2136::new(config).unwrap_err();
    clear("no base64", &error, ErrorKind::Config, &["secret"], &["not base64!"]);
}

#[tokio::test]
async fn a_directory_url_where_something_else_answers() {
    let ca = credulous().await;
    let web = Nginx::builder().names(&["127.0.0.1"]).start().await.unwrap();
    let page = format!("https://{}/", web.addr());
    let page_root = std::fs::read_to_string(web.certificate_path()).unwrap();
    let (missing, other) = (
        ca.directory_url().replace("/dir", "/nothing-here"),
        ca.directory_url().replace("/dir", "/nonce-plz"),
    );
    let folder = tempfile::tempdir().unwrap();
    for (case, url, root, kind) in [
        ("a web page", page.as_str(), page_root.as_str(), ErrorKind::Protocol),
        ("a path that is not there", &missing, ca.root_pem(), ErrorKind::NotFound),
        ("another of the CA's resources", &other, ca.root_pem(), ErrorKind::Protocol),
        ("nobody", "https://127.0.0.1:1/dir", ca.root_pem(), ErrorKind::Unavailable),
    ] {
        // The same id as the right one: what is mistyped must not stand in its way.
        let wrong = Authority::custom(url).unwrap().with_id("pebble").agree_to_terms();
        let wrong = wrong.extra_roots_pem(root).unwrap();
        let acme = on(folder.path(), wrong.with_timeouts(timeouts()), NoProof::default()).await.unwrap();
        let error = acme.obtain(&spec(&["example.test"])).await.unwrap_err();
        clear(case, &error, kind, &["directory", url], &[]);
        assert_eq!((ca.accounts(), ca.orders()), (0, 0), "{case}");
    }
    let error = Authority::custom("http://127.0.0.1/dir").unwrap_err();
    clear("not HTTPS", &error, ErrorKind::Config, &["http://127.0.0.1/dir"], &[]);

    let acme = on(folder.path(), authority(&ca).unwrap(), NoProof::default()).await.unwrap();
    acme.obtain(&spec(&["example.test"])).await.unwrap();
    assert_eq!((ca.accounts(), ca.orders(), half_written(folder.path())), (1, 1, 0));
}

#[tokio::test]
async fn a_damaged_note_on_a_certificate_keeps_nobody_from_it() {
    let ca = TestCa::builder().always_valid().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for damaged in [false, true] {
        if damaged {
            write_file(&entry(folder.path(), "renewals"), b"damaged", FileAttributes::default()).unwrap();
        }
        let authority = trusted(&ca.directory_url(), ca.root_pem()).unwrap();
        let manager =
            Manager::builder(on(folder.path(), authority, NoProof::default()).await.unwrap()).start();
        manager.add(spec(&["example.test"])).await.unwrap();
        manager.settled().await.unwrap();
        let status = manager.status().await.unwrap();
        assert!(status.certificates[0].serial.is_some() && status.certificates[0].trouble.is_none());
        manager.shutdown().await;
        assert_eq!(ca.certificates_issued(), 1, "{damaged}");
    }
}

#[tokio::test]
async fn a_store_folder_that_cannot_be_written() {
    let ca = credulous().await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    write_file(&file, b"", FileAttributes::default()).unwrap();
    // Neither root can make a folder there.
    let below = file.join("store");
    let error = FileStore::open(&below).await.unwrap_err();
    clear("below a file", &error, ErrorKind::Storage, &[&below.display().to_string()], &[]);

    let folder = place.path().join("store");
    let acme = on(&folder, authority(&ca).unwrap(), NoProof::default()).await.unwrap();
    std::fs::rename(&folder, place.path().join("moved")).unwrap();
    let error = acme.obtain(&spec(&["example.test"])).await.unwrap_err();
    clear("moved away", &error, ErrorKind::Storage, &[&folder.display().to_string()], &[]);
    assert_eq!((ca.accounts(), ca.orders()), (0, 0));
    std::fs::rename(place.path().join("moved"), &folder).unwrap();
    acme.obtain(&spec(&["example.test"])).await.unwrap();
    assert_eq!((ca.accounts(), ca.orders(), half_written(&folder)), (1, 1, 0));
}

/// Answers are put up and never seen: a run with this solver ends with an order in its journal.
#[derive(Debug)]
struct NeverSeen;

#[async_trait]
impl ChallengeSolver for NeverSeen {
    fn kind(&self) -> ChallengeKind {
        ChallengeKind::Dns01
    }
    async fn prepare(&self, challenge: &Challenge, _: Deadline) -> Result<Presentation> {
        Ok(Presentation::new(challenge.clone()))
    }
    async fn present(&self, presentation: &Presentation, _: Deadline) -> Result<Presentation> {
        Ok(presentation.clone())
    }
    async fn ready(&self, _: &Presentation, _: Deadline) -> Result<()> {
        Err(Error::new(ErrorKind::Timeout, "test.ready", "never seen"))
    }
    async fn cleanup(&self, _: &Presentation, _: Deadline) -> Result<()> {
        Ok(())
    }
}

/// The current version of the one entry of this kind.
fn entry(folder: &Path, kind: &str) -> PathBuf {
    let entries = std::fs::read_dir(folder.join("entries")).unwrap().map(|item| item.unwrap().path());
    let of_kind: Vec<_> = entries
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&format!("{kind}+")))
        .collect();
    assert_eq!(of_kind.len(), 1, "{kind}: {of_kind:?}");
    let versions = std::fs::read_dir(&of_kind[0]).unwrap().map(|item| item.unwrap().path());
    let number = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().parse::<u64>().ok();
    versions.filter(|path| number(path).is_some()).max_by_key(number).unwrap()
}

#[tokio::test]
async fn a_damaged_entry_is_named_and_nothing_is_ordered() {
    for kind in ["accounts", "certificates", "journals"] {
        let ca = credulous().await;
        let folder = tempfile::tempdir().unwrap();
        let ids = authority(&ca).unwrap();
        let wanted = spec(&["example.test"]);
        if kind == "journals" {
            let stuck = on(folder.path(), ids.clone(), NeverSeen).await.unwrap();
            stuck.obtain(&wanted).await.unwrap_err();
        } else {
            let first = on(folder.path(), ids.clone(), NoProof::default()).await.unwrap();
            first.obtain(&wanted).await.unwrap();
        }
        let orders = ca.orders();
        let file = entry(folder.path(), kind);
        let mut content = std::fs::read(&file).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        write_file(&file, &content, FileAttributes::default()).unwrap();

        // The account is needed only for what is not served from the store.
        let run = async || {
            let acme = on(folder.path(), ids.clone(), NoProof::default()).await.unwrap();
            if kind == "accounts" { acme.renew(&wanted).await } else { acme.obtain(&wanted).await }
        };
        for _ in 0..2 {
            let error = run().await.unwrap_err();
            let path = file.display().to_string();
            let aside = format!("mv '{path}' '{path}.damaged'");
            clear(kind, &error, ErrorKind::Storage, &["damaged", &path, &aside], &["PRIVATE KEY"]);
            assert_eq!((ca.accounts(), ca.orders()), (1, orders), "{kind}");
        }
        let mut aside = file.clone().into_os_string();
        aside.push(".damaged");
        std::fs::rename(&file, aside).unwrap();
        run().await.unwrap_or_else(|error| panic!("{kind}: the way back: {}", error.report()));
        let again = usize::from(kind != "journals");
        assert_eq!((ca.accounts(), ca.orders()), (1, orders + again), "{kind}");
        assert_eq!(half_written(folder.path()), 0, "{kind}");
    }
}

/// Wherever the space ends, one account and one certificate come of it in the end.
#[tokio::test]
async fn a_full_disk_costs_neither_the_account_nor_the_certificate() {
    for limit in [50, 300, 500, 800, 1300, 1800] {
        let ca = credulous().await;
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        FileStore::open(&store).await.unwrap();
        let child = |limit: u64| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--ignored", "--exact", "child_that_runs_out_of_space", "--nocapture"]);
            command.env("ACMEKIT_TEST_STORE", &store).env("ACMEKIT_TEST_ROOT", ca.root_pem());
            command.env("ACMEKIT_TEST_URL", ca.directory_url()).env("ACMEKIT_TEST_LIMIT", limit.to_string());
            async move { tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap() }
        };
        let output = child(limit).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "limit {limit}: {:?} {said}", output.status);
        assert!(said.contains("> Storage") && said.contains("hint"), "limit {limit}: {said}");
        assert!(!said.contains("PRIVATE KEY"), "limit {limit}: a secret is shown");
        assert_eq!(half_written(&store), 0, "limit {limit}");

        let acme = on(&store, authority(&ca).unwrap(), NoProof::default()).await.unwrap();
        acme.obtain(&spec(&["example.test"])).await.unwrap();
        assert_eq!((ca.accounts(), ca.issued_certificates()), (1, 1), "limit {limit}");
        assert!(!acme.obtain(&spec(&["example.test"])).await.unwrap().fresh, "limit {limit}");
    }
}

/// Not a test: what the child of the test above does.
#[tokio::test]
#[ignore = "not a test: a process with a limit of its own"]
async fn child_that_runs_out_of_space() {
    let Ok(url) = std::env::var("ACMEKIT_TEST_URL") else { return };
    let limit = std::env::var("ACMEKIT_TEST_LIMIT").unwrap().parse().ok();
    let ca = Authority::custom(&url).unwrap().with_id("pebble").agree_to_terms().with_timeouts(timeouts());
    let ca = ca.extra_roots_pem(&std::env::var("ACMEKIT_TEST_ROOT").unwrap()).unwrap();
    let store: Arc<dyn Store> =
        Arc::new(FileStore::open(std::env::var("ACMEKIT_TEST_STORE").unwrap()).await.unwrap());
    let acme = Pipeline::builder(ca, store).solver(NoProof::default()).build().unwrap();
    setrlimit(Resource::Fsize, Rlimit { current: limit, maximum: limit }).unwrap();
    match acme.obtain(&spec(&["example.test"])).await {
        Ok(_) => eprintln!("> enough"),
        Err(error) => eprintln!("> {:?} {}", error.kind(), error.report()),
    }
}
