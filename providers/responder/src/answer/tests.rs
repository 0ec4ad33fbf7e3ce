use acmekit_core::DnsName;
use hickory_proto::rr::Name;
use proptest::prelude::*;

use super::*;
use crate::config::Config;

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

/// Two zones, one below the other; a value at `_acme-challenge.www.acme.test`.
fn tree() -> Tree {
    let config = Config::new([name("acme.test"), name("deep.down.acme.test")], [name("ns.acme.test")])
        .address(name("ns.acme.test"), [192, 0, 2, 53].into());
    let mut tree = Tree::new(&config).unwrap();
    tree.add_text(&name("_acme-challenge.www.acme.test"), "value");
    tree
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn with_edns(mut message: Message, version: u8, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_version(version).set_max_payload(payload).set_dnssec_ok(true);
    message.set_edns(edns);
    message
}

/// The octets of the answer, over UDP.
fn raw(tree: &Tree, octets: &[u8]) -> Option<Vec<u8>> {
    match read(octets) {
        Asked::Nothing => None,
        Asked::Error(answer) => Some(answer),
        Asked::Question(question) => Some(question.answer_over_udp(tree, true)),
    }
}

fn ask(tree: &Tree, message: &Message) -> Message {
    let answer = Message::from_vec(&raw(tree, &message.to_vec().unwrap()).unwrap()).unwrap();
    assert_eq!(answer.metadata.id, message.metadata.id);
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    answer
}

/// Response code, AA, and how many records there are in answer and authority.
fn shape(name: &str, kind: RecordType) -> (ResponseCode, bool, usize, usize) {
    let answer = ask(&tree(), &question(name, kind));
    let metadata = answer.metadata;
    (metadata.response_code, metadata.authoritative, answer.answers.len(), answer.authorities.len())
}

#[test]
fn each_question_gets_the_answer_of_the_standards() {
    use RecordType as T;
    use ResponseCode::{NXDomain, NoError, NotImp, Refused};
    assert_eq!(shape("acme.test.", T::SOA), (NoError, true, 1, 0));
    assert_eq!(shape("acme.test.", T::NS), (NoError, true, 1, 0));
    assert_eq!(shape("ns.acme.test.", T::A), (NoError, true, 1, 0));
    assert_eq!(shape("ns.acme.test.", T::AAAA), (NoError, true, 0, 1));
    assert_eq!(shape("_acme-challenge.www.acme.test.", T::TXT), (NoError, true, 1, 0));
    assert_eq!(shape("_acme-challenge.www.acme.test.", T::CAA), (NoError, true, 0, 1));
    assert_eq!(shape("_acme-challenge.www.acme.test.", T::CNAME), (NoError, true, 0, 1));
    // A name with nothing but others below it exists, and so does one above a zone.
    assert_eq!(shape("www.acme.test.", T::TXT), (NoError, true, 0, 1));
    assert_eq!(shape("down.acme.test.", T::TXT), (NoError, true, 0, 1));
    assert_eq!(shape("nothing.acme.test.", T::TXT), (NXDomain, true, 0, 1));
    assert_eq!(shape("below._acme-challenge.www.acme.test.", T::TXT), (NXDomain, true, 0, 1));
    assert_eq!(shape("nothing.acme.test.", T::CAA), (NXDomain, true, 0, 1));
    for kind in [T::CNAME, T::SOA] {
        assert_eq!(
            shape("nothing.acme.test.", kind),
            (NoError, true, 0, 1),
            "who is told so asks for TXT next"
        );
    }
    assert_eq!(shape("acme.test.", T::CAA), (NoError, true, 0, 1));
    assert_eq!(shape("test.", T::SOA), (Refused, false, 0, 0));
    assert_eq!(shape("notacme.test.", T::TXT), (Refused, false, 0, 0));
    assert_eq!(shape(".", T::NS), (Refused, false, 0, 0));
    assert_eq!(shape("acme.test.", T::AXFR), (Refused, false, 0, 0));
    assert_eq!(shape("acme.test.", T::IXFR), (Refused, false, 0, 0));
    assert_eq!(shape("acme.test.", T::Unknown(249)), (NotImp, false, 0, 0));
    assert_eq!(shape("acme.test.", T::Unknown(65_280)), (NoError, true, 0, 1));
}

#[test]
fn any_is_answered_with_next_to_nothing() {
    let answer = ask(&tree(), &question("_acme-challenge.www.acme.test.", RecordType::ANY));
    assert!(matches!(answer.answers.as_slice(), [one] if one.record_type() == RecordType::HINFO));
    assert_eq!(shape("www.acme.test.", RecordType::ANY), (ResponseCode::NoError, true, 0, 1));
    assert_eq!(shape("nothing.acme.test.", RecordType::ANY), (ResponseCode::NXDomain, true, 0, 1));
}

#[test]
fn the_longest_zone_answers_and_its_parent_for_its_signatures() {
    let soa_of = |name: &str, kind| {
        let answer = ask(&tree(), &question(name, kind));
        answer.authorities.first().unwrap().name.to_ascii()
    };
    assert_eq!(soa_of("x.deep.down.acme.test.", RecordType::TXT), "deep.down.acme.test.");
    assert_eq!(soa_of("deep.down.acme.test.", RecordType::TXT), "deep.down.acme.test.");
    assert_eq!(soa_of("deep.down.acme.test.", RecordType::DS), "acme.test.");
    assert_eq!(soa_of("acme.test.", RecordType::DS), "acme.test.");
}

#[test]
fn the_name_is_repeated_as_it_was_spelled() {
    let asked = "_aCMe-ChALLenge.WWW.acme.TEST.";
    let answer = ask(&tree(), &question(asked, RecordType::TXT));
    assert_eq!(answer.queries.first().unwrap().name().to_ascii(), asked);
    assert_eq!(answer.answers.first().unwrap().name.to_ascii(), asked);
}

#[test]
fn a_zone_cut_comes_with_the_addresses_of_its_servers() {
    let answer = ask(&tree(), &question("deep.down.acme.test.", RecordType::NS));
    assert!(matches!(answer.additionals.as_slice(), [one] if one.name.to_ascii() == "ns.acme.test."));
}

#[test]
fn negative_answers_and_values_are_not_kept_for_long() {
    let denied = ask(&tree(), &question("nothing.acme.test.", RecordType::TXT));
    let soa = denied.authorities.first().unwrap();
    assert!(matches!(&soa.data, RData::SOA(data) if soa.ttl <= 5 && data.minimum <= 5), "{soa}");
    let value = ask(&tree(), &question("_acme-challenge.www.acme.test.", RecordType::TXT));
    assert!(value.answers.first().unwrap().ttl <= 5);
}

#[test]
fn edns_is_answered_by_edns_and_nothing_else_is() {
    let asked = question("acme.test.", RecordType::SOA);
    assert!(ask(&tree(), &asked).edns.is_none());
    let answer = ask(&tree(), &with_edns(asked.clone(), 0, 4096));
    let edns = answer.edns.unwrap();
    assert_eq!((edns.version(), edns.max_payload(), edns.flags().dnssec_ok), (0, UDP_PAYLOAD, true));
    let octets = raw(&tree(), &with_edns(asked, 1, 4096).to_vec().unwrap()).unwrap();
    let answer = Message::from_vec(&octets).unwrap();
    assert_eq!(u16::from(answer.metadata.response_code), 16, "BADVERS (RFC 6891 section 6.1.3)");
    assert_eq!((answer.edns.unwrap().version(), answer.answers.len()), (0, 0));
}

#[test]
fn what_does_not_fit_is_truncated_and_whole_over_tcp() {
    let mut tree = tree();
    for number in 0..20 {
        tree.add_text(&name("big.acme.test"), &format!("{number:0>64}"));
    }
    let asked = question("big.acme.test.", RecordType::TXT);
    for (message, limit) in [
        (asked.clone(), 512),
        (with_edns(asked.clone(), 0, 100), 512),
        (with_edns(asked.clone(), 0, 65_535), usize::from(UDP_PAYLOAD)),
    ] {
        let octets = raw(&tree, &message.to_vec().unwrap()).unwrap();
        let answer = Message::from_vec(&octets).unwrap();
        assert!(octets.len() <= limit);
        assert!(answer.metadata.truncation && answer.answers.is_empty(), "{answer}");
    }
    let Asked::Question(question) = read(&asked.to_vec().unwrap()) else { panic!("no question") };
    let answer = Message::from_vec(&question.answer_over_tcp(&tree, true)).unwrap();
    assert!(!answer.metadata.truncation);
    assert_eq!(answer.answers.len(), 20);
}

#[test]
fn other_operations_other_classes_and_odd_messages_are_refused() {
    let code = |octets: &[u8]| raw(&tree(), octets).map(|answer| answer[3] & 0x0f);
    let asked = question("acme.test.", RecordType::SOA).to_vec().unwrap();
    let changed = |at: usize, to: u8| {
        let mut octets = asked.clone();
        octets[at] = to;
        octets
    };
    assert_eq!(code(&asked), Some(0));
    assert_eq!(code(&changed(2, 0x80)), None, "an answer is not answered");
    assert_eq!(code(&changed(2, 0x28)), Some(4), "UPDATE");
    assert_eq!(code(&changed(2, 0x20)), Some(4), "NOTIFY");
    assert_eq!(code(&changed(5, 2)), Some(1), "two questions");
    assert_eq!(code(&changed(5, 0)), Some(1), "no question");
    assert_eq!(code(&changed(11, 1)), Some(1), "a record that is not there");
    assert_eq!(code(&asked[..11]), None);
    assert_eq!(code(&asked[..14]), Some(1));
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&chaos.to_vec().unwrap()), Some(5));
    let mut twice = with_edns(question("acme.test.", RecordType::SOA), 0, 512).to_vec().unwrap();
    twice.extend([0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0]);
    twice[11] = 2;
    assert_eq!(code(&twice), Some(1), "two OPT records (RFC 6891 section 6.1.1)");
}

