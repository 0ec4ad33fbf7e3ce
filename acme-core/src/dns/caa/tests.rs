//! What is decided, as tables; and lookups against DNS servers made of one function each.

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::rdata::{CAA, NULL};
use hickory_proto::rr::{RData, Record, RecordType};
use proptest::prelude::*;

use super::*;
use crate::dns::tests::{Fake, name, reply, soon};
use crate::{Deadline, Identifier, Retry};

const ACCOUNT_URL: &str = "https://ca.example/acct/1";

fn record(flags: u8, tag: &str, value: &str) -> CaaRecord {
    let mut rdata = vec![flags, u8::try_from(tag.len()).unwrap()];
    rdata.extend_from_slice(tag.as_bytes());
    rdata.extend_from_slice(value.as_bytes());
    CaaRecord::from_rdata(&rdata).unwrap()
}

fn set(records: &[(u8, &str, &str)]) -> CaaSet {
    let records = records.iter().map(|(flags, tag, value)| record(*flags, tag, value));
    CaaSet::new("example.com".parse().unwrap(), records)
}

fn request() -> CaaRequest {
    let challenges = [ChallengeKind::Dns01, ChallengeKind::Http01];
    CaaRequest::new(["ca.example", "other-name.example."], challenges).with_account(ACCOUNT_URL)
}

fn obstacle(verdict: CaaVerdict) -> Option<CaaObstacle> {
    match verdict {
        CaaVerdict::Allowed { .. } => None,
        CaaVerdict::Forbidden { why, .. } => Some(why),
    }
}

/// Names of the challenges, or what is in the way.
fn decided(records: &[(u8, &str, &str)], wildcard: bool) -> String {
    match set(records).decide(wildcard, &request()) {
        CaaVerdict::Allowed { challenges } => {
            challenges.iter().map(ChallengeKind::as_str).collect::<Vec<_>>().join(",")
        }
        CaaVerdict::Forbidden { why, .. } => why.to_string(),
    }
}

#[test]
fn records_that_let_the_ca_issue_do() {
    for records in [
        &[(0, "issue", "ca.example")][..],
        &[(0, "ISSUE", "CA.Example")],
        &[(128, "issue", "other-name.example")],
        &[(0, "issue", " \tca.example\t ; ")],
        &[(0, "issue", "ca.example;")],
        &[(0, "issue", "ca.example; unknown=1; x-y = z=2 ; empty=")],
        &[(0, "issue", "else.example"), (0, "issue", "ca.example")],
        &[(0, "issue", ";"), (0, "issue", "ca.example")],
        &[(0, "issue", "?"), (0, "issue", "ca.example")],
        &[(0, "issue", "ca.example; accounturi=https://else"), (0, "issue", "ca.example")],
        &[(0, "issue", "ca.example; accounturi=https://ca.example/acct/1")],
        &[(0, "issue", "ca.example; validationmethods=tls-alpn-01,http-01,dns-01,ca-own")],
        // Nothing here restricts issuance for a host.
        &[(0, "issuewild", ";")],
        &[(128, "iodef", "mailto:a@example.com"), (0, "unknown", "x")],
        &[(128, "issuemail", ";"), (128, "contactemail", "a@example.com")],
        // Only the first bit is the critical one.
        &[(127, "unknown", "x"), (0, "issue", "ca.example")],
    ] {
        assert_eq!(decided(records, false), "dns-01,http-01", "{records:?}");
    }
}

