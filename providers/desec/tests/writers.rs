//! Several writers at one name, of an API that only sets all its records at once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use std::time::Duration;

use acmekit_conformance::api::{Answer, Fault};
use acmekit_core::{DnsProvider, ErrorKind, RecordHandle, Retry, TxtRecord, Zone};
use acmekit_desec::Desec;
use tokio::task::JoinSet;

use self::fake::{Fake, TOKEN};

const NAME: &str = "_acme-challenge.example.test";
const PATCH: &str = "PATCH /api/v1/domains/example.test/rrsets/_acme-challenge/TXT/";

fn zone() -> Zone {
    Zone::new("example.test".parse().unwrap())
}

fn record(value: &str) -> TxtRecord {
    TxtRecord::new(NAME.parse().unwrap(), value)
}

fn settling(fake: &Fake, millis: u64) -> Desec {
    let mut config = fake.config(TOKEN);
    config.settle = Duration::from_millis(millis);
    Desec::new(config).unwrap()
}

async fn all_at_once(providers: impl Iterator<Item = Desec>) -> Vec<RecordHandle> {
    let mut adding = JoinSet::new();
    for (number, provider) in providers.enumerate() {
        adding.spawn(async move { provider.add_txt(&zone(), &record(&format!("value-{number}"))).await });
    }
    adding.join_all().await.into_iter().map(|added| added.unwrap()).collect()
}

#[tokio::test]
async fn clones_take_turns_and_write_once_each() {
    let fake = Fake::start().await;
    fake.plant(NAME, "TXT", "\"theirs\"");
    let one = settling(&fake, 1);
    let handles = all_at_once((0..6).map(|_| one.clone())).await;
    assert_eq!((fake.values(NAME).len(), fake.writes()), (7, 6));
    let mut removing = JoinSet::new();
    for handle in handles {
        let one = one.clone();
        removing.spawn(async move { one.remove_txt(&handle).await });
    }
    removing.join_all().await.into_iter().for_each(|removed| removed.unwrap());
    assert_eq!((fake.values(NAME), fake.writes()), (vec!["theirs".to_owned()], 12));
}

#[tokio::test]
async fn two_instances_at_one_name_lose_nothing() {
    for _ in 0..5 {
        let fake = Fake::start().await;
        let handles = all_at_once((0..2).map(|_| settling(&fake, 50))).await;
        let mut there = fake.values(NAME);
        there.sort();
        assert_eq!(there, ["value-0", "value-1"]);
        // One adds while the other removes.
        let (one, other) = (settling(&fake, 50), settling(&fake, 50));
        let third = record("value-2");
        let zone = zone();
        let (added, removed) = tokio::join!(one.add_txt(&zone, &third), other.remove_txt(&handles[0]));
        added.unwrap();
        removed.unwrap();
        let left = handles[1].record.value.clone();
        let mut there = fake.values(NAME);
        there.sort();
        assert_eq!(there, [left, "value-2".to_owned()]);
    }
}

#[tokio::test]
async fn a_value_that_somebody_who_read_before_has_taken_away_is_written_again() {
    let fake = Fake::start().await;
    fake.change(|inner| inner.meddling = [vec!["\"theirs\""], vec!["\"theirs\"", "\"more\""]].into());
    fake.provider().add_txt(&zone(), &record("mine")).await.unwrap();
    assert_eq!(
        (fake.values(NAME), fake.writes()),
        (["theirs", "more", "mine"].map(str::to_owned).to_vec(), 3)
    );
}

#[tokio::test]
async fn a_value_that_somebody_has_put_back_is_removed_again() {
    let fake = Fake::start().await;
    fake.plant(NAME, "TXT", "\"mine\"");
    fake.change(|inner| inner.meddling = [vec!["\"mine\"", "\"theirs\""]].into());
    fake.provider().remove_txt(&RecordHandle::intent("desec", zone(), record("mine"))).await.unwrap();
    assert_eq!((fake.values(NAME), fake.writes()), (vec!["theirs".to_owned()], 2));
}

#[tokio::test]
async fn somebody_who_writes_later_is_seen_within_settle() {
    let fake = Fake::start().await;
    let (provider, zone, record) = (settling(&fake, 600), zone(), record("mine"));
    let somebody = async {
        while fake.values(NAME).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        fake.change(|inner| inner.rrsets[0].records = vec!["\"theirs\"".to_owned()]);
    };
    let (added, ()) = tokio::join!(provider.add_txt(&zone, &record), somebody);
    added.unwrap();
    assert_eq!(fake.values(NAME), ["theirs", "mine"]);
}

#[tokio::test]
async fn somebody_who_never_stops_is_told_of() {
    let fake = Fake::start().await;
    fake.change(|inner| inner.meddling = vec![vec!["\"theirs\""]; 100].into());
    let error = settling(&fake, 1).add_txt(&zone(), &record("mine")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Conflict, Retry::Backoff), "{}", error.report());
    assert!(error.hint().unwrap().contains("what else sets"), "{}", error.report());
    assert_eq!((fake.writes(), fake.values(NAME)), (6, vec!["theirs".to_owned()]));
}

#[tokio::test]
async fn an_rrset_that_comes_or_goes_between_reading_and_writing_is_read_again() {
    // It came: the POST is refused, and nothing lost.
    let fake = Fake::start().await;
    let provider = fake.provider();
    fake.plant(NAME, "TXT", "\"theirs\"");
    let absent = Answer::json(404, r#"{"detail":"Not found."}"#);
    let read = "GET /api/v1/domains/example.test/rrsets/_acme-challenge/TXT/";
    fake.api.fail(read, Fault::Instead(absent.clone()));
    provider.add_txt(&zone(), &record("mine")).await.unwrap();
    assert_eq!((fake.values(NAME), fake.count("POST")), (["theirs", "mine"].map(str::to_owned).to_vec(), 1));

    // It went: there is nothing to PATCH.
    let gone = r#"{"domain":"example.test","subname":"_acme-challenge","records":["\"gone\""],"ttl":3600,"type":"TXT"}"#;
    let fake = Fake::start().await;
    fake.api.fail(read, Fault::Instead(Answer::json(200, gone)));
    fake.provider().add_txt(&zone(), &record("mine")).await.unwrap();
    assert_eq!((fake.values(NAME), fake.count("PATCH")), (vec!["mine".to_owned()], 1));

    // deSEC met a conflict in its own database.
    fake.api.fail(PATCH, Fault::Instead(Answer::json(409, r#"{"detail":"Conflict: …"}"#)));
    fake.provider().add_txt(&zone(), &record("more")).await.unwrap();
    assert_eq!((fake.values(NAME), fake.count("PATCH")), (["mine", "more"].map(str::to_owned).to_vec(), 3));
}
