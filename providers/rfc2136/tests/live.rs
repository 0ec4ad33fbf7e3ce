//! In a real zone, with the provider that the environment tells of; and that this test is one, in a zone at hand.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use acmekit_conformance::dns_live;
use acmekit_core::dns::Resolver;
use acmekit_core::{DnsName, DnsProvider, RecordHandle, Result, TxtRecord, Zone, async_trait};
use acmekit_rfc2136::{Algorithm, Config, Key, Rfc2136};
use acmekit_testbed::Bind;

acmekit_conformance::dns_provider_live!(Config::from_env().and_then(Rfc2136::new));

/// A provider that says of a value that it was removed, and has not done it.
#[derive(Debug)]
struct Forgetful(Rfc2136);

#[async_trait]
impl DnsProvider for Forgetful {
    fn id(&self) -> &str {
        self.0.id()
    }

    async fn zone(&self, name: &DnsName) -> Result<Option<Zone>> {
        self.0.zone(name).await
    }

    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        self.0.add_txt(zone, record).await
    }

    async fn remove_txt(&self, handle: &RecordHandle) -> Result<()> {
        match handle.record.value.starts_with('-') {
            true => Ok(()),
            false => self.0.remove_txt(handle).await,
        }
    }
}

async fn bind() -> (Bind, Rfc2136, Resolver) {
    let bind = Bind::builder().zone("example.test").start().await.unwrap();
    let key = Key::new(bind.tsig_name(), Algorithm::HmacSha256, bind.tsig_secret_base64());
    let provider = Rfc2136::new(Config::new(bind.addr().to_string(), key)).unwrap();
    let resolver = Resolver::new([bind.addr()]).unwrap().authoritative_port(bind.addr().port());
    (bind, provider, resolver)
}

#[tokio::test]
async fn the_clause_holds_on_bind() {
    let (bind, provider, resolver) = bind().await;
    let zone = "example.test".parse().unwrap();
    dns_live::d18_it_works_in_a_real_zone(&provider, &zone, &resolver, Duration::from_secs(20)).await;
    assert_eq!(bind.txt_records("example.test").await.unwrap(), []);
}

#[tokio::test]
#[should_panic(expected = "D18")]
async fn a_provider_that_forgets_to_remove_is_found_out() {
    let (_bind, provider, resolver) = bind().await;
    let zone = "example.test".parse().unwrap();
    let patience = Duration::from_secs(2);
    dns_live::d18_it_works_in_a_real_zone(&Forgetful(provider), &zone, &resolver, patience).await;
}