#[test]
fn records_that_forbid_say_why() {
    let none = "none of them names this CA";
    for (records, why) in [
        (&[(0, "issue", "else.example")][..], none),
        (&[(0, "issue", ";")], none),
        (&[(0, "issue", "")], none),
        (&[(0, "issue", "; x=1")], none),
        (&[(0, "issue", "sub.ca.example")], none),
        (&[(0, "issue", "example")], none),
        (&[(128, "Future", "x"), (0, "issue", "ca.example")], "the critical property `Future` is not known"),
        (&[(129, "", "x"), (0, "issue", "ca.example")], "the critical property `` is not known"),
        (&[(0, "issue", "ca.example; accounturi=https://ca.example/acct/2")], "names another account"),
        (&[(0, "issue", "ca.example; accounturi=HTTPS://ca.example/acct/1")], "names another account"),
        (&[(0, "issue", "ca.example; accounturi=")], "names another account"),
        (&[(0, "issue", "ca.example; validationmethods=tls-alpn-01")], "names methods of validation"),
        (&[(0, "issue", "ca.example; validationmethods=DNS-01")], "names methods of validation"),
        (&[(0, "issue", "ca.example; validationmethods=")], "parameters that nothing satisfies"),
        (&[(0, "issue", "ca.example; validationmethods=dns-01,")], "parameters that nothing satisfies"),
        (
            &[(0, "issue", "ca.example; validationmethods=dns-01; ValidationMethods=dns-01")],
            "parameters that nothing satisfies",
        ),
        (
            &[(
                0,
                "issue",
                "ca.example; accounturi=https://ca.example/acct/1; accounturi=https://ca.example/acct/1",
            )],
            "there twice",
        ),
        // That the CA is named is told, wherever something else is malformed.
        (&[(0, "issue", "ca.example; accounturi=x"), (0, "issue", "?")], "names another account"),
        (&[(0, "issue", "?"), (0, "issue", "ca.example; accounturi=x")], "names another account"),
    ] {
        let told = decided(records, false);
        assert!(told.contains(why), "{records:?}: {told}");
    }
}

#[test]
fn a_malformed_value_names_nobody() {
    for value in [
        "ca.example.",
        "ca..example",
        ".ca.example",
        "-ca.example",
        "ca-.example",
        "ca.example x",
        "ca.example x=1",
        "ca_x.example",
        "cä.example",
        "ca.example; x",
        "ca.example; =1",
        "ca.example; x=1;",
        "ca.example; x=1;; y=2",
        "ca.example;;",
        "ca.example; -x=1",
        "ca.example; x_y=1",
        "ca.example; x=a b",
        "ca.example; x=ä",
        "ca.example; x=\u{7f}",
        "ca.example\n",
        "\u{0}",
    ] {
        let told = decided(&[(0, "issue", value)], false);
        assert!(told.contains("is malformed and names nobody"), "{value:?}: {told}");
    }
    let latin = CaaSet::new(
        "example.com".parse().unwrap(),
        [CaaRecord::from_rdata(b"\x00\x05issueca.example\xff").unwrap()],
    );
    assert!(matches!(obstacle(latin.decide(false, &request())), Some(CaaObstacle::Malformed(_))));
}

#[test]
fn issuewild_alone_counts_for_a_wildcard_where_it_is_there() {
    for (records, want) in [
        // http-01 shows nothing about the names below a host.
        (&[(0, "issue", "ca.example")][..], "dns-01"),
        (&[(0, "issue", ";"), (0, "issuewild", "ca.example")], "dns-01"),
        (&[(0, "IssueWild", "ca.example")], "dns-01"),
        (&[(0, "issue", "ca.example"), (0, "issuewild", ";")], "none of them names this CA"),
        (&[(0, "issue", "ca.example"), (0, "issuewild", "else.example")], "none of them names this CA"),
        (&[(0, "issue", "else.example")], "none of them names this CA"),
        (&[(0, "iodef", "mailto:a@example.com")], "dns-01"),
    ] {
        assert_eq!(decided(records, true), want, "{records:?}");
    }
    let told = decided(&[(0, "issue", "ca.example; validationmethods=http-01")], true);
    assert!(told.contains("names methods of validation"), "{told}");
}

#[test]
fn each_property_adds_its_methods() {
    let one = (0, "issue", "ca.example; validationmethods=http-01");
    let two = (0, "issue", "ca.example; validationmethods=dns-01,tls-alpn-01");
    let foreign = (0, "issue", "ca.example; validationmethods=dns-01; accounturi=https://else");
    assert_eq!(decided(&[one], false), "http-01");
    assert_eq!(decided(&[one, two], false), "dns-01,http-01");
    assert_eq!(decided(&[one, foreign], false), "http-01");
}

