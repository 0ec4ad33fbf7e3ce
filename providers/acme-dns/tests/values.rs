//! Registrations that are kept, two values that stand, and what happens when the server does not do as it should.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use std::sync::Arc;
use std::time::Duration;

use acmekit_acme_dns::{AcmeDns, Config, Registration};
use acmekit_conformance::api::{Answer, Fault};
use acmekit_core::stores::{FileStore, MemoryStore};
use acmekit_core::{
    DnsName, DnsProvider, Error, ErrorKind, RecordHandle, Result, Retry, Store, StoreKey, TxtRecord, Zone,
};

use self::fake::{Fake, ZONE};

fn domain() -> DnsName {
    "example.test".parse().unwrap()
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

fn value(letter: &str) -> String {
    letter.repeat(43)
}

fn intent(at: &Registration, letter: &str) -> RecordHandle {
    let record = TxtRecord::new(at.target.clone(), value(letter));
    RecordHandle::intent("acme-dns", Zone::new(ZONE.parse().unwrap()), record)
}

async fn add(provider: &AcmeDns, at: &Registration, letter: &str) -> Result<RecordHandle> {
    let RecordHandle { zone, record, .. } = intent(at, letter);
    provider.add_txt(&zone, &record).await
}

fn what(error: &Error) -> (ErrorKind, Retry) {
    (error.kind(), error.retry())
}

/// The values there, sorted.
fn there(fake: &Fake, at: &Registration) -> Vec<String> {
    let mut values = fake.values(at.target.as_str());
    values.sort();
    values
}

#[tokio::test]
async fn a_registration_is_made_once_and_survives_a_restart() {
    let (fake, folder) = (Fake::start().await, tempfile::tempdir().unwrap());
    let mut told = Vec::new();
    for _ in 0..2 {
        let store: Arc<dyn Store> = Arc::new(FileStore::open(folder.path()).await.unwrap());
        let provider = fake.provider(&store);
        told.push(provider.register(&domain()).await.unwrap());
        add(&provider, &told[0], "a").await.unwrap();
    }
    assert_eq!(told[0], told[1]);
    assert_eq!((fake.api.count("POST /register"), fake.api.count("POST /update")), (1, 1));
    assert_eq!(there(&fake, &told[0]), [value("a")]);
    let update = &fake.api.asked()[1];
    let account = fake.change(|inner| inner.accounts[0].clone());
    assert_eq!(update.body, format!(r#"{{"subdomain":"{}","txt":"{}"}}"#, account.subdomain, value("a")));
    assert_eq!(update.header("x-api-user"), Some(account.username.as_str()));
    assert_eq!(update.header("x-api-key"), Some(account.password.as_str()));
}

#[tokio::test]
async fn a_crash_between_registering_and_saving_costs_an_account_that_nobody_uses() {
    let (fake, store) = (Fake::start().await, memory());
    let provider = fake.provider(&store);
    fake.api.fail("POST /register", Fault::HangUpAfter);
    let error = provider.register(&domain()).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Unavailable, Retry::Backoff), "{}", error.report());
    let registered = provider.register(&domain()).await.unwrap();
    assert_eq!(fake.change(|inner| inner.accounts.len()), 2);
    // Saved by half: the domain does not know its account yet.
    let key: StoreKey = "acme-dns/domains/n.example.test".parse().unwrap();
    store.delete(&key, &acmekit_core::Condition::ANY).await.unwrap();
    let again = provider.register(&domain()).await.unwrap();
    assert_ne!(again, registered);
    add(&provider, &registered, "a").await.unwrap();
    add(&provider, &again, "a").await.unwrap();
}

#[tokio::test]
async fn many_that_register_one_domain_at_once_make_one_account() {
    let (fake, store) = (Fake::start().await, memory());
    let (one, two) = (fake.provider(&store), fake.provider(&store));
    let (name, other) = (domain(), domain());
    let (first, second) = tokio::join!(one.register(&name), two.register(&other));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(fake.api.count("POST /register"), 1);
}

#[tokio::test]
async fn a_missing_cname_is_told_with_the_record_and_looking_for_the_zone_registers_nothing() {
    let (fake, store) = (Fake::start().await, memory());
    let provider = fake.provider(&store);
    let name: DnsName = "_acme-challenge.example.test".parse().unwrap();
    let zone = provider.zone(&name).await.unwrap().unwrap();
    assert_eq!((zone.name.as_str(), fake.api.count("")), ("example.test", 0));
    let record = TxtRecord::new(name, value("a"));
    for _ in 0..2 {
        let error = provider.add_txt(&zone, &record).await.unwrap_err();
        assert_eq!(what(&error), (ErrorKind::Config, Retry::Never), "{}", error.report());
        let account = fake.change(|inner| inner.accounts[0].clone());
        let told = format!("_acme-challenge.example.test. CNAME {}.{ZONE}.", account.subdomain);
        assert!(error.hint().unwrap().contains(&told), "{}", error.report());
    }
    assert_eq!(fake.api.count("POST /register"), 1);
    provider.remove_txt(&RecordHandle::intent("acme-dns", zone, record)).await.unwrap();
    // Not one of the domains.
    assert_eq!(provider.zone(&"_acme-challenge.example.org".parse().unwrap()).await.unwrap(), None);
    let all = AcmeDns::new(Config::new(fake.api.url()), store).unwrap();
    assert!(all.zone(&"_acme-challenge.example.org".parse().unwrap()).await.unwrap().is_some());

    // A CNAME that leads to an account of somebody else's.
    let name: DnsName = format!("another.{ZONE}").parse().unwrap();
    let zone = provider.zone(&name).await.unwrap().unwrap();
    let error = provider.add_txt(&zone, &TxtRecord::new(name, value("a"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.report());
    assert!(error.hint().unwrap().contains("register"), "{}", error.report());
}

#[tokio::test]
async fn two_values_stand_and_a_third_waits_until_one_is_not_needed() {
    let (fake, store) = (Fake::start().await, memory());
    let provider = fake.provider(&store);
    let at = provider.register(&domain()).await.unwrap();
    // At once, by two providers, as two orders of two programs.
    let other = fake.provider(&store);
    let (a, b) = tokio::join!(add(&provider, &at, "a"), add(&other, &at, "b"));
    let (a, _) = (a.unwrap(), b.unwrap());
    assert_eq!(there(&fake, &at), [value("a"), value("b")]);
    add(&provider, &at, "a").await.unwrap();
    assert_eq!(fake.api.count("POST /update"), 2, "what is there was written again");

    let error = add(&provider, &at, "c").await.unwrap_err();
    assert_eq!(
        what(&error),
        (ErrorKind::Conflict, Retry::After(Duration::from_secs(60))),
        "{}",
        error.report()
    );
    assert!(error.hint().is_some());

    // Read back by another process; twice, and of what never was.
    let handle: RecordHandle = serde_json::from_str(&serde_json::to_string(&a).unwrap()).unwrap();
    for _ in 0..2 {
        other.remove_txt(&handle).await.unwrap();
    }
    other.remove_txt(&intent(&at, "z")).await.unwrap();
    assert_eq!(fake.api.count(""), 3, "removing sent something");
    add(&provider, &at, "c").await.unwrap();
    assert_eq!(there(&fake, &at), [value("b"), value("c")]);
    // The older one is still needed, so it is written again before it would be overwritten.
    provider.remove_txt(&intent(&at, "c")).await.unwrap();
    add(&provider, &at, "d").await.unwrap();
    assert_eq!(there(&fake, &at), [value("b"), value("d")]);
}

#[tokio::test]
async fn an_update_whose_answer_was_lost_costs_no_other_value() {
    for fault in [
        Fault::HangUpAfter,
        Fault::After(Answer::json(500, r#"{"error": "db_error"}"#)),
        Fault::Instead(Answer::new(500, "")),
    ] {
        let (fake, store) = (Fake::start().await, memory());
        let provider = fake.provider(&store);
        let at = provider.register(&domain()).await.unwrap();
        add(&provider, &at, "a").await.unwrap();
        fake.api.fail("POST /update", fault);
        let error = add(&provider, &at, "b").await.unwrap_err();
        assert_eq!(what(&error), (ErrorKind::Unavailable, Retry::Backoff), "{}", error.report());
        assert!(there(&fake, &at).contains(&value("a")));
        // After a restart.
        add(&fake.provider(&store), &at, "b").await.unwrap();
        assert_eq!(there(&fake, &at), [value("a"), value("b")]);
    }
}

#[tokio::test]
async fn each_refusal_is_told() {
    let (fake, store) = (Fake::start().await, memory());
    let provider = fake.provider(&store);
    let at = provider.register(&domain()).await.unwrap();
    for (answer, kind, retry, told) in [
        (Answer::json(400, r#"{"error": "bad_txt"}"#), ErrorKind::Protocol, Retry::Never, "bad_txt"),
        (Answer::json(401, r#"{"error": "forbidden"}"#), ErrorKind::Auth, Retry::Never, "forbidden"),
        (Answer::html(200, "<html>log in</html>"), ErrorKind::Protocol, Retry::Never, "an HTML page"),
        (Answer::html(502, "<html>"), ErrorKind::Unavailable, Retry::Backoff, "502"),
        (
            Answer::text(429, "slowly").with("retry-after", "90"),
            ErrorKind::RateLimited,
            Retry::After(Duration::from_secs(90)),
            "429",
        ),
    ] {
        fake.api.fail("POST /update", Fault::Instead(answer.clone()));
        let error = add(&provider, &at, "a").await.unwrap_err();
        assert_eq!(what(&error), (kind, retry), "{answer:?}: {}", error.report());
        assert!(error.message().contains(told) && error.to_string().contains(at.target.as_str()), "{error}");
    }
    // The credential is really wrong.
    fake.change(|inner| inner.accounts[0].password = "x".repeat(40));
    let error = add(&provider, &at, "a").await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::Auth, Retry::Never), "{}", error.report());
    assert!(error.hint().unwrap().contains("allowfrom"), "{}", error.report());
    fake.change(|inner| inner.registration_is_off = true);
    let error = provider.register(&"b.example.test".parse().unwrap()).await.unwrap_err();
    assert_eq!(what(&error), (ErrorKind::NotFound, Retry::Never), "{}", error.report());
    assert!(error.hint().unwrap().contains("disable_registration"), "{}", error.report());
}

#[tokio::test]
async fn a_server_that_falls_silent_misses_the_deadline() {
    let (fake, store) = (Fake::start().await, memory());
    let at = fake.provider(&store).register(&domain()).await.unwrap();
    let mut config = fake.config();
    config.timeout = Duration::from_millis(200);
    let provider = AcmeDns::new(config, store).unwrap();
    for fault in [Fault::Silence, Fault::BodyThatStops] {
        fake.api.fail("POST /update", fault);
        let error = add(&provider, &at, "a").await.unwrap_err();
        assert_eq!(what(&error), (ErrorKind::Timeout, Retry::Backoff), "{}", error.report());
    }
}
