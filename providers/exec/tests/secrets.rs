//! What the program is given is in no log line, however much is logged.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod on_bind;

use std::io;
use std::sync::{Arc, Mutex};

use acmekit_conformance::dns_provider::Subject;
use acmekit_core::{DnsProvider, TxtRecord, Zone};
use on_bind::{Kind, OnBind};

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

#[tokio::test]
async fn the_secret_is_in_no_log_line_even_at_trace() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let subject = OnBind::start(Kind::Certbot).await;
    let logging = tracing::subscriber::set_default(subscriber);
    let zone = Zone::new("example.test".parse().unwrap());
    let record = TxtRecord::new("_acme-challenge.example.test".parse().unwrap(), "value");
    let mut shown = String::new();
    for provider in [subject.provider(), subject.with_wrong_credential()] {
        shown.push_str(&format!("{provider:?}"));
        match provider.add_txt(&zone, &record).await {
            Ok(handle) => {
                shown.push_str(&format!("{handle:?}"));
                provider.remove_txt(&handle).await.unwrap();
            }
            Err(error) => shown.push_str(&format!("{} {error:?}", error.report())),
        }
    }
    tracing::trace!("logged");
    drop(logging);
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("logged"), "nothing was logged");
    shown.push_str(&logged);
    for secret in [subject.secret(), subject.wrong_secret()] {
        assert!(!shown.contains(&secret), "the secret is shown");
    }
}
