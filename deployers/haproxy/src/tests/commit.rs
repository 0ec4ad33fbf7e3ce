//! The commit, which must never be abandoned.

use std::time::Duration;

use acmekit_core::{Deployer, ErrorKind, Outcome};

use super::certificate;
use super::fake::{Fake, Rule};
use crate::{Config, HaProxy};

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
