//! Beyond the suite: what goes wrong with a real nginx, and what clients see meanwhile.

mod subject;

use std::time::Duration;

use acmekit_conformance::deployer::NAMES;
use acmekit_conformance::test_bundle;
use acmekit_core::{Deadline, Deployer, ErrorKind, Outcome, probe};
use acmekit_files::Files;
use subject::{NginxSubject, touch};

#[expect(clippy::unwrap_used, reason = "test code")]
async fn is_served(subject: &NginxSubject, bundle: &acmekit_core::Bundle) {
    for _ in 0..10 {
        probe::verify_served(subject.nginx.addr(), bundle, Deadline::after(Duration::from_secs(5)))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_failing_reload_brings_the_old_version_back() {
    let subject = NginxSubject::start().await;
    let old = subject.link();
    touch(subject.folder.path().join("broken"));
    let error = subject.files.deploy(&test_bundle(&NAMES).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deploy);
    let text = error.to_string();
    assert!(text.contains("back in place and served"), "{text}");
    assert!(text.contains("the reload after going back failed too"), "{text}");
    assert!(text.contains("refused on purpose"), "{text}");
    assert_eq!(subject.link(), old);
    is_served(&subject, &subject.first).await;
}

#[tokio::test]
async fn a_server_that_does_not_follow_brings_the_old_version_back() {
    let subject = NginxSubject::with(|config| config.verify_timeout = Duration::from_secs(1)).await;
    let old = subject.link();
    touch(subject.folder.path().join("deaf"));
    let new = test_bundle(&NAMES).unwrap();
    let error = subject.files.deploy(&new).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("another certificate is served"), "{text}");
    assert!(
        text.contains(&format!("(serial {}) is back in place and served", subject.first.facts().serial)),
        "{text}"
    );
    assert_eq!((subject.link(), subject.reloads()), (old, 2), "switched back and reloaded");
    is_served(&subject, &subject.first).await;

    std::fs::remove_file(subject.folder.path().join("deaf")).unwrap();
    assert_eq!(subject.files.deploy(&new).await.unwrap(), Outcome::Applied);
    is_served(&subject, &new).await;
}

#[tokio::test]
async fn right_files_that_are_not_served_are_reloaded_again() {
    let subject = NginxSubject::start().await;
    // Somebody puts the files in place and tells nobody.
    let mut silent = acmekit_files::Config::new(subject.root());
    silent.keep = 5;
    let new = test_bundle(&NAMES).unwrap();
    Files::new(silent).unwrap().deploy(&new).await.unwrap();
    assert_eq!(subject.files.verify(&new).await.unwrap_err().kind(), ErrorKind::Deploy);
    let link = subject.link();
    assert_eq!(subject.files.deploy(&new).await.unwrap(), Outcome::Applied);
    assert_eq!((subject.link(), subject.reloads()), (link, 1), "nothing is written, only reloaded");
    is_served(&subject, &new).await;
}

#[tokio::test]
async fn what_the_server_still_needs_is_not_removed() {
    let subject = NginxSubject::with(|config| config.verify_timeout = Duration::from_secs(1)).await;
    let new = test_bundle(&NAMES).unwrap();
    subject.files.deploy(&new).await.unwrap();
    touch(subject.folder.path().join("broken"));
    let error = subject.files.remove(new.id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    std::fs::remove_file(subject.folder.path().join("broken")).unwrap();
    assert_eq!(subject.files.deploy(&new).await.unwrap(), Outcome::Applied, "reloaded, to be sure");

    touch(subject.folder.path().join("deaf"));
    let error = subject.files.remove(new.id()).await.unwrap_err();
    assert!(error.to_string().contains("it is still served"), "{error}");
    std::fs::remove_file(subject.folder.path().join("deaf")).unwrap();

    let error = subject.files.remove(new.id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "nginx reads the files by this path: {error}");
    subject.nginx.restart().await.unwrap();
    is_served(&subject, &new).await;
}

#[tokio::test]
async fn a_reload_that_hangs_is_killed_and_the_old_version_put_back() {
    let subject = NginxSubject::with(|config| {
        config.reload = ["/bin/sh", "-c", "echo waiting; sleep 300"].map(str::to_owned).to_vec();
        config.reload_timeout = Duration::from_millis(200);
    })
    .await;
    let old = subject.link();
    let text = subject.files.deploy(&test_bundle(&NAMES).unwrap()).await.unwrap_err().to_string();
    assert!(text.contains("no end within 200ms") && text.contains("back in place and served"), "{text}");
    assert_eq!(subject.link(), old);
}

#[tokio::test]
async fn nobody_at_the_address_is_a_failure_that_says_so() {
    let free = acmekit_testbed::free_port().unwrap();
    let subject = NginxSubject::with(|config| {
        config.verify_addresses.push(free.addr());
        config.verify_timeout = Duration::from_millis(500);
    })
    .await;
    let text = subject.files.deploy(&test_bundle(&NAMES).unwrap()).await.unwrap_err().to_string();
    assert!(text.contains("nobody answers") && text.contains("but served is nothing"), "{text}");
    is_served(&subject, &subject.first).await;
}
