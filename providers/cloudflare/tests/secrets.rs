//! The credential is in no log line, error or `Debug` output, however much is logged and whatever Cloudflare says.

mod fake;

use acmekit_cloudflare::{Cloudflare, Credential};
use acmekit_conformance::api::{Answer, Fault};
use acmekit_conformance::log::{Log, assert_shows_none_of};
use acmekit_core::{DnsProvider, TxtRecord};

use self::fake::{EMAIL, Fake, KEY, TOKEN};

const WRONG: &str = "tokEN-nobody-knows_0123456789abcdefghijk";

/// Repeats what it was sent, as some do: the token, and the header whole.
const ECHO: &str = r#"{"success":false,"errors":[{"code":9109,"message":"Invalid token tokEN-for_All-zones-0123456789abcdefghij in: Authorization: Bearer tokEN-for_All-zones-0123456789abcdefghij"}],"messages":[],"result":null}"#;

#[tokio::test]
async fn the_credential_is_shown_nowhere_even_at_trace() {
    let fake = Fake::start().await;
    let log = Log::start();
    let name = "_acme-challenge.example.test".parse().unwrap();
    let mut shown = String::new();
    for credential in [Credential::token(WRONG), Credential::global_key(EMAIL, KEY), Credential::token(TOKEN)]
    {
        let config = fake.config(credential);
        shown.push_str(&format!("{config:?}"));
        let provider = Cloudflare::new(config).unwrap();
        shown.push_str(&format!("{provider:?}"));
        let Ok(zone) =
            provider.zone(&name).await.inspect_err(|e| shown.push_str(&format!("{} {e:?}", e.report())))
        else {
            continue;
        };
        let zone = zone.unwrap();
        let handle = provider.add_txt(&zone, &TxtRecord::new(name.clone(), "value")).await.unwrap();
        provider.remove_txt(&handle).await.unwrap();
    }
    fake.api.fail("GET", Fault::Instead(Answer::json(403, ECHO)));
    let error = fake.provider(TOKEN).zone(&name).await.unwrap_err();
    shown.push_str(&format!("{} {error:?}", error.report()));

    assert!(shown.contains("Invalid token … in: Authorization: Bearer …"), "{shown}");
    let logged = log.text();
    assert!(
        logged.contains("path=/client/v4/zones") && logged.contains("status=200"),
        "our own spans are not logged"
    );
    assert!(logged.contains("hyper"), "the HTTP library's own words are not in the log");
    shown.push_str(&logged);
    assert_shows_none_of(&shown, &[TOKEN, WRONG, KEY]);
}
