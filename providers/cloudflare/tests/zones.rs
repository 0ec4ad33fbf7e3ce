//! Which zone a name is in, and what a credential must be able to do for it to be found.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use acmekit_cloudflare::{Cloudflare, Config, Credential};
use acmekit_core::{DnsName, DnsProvider, ErrorKind, RecordHandle, TxtRecord, Zone};

use self::fake::{DEEP, Fake, PARENT, Scope, TOKEN};

const OTHER: &str = "tokEN-of_another-kind-0123456789abcdefgh";

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

fn zone(text: &str, id: &str) -> Zone {
    Zone::new(name(text)).with_id(id)
}

#[tokio::test]
async fn the_longest_zone_is_found_and_nothing_is_listed_whole() {
    let fake = Fake::start().await;
    let provider = fake.provider(TOKEN);
    let found = provider.zone(&name("_acme-challenge.a.deep.example.test")).await.unwrap();
    assert_eq!(found, Some(zone("deep.example.test", DEEP)));
    let found = provider.zone(&name("_acme-challenge.notdeep.example.test")).await.unwrap();
    assert_eq!(found, Some(zone("example.test", PARENT)));
    let one_by_name = fake.api.count("GET /client/v4/zones?name=");
    assert_eq!(fake.api.count(""), one_by_name, "{:?}", fake.api.asked());
}

#[tokio::test]
async fn the_active_one_of_several_zones_of_a_name_is_found_on_a_later_page() {
    let fake = Fake::start().await;
    fake.change(|inner| {
        let pending = (1..=5).map(|number| (format!("{number:032x}"), "example.test".to_owned(), "pending"));
        inner.zones.splice(0..0, pending);
        inner.page = Some(2);
    });
    let found = fake.provider(TOKEN).zone(&name("www.example.test")).await.unwrap();
    assert_eq!(found, Some(zone("example.test", PARENT)));
    assert_eq!(fake.api.count("GET /client/v4/zones?name=example.test"), 3);
}

#[tokio::test]
async fn a_token_for_one_zone_finds_it_whatever_the_others_are_answered_with() {
    for scope in [Scope::One(PARENT), Scope::OneStrictly(PARENT)] {
        let fake = Fake::start().await.with_token(OTHER, scope.clone());
        let provider = fake.provider(OTHER);
        let found = provider.zone(&name("_acme-challenge.a.b.example.test")).await.unwrap();
        assert_eq!(found, Some(zone("example.test", PARENT)), "{scope:?}");
        assert_eq!(provider.zone(&name("www.example.org")).await.unwrap(), None, "{scope:?}");
    }
}

#[tokio::test]
async fn a_refused_credential_ends_the_search_and_says_what_it_needs() {
    let fake = Fake::start().await.with_token(OTHER, Scope::DnsOnly);
    for token in [OTHER, "tokEN-nobody-knows_0123456789abcdefghijk"] {
        let error = fake.provider(token).zone(&name("a.b.example.test")).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.vendor_code()),
            (ErrorKind::Auth, Some("9109")),
            "{}",
            error.report()
        );
        assert!(error.hint().unwrap().contains("Zone → Zone → Read"), "{}", error.report());
        assert!(error.to_string().contains("name=a.b.example.test"), "{error}");
    }
    // Too many refused requests have Cloudflare block the sender.
    assert_eq!(fake.api.count("GET"), 2);
}

#[tokio::test]
async fn a_credential_of_another_form_is_told_so() {
    let fake = Fake::start().await;
    let error = fake.provider("too-short").zone(&name("example.test")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.vendor_code()),
        (ErrorKind::Auth, Some("6003/6111")),
        "{}",
        error.report()
    );
    assert!(error.hint().unwrap().contains("Global API Key"), "{}", error.report());
    let key = Credential::global_key("owner@example.test", TOKEN);
    let provider = Cloudflare::new(fake.config(key)).unwrap();
    let error = provider.zone(&name("example.test")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.vendor_code()),
        (ErrorKind::Auth, Some("6003/6103")),
        "{}",
        error.report()
    );
}

fn with_zone(fake: &Fake, id: &str, zone: Option<&str>) -> Cloudflare {
    let mut config = fake.config(Credential::token(TOKEN));
    config.zone_id = Some(id.to_owned());
    config.zone_name = zone.map(name);
    Cloudflare::new(config).unwrap()
}

