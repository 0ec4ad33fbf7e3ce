//! The password is in no log line, error or `Debug` output, however much is logged and whatever the server says.

mod fake;

use acmekit_conformance::api::{Answer, Fault};
use acmekit_conformance::log::{Log, assert_shows_none_of};
use acmekit_core::{DnsProvider, TxtRecord, Zone};
use acmekit_httpreq::{BasicAuth, HttpReq};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use self::fake::{Fake, PASSWORD, USER};

const WRONG: &str = "an0ther-pass: w0rd";

#[tokio::test]
async fn the_password_is_shown_nowhere_even_at_trace() {
    let fake = Fake::start().await;
    let encoded = [PASSWORD, WRONG].map(|password| STANDARD.encode(format!("{USER}:{password}")));
    let log = Log::start();
    let zone = Zone::new("example.test".parse().unwrap());
    let record = TxtRecord::new("_acme-challenge.example.test".parse().unwrap(), "value");
    let mut shown = String::new();
    for password in [WRONG, PASSWORD] {
        let config = fake.config().with_auth(BasicAuth::new(USER, password));
        shown.push_str(&format!("{config:?}"));
        let provider = HttpReq::new(config).unwrap();
        shown.push_str(&format!("{provider:?}"));
        match provider.add_txt(&zone, &record).await {
            Ok(handle) => provider.remove_txt(&handle).await.unwrap(),
            Err(error) => shown.push_str(&format!("{} {error:?}", error.report())),
        }
    }
    // Repeats what it was sent, as some do: the password, and the header whole.
    let echo = format!("no: {PASSWORD} in Authorization: Basic {}", encoded[0]);
    fake.api.fail("POST", Fault::Instead(Answer::text(403, echo)));
    let error = fake.provider().add_txt(&zone, &record).await.unwrap_err();
    shown.push_str(&format!("{} {error:?}", error.report()));
    assert!(shown.contains("no: … in Authorization: Basic …"), "{shown}");

    let logged = log.text();
    assert!(
        logged.contains("path=/acme/present") && logged.contains("status=200"),
        "our own spans are not logged"
    );
    assert!(logged.contains("hyper"), "the HTTP library's own words are not in the log");
    shown.push_str(&logged);
    assert_shows_none_of(&shown, &[PASSWORD, WRONG, &encoded[0], &encoded[1]]);
}
