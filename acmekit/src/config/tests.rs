//! What is refused, and in which words; [`full`] has what the documented example promises.

mod full;

use acmekit_core::ErrorKind;
use proptest::prelude::*;

use super::*;

const SMALL: &str = r#"
[[authorities]]
ca = "https://ca.example.com/dir"
[store]
kind = "files"
path = "state"
[http]
webroot = "www"
[[deployers]]
kind = "files"
root = "live"
[[certificates]]
names = ["www.example.com"]
"#;

/// With this line at the end.
fn with(more: &str) -> String {
    format!("{SMALL}{more}\n")
}

fn refused(text: &str) -> Error {
    let error = Config::parse(text, "/base").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    error
}

fn said<'e>(error: &'e Error, name: &str) -> Option<&'e str> {
    error.context().find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[test]
fn an_error_names_line_column_key_value_and_what_to_do() {
    for (text, line, key, value, hint) in [
        (with("key_tipe = \"rsa\""), 14, "certificates[0].key_tipe", None, "did you mean `key_type`?"),
        (
            with("key_type = \"ecdsa-p255\""),
            14,
            "certificates[0].key_type",
            Some("\"ecdsa-p255\""),
            "`ecdsa-p256`",
        ),
        (with("id = 7"), 14, "certificates[0].id", Some("7"), "text in quotes"),
        (with("id = \"A B\""), 14, "certificates[0].id", Some("A B"), "a-z"),
        (with("deployers = [\"file\"]"), 14, "certificates[0].deployers[0]", Some("file"), "`files`"),
        (
            with("authority = \"ca.example.co\""),
            14,
            "certificates[0].authority",
            Some("ca.example.co"),
            "`ca.example.com`",
        ),
        (
            with("[[certificates]]\nnames = [\"a.example.com\", \"a b\"]"),
            15,
            "certificates[1].names[1]",
            Some("a b"),
            "www.example.com",
        ),
        (
            with("[[certificates]]\nnames = [\"*.example.com\"]"),
            15,
            "certificates[1].names[0]",
            Some("*.example.com"),
            "dns.providers",
        ),
        (
            with("[[certificates]]\nnames = [\"www.example.com\"]"),
            14,
            "certificates[1].id",
            None,
            "another `id`",
        ),
        (with("challenge = \"dns-01\""), 14, "certificates[0].challenge", Some("dns-01"), "dns.providers"),
        (with("challenge = \"dns\""), 14, "certificates[0].challenge", Some("dns"), "http-01, dns-01"),
        (
            with("[renewal]\nrenew_at_life_share = 1.5"),
            15,
            "renewal.renew_at_life_share",
            Some("1.5"),
            "0.66",
        ),
        (with("[[deployers]]\nkind = \"file\""), 15, "deployers[1].kind", Some("file"), "`files`"),
        (with("[[deployers]]\nroot = \"x\""), 14, "deployers[1].kind", None, "haproxy"),
        (with("[[deployers]]\nkind = \"files\""), 14, "deployers[1].root", None, "add `root = …`"),
        (
            with("[[deployers]]\nkind = \"files\"\nroot = \"x\"\nkey_mode = 600"),
            17,
            "deployers[1].key_mode",
            Some("600"),
            "text in quotes",
        ),
        (
            with("[[deployers]]\nkind = \"files\"\nroot = \"x\""),
            14,
            "deployers[1].id",
            Some("files"),
            "own `id`",
        ),
        (with("[sture]"), 14, "sture", None, "did you mean `store`?"),
        (SMALL.replace("webroot", "web_root"), 8, "http.web_root", None, "did you mean `webroot`?"),
        (
            SMALL.replace("https://ca.example.com/dir", "lets-encript"),
            3,
            "authorities[0].ca",
            Some("lets-encript"),
            "`lets-encrypt`",
        ),
        (
            SMALL.replace("https:", "http:"),
            3,
            "authorities[0].ca",
            Some("http://ca.example.com/dir"),
            "https",
        ),
        (
            SMALL.replace("path = \"state\"", "path = \"state\"\nlock_timeout = \"soon\""),
            7,
            "store.lock_timeout",
            Some("\"soon\""),
            "",
        ),
        (
            SMALL.replace("https://ca.example.com/dir", "google"),
            2,
            "authorities[0].agree_to_terms",
            None,
            "agree_to_terms = true",
        ),
    ] {
        let error = refused(&text);
        let report = error.report();
        assert_eq!(said(&error, "line"), Some(line.to_string().as_str()), "{report}");
        assert_eq!(said(&error, "key"), Some(key), "{report}");
        assert!(said(&error, "column").is_some(), "{report}");
        assert!(value.is_none() || said(&error, "value") == value, "{report}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{report}");
    }
}

