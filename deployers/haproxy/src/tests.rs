//! The sequence against a scripted HAProxy that answers byte for byte as the versions do.

use acmekit_core::{Bundle, Origin, PrivateKey};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SerialNumber};

mod commit;
mod crt_list;
mod fake;

/// A fresh certificate with a chain of one intermediate.
pub(crate) fn certificate(names: &[&str]) -> Bundle {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    // The highest bit set: DER puts a zero before it, HAProxy does not show that.
    let mut serial = rand::random::<[u8; 16]>();
    serial[0] |= 0x80;
    leaf.serial_number = Some(SerialNumber::from_slice(&serial));
    let chain = format!("{}{ca_pem}", leaf.signed_by(&key, &issuer).unwrap().pem());
    let key = PrivateKey::from_pem(&key.serialize_pem()).unwrap();
    Bundle::new("site".parse().unwrap(), &chain, Some(key), Origin::default()).unwrap()
}

use std::time::Duration;

use acmekit_core::{Deployer, ErrorKind, Outcome};

use crate::{Config, HaProxy};
use fake::{Fake, Rule};

const VERSIONS: [&str; 5] = ["2.6.12-1+deb12u4", "2.8.0", "3.0.0", "3.2.0", "3.4.0"];

#[tokio::test]
async fn every_version_takes_the_new_certificate_and_the_second_time_nothing_is_touched() {
    for version in VERSIONS {
        let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
        let fake = Fake::start(version, Some(&old));
        let haproxy = fake.deployer();
        assert_eq!(haproxy.deploy(&new).await.unwrap(), Outcome::Applied, "{version}");
        assert_eq!(fake.holds(&new), (true, true));
        assert_eq!(fake.changes(), ["set ssl cert", "commit ssl cert"]);
        haproxy.verify(&new).await.unwrap();
        assert_eq!(haproxy.verify(&old).await.unwrap_err().kind(), ErrorKind::Deploy);
        assert_eq!(haproxy.deploy(&new).await.unwrap(), Outcome::AlreadyCurrent);
        assert_eq!(fake.changes().len(), 2);
        assert_eq!(std::fs::read_dir(fake.folder.path()).unwrap().count(), 2, "a note is left");
        fake.no_faults();
    }
}

#[tokio::test]
async fn a_set_that_lands_in_anothers_transaction_is_aborted_there() {
    for version in ["2.6.12-1+deb12u4", "2.8.0", "3.0.0"] {
        let (old, new, other) =
            (certificate(&["a.test"]), certificate(&["a.test"]), certificate(&["b.test"]));
        let fake = Fake::start(version, Some(&old));
        fake.state()
            .stores
            .insert("/other.pem".to_owned(), Some(crate::material::Material::of(&other).unwrap()));
        fake.rule("set", Rule::Foreign("/other.pem".to_owned()));
        let error = fake.deployer().deploy(&new).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("/other.pem"), "{error}");
        assert_eq!(fake.commands().last().map(String::as_str), Some("abort ssl cert /other.pem"));
        assert!(fake.state().transaction.is_none());
        assert_eq!(fake.holds(&old), (true, true));
    }
}

#[tokio::test]
async fn a_foreign_transaction_is_told_and_not_touched() {
    for version in VERSIONS {
        let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
        let fake = Fake::start(version, Some(&old));
        let theirs = crate::material::Material::of(&certificate(&["b.test"])).unwrap();
        fake.state().transaction = Some((fake.path(), theirs));
        let error = fake.deployer().deploy(&new).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(fake.changes(), Vec::<String>::new());
        assert_eq!(fake.holds(&old), (true, true));
        assert!(!fake.commands().iter().any(|command| command.contains('*')));
    }
}

