//! What happens to records: other values, other writers, waiting for `INSYNC`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use std::time::Duration;

use acmekit_core::{DnsProvider, Error, ErrorKind, RecordHandle, TxtRecord, Zone};
use acmekit_route53::{Config, Credential, Route53};
use acmekit_testbed::Moto;
use tokio::task::JoinSet;

use self::fake::{Fake, ZONE, error, invalid_change_batch};
use acmekit_conformance::api::Fault;

const NAME: &str = "_acme-challenge.deep.example.test";
const CHANGE: &str = "POST /2013-04-01/hostedzone/Z0DEEPEXAMPLETEST/rrset";

fn zone() -> Zone {
    Zone::new("deep.example.test".parse().unwrap()).with_id(ZONE)
}

fn record(value: &str) -> TxtRecord {
    TxtRecord::new(NAME.parse().unwrap(), value)
}

async fn add(provider: &Route53, value: &str) -> Result<RecordHandle, Error> {
    provider.add_txt(&zone(), &record(value)).await
}

/// Eight values by two instances at once, beside a neighbour.
async fn eight_values(by: [&Route53; 2], zone: &Zone) -> Vec<RecordHandle> {
    let mut adding = JoinSet::new();
    for number in 0..8 {
        let (provider, zone) = (by[number % 2].clone(), zone.clone());
        adding.spawn(
            async move { provider.add_txt(&zone, &record(&format!("value-{number}"))).await.unwrap() },
        );
    }
    let handles = adding.join_all().await;
    assert_eq!(handles.len(), 8);
    handles
}

fn with_values(neighbour: &str) -> Vec<String> {
    let mut all: Vec<String> = (0..8).map(|number| format!("\"value-{number}\"")).collect();
    all.insert(0, neighbour.to_owned());
    all.sort();
    all
}

fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort();
    values
}

#[tokio::test]
async fn two_writers_lose_nothing_where_a_change_is_compared_and_swapped() {
    let fake = Fake::start().await;
    fake.put("TXT", NAME, 3600, &["\"neighbour\""]);
    fake.put("TXT", "a.deep.example.test", 60, &["\"another\""]);
    let (one, two) = (fake.provider(), fake.provider());
    let handles = eight_values([&one, &two], &zone()).await;
    assert_eq!(sorted(fake.values(NAME)), with_values("\"neighbour\""));
    let mut removing = JoinSet::new();
    for (number, handle) in handles.into_iter().enumerate() {
        let provider = [&one, &two][number % 2].clone();
        removing.spawn(async move { provider.remove_txt(&handle).await.unwrap() });
    }
    removing.join_all().await;
    assert_eq!(fake.values(NAME), ["\"neighbour\""]);
    assert_eq!(fake.values("a.deep.example.test"), ["\"another\""]);
    assert_eq!(fake.records()[0].ttl, 60);
}