#[test]
fn a_mistake_in_the_syntax_has_a_line_and_nothing_is_guessed_after_it() {
    let error = refused(&with("profile = tls server\n[sture]"));
    assert_eq!(said(&error, "line"), Some("14"), "{}", error.report());
    assert!(error.message().starts_with("this is not TOML"), "{error}");
    assert!(!error.report().contains("sture"), "{error}");
    let error = refused("a = \"open");
    assert!(error.report().contains("TOML") && !error.report().contains("store"), "{}", error.report());
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let text = with("idd = 1\n[[certificates]]\nnames = 5\n[[certificates]]\n[[deployers]]\nkind = \"ftp\"");
    let report = refused(&text).report();
    for key in ["certificates[0].idd", "certificates[1].names", "deployers[1].kind"] {
        assert!(report.contains(key), "{key} in {report}");
    }
    let many: String = (0..50).map(|at| format!("[[certificates]]\nnames = [\"bad {at}\"]\n")).collect();
    assert!(refused(&with(&many)).report().contains("and_more=29"));
    assert!(refused("").report().contains("`store` is missing"));
}

#[test]
fn a_secret_is_given_once_and_never_shown() {
    let eab =
        |keys: &str| SMALL.replace("[store]", &format!("[authorities.eab]\nkid = \"k\"\n{keys}\n[store]"));
    for (keys, names) in [
        ("", "`key` is missing"),
        ("key = \"S3CR3T\"\nkey_env = \"X\"", "key, key_env"),
        ("key_file = \"f\"\nkey_env = \"X\"", "key_file, key_env"),
    ] {
        let error = refused(&eab(keys));
        let report = error.report();
        assert!(report.contains(names) && !report.contains("S3CR3T"), "{report}");
        assert!(said(&error, "key").is_some_and(|key| key.starts_with("authorities[0].eab.key")), "{report}");
    }
    for wrong in
        ["[authorities.eab]\nkid = \"k\"\nkey = 470811", "eab = \"S3CR3T470811\"", "eab = [\"S3CR3T470811\"]"]
    {
        let text = SMALL.replace("[store]", &format!("{wrong}\n[store]"));
        let report = refused(&text).report();
        assert!(!report.contains("470811") && report.contains("authorities[0].eab"), "{report}");
    }
    for (kind, wrong) in
        plugins::PROVIDERS.iter().flat_map(|kind| secrets_of(kind).into_iter().map(|key| (kind.name, key)))
    {
        let wrong = format!("[[dns.providers]]\nkind = \"{kind}\"\n{wrong} = [\"S3CR3T470811\"]\n");
        let report = refused(&with(&wrong)).report();
        assert!(!report.contains("470811") && report.contains("dns.providers[0]"), "{report}");
    }
    let config = Config::parse(&eab("key = \"S3CR3T\""), "/base").unwrap();
    assert!(!format!("{config:?}").contains("S3CR3T"));
}

/// The keys of a provider that may be given in a file or a variable instead: its secrets.
fn secrets_of(kind: &plugins::Kind<dyn plugins::ProviderPlugin>) -> Vec<&'static str> {
    let fields = (kind.fields)();
    let elsewhere = |key: &&str| {
        fields.contains(&format!("{key}_file").as_str()) && fields.contains(&format!("{key}_env").as_str())
    };
    fields.iter().copied().filter(elsewhere).collect()
}