#[test]
fn what_the_store_did_not_tell_is_not_denied() {
    let tree = tree();
    let code = |name: &str, kind| {
        let Asked::Question(asked) = read(&question(name, kind).to_vec().unwrap()) else { panic!() };
        Message::from_vec(&asked.answer_over_udp(&tree, false)).unwrap().metadata.response_code
    };
    assert_eq!(code("_acme-challenge.www.acme.test.", RecordType::TXT), ResponseCode::NoError);
    assert_eq!(code("nothing.acme.test.", RecordType::TXT), ResponseCode::ServFail);
    assert_eq!(code("nothing.acme.test.", RecordType::A), ResponseCode::ServFail);
    assert_eq!(code("acme.test.", RecordType::TXT), ResponseCode::ServFail);
    for kind in [RecordType::SOA, RecordType::NS, RecordType::CAA] {
        assert_eq!(code("acme.test.", kind), ResponseCode::NoError, "{kind}");
    }
    assert_eq!(code("www.example.com.", RecordType::TXT), ResponseCode::Refused);
}

#[test]
fn a_name_is_gone_with_its_last_value() {
    let mut tree = tree();
    let at = name("_acme-challenge.www.acme.test");
    tree.add_text(&at, "other");
    tree.remove_text(&at, "value");
    tree.remove_text(&at, "never there");
    assert!(tree.exists(&key_of(&Name::from_ascii("www.acme.test.").unwrap())));
    tree.remove_text(&at, "other");
    assert!(!tree.exists(&key_of(&Name::from_ascii("www.acme.test.").unwrap())));
    assert!(tree.exists(&key_of(&Name::from_ascii("acme.test.").unwrap())), "a zone stays");
}

proptest! {
    #[test]
    fn foreign_octets_get_one_small_answer_at_most(octets in proptest::collection::vec(0_u8.., 0..600)) {
        if let Some(answer) = raw(&tree(), &octets) {
            prop_assert!(answer.len() <= usize::from(UDP_PAYLOAD));
            prop_assert!(answer[2] & 0x80 != 0, "an answer says that it is one");
            prop_assert_eq!(&answer[..2], &octets[..2]);
        }
    }

    /// Near to a question: its header is whole, and some octets are others.
    #[test]
    fn broken_questions_get_one_small_answer_at_most(
        changes in proptest::collection::vec((4_usize..60, 0_u8..), 0..6),
        cut in 12_usize..60,
    ) {
        let asked = with_edns(question("_acme-challenge.www.acme.test.", RecordType::TXT), 0, 1232);
        let mut octets = asked.to_vec().unwrap();
        for (at, to) in changes {
            if let Some(octet) = octets.get_mut(at) {
                *octet = to;
            }
        }
        octets.truncate(cut);
        let answer = raw(&tree(), &octets).unwrap();
        prop_assert!(answer.len() <= usize::from(UDP_PAYLOAD));
    }
}
