//! The records to set, once, for names that are proved by dns-persist-01.

use acmekit::config::Setup;
use acmekit::solvers::StandingRecord;
use acmekit::{ChallengeKind, Error, ErrorKind, Result};

/// As lines of a zone file: one for each domain, account and CA of the certificates that may be proved so.
pub(crate) async fn records(setup: &Setup) -> Result<String> {
    let pipeline = setup.pipeline()?;
    let mut records: Vec<StandingRecord> = Vec::new();
    for wanted in setup.certificates() {
        let kind = wanted.spec.wanted_challenge();
        if kind.is_some_and(|kind| *kind != ChallengeKind::DnsPersist01) {
            continue;
        }
        for new in pipeline.standing_records(&wanted.spec).await? {
            let same = |old: &&mut StandingRecord| {
                (&old.domain, &old.issuer, &old.account) == (&new.domain, &new.issuer, &new.account)
            };
            match records.iter_mut().find(same) {
                Some(old) => old.wildcard |= new.wildcard,
                None => records.push(new),
            }
        }
    }
    if records.is_empty() {
        let why = "no certificate here can be proved by a record that stands";
        return Err(Error::new(ErrorKind::Config, "from-config", why)
            .with("option", "--standing-records")
            .with_hint("give certificates with domains `challenge = \"dns-persist-01\"`"));
    }
    Ok(records.iter().map(|record| format!("{record}\n")).collect())
}