#[test]
fn what_is_not_known_forbids_nothing() {
    let bound = set(&[(0, "issue", "ca.example; accounturi=https://else")]);
    let new_account = CaaRequest::new(["ca.example"], [ChallengeKind::Dns01]);
    assert_eq!(obstacle(bound.decide(false, &new_account)), None);
    let nameless =
        CaaRequest::new([" ", ".", "a b", "ca\n.example", "ca.example; x=1"], [ChallengeKind::Dns01]);
    assert_eq!(obstacle(set(&[(0, "issue", ";")]).decide(false, &nameless)), None);
}

#[test]
fn the_remedy_is_as_strict_as_what_names_the_ca() {
    for (records, wildcard, want) in [
        (&[(0, "issue", ";")][..], false, r#"0 issue "ca.example""#),
        (&[(0, "issue", ";")], true, r#"0 issue "ca.example""#),
        (&[(0, "issuewild", ";")], true, r#"0 issuewild "ca.example""#),
        (
            &[(0, "issue", "CA.example; accounturi=https://else")],
            false,
            r#"0 issue "ca.example; accounturi=https://ca.example/acct/1""#,
        ),
        (
            &[(0, "issue", "ca.example; accounturi=https://else; validationmethods=tls-alpn-01")],
            false,
            r#"0 issue "ca.example; accounturi=https://ca.example/acct/1; validationmethods=dns-01,http-01""#,
        ),
        (
            &[(0, "issue", "ca.example; validationmethods=http-01")],
            true,
            r#"0 issue "ca.example; validationmethods=dns-01""#,
        ),
    ] {
        let set = set(records);
        let remedy = set.remedy(wildcard, &request());
        assert_eq!(remedy, want, "{records:?}");
        // It does help.
        let (tag, value) = remedy.strip_prefix("0 ").unwrap().split_once(' ').unwrap();
        let mut mended = set.clone();
        mended.records.push(record(0, tag, value.trim_matches('"')));
        assert_eq!(obstacle(mended.decide(wildcard, &request())), None, "{records:?}");
    }
}

#[test]
fn a_record_is_read_and_shown_as_in_a_zone_file() {
    let long = [b"\x80\x14averyveryverylongtag".as_slice(), b"a\"b\\c\x00\xe4;"].concat();
    let long = CaaRecord::from_rdata(&long).unwrap();
    assert!(long.is_critical() && long.has_tag("AVeryVeryVeryLongTag"));
    assert_eq!(long.to_string(), r#"128 averyveryverylongtag "a\"b\\c\000\228;""#);
    let strange = CaaRecord::from_rdata(b"\x00\x03a\n\xff").unwrap();
    assert_eq!((strange.tag(), strange.value(), strange.flags()), (r"a\n\xff", &b""[..], 0));
    for bad in [&b""[..], b"\x00", b"\x00\x01", b"\x00\x05issu"] {
        assert_eq!(CaaRecord::from_rdata(bad).unwrap_err().kind(), ErrorKind::Protocol, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn whatever_a_record_is_it_is_read(rdata in proptest::collection::vec(0u8.., 0..60), wildcard: bool) {
        if let Ok(record) = CaaRecord::from_rdata(&rdata) {
            prop_assert!(record.to_string().is_ascii());
            let set = CaaSet::new("example.com".parse().unwrap(), [record]);
            let _ = (set.decide(wildcard, &request()), set.remedy(wildcard, &request()));
        }
    }

    #[test]
    fn whatever_a_value_is_it_is_read(value in "[ -~\t;=.,a-c]{0,40}", wildcard: bool) {
        let set = set(&[(0, "issue", &value), (0, "issuewild", &value)]);
        let _ = (set.decide(wildcard, &request()), set.remedy(wildcard, &request()));
    }

    #[test]
    fn unknown_parameters_change_nothing(
        tag in "[a-z0-9]{1,5}(-[a-z0-9]{1,5}){0,2}x",
        value in "[!-:<-~]{0,20}",
        known in prop::sample::select(vec!["", "; validationmethods=http-01", "; accounturi=https://else"]),
    ) {
        let with = format!("ca.example; {tag} = {value}{known}");
        let without = format!("ca.example{known}");
        let decided = |value: &str| match set(&[(0, "issue", value)]).decide(false, &request()) {
            CaaVerdict::Allowed { challenges } => Ok(challenges),
            CaaVerdict::Forbidden { why, .. } => Err(std::mem::discriminant(&why)),
        };
        prop_assert_eq!(decided(&with), decided(&without));
    }
}

/// Answers with these data of type CAA at `example.com`, and elsewhere with this code.
async fn fake(rdata: &'static [&'static [u8]], elsewhere: ResponseCode) -> Fake {
    Fake::start(move |message: &Message, _| {
        let asked = message.queries[0].name().clone();
        if asked.to_ascii() != "example.com." {
            return vec![reply(message, elsewhere).to_vec().unwrap()];
        }
        let mut answer = reply(message, ResponseCode::NoError);
        for octets in rdata {
            let rdata = RData::Unknown { code: RecordType::CAA, rdata: NULL::with(octets.to_vec()) };
            answer.add_answer(Record::from_rdata(asked.clone(), 1, rdata));
        }
        vec![answer.to_vec().unwrap()]
    })
    .await
}

#[tokio::test]
async fn the_nearest_records_count_and_nobody_above_is_asked() {
    let server = fake(&[b"\x00\x05issueca.example"], ResponseCode::NXDomain).await;
    let found = server.resolver().relevant_caa(&name("a.b.example.com"), soon()).await.unwrap().unwrap();
    assert_eq!((found, server.asked()), (set(&[(0, "issue", "ca.example")]), 3));
    assert_eq!(server.resolver().relevant_caa(&name("a.test"), soon()).await.unwrap(), None);
    assert_eq!(server.asked(), 5, "the top-level domain is the last that is asked");
}

#[tokio::test]
async fn a_tag_of_more_than_fifteen_octets_hides_nothing() {
    let rdata: &[&[u8]] = &[b"\x00\x14averyveryverylongtagx", b"\x00\x05issueca.example"];
    let server = fake(rdata, ResponseCode::NoError).await;
    let found = server.resolver().relevant_caa(&name("example.com"), soon()).await.unwrap().unwrap();
    assert_eq!(found.records.len(), 2, "{found:?}");
    // A record that is cut off says nothing, but not that there is none.
    let server = fake(&[b"\x00\x05iss"], ResponseCode::NoError).await;
    let error = server.resolver().relevant_caa(&name("example.com"), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}

#[tokio::test]
async fn a_lookup_that_fails_does_not_count_as_no_records() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused] {
        let server = fake(&[], code).await;
        let error = server.resolver().relevant_caa(&name("a.example.com"), soon()).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Backoff), "{error}");
        assert!(error.to_string().contains("(name=a.example.com, resolver=127.0.0.1:"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("RFC 8659 section 6")), "{error}");
    }
    // The upper half of this code is in the OPT record; the lower one alone means NOERROR.
    let server = Fake::start(|message, _| {
        let mut answer = reply(message, ResponseCode::BADVERS);
        answer.set_edns(Edns::new());
        assert_eq!(answer.to_vec().unwrap()[3] & 0x0f, 0);
        vec![answer.to_vec().unwrap()]
    });
    let error = server.await.resolver().relevant_caa(&name("example.com"), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_silent_resolver_costs_the_deadline_for_all_names_together() {
    let server = Fake::silent().await;
    let names: Vec<Identifier> = (0..20).map(|i| format!("h{i}.example.com").parse().unwrap()).collect();
    let deadline = Deadline::after(std::time::Duration::from_millis(400));
    let error = check_caa(&server.resolver(), &names, &request(), deadline).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(server.asked() <= 8, "{} names were asked for at once", server.asked());
}

#[test]
fn what_the_resolver_library_writes_is_read() {
    let record = CAA::new_issue(true, None, Vec::new());
    let mut message = reply(&Message::query(), ResponseCode::NoError);
    message.add_answer(Record::from_rdata("example.com.".parse().unwrap(), 1, RData::CAA(record)));
    let answer = crate::dns::query::read_caa(&message.to_vec().unwrap(), &name("example.com")).unwrap();
    assert_eq!(answer.answers.len(), 1);
}