#[tokio::test]
async fn a_transaction_of_our_own_from_before_a_crash_is_aborted() {
    let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
    let fake = Fake::start("3.2.0", Some(&old));
    fake.state().transaction = Some((fake.path(), crate::material::Material::of(&new).unwrap()));
    let marks = crate::marks(&fake.instance(), new.id());
    // Of another process, it proves nothing about this one.
    marks.note("99@5", &fake.path(), crate::mark::State::Set).await.unwrap();
    assert_eq!(fake.deployer().deploy(&new).await.unwrap_err().kind(), ErrorKind::Conflict);
    marks.note("100@5", &fake.path(), crate::mark::State::Set).await.unwrap();
    assert_eq!(fake.deployer().deploy(&new).await.unwrap(), Outcome::Applied);
    assert_eq!(fake.changes(), ["abort ssl cert", "set ssl cert", "commit ssl cert"]);
    assert_eq!(fake.holds(&new), (true, true));
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_anything_is_sent_or_written() {
    for (version, option) in [("3.2.0", "tune.bufsize"), ("3.4.0", "tune.cli.max-payload-size")] {
        let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
        let fake = Fake::start(version, Some(&old));
        let length = crate::material::Material::of(&new).unwrap().text().len();
        let mut instance = fake.instance();
        // The command line counts as well.
        (instance.bufsize, instance.max_payload) = (length + 20, length + 20);
        let error = HaProxy::new(Config::new(instance)).unwrap().deploy(&new).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.hint().unwrap().contains(option));
        assert_eq!(fake.changes(), Vec::<String>::new());
        assert_eq!(fake.holds(&old), (true, true));
    }
}

#[tokio::test]
async fn a_bundle_without_a_key_is_refused_before_haproxy_is_asked() {
    let new = certificate(&["a.test"]);
    let fake = Fake::start("2.6.12", Some(&new));
    let keyless =
        Bundle::new("site".parse().unwrap(), &new.fullchain_pem(), None, Origin::default()).unwrap();
    let error = fake.deployer().deploy(&keyless).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(fake.commands(), Vec::<String>::new());
}

#[tokio::test]
async fn a_key_that_haproxy_echoes_does_not_get_into_the_error() {
    let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
    let fake = Fake::start("2.8.0", Some(&old));
    let key = new.key_pem().unwrap().expose().clone();
    let echo: String =
        key.lines().map(|line| format!("Unknown command: '{line}', but maybe one of these\n")).collect();
    fake.rule("set", Rule::Say(echo));
    let error = fake.deployer().deploy(&new).await.unwrap_err();
    let said = format!("{error:?} {}", error.report());
    for line in key.lines().filter(|line| !line.starts_with("---")) {
        assert!(!said.contains(line), "{said}");
    }
    assert_eq!(fake.holds(&old), (true, true));
}

#[tokio::test]
async fn usage_after_the_success_line_does_no_harm() {
    let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
    let fake = Fake::start("2.6.12", Some(&old));
    let text =
        format!("Transaction created for certificate {}!\n\nUnknown command: ''\n  help\n", fake.path());
    fake.rule("set", Rule::Slowly(vec![text], Duration::ZERO));
    assert_eq!(fake.deployer().deploy(&new).await.unwrap(), Outcome::Applied);
}

#[tokio::test]
async fn a_refused_commit_is_aborted_and_the_file_put_back() {
    for refusal in [
        "The transaction must contain at least a certificate and a private key!\nCan't commit P!\n\n",
        "inconsistencies between private key and certificate loaded 'P'.\nCan't commit P!\n\n",
    ] {
        let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
        let fake = Fake::start("3.2.0", Some(&old));
        fake.rule("commit", Rule::Say(refusal.to_owned()));
        let error = fake.deployer().deploy(&new).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deploy);
        assert!(error.context().any(|pair| pair == ("file", "previous")), "{error}");
        assert_eq!(fake.changes(), ["set ssl cert", "commit ssl cert", "abort ssl cert"]);
        assert!(fake.state().transaction.is_none());
        assert_eq!(fake.holds(&old), (true, true));
        assert_eq!(std::fs::read_dir(fake.folder.path()).unwrap().count(), 2);
    }
}