#[tokio::test]
async fn a_zone_given_by_its_id_is_asked_for_once_and_one_given_by_both_never() {
    let fake = Fake::start().await;
    let provider = with_zone(&fake, PARENT, None);
    for _ in 0..3 {
        let found = provider.zone(&name("a.example.test")).await.unwrap();
        assert_eq!(found, Some(zone("example.test", PARENT)));
    }
    assert_eq!(provider.zone(&name("a.example.org")).await.unwrap(), None);
    assert_eq!(fake.api.count("GET"), 1);

    let provider = with_zone(&fake, PARENT, Some("example.test"));
    assert_eq!(provider.zone(&name("a.example.test")).await.unwrap(), Some(zone("example.test", PARENT)));
    assert_eq!(fake.api.count("GET"), 1);
}

#[tokio::test]
async fn an_id_that_is_none_is_an_error_of_the_configuration() {
    let fake = Fake::start().await;
    // People give the name where the id belongs, or a path.
    for id in ["example.test", "../user", "a/b"] {
        let error = with_zone(&fake, id, None).zone(&name("a.example.test")).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.vendor_code()),
            (ErrorKind::Config, Some("7003")),
            "{}",
            error.report()
        );
        assert!(error.hint().unwrap().contains("32 hexadecimal digits"), "{}", error.report());
    }
    let provider = with_zone(&fake, "example.test", Some("example.test"));
    let found = provider.zone(&name("a.example.test")).await.unwrap().unwrap();
    let record = TxtRecord::new(name("a.example.test"), "value");
    let added = provider.add_txt(&found, &record).await.unwrap_err();
    let removed = provider.remove_txt(&RecordHandle::intent("cloudflare", found, record)).await.unwrap_err();
    assert_eq!((added.kind(), removed.kind()), (ErrorKind::Config, ErrorKind::Config));
    for id in ["", "."] {
        let error = with_zone(&fake, id, None).zone(&name("a.example.test")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
    }
}

#[tokio::test]
async fn a_record_in_the_zone_of_another_id_is_taken_back() {
    let fake = Fake::start().await;
    let provider = with_zone(&fake, DEEP, Some("example.test"));
    let found = provider.zone(&name("www.example.test")).await.unwrap().unwrap();
    let error =
        provider.add_txt(&found, &TxtRecord::new(name("www.example.test"), "value")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
    assert!(fake.change(|inner| inner.records.is_empty()));
}

#[tokio::test]
async fn a_name_outside_the_zone_is_never_sent() {
    let fake = Fake::start().await;
    let outside = TxtRecord::new(name("www.example.org"), "value");
    let error = fake.provider(TOKEN).add_txt(&zone("example.test", PARENT), &outside).await.unwrap_err();
    assert_eq!((error.kind(), fake.api.count("")), (ErrorKind::Config, 0), "{}", error.report());
}

#[tokio::test]
async fn a_zone_known_by_its_name_alone_is_looked_for() {
    let fake = Fake::start().await;
    let provider = fake.provider(TOKEN);
    let record = TxtRecord::new(name("a.example.test"), "value");
    let handle = provider.add_txt(&Zone::new(name("example.test")), &record).await.unwrap();
    assert_eq!(handle.zone.id.as_deref(), Some(PARENT));
    provider
        .remove_txt(&RecordHandle::intent("cloudflare", Zone::new(name("example.test")), record.clone()))
        .await
        .unwrap();
    assert!(fake.values("a.example.test").is_empty());
    let error = provider.add_txt(&Zone::new(name("a.example.test")), &record).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.report());
}

#[test]
fn configurations_that_cannot_work_are_refused_at_once() {
    let refused = |change: fn(&mut Config)| {
        let mut config = Config::new(Credential::token(TOKEN));
        change(&mut config);
        let error = Cloudflare::new(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
        error.report()
    };
    refused(|config| config.zone_name = Some("example.test".parse().unwrap()));
    refused(|config| config.base_url = "http://api.cloudflare.com/client/v4".to_owned());
    refused(|config| config.base_url = "api.cloudflare.com".to_owned());
    refused(|config| config.credential = Credential::token(""));
    let shown = refused(|config| config.credential = Credential::token("Bearer s3cr3t"));
    assert!(!shown.contains("s3cr3t"), "{shown}");
    // A line break at the end is what a file leaves there.
    Cloudflare::new(Config::new(Credential::token(format!("{TOKEN}\n")))).unwrap();
}
