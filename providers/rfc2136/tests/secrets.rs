//! The TSIG secret is in no log line, however much is logged: not ours, and not the DNS library's.

use acmekit_conformance::log::{Log, assert_shows_none_of};
use acmekit_core::{DnsProvider, TxtRecord, Zone};
use acmekit_rfc2136::{Algorithm, Config, Key, Rfc2136};
use acmekit_testbed::Bind;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

#[tokio::test]
async fn the_secret_is_in_no_log_line_even_at_trace() {
    let bind = Bind::start().await.unwrap();
    let log = Log::start();
    let wrong = BASE64_STANDARD.encode("another secret, which the server does not know");
    let name = "_acme-challenge.example.test".parse().unwrap();
    let zone = Zone::new("example.test".parse().unwrap());
    let mut shown = String::new();
    for secret in [bind.tsig_secret_base64(), wrong.as_str()] {
        let key = Key::new(bind.tsig_name(), Algorithm::HmacSha256, secret);
        let config = Config::new(bind.addr().to_string(), key);
        shown.push_str(&format!("{config:?}"));
        let provider = Rfc2136::new(config).unwrap();
        shown.push_str(&format!("{provider:?} {:?}", provider.zone(&name).await));
        match provider.add_txt(&zone, &TxtRecord::new(name.clone(), "value")).await {
            Ok(handle) => provider.remove_txt(&handle).await.unwrap(),
            Err(error) => shown.push_str(&format!("{} {error:?}", error.report())),
        }
    }

    let logged = log.text();
    assert!(logged.contains("finalizing message"), "the DNS library's own words are not in the log");
    shown.push_str(&logged);
    for secret in [bind.tsig_secret_base64(), wrong.as_str()] {
        let octets = BASE64_STANDARD.decode(secret).unwrap();
        // As base64, as `Debug` shows its octets, and as hexadecimal digits.
        let list = format!("{octets:?}");
        let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        assert_shows_none_of(&shown, &[secret, list.trim_matches(['[', ']']), &hex, &hex.to_uppercase()]);
    }
}