#[tokio::test]
async fn what_is_in_files_and_variables_is_read_and_its_errors_have_lines() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| write(folder.path(), name, text);
    write("eab.key", "c2VjcmV0\n");
    write(
        "list.csv",
        "names, id, key_type, group\n# one\na.example.com b.example.com,ab,ecdsa-p384,web\n\nc.example.com,c.d\n",
    );
    let eab = "[authorities.eab]\nkid = \"k\"\nkey_file = \"eab.key\"\n[store]";
    let text = format!("certificates_csv = \"list.csv\"\n{}", SMALL.replace("[store]", eab));
    let path = folder.path().join("acme.toml");
    write("acme.toml", &text);
    let setup = Config::load(&path).await.unwrap().build().await.unwrap();
    let wanted: Vec<_> = setup
        .certificates()
        .iter()
        .map(|wanted| (wanted.spec.id().as_str(), wanted.place.as_str()))
        .collect();
    assert_eq!(wanted[1], ("ab", "list.csv, line 3"));
    assert!(wanted[0].1.contains("certificates[0], line"), "{wanted:?}");
    assert_eq!(setup.certificates()[1].group.as_deref(), Some("web"));
    assert_eq!(setup.certificates()[1].deployers, ["files"]);
    setup.pipeline().unwrap();
    assert!(folder.path().join("state").is_dir());
    setup.close().await;

    for (key, wrong, line, told) in [
        ("key_file = \"eab.key\"", "key_file = \"none.key\"", 6, "none.key"),
        ("key_file = \"eab.key\"", "key_env = \"ACMEKIT_NOT_SET\"", 6, "ACMEKIT_NOT_SET"),
        ("key_file = \"eab.key\"", "key_env = \"=\"", 6, "environment variable"),
        ("kid = \"k\"\nkey_file = \"eab.key\"", "kid = \"k\"\nkey = \"S3CR3T not base64\"", 7, "base64url"),
        ("list.csv", "none.csv", 1, "none.csv"),
        ("root = \"live\"", "root = \"\"", 12, "root"),
    ] {
        let error =
            Config::parse(&text.replace(key, wrong), folder.path()).unwrap().build().await.unwrap_err();
        let report = error.report();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(report.contains(told) && !report.contains("S3CR3T"), "{report}");
        assert!(
            said(&error, "line").is_some_and(|at| at.parse::<usize>().unwrap().abs_diff(line) <= 2),
            "{report}"
        );
    }
    write(
        "list.csv",
        "c.example.com,,,,x\n,id\nd.example.com,X Y\ne.example.com,,rsa-1\nf g\nwww.example.com\na.example.com,b.example.com\n",
    );
    let report = Config::load(&path).await.unwrap().build().await.unwrap_err().report();
    for told in [
        "5 columns",
        "line 2: names",
        "line 3: id",
        "line 4: key_type",
        "line 5: names[0]",
        "line 6: id",
        "line 7: id: this looks like a name",
    ] {
        assert!(report.contains(told), "{told} in {report}");
    }
}

/// Writes a file as the tests' own.
fn write(folder: &Path, name: &str, text: &str) {
    let attributes = acmekit_core::atomic::FileAttributes::mode(0o600);
    acmekit_core::atomic::write_file(&folder.join(name), text.as_bytes(), attributes).unwrap();
}

const PLUG_INS: &str = r#"
[[certificates]]
names = ["*.example.com"]
deployers = ["edge"]
[[certificates]]
names = ["b.example.com"]
challenge = "dns-01"
deployers = ["edge"]
[[certificates]]
csr = "mail.csr"
deployers = []
[[deployers]]
kind = "haproxy"
id = "edge"
[[deployers.instances]]
endpoint = "/run/haproxy.sock"
file = "certs/{id}.pem"
[dns]
resolvers = ["192.0.2.53:53"]
[[dns.providers]]
kind = "rfc2136"
server = "192.0.2.1"
key_file = "tsig.key"
[[dns.providers]]
kind = "rfc2136"
server = "192.0.2.2"
key_name = "a"
secret_file = "tsig.secret"
"#;

