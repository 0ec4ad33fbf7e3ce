//! What the program is given is in no log line, however much is logged.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod on_bind;

use acmekit_conformance::dns_provider::Subject;
use acmekit_conformance::log::{Log, assert_shows_none_of};
use acmekit_core::{DnsProvider, TxtRecord, Zone};
use on_bind::{Kind, OnBind};

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
        let log = Log::start();
        let mut shown = shown(&subject).await;
        tracing::trace!("so far");
        let logged = log.text();
        assert!(logged.contains("so far"), "nothing was logged");
        shown.push_str(&logged);
        assert_shows_none_of(&shown, &[&subject.secret(), &subject.wrong_secret()]);
    }
}
