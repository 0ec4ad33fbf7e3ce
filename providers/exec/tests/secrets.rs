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

/// Everything that is shown of one change that is made and of one that is refused.
async fn shown(subject: &OnBind) -> String {
    let zone = Zone::new("example.test".parse().unwrap());
    let record = TxtRecord::new("_acme-challenge.example.test".parse().unwrap(), "value");
    let right = subject.provider();
    let handle = right.add_txt(&zone, &record).await.unwrap();
    let mut shown = format!("{right:?} {handle:?}");
    right.remove_txt(&handle).await.unwrap();
    let wrong = subject.with_wrong_credential();
    let refused =
        [wrong.add_txt(&zone, &record).await.unwrap_err(), wrong.remove_txt(&handle).await.unwrap_err()];
    for error in refused {
        assert!(error.to_string().contains("output="), "the program's own words are missing: {error}");
        shown.push_str(&format!("{wrong:?} {} {error:?}", error.report()));
    }
    shown
}

#[tokio::test]
async fn the_secret_is_in_no_log_line_even_at_trace() {
    for kind in [Kind::Lego, Kind::Certbot, Kind::AcmeSh] {
        let subject = OnBind::start(kind).await;
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let logging = tracing::subscriber::set_default(subscriber);
        let mut shown = shown(&subject).await;
        tracing::trace!("so far");
        drop(logging);
        let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(logged.contains("so far"), "nothing was logged");
        shown.push_str(&logged);
        for secret in [subject.secret(), subject.wrong_secret()] {
            assert!(!shown.contains(&secret), "{kind:?} shows the secret");
        }
    }
}
