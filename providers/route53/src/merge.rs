//! What is to be changed so that one value comes, or goes: pure.
//!
//! A change is a compare-and-swap. Route 53 does all of a batch or nothing, and takes a `DELETE` only
//! if it names what is there exactly, a `CREATE` only if nothing is there ([ChangeResourceRecordSets]).
//! So the batch that deletes what was read and creates what is wanted fails if somebody was faster.
//! `UPSERT` would overwrite what they did.
//!
//! [ChangeResourceRecordSets]: https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html

use acmekit_core::{Error, ErrorKind, Result, TxtRecord};
use aws_sdk_route53::error::BuildError;
use aws_sdk_route53::types::{Change, ChangeAction, ResourceRecord, ResourceRecordSet, RrType};

use crate::text;

/// Route 53's largest TTL.
const MAX_TTL: i64 = 2_147_483_647;

/// What is done with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    There,
    Gone,
}

/// Whether one of these has the value.
pub(crate) fn has(found: &[ResourceRecordSet], value: &str) -> bool {
    found.iter().flat_map(ResourceRecordSet::resource_records).any(|record| is(record, value))
}

fn is(record: &ResourceRecord, value: &str) -> bool {
    text::unquoted(record.value()) == value.as_bytes()
}

/// Refuses what is no simple record: taking it apart would change how the zone is served.
pub(crate) fn simple(op: &'static str, found: &[ResourceRecordSet]) -> Result<()> {
    for set in found {
        let what = if set.alias_target().is_some() {
            "an alias"
        } else if set.set_identifier().is_some() {
            "records with a routing policy (weighted, by latency, multivalue, …)"
        } else if set.traffic_policy_instance_id().is_some() {
            "a record of a traffic policy"
        } else {
            continue;
        };
        let error = Error::new(ErrorKind::Config, op, format!("at this name there is {what}, of type TXT"));
        let error = match set.set_identifier() {
            Some(id) => error.with("set_identifier", id),
            None => error,
        };
        return Err(error.with_hint(
            "a value cannot be added to it without changing how it is answered: remove it, or make it a simple record",
        ));
    }
    Ok(())
}

