//! The token is in no log line, error or `Debug` output, however much is logged and whatever deSEC says.

mod fake;

use acmekit_conformance::api::{Answer, Fault};
use acmekit_conformance::log::{Log, assert_shows_none_of};
use acmekit_core::{DnsProvider, TxtRecord};
use acmekit_desec::Desec;

use self::fake::{Fake, TOKEN};

const WRONG: &str = "nobody-k-NOWS_this-token_1234";

#[tokio::test]
async fn the_token_is_shown_nowhere_even_at_trace() {
    let fake = Fake::start().await;
    let log = Log::start();
    let name = "_acme-challenge.example.test".parse().unwrap();
    let mut shown = String::new();
    for token in [WRONG, TOKEN] {
        let config = fake.config(token);
        shown.push_str(&format!("{config:?}"));
        let provider = Desec::new(config).unwrap();
        shown.push_str(&format!("{provider:?}"));
        match provider.zone(&name).await {
            Err(error) => shown.push_str(&format!("{} {error:?}", error.report())),
            Ok(zone) => {
                let record = TxtRecord::new(name.clone(), "value");
                let handle = provider.add_txt(&zone.unwrap(), &record).await.unwrap();
                provider.remove_txt(&handle).await.unwrap();
            }
        }
    }
    // Repeats what it was sent, as some do: the token, and the header whole.
    let echo = format!(r#"{{"detail":"Invalid token {TOKEN} in: Authorization: Token {TOKEN}"}}"#);
    fake.api.fail("GET ", Fault::Instead(Answer::json(403, echo)));
    let error = fake.provider().zone(&name).await.unwrap_err();
    shown.push_str(&format!("{} {error:?}", error.report()));
    for bad in [format!("Token {TOKEN}"), format!("{TOKEN}\u{e4}")] {
        let error = Desec::new(fake.config(&bad)).unwrap_err();
        shown.push_str(&format!("{} {error:?}", error.report()));
    }

    assert!(shown.contains("Invalid token … in: Authorization: Token …"), "{shown}");
    let logged = log.text();
    assert!(logged.contains("path=/api/v1/domains/") && logged.contains("status=200"), "no spans are logged");
    assert!(logged.contains("hyper"), "the HTTP library's own words are not in the log");
    shown.push_str(&logged);
    assert_shows_none_of(&shown, &[TOKEN, WRONG]);
}