#[tokio::test]
async fn a_lock_notice_of_3_4_is_no_success() {
    let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
    let fake = Fake::start("3.4.0", Some(&old));
    fake.rule("set", Rule::Say("Operations on certificates are currently locked!\n\n".to_owned()));
    assert_eq!(fake.deployer().deploy(&new).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(fake.holds(&old), (true, true));
}

#[tokio::test]
async fn a_set_without_an_answer_is_aborted_and_can_be_tried_again() {
    let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
    let fake = Fake::start("2.6.12", Some(&old));
    fake.rule("set", Rule::Slowly(Vec::new(), Duration::ZERO));
    fake.deployer().deploy(&new).await.unwrap_err();
    assert_eq!(fake.changes(), ["set ssl cert", "abort ssl cert"]);
    assert_eq!(fake.holds(&old), (true, true));
    assert_eq!(fake.deployer().deploy(&new).await.unwrap(), Outcome::Applied);
}

#[tokio::test]
async fn the_file_is_right_before_haproxy_hears_of_it() {
    let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
    let fake = Fake::start("3.0.0", Some(&old));
    fake.deployer().deploy(&new).await.unwrap();
    let want = crate::material::Material::of(&new).unwrap();
    assert_eq!(fake.state().seen_at_set.as_deref(), Some(want.text().as_bytes()));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(fake.file()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_master_passes_commands_on_to_its_current_workers_only() {
    let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
    let fake = Fake::start("2.6.12", Some(&old));
    fake.state().master = Some((vec![100], vec![90, 91]));
    assert_eq!(fake.deployer().deploy(&new).await.unwrap(), Outcome::Applied);
    assert_eq!(fake.holds(&new), (true, true));
    assert!(
        fake.commands().iter().all(|c| c == "show proc" || c.starts_with("@!100 ")),
        "{:?}",
        fake.commands()
    );
    fake.rule(
        "show ssl cert",
        Rule::Say("Can't find the target PID matching the prefix '@!100'\n".to_owned()),
    );
    assert_eq!(fake.deployer().verify(&new).await.unwrap_err().kind(), ErrorKind::Unavailable);
    fake.no_faults();
}

#[tokio::test]
async fn haproxys_own_spelling_is_found_by_what_the_store_holds() {
    let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
    let fake = Fake::start("3.0.0", Some(&old));
    let material = || Some(crate::material::Material::of(&old).unwrap());
    let stranger = || Some(crate::material::Material::of(&certificate(&["a.test"])).unwrap());
    let rename = |stores: Vec<(&str, Option<crate::material::Material>)>| {
        let mut state = fake.state();
        state.bound = stores.iter().map(|(path, _)| (*path).to_owned()).collect();
        state.stores = stores.into_iter().map(|(path, material)| (path.to_owned(), material)).collect();
    };
    let spelled =
        |path: &str| fake.commands().iter().any(|command| command == &format!("commit ssl cert {path}"));
    rename(vec![("/jail/site.pem", material()), ("/else/where.pem", material())]);
    fake.deployer().deploy(&new).await.unwrap();
    assert!(spelled("/jail/site.pem"));
    // Two that could be meant: the configuration has to say it.
    rename(vec![("/one/site.pem", stranger()), ("/two/site.pem", stranger())]);
    let error = fake.deployer().deploy(&new).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("/two/site.pem"), "{error}");
    let mut instance = fake.instance();
    instance.haproxy_path = Some("/two/{id}.pem".to_owned());
    HaProxy::new(Config::new(instance)).unwrap().deploy(&new).await.unwrap();
    assert!(spelled("/two/site.pem") && !spelled("/one/site.pem"));
    rename(vec![("/else/where.pem", material())]);
    let error = fake.deployer().deploy(&new).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.hint().unwrap().contains("crt_list"));
}

#[tokio::test]
async fn two_values_for_one_haproxy_do_not_meet() {
    let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
    let fake = Fake::start("2.6.12", Some(&old));
    let (one, two) = (fake.deployer(), fake.deployer());
    let (first, second) = tokio::join!(one.deploy(&new), two.deploy(&new));
    assert_eq!((first.unwrap(), second.unwrap()), (Outcome::Applied, Outcome::AlreadyCurrent));
}

#[tokio::test]
async fn the_old_certificate_can_be_put_back_by_the_attempt_after_a_crash() {
    let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
    let fake = Fake::start("3.2.0", Some(&old));
    // Killed after the file was written and before HAProxy heard of it.
    let text = |bundle: &Bundle| crate::material::Material::of(bundle).unwrap().text().as_bytes().to_vec();
    let keepsake = fake.folder.path().join(".site.pem.acmekit-previous");
    let private = acmekit_core::atomic::FileAttributes::default;
    acmekit_core::atomic::write_file(&keepsake, &text(&old), private()).unwrap();
    acmekit_core::atomic::write_file(&fake.file(), &text(&new), private()).unwrap();
    fake.rule(
        "commit",
        Rule::Say("inconsistencies between private key and certificate\nCan't commit P!\n\n".to_owned()),
    );
    fake.deployer().deploy(&new).await.unwrap_err();
    assert_eq!(fake.holds(&old), (true, true));
    assert!(!keepsake.exists());
    assert_eq!(fake.deployer().deploy(&new).await.unwrap(), Outcome::Applied);
    assert_eq!(std::fs::read_dir(fake.folder.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn what_a_crash_has_left_beside_the_file_goes_away() {
    let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
    let fake = Fake::start("3.2.0", Some(&old));
    fake.deployer().deploy(&new).await.unwrap();
    let count = || std::fs::read_dir(fake.folder.path()).unwrap().count();
    let clean = count();
    // Killed amid writing, and after the commit: what was served before is still kept.
    let private = acmekit_core::atomic::FileAttributes::default;
    let leave = |name: &str| {
        acmekit_core::atomic::write_file(&fake.folder.path().join(name), b"key", private()).unwrap();
    };
    leave(".site.pem.0123456789abcdef.tmp");
    leave("..site.pem.acmekit-txn.0123456789abcdef.tmp");
    leave("..site.pem.acmekit-previous.0123456789abcdef.tmp");
    leave(".site.pem.acmekit-previous");
    let marks = crate::marks(&fake.instance(), new.id());
    marks.note("100@5", &fake.path(), crate::mark::State::Commit).await.unwrap();
    // Of another certificate, or nobody's.
    leave(".other.pem.0123456789abcdef.tmp");
    leave(".site.pem.mine.tmp");
    assert_eq!(fake.deployer().deploy(&new).await.unwrap(), Outcome::AlreadyCurrent);
    assert_eq!(count(), clean + 2);
}

#[tokio::test]
async fn a_shared_file_stays_new_when_one_of_two_serves_it() {
    let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
    let (one, two) = (Fake::start("2.6.12", Some(&old)), Fake::start("3.2.0", Some(&old)));
    two.rule(
        "commit",
        Rule::Say("inconsistencies between private key and certificate\nCan't commit P!\n\n".to_owned()),
    );
    let mut second = two.instance();
    second.file = one.file();
    second.haproxy_path = Some(two.path());
    let haproxy = HaProxy::new(Config::new(one.instance()).and(second)).unwrap();
    let error = haproxy.deploy(&new).await.unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("1 of 2") && said.contains("served=previous") && said.contains("file=new"),
        "{said}"
    );
    assert_eq!(one.holds(&new), (true, true));
    assert!(two.holds(&old).0);
    assert_eq!(haproxy.deploy(&new).await.unwrap(), Outcome::Applied);
    assert!(two.holds(&new).0);
    assert_eq!(std::fs::read_dir(one.folder.path()).unwrap().count(), 2);
}