/// The batch that makes the wish true; `None` if it is. AWS never has more than one simple record set
/// of a type at a name; of a server that has several, one is made.
///
/// The TTL of what is there stays; a record set that is new has the value's own. `again` counts
/// batches that were refused although nothing had changed: moto, which keeps a list of all it was ever
/// asked, takes no `CREATE` a second time. A second more in the TTL makes it another one.
pub(crate) fn batch(
    found: &[ResourceRecordSet],
    record: &TxtRecord,
    wish: Wish,
    again: i64,
) -> Result<Option<Vec<Change>>> {
    if has(found, &record.value) == (wish == Wish::There) {
        return Ok(None);
    }
    let mut values: Vec<ResourceRecord> = Vec::new();
    for there in found.iter().flat_map(ResourceRecordSet::resource_records) {
        let goes = wish == Wish::Gone && is(there, &record.value);
        if !goes && !values.contains(there) {
            values.push(there.clone());
        }
    }
    let impossible = |e: BuildError| {
        Error::new(ErrorKind::Other, "route53.batch", "the change cannot be written").with_source(e)
    };
    if wish == Wish::There {
        let value = text::quoted(record.value.as_bytes());
        values.push(ResourceRecord::builder().value(value).build().map_err(impossible)?);
    }
    let change =
        |action, set| Change::builder().action(action).resource_record_set(set).build().map_err(impossible);
    let mut changes = Vec::new();
    for set in found {
        changes.push(change(ChangeAction::Delete, set.clone())?);
    }
    if !values.is_empty() {
        let own = i64::try_from(record.ttl.as_secs()).unwrap_or(MAX_TTL);
        let ttl = found.iter().find_map(ResourceRecordSet::ttl).unwrap_or(own);
        let set = ResourceRecordSet::builder()
            .name(format!("{}.", record.name))
            .r#type(RrType::Txt)
            .ttl(ttl.saturating_add(again).clamp(0, MAX_TTL))
            .set_resource_records(Some(values))
            .set_health_check_id(found.iter().find_map(|set| set.health_check_id().map(str::to_owned)))
            .build()
            .map_err(impossible)?;
        changes.push(change(ChangeAction::Create, set)?);
    }
    Ok(Some(changes))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn set(ttl: i64, values: &[&str]) -> ResourceRecordSet {
        let values = values.iter().map(|value| ResourceRecord::builder().value(*value).build().unwrap());
        ResourceRecordSet::builder()
            .name("_acme-challenge.example.com.")
            .r#type(RrType::Txt)
            .ttl(ttl)
            .set_resource_records(Some(values.collect()))
            .build()
            .unwrap()
    }

    fn record(value: &str) -> TxtRecord {
        let name = "_acme-challenge.example.com".parse().unwrap();
        TxtRecord::new(name, value).with_ttl(Duration::from_secs(60))
    }

    fn changes(
        found: &[ResourceRecordSet],
        value: &str,
        wish: Wish,
        again: i64,
    ) -> Vec<(String, i64, Vec<String>)> {
        let batch = batch(found, &record(value), wish, again).unwrap().unwrap_or_default();
        let told = |change: &Change| {
            let set = change.resource_record_set().unwrap();
            let values = set.resource_records().iter().map(|it| it.value().to_owned()).collect();
            (change.action().as_str().to_owned(), set.ttl().unwrap(), values)
        };
        batch.iter().map(told).collect()
    }

    fn told(action: &str, ttl: i64, values: &[&str]) -> (String, i64, Vec<String>) {
        (action.to_owned(), ttl, values.iter().map(|&value| value.to_owned()).collect())
    }

    #[test]
    fn the_first_value_makes_the_record_and_the_last_takes_it_away() {
        assert_eq!(changes(&[], "v", Wish::There, 0), [told("CREATE", 60, &["\"v\""])]);
        assert_eq!(changes(&[set(60, &["\"v\""])], "v", Wish::Gone, 0), [told("DELETE", 60, &["\"v\""])]);
        assert_eq!(changes(&[], "v", Wish::Gone, 0), []);
        assert_eq!(changes(&[set(60, &["\"v\""])], "v", Wish::There, 0), []);
    }

    #[test]
    fn what_others_have_there_stays_to_the_octet_with_its_ttl() {
        let others = ["\"v=spf1 \\\"x\\\"\"", "\"a\" \"b\"", "\"\\344\""];
        let found = set(3600, &others);
        let with = [others.to_vec(), vec!["\"v\""]].concat();
        assert_eq!(
            changes(std::slice::from_ref(&found), "v", Wish::There, 0),
            [told("DELETE", 3600, &others), told("CREATE", 3600, &with)]
        );
        assert_eq!(
            changes(&[set(3600, &with)], "v", Wish::Gone, 0),
            [told("DELETE", 3600, &with), told("CREATE", 3600, &others)]
        );
    }

    #[test]
    fn a_value_is_the_same_however_it_is_written() {
        for written in ["\"v\"", "v", "\"\\166\"", "\"\" \"v\""] {
            assert_eq!(changes(&[set(60, &[written])], "v", Wish::There, 0), []);
            assert_eq!(changes(&[set(60, &[written])], "v", Wish::Gone, 0), [told("DELETE", 60, &[written])]);
        }
    }

    #[test]
    fn of_several_record_sets_one_is_made() {
        let found = [set(60, &["\"a\""]), set(60, &["\"b\"", "\"a\""])];
        assert_eq!(
            changes(&found, "c", Wish::There, 0),
            [
                told("DELETE", 60, &["\"a\""]),
                told("DELETE", 60, &["\"b\"", "\"a\""]),
                told("CREATE", 60, &["\"a\"", "\"b\"", "\"c\""])
            ]
        );
    }

    #[test]
    fn no_batch_is_sent_twice() {
        assert_eq!(changes(&[], "v", Wish::There, 2), [told("CREATE", 62, &["\"v\""])]);
        assert_eq!(changes(&[set(i64::MAX, &["\"a\""])], "v", Wish::There, 1).last().unwrap().1, MAX_TTL,);
    }

    #[test]
    fn routing_policies_and_aliases_are_refused() {
        let weighted =
            ResourceRecordSet::builder().name("x.").r#type(RrType::Txt).set_identifier("blue").weight(1);
        let policy =
            ResourceRecordSet::builder().name("x.").r#type(RrType::Txt).traffic_policy_instance_id("p");
        for set in [weighted, policy] {
            let error = simple("route53.add_txt", &[set.build().unwrap()]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.hint().is_some());
        }
        simple("route53.add_txt", &[set(60, &["\"a\""])]).unwrap();
    }
}
