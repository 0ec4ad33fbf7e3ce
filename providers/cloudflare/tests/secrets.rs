//! The credential is in no log line, error or `Debug` output, however much is logged and whatever Cloudflare says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use std::io;
use std::sync::{Arc, Mutex};

use acmekit_cloudflare::{Cloudflare, Credential};
use acmekit_core::{DnsProvider, TxtRecord};
use axum::http::Method;

use self::fake::{EMAIL, Fake, Fault, KEY, TOKEN};

const WRONG: &str = "tokEN-nobody-knows_0123456789abcdefghijk";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Repeats what it was sent, as some do: the token, and the header whole.
const ECHO: &str = r#"{"success":false,"errors":[{"code":9109,"message":"Invalid token tokEN-for_All-zones-0123456789abcdefghij in: Authorization: Bearer tokEN-for_All-zones-0123456789abcdefghij"}],"messages":[],"result":null}"#;

#[tokio::test]
async fn the_credential_is_shown_nowhere_even_at_trace() {
    let fake = Fake::start().await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let logging = tracing::subscriber::set_default(subscriber);

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
    fake.fail(Method::GET, Fault::Answer(403, vec![("content-type", "application/json")], ECHO));
    let error = fake.provider(TOKEN).zone(&name).await.unwrap_err();
    shown.push_str(&format!("{} {error:?}", error.report()));
    drop(logging);

    assert!(shown.contains("Invalid token … in: Authorization: Bearer …"), "{shown}");
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(
        logged.contains("path=/client/v4/zones") && logged.contains("status=200"),
        "our own spans are not logged"
    );
    assert!(logged.contains("hyper"), "the HTTP library's own words are not in the log");
    shown.push_str(&logged);
    for secret in [TOKEN, WRONG, KEY] {
        // As text, and as `Debug` shows octets.
        let octets = format!("{:?}", secret.as_bytes());
        for form in [secret, octets.trim_matches(['[', ']'])] {
            assert!(!shown.contains(form), "a credential is shown as {form}");
        }
    }
}
