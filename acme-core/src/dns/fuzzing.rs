//! For the fuzz targets only: what DNS servers answer, read without the network.

use std::time::{Duration, SystemTime};

use hickory_proto::op::Message;

use super::caa::{CaaObstacle, CaaRecord, CaaRequest, CaaSet, CaaVerdict};
use super::issue_value::{IssueValue, methods};
use super::query::{Answer, Value, read, read_caa};
use super::{exchange, resolv_conf};
use crate::solvers::dns_persist01;
use crate::{Challenge, ChallengeKind, DnsName, KeyAuthorization};

/// The octets as an answer, as the data of one record, as its value, and as a resolv.conf.
///
/// # Panics
/// If more is read than is there, or if an answer is taken for that to another question.
pub(crate) fn answers(octets: &[u8]) {
    let Ok(name) = "_acme-challenge.example.com".parse::<DnsName>() else { return };
    if let Ok(message) = Message::from_vec(octets) {
        check(&read(message), octets);
    }
    let mut records: Vec<CaaRecord> = CaaRecord::from_rdata(octets).into_iter().collect();
    if let Some(answer) = read_caa(octets, &name) {
        check(&answer, octets);
        records.extend(answer.answers.into_iter().filter_map(|data| match data.value {
            Value::Property(record) => Some(record),
            _ => None,
        }));
    }
    decide(&CaaSet::new(name, records));
    if let Some(value) = IssueValue::parse(octets) {
        let _ =
            (value.parameter("accounturi"), value.parameter("validationmethods").map(|it| it.map(methods)));
    }
    if let Some(challenge) = standing() {
        dns_persist01::fuzz(octets, &challenge, SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000));
    }
    // A server's answer to its own message, under the right id and under another one.
    let mut answer = octets.to_vec();
    if let Some(flags) = answer.get_mut(2) {
        *flags |= 0x80;
    }
    exchange::answers(octets, &answer);
    if let Some(id) = answer.first_mut() {
        *id ^= 1;
        assert!(!exchange::answers(octets, &answer), "the answer to another question is taken");
    }
    resolv_conf(&String::from_utf8_lossy(octets));
}

fn standing() -> Option<Challenge> {
    let (identifier, proof) = ("*.example.com".parse().ok()?, KeyAuthorization::new("", "thumbprint"));
    let challenge = Challenge::new(identifier, ChallengeKind::DnsPersist01, "", proof);
    Some(challenge.with_account("https://ca.example/1").with_issuers(["ca.example"]))
}

fn check(answer: &Answer, octets: &[u8]) {
    for data in answer.answers.iter().chain(&answer.authorities).chain(&answer.additionals) {
        let names = match &data.value {
            Value::Alias(name) | Value::NameServer(name) => [Some(name), Some(&data.owner)],
            _ => [None, Some(&data.owner)],
        };
        for name in names.into_iter().flatten() {
            assert!(
                name.as_str().parse::<DnsName>().is_ok_and(|again| again == *name),
                "a name has two forms"
            );
        }
        if let Value::Text(text) = &data.value {
            assert!(text.len() <= octets.len(), "a TXT value is longer than its answer");
        }
    }
}

fn decide(set: &CaaSet) {
    let kinds = [ChallengeKind::Http01, ChallengeKind::Dns01, ChallengeKind::TlsAlpn01];
    let request = CaaRequest::new(["ca.example"], kinds.clone());
    for (wildcard, request) in [
        (false, request.clone()),
        (true, request.clone()),
        (false, request.with_account("https://ca.example/1")),
    ] {
        match set.decide(wildcard, &request) {
            CaaVerdict::Allowed { challenges } => {
                assert!(
                    challenges.iter().all(|kind| kinds.contains(kind)),
                    "a challenge nobody answers is allowed"
                );
                let of_one_host = [ChallengeKind::Http01, ChallengeKind::TlsAlpn01];
                assert!(!wildcard || !of_one_host.iter().any(|kind| challenges.contains(kind)));
            }
            CaaVerdict::Forbidden { why, .. } => {
                let _ = why.to_string();
                assert!(!set.records.is_empty(), "no record forbids anything");
                // What a person is told to add is enough, unless something else has to go.
                if !matches!(why, CaaObstacle::UnknownCritical(_)) {
                    let told = set.with_remedy(wildcard, &request);
                    let allowed = matches!(told.decide(wildcard, &request), CaaVerdict::Allowed { .. });
                    assert!(allowed, "the record that is told to be added does not help: {told:?}");
                }
            }
        }
    }
}
