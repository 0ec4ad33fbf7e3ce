//! Which zone a name is in.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use acmekit_conformance::api::Fault;
use acmekit_core::{DnsName, DnsProvider, ErrorKind, RecordHandle, TxtRecord, Zone};
use acmekit_route53::Route53;

use self::fake::{Fake, ZONE, error};

const LIST: &str = "GET /2013-04-01/hostedzone?";

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

#[tokio::test]
async fn the_longest_public_zone_is_found_over_all_pages() {
    let fake = Fake::start().await;
    let provider = fake.provider();
    for (at, zone, id) in [
        ("_acme-challenge.www.deep.example.test", "deep.example.test", ZONE),
        ("deep.example.test", "deep.example.test", ZONE),
        ("notdeep.example.test", "example.test", "Z0EXAMPLETEST"),
        // The zone of this name is private.
        ("www.private.example.test", "example.test", "Z0EXAMPLETEST"),
    ] {
        let found = provider.zone(&name(at)).await.unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.id.as_deref()), (zone, Some(id)), "{at}");
    }
    assert_eq!(provider.zone(&name("www.example.org")).await.unwrap(), None);
    assert_eq!(fake.api.count("GET /2013-04-01/hostedzone") % 3, 0, "there are three pages");
}

#[tokio::test]
async fn two_public_zones_of_one_name_are_told_and_an_id_decides() {
    let fake = Fake::start().await;
    fake.add_zone("Z0SECOND", "deep.example.test.");
    let error = fake.provider().zone(&name("www.deep.example.test")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
    let shown = error.to_string();
    assert!(shown.contains(ZONE) && shown.contains("Z0SECOND"), "{shown}");
    assert!(error.hint().unwrap().contains("hosted_zone_id"));
    assert_eq!(
        fake.provider().zone(&name("www.example.test")).await.unwrap().unwrap().name,
        name("example.test")
    );

    let provider = Route53::new(fake.config().with_hosted_zone_id("Z0SECOND")).unwrap();
    let found = provider.zone(&name("www.deep.example.test")).await.unwrap().unwrap();
    assert_eq!(found.id.as_deref(), Some("Z0SECOND"));
}

#[tokio::test]
async fn with_an_id_zones_are_not_listed() {
    let fake = Fake::start().await;
    let provider = Route53::new(fake.config().with_hosted_zone_id(ZONE)).unwrap();
    let zone = provider.zone(&name("_acme-challenge.deep.example.test")).await.unwrap().unwrap();
    let record = TxtRecord::new(name("_acme-challenge.deep.example.test"), "value");
    let handle = provider.add_txt(&zone, &record).await.unwrap();
    // As a journal may have it that was written by hand: without an id.
    let by_name = RecordHandle::intent("route53", Zone::new(zone.name.clone()), handle.record);
    provider.remove_txt(&by_name).await.unwrap();
    assert_eq!(provider.zone(&name("www.example.test")).await.unwrap(), None);
    assert_eq!(fake.records(), []);
    assert_eq!(fake.api.count(LIST) + fake.api.count("GET /2013-04-01/hostedzone HTTP"), 0);
    assert_eq!(fake.api.count(&format!("GET /2013-04-01/hostedzone/{ZONE}/rrset")), 3);
    let asked = fake.api.asked();
    let is_list = |path: &str| path.trim_end_matches('/') == "/2013-04-01/hostedzone";
    assert!(asked.iter().all(|asked| !is_list(asked.path.split('?').next().unwrap())), "zones were listed");
    assert_eq!(asked.iter().filter(|asked| asked.path.ends_with(ZONE)).count(), 1, "its name is learnt once");
}

#[tokio::test]
async fn an_id_of_a_private_zone_or_of_none_is_refused() {
    let fake = Fake::start().await;
    for (id, kind) in [("Z0PRIVATE", ErrorKind::Config), ("Z0NOWHERE", ErrorKind::NotFound)] {
        let provider = Route53::new(fake.config().with_hosted_zone_id(id)).unwrap();
        let error = provider.zone(&name("www.private.example.test")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{}", error.report());
        assert!(error.hint().is_some(), "{}", error.report());
    }
}

#[tokio::test]
async fn a_name_outside_the_zone_is_not_sent() {
    let fake = Fake::start().await;
    let zone = Zone::new(name("deep.example.test")).with_id(ZONE);
    let record = TxtRecord::new(name("_acme-challenge.example.test"), "value");
    let error = fake.provider().add_txt(&zone, &record).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(fake.api.count(""), 0);
}

#[tokio::test]
async fn a_policy_without_list_hosted_zones_is_told_with_what_it_needs() {
    let fake = Fake::start().await;
    let said =
        "User: arn:aws:iam::123456789012:user/acme is not authorized to perform: route53:ListHostedZones";
    fake.api.fail("GET", Fault::Instead(error(403, "AccessDenied", said)));
    let error = fake.provider().zone(&name("www.example.test")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.vendor_code()),
        (ErrorKind::Auth, Some("AccessDenied")),
        "{}",
        error.report()
    );
    assert!(error.message().contains(said) && error.hint().unwrap().contains("hosted_zone_id"));
    assert_eq!(fake.api.count(""), 1, "it was repeated");
}
