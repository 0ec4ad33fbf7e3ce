//! A registration's credential is in no log line, error or `Debug` output, whatever the server says.

mod fake;

use std::sync::Arc;

use acmekit_conformance::api::{Answer, Fault};
use acmekit_conformance::log::{Log, assert_shows_none_of};
use acmekit_core::stores::MemoryStore;
use acmekit_core::{DnsProvider, Store, TxtRecord, Zone};

use self::fake::{Fake, ZONE};

#[tokio::test]
async fn the_credential_is_shown_nowhere_even_at_trace() {
    let fake = Fake::start().await;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let log = Log::start();
    let provider = fake.provider(&store);
    let registration = provider.register(&"example.test".parse().unwrap()).await.unwrap();
    let password = fake.change(|inner| inner.accounts[0].password.clone());
    let mut shown = format!("{registration} {registration:?} {:?}", fake.config());
    let (zone, record) =
        (Zone::new(ZONE.parse().unwrap()), TxtRecord::new(registration.target, "v".repeat(43)));
    // Repeats what it was sent, as some do.
    let echo = format!(r#"{{"error":"who is {password}?"}}"#);
    fake.api.fail("POST /update", Fault::Instead(Answer::json(401, echo)));
    let error = provider.add_txt(&zone, &record).await.unwrap_err();
    shown.push_str(&format!("{} {error:?}", error.report()));
    assert!(shown.contains("who is …?"), "{shown}");
    provider.add_txt(&zone, &record).await.unwrap();
    // An answer of another form.
    let half = format!(r#"{{"username":"u","password":"{password}","fulldomain":7}}"#);
    fake.api.fail("POST /register", Fault::Instead(Answer::json(201, half)));
    let error = provider.register(&"b.example.test".parse().unwrap()).await.unwrap_err();
    shown.push_str(&format!("{} {error:?} {provider:?}", error.report()));
    let logged = log.text();
    assert!(
        logged.contains("path=/update") && logged.contains("hyper"),
        "our own spans or hyper's are not logged"
    );
    shown.push_str(&logged);
    assert_shows_none_of(&shown, &[&password]);
}