/// moto swaps without comparing, so that each can overwrite the other: here it is the look afterwards that
/// finds what is missing. Removing has no such look, and is done by one after the other.
#[tokio::test]
async fn two_writers_on_moto_find_what_the_other_has_overwritten() {
    let moto = Moto::start().await.unwrap();
    let id = moto.create_zone("deep.example.test", false).await.unwrap();
    moto.set(&id, NAME, "TXT", 3600, &["\"neighbour\""]).await.unwrap();
    moto.set(&id, "a.deep.example.test", "TXT", 60, &["\"another\""]).await.unwrap();
    let made = || {
        let key = Credential::keys("AKIAIOSFODNN7EXAMPLE", "s3cret");
        Route53::new(Config::new(key).with_endpoint(moto.url())).unwrap()
    };
    let (one, two) = (made(), made());
    let zone = Zone::new("deep.example.test".parse().unwrap()).with_id(&id);
    let values = async || {
        let all = moto.records(&id).await.unwrap();
        sorted(all.into_iter().filter(|it| it.name == format!("{NAME}.")).flat_map(|it| it.values).collect())
    };
    let handles = eight_values([&one, &two], &zone).await;
    assert_eq!(values().await, with_values("\"neighbour\""));
    for (number, handle) in handles.iter().enumerate() {
        [&one, &two][number % 2].remove_txt(handle).await.unwrap();
    }
    assert_eq!(values().await, ["\"neighbour\""]);
    assert_eq!(moto.records(&id).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_value_may_come_and_go_and_come_again_on_moto() {
    let moto = Moto::start().await.unwrap();
    let id = moto.create_zone("deep.example.test", false).await.unwrap();
    let key = Credential::keys("AKIAIOSFODNN7EXAMPLE", "s3cret");
    let provider = Route53::new(Config::new(key).with_endpoint(moto.url()).with_hosted_zone_id(&id)).unwrap();
    let zone = provider.zone(&NAME.parse().unwrap()).await.unwrap().unwrap();
    for _ in 0..2 {
        let one = provider.add_txt(&zone, &record("one")).await.unwrap();
        let two = provider.add_txt(&zone, &record("two")).await.unwrap();
        provider.remove_txt(&two).await.unwrap();
        assert_eq!(moto.records(&id).await.unwrap()[0].values, ["\"one\""]);
        provider.remove_txt(&one).await.unwrap();
        assert_eq!(moto.records(&id).await.unwrap(), []);
    }
}

#[tokio::test]
async fn who_was_faster_keeps_what_he_did() {
    for (mine_first, rivals) in [(None, "\"rival\""), (Some("\"before\""), "\"rival\"")] {
        let fake = Fake::start().await;
        let provider = fake.provider();
        if let Some(before) = mine_first {
            fake.put("TXT", NAME, 3600, &[before]);
        }
        fake.state().rival = Some((NAME.to_owned(), vec![rivals.to_owned()]));
        let handle = add(&provider, "mine").await.unwrap();
        assert_eq!(fake.values(NAME), [rivals, "\"mine\""]);
        assert_eq!(fake.api.count(CHANGE), 2, "the first one was not refused");
        fake.state().rival = Some((NAME.to_owned(), vec!["\"mine\"".to_owned()]));
        provider.remove_txt(&handle).await.unwrap();
        assert_eq!(fake.values(NAME), Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_is_overwritten_before_it_is_everywhere_is_added_again() {
    let fake = Fake::start().await;
    fake.state().overwritten = Some((NAME.to_owned(), vec!["\"blind\"".to_owned()]));
    add(&fake.provider(), "mine").await.unwrap();
    assert_eq!(fake.values(NAME), ["\"blind\"", "\"mine\""]);
}

#[tokio::test]
async fn a_race_that_is_always_lost_ends_as_a_conflict() {
    let fake = Fake::start().await;
    for _ in 0..40 {
        let told = format!(
            "[Tried to create resource record set [name='{NAME}.', type='TXT'] but it already exists]"
        );
        fake.api.fail(CHANGE, Fault::Instead(invalid_change_batch(&told)));
    }
    let error = add(&fake.provider(), "mine").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.report());
    assert_eq!(error.vendor_code(), Some("InvalidChangeBatch"));
    assert_eq!(fake.records(), []);
}

#[tokio::test]
async fn adding_waits_for_in_sync_and_removing_does_not() {
    let fake = Fake::start().await;
    fake.state().pending = 2;
    let provider = fake.provider();
    let handle = add(&provider, "mine").await.unwrap();
    assert_eq!(fake.api.count("GET /2013-04-01/change/"), 3);
    provider.remove_txt(&handle).await.unwrap();
    assert_eq!(fake.api.count("GET /2013-04-01/change/"), 3);

    fake.state().pending = usize::MAX;
    let error = add(&fake.hurried(Duration::from_secs(2)), "mine").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    assert!(error.to_string().contains("INSYNC") && error.hint().is_some(), "{}", error.report());
}

#[tokio::test]
async fn a_policy_without_get_change_is_enough() {
    let fake = Fake::start().await;
    let denied = error(
        403,
        "AccessDenied",
        "User: arn:aws:iam::1:user/acme is not authorized to perform: route53:GetChange",
    );
    fake.api.fail("GET /2013-04-01/change/", Fault::Instead(denied));
    add(&fake.provider(), "mine").await.unwrap();
    assert_eq!(fake.values(NAME), ["\"mine\""]);
}

#[tokio::test]
async fn what_others_have_there_stays_to_the_octet() {
    let others = [r#""v=spf1 \"quoted\" \\ -all""#, r#""two" "strings""#, r#""\303\244""#, r#""<&>""#];
    let fake = Fake::start().await;
    fake.put("TXT", NAME, 7200, &others);
    let provider = fake.provider();
    let handle = add(&provider, "say \"ä\" \\").await.unwrap();
    let mine = r#""say \"\303\244\" \\""#;
    assert_eq!(fake.values(NAME), [&others[..], &[mine]].concat());
    provider.remove_txt(&handle).await.unwrap();
    assert_eq!(fake.values(NAME), others);
    assert_eq!(fake.records()[0].ttl, 7200);
}

#[tokio::test]
async fn routing_policies_are_refused_and_stay() {
    let fake = Fake::start().await;
    fake.put_weighted(NAME);
    let before = fake.records();
    let handle = RecordHandle::intent("route53", zone(), record("blue"));
    for error in [
        add(&fake.provider(), "mine").await.unwrap_err(),
        fake.provider().remove_txt(&handle).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
        assert!(error.to_string().contains("set_identifier=blue"), "{error}");
    }
    assert_eq!(fake.records(), before);
    assert_eq!(fake.api.count(CHANGE), 0);
}

#[tokio::test]
async fn a_cname_at_the_name_is_told_and_not_tried_again() {
    let fake = Fake::start().await;
    fake.put("CNAME", NAME, 60, &["elsewhere.example.net."]);
    let error = add(&fake.provider(), "mine").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
    assert!(error.message().contains("type CNAME") && error.hint().unwrap().contains("CNAME"));
    assert_eq!(fake.api.count(CHANGE), 1);
}
