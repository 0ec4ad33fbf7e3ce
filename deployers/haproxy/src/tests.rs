//! The sequence against a scripted HAProxy that answers byte for byte as the versions do.

use acmekit_core::{Bundle, Origin, PrivateKey};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SerialNumber};

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

use crate::{Config, CrtList, HaProxy, Instance};
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
async fn after_an_unanswered_commit_nothing_is_sent_for_the_path_any_more() {
    for pieces in [vec![], vec!["Committing ..........".to_owned()]] {
        let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
        let fake = Fake::start("3.2.0", Some(&old));
        fake.rule("commit", Rule::Say(pieces.concat()));
        let error = fake.deployer().deploy(&new).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deploy);
        assert!(error.hint().unwrap().contains("reload"), "{}", error.report());
        assert!(error.context().any(|pair| pair == ("served", "unknown")));
        assert!(fake.holds(&new).1, "the file is not the new one");
        for _ in 0..2 {
            let again = fake.deployer().deploy(&new).await.unwrap_err();
            assert!(again.hint().unwrap().contains("reload"));
        }
        let after: Vec<_> =
            fake.commands().into_iter().skip_while(|c| !c.starts_with("commit")).skip(1).collect();
        let dangerous = |c: &String| c.starts_with("set") || c.starts_with("abort") || c.contains('*');
        assert!(!after.iter().any(dangerous), "{after:?}");
        // HAProxy came to an end with it after all, or was reloaded.
        fake.state().transaction = None;
        assert_eq!(fake.deployer().deploy(&new).await.unwrap(), Outcome::Applied);
        assert_eq!(std::fs::read_dir(fake.folder.path()).unwrap().count(), 2);
    }
}

#[tokio::test]
async fn a_master_may_reload_after_an_unanswered_commit() {
    let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
    let fake = Fake::start("3.2.0", Some(&old));
    fake.state().master = Some((vec![100], vec![90]));
    fake.state().reload_from = Some(fake.file());
    fake.rule("commit", Rule::Close);
    let mut instance = fake.instance();
    instance.reload = true;
    let haproxy = HaProxy::new(Config::new(instance)).unwrap();
    assert_eq!(haproxy.deploy(&new).await.unwrap(), Outcome::Applied);
    assert_eq!(fake.holds(&new), (true, true));
    assert!(fake.commands().contains(&"reload".to_owned()));
    assert_eq!(haproxy.deploy(&new).await.unwrap(), Outcome::AlreadyCurrent);
}

#[tokio::test]
async fn a_commit_is_stayed_with_when_the_caller_leaves() {
    let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
    let fake = Fake::start("3.0.0", Some(&old));
    let mut pieces = vec![format!("Committing {}", fake.path())];
    pieces.extend(std::iter::repeat_n(".".to_owned(), 10));
    pieces.push("\nSuccess!\n\n".to_owned());
    // Longer in all than any other command may take.
    fake.rule("commit", Rule::Slowly(pieces, Duration::from_millis(120)));
    let haproxy = fake.deployer();
    tokio::time::timeout(Duration::from_millis(300), haproxy.deploy(&new)).await.unwrap_err();
    // The next one waits for it, and finds nothing to do.
    assert_eq!(haproxy.deploy(&new).await.unwrap(), Outcome::AlreadyCurrent);
    haproxy.close().await;
    assert_eq!(fake.changes(), ["set ssl cert", "commit ssl cert"]);
    fake.no_faults();
}

#[test]
fn a_commit_outlives_its_runtime() {
    let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
    let outer = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let fake = outer.block_on(async { Fake::start("3.0.0", Some(&old)) });
    let whole = vec![format!("Committing {}.", fake.path()), "\nSuccess!\n\n".to_owned()];
    fake.rule("commit", Rule::Slowly(whole, Duration::from_millis(300)));
    let haproxy = fake.deployer();
    let inner = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    inner
        .block_on(async { tokio::time::timeout(Duration::from_millis(200), haproxy.deploy(&new)).await })
        .unwrap_err();
    drop(inner);
    assert!(fake.commands().iter().any(|command| command.starts_with("commit")));
    fake.no_faults();
    assert!(fake.holds(&new).0);
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

fn listed(fake: &Fake) -> Instance {
    let mut instance = fake.instance();
    let list = fake.folder.path().join("list.txt");
    let mut crt_list = CrtList::new(list.to_string_lossy());
    crt_list.options = "[alpn h2] a.test".to_owned();
    instance.crt_list = Some(crt_list);
    fake.state().lists.insert(list.to_string_lossy().into_owned(), vec!["/first.pem".to_owned()]);
    std::io::Write::write_all(&mut std::fs::File::create(list).unwrap(), b"/first.pem\n").unwrap();
    instance
}

#[tokio::test]
async fn a_new_certificate_gets_one_entry_in_list_and_file_and_leaves_none_behind() {
    let fake = Fake::start("2.6.12", None);
    let haproxy = HaProxy::new(Config::new(listed(&fake))).unwrap();
    let list = fake.folder.path().join("list.txt");
    for _ in 0..2 {
        haproxy.deploy(&certificate(&["a.test"])).await.unwrap();
        let wanted = format!("/first.pem\n{} [alpn h2] a.test\n", fake.path());
        assert_eq!(std::fs::read_to_string(&list).unwrap(), wanted);
        let lines = fake.state().lists.values().flatten().cloned().collect::<Vec<_>>();
        assert_eq!(lines, wanted.lines().collect::<Vec<_>>());
    }
    for _ in 0..2 {
        haproxy.remove(&"site".parse().unwrap()).await.unwrap();
        assert_eq!(std::fs::read_to_string(&list).unwrap(), "/first.pem\n");
        assert!(fake.state().stores.is_empty() && !fake.file().exists());
    }
    fake.no_faults();
}

#[tokio::test]
async fn what_the_crt_list_refuses_is_deleted_again() {
    let fake = Fake::start("3.0.0", None);
    let refusal = "Can't edit the crt-list: certificate 'P' is empty!\n\n";
    fake.rule("add ssl crt-list", Rule::Say(refusal.to_owned()));
    let error = HaProxy::new(Config::new(listed(&fake)))
        .unwrap()
        .deploy(&certificate(&["a.test"]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deploy);
    assert_eq!(fake.changes().last().map(String::as_str), Some("del ssl cert"));
    assert!(fake.state().stores.is_empty() && !fake.file().exists());
    assert_eq!(std::fs::read_to_string(fake.folder.path().join("list.txt")).unwrap(), "/first.pem\n");
}

#[tokio::test]
async fn a_certificate_that_haproxy_needs_is_not_removed() {
    let old = certificate(&["a.test"]);
    let fake = Fake::start("2.6.12", Some(&old));
    let instance = listed(&fake);
    fake.state().lists.values_mut().for_each(|list| list.push(format!("{} [alpn h2]", fake.path())));
    let before = fake.state().lists.clone();
    let error = HaProxy::new(Config::new(instance)).unwrap().remove(old.id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(fake.state().lists, before);
    assert_eq!(fake.holds(&old), (true, true));
}

#[tokio::test]
async fn two_values_for_one_haproxy_do_not_meet() {
    let (old, new) = (certificate(&["a.test"]), certificate(&["a.test"]));
    let fake = Fake::start("2.6.12", Some(&old));
    let (one, two) = (fake.deployer(), fake.deployer());
    let (first, second) = tokio::join!(one.deploy(&new), two.deploy(&new));
    assert_eq!((first.unwrap(), second.unwrap()), (Outcome::Applied, Outcome::AlreadyCurrent));
}
