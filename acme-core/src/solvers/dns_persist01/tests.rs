use std::time::{SystemTime, UNIX_EPOCH};

use super::*;
use crate::KeyAuthorization;
use crate::dns::tests::{Fake, name, soon, text};

const ACCOUNT: &str = "https://ca.test/acct/1";
const NOW: u64 = 1_900_000_000;

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }
}

fn challenge(of: &str) -> Challenge {
    let proof = KeyAuthorization::new("", "thumbprint");
    Challenge::new(of.parse().unwrap(), ChallengeKind::DnsPersist01, "", proof)
        .with_account(ACCOUNT)
        .with_issuers(["ca.test"])
}

async fn prepare(values: &[&str], of: &str) -> Result<Found> {
    let records = values.iter().map(|value| ("_validation-persist.www.test", text(value))).collect();
    let dns = Fake::with("test", records).await;
    let solver = DnsPersist01::with_resolver(dns.resolver().authoritative([dns.address]));
    let solver = solver.clock(Arc::new(Stopped));
    let prepared = solver.prepare(&challenge(of), soon()).await?;
    assert_eq!(solver.present(&prepared, soon()).await.unwrap(), prepared);
    solver.ready(&prepared, soon()).await.unwrap();
    solver.cleanup(&prepared, soon()).await.unwrap();
    Ok(prepared.read(FOUND).unwrap().unwrap())
}

#[tokio::test]
async fn the_record_that_fits_is_taken_whatever_stands_beside_it() {
    let fits = format!("ca.test; accounturi={ACCOUNT}; policy=wildcard; persistUntil={}", NOW + 1);
    let narrow = format!("ca.test; accounturi={ACCOUNT}");
    let values = ["v=spf1 -all", "other.test; accounturi=https://other.test/1", &narrow, &fits];
    let found = prepare(&values, "*.www.test").await.unwrap();
    assert_eq!((found.value, found.name), (fits, name("_validation-persist.www.test")));
}

#[tokio::test]
async fn where_none_fits_the_error_has_the_record_to_set() {
    let ended = format!("ca.test; accounturi={ACCOUNT}; persistUntil={}", NOW - 1);
    for (values, why) in [
        (vec![], "no record stands"),
        (vec!["other.test; accounturi=https://ca.test/acct/1"], "no record stands"),
        (vec![ended.as_str()], "`persistUntil` has passed"),
        (vec!["ca.test; accounturi=https://ca.test/acct/2"], "another account"),
    ] {
        let error = prepare(&values, "www.test").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "another solver may do: {}", error.report());
        assert!(error.report().contains(why), "{}", error.report());
        let line = "_validation-persist.www.test. 3600 IN TXT \"ca.test; accounturi=https://ca.test/acct/1\"";
        assert!(error.hint().unwrap().contains(line), "{:?}", error.hint());
    }
}

#[tokio::test]
async fn a_ca_that_does_not_say_its_name_and_an_address_are_refused() {
    let dns = Fake::with("test", Vec::new()).await;
    let solver = DnsPersist01::with_resolver(dns.resolver());
    // What is no name would be told to a person as part of a record to set.
    for issuers in [vec![], vec!["\u{1b}[2J\n\"ca.test"]] {
        let nameless = challenge("www.test").with_issuers(issuers);
        assert_eq!(solver.prepare(&nameless, soon()).await.unwrap_err().kind(), ErrorKind::Protocol);
    }
    let address = challenge("192.0.2.1");
    assert_eq!(solver.prepare(&address, soon()).await.unwrap_err().kind(), ErrorKind::Unsupported);
}