#[tokio::test]
async fn plug_ins_are_built_and_each_certificate_takes_its_own_way() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "tsig.key", "key \"a\" { algorithm hmac-sha256; secret \"c2VjcmV0\"; };");
    write(folder.path(), "tsig.secret", "c2VjcmV0\n");
    let key = acmekit_core::PrivateKey::generate(acmekit_core::KeyType::EcdsaP256).await.unwrap();
    let names: Vec<acmekit_core::Identifier> = vec!["mail.example.com".parse().unwrap()];
    write(folder.path(), "mail.csr", &acmekit_core::Csr::generate(&key, &names).unwrap().to_pem());
    let text = with(PLUG_INS);
    let config = Config::parse(&text, folder.path()).map_err(|error| error.report()).unwrap();
    let setup = config.build().await.map_err(|error| error.report()).unwrap();
    let deployers = setup.deployers();
    assert_eq!(deployers.iter().map(|deployer| deployer.id()).collect::<Vec<_>>(), ["files", "edge"]);
    let [_, wildcard, dns, csr] = setup.certificates() else { panic!("{setup:?}") };
    assert_eq!((wildcard.deployers.as_slice(), csr.deployers.len()), (&["edge".to_owned()][..], 0));
    assert_eq!(csr.spec.identifiers().iter().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    let dns01 = acmekit_core::ChallengeKind::Dns01;
    assert_eq!((wildcard.spec.wanted_challenge(), dns.spec.wanted_challenge()), (None, Some(&dns01)));
    let pipeline = format!("{:?}", setup.pipeline().unwrap());
    assert!(pipeline.contains("Http01") && pipeline.contains("Dns01"), "{pipeline}");
    assert!(!format!("{setup:?} {pipeline} {config:?}").contains("c2VjcmV0"));
    setup.close().await;

    for (right, wrong, key) in [
        ("tsig.key", "none.key", "dns.providers[0].key_file"),
        ("tsig.secret", "none.secret", "dns.providers[1].secret_file"),
        ("\"192.0.2.1\"", "\"no server\"", "dns.providers[0]"),
        ("certs/{id}.pem", "a b", "deployers[1]"),
        ("\"mail.csr\"", "\"tsig.key\"", "certificates[3].csr"),
    ] {
        let config = Config::parse(&text.replace(right, wrong), folder.path()).unwrap();
        let error = config.build().await.unwrap_err();
        let report = error.report();
        assert_eq!(said(&error, "key"), Some(key), "{report}");
        assert!(said(&error, "line").is_some() && !report.contains("c2VjcmV0"), "{report}");
    }
}

#[test]
fn what_plug_ins_and_csrs_exclude_is_refused_by_the_text_alone() {
    for (right, wrong, key) in [
        ("key_name = \"a\"", "", "dns.providers[1].key_name"),
        ("key_file = \"tsig.key\"", "", "dns.providers[0]"),
        ("key_file = \"tsig.key\"", "key_file = \"x\"\nkey_name = \"a\"", "dns.providers[0].key_file"),
        ("csr =", "names = [\"x.example.com\"]\ncsr =", "certificates[3].names"),
        ("endpoint = \"/run", "endpoint = \"run", "deployers[1].instances[0].endpoint"),
    ] {
        let error = refused(&with(PLUG_INS).replace(right, wrong));
        assert_eq!(said(&error, "key"), Some(key), "{}", error.report());
        assert!(said(&error, "line").is_some(), "{}", error.report());
    }
}

#[test]
fn what_is_nested_without_end_is_refused_and_overflows_no_stack() {
    let dotted = vec!["a"; 79].join(".");
    for text in [
        format!("{}1{}", format!("{dotted} = {{").repeat(1), "}"),
        format!("{dotted} = {}1{}", format!("{{ {dotted} = ").repeat(78), "}".repeat(78)),
        format!("[{dotted}]\n{dotted} = {}1{}", format!("[{{ {dotted} = ").repeat(38), "}]".repeat(38)),
        format!("x = {}1{}", "[".repeat(100_000), "]".repeat(100_000)),
    ] {
        refused(&text);
    }
}

#[test]
#[cfg(not(feature = "rsa"))]
fn who_wants_an_rsa_key_is_told_which_feature_is_missing() {
    let report = refused(&with("key_type = \"rsa-2048\"")).report();
    assert!(report.contains("feature `rsa`"), "{report}");
    let (_, problems) = table::read("a.example.com,,rsa-2048\n", Path::new("x.csv"));
    assert!(problems.iter().any(|problem| problem.to_string().contains("feature `rsa`")), "{problems:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}", octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        Config::parse(&text, "").unwrap_err();
        Config::parse(&String::from_utf8_lossy(&octets), "").unwrap_err();
        table::read(&text, Path::new("x.csv"));
    }
}
