//! The provider keeps its contract on moto, and on a fake as strict as AWS.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use std::sync::Arc;
use std::time::Duration;

use acmekit_conformance::api::Api;
use acmekit_conformance::dns_api;
use acmekit_conformance::dns_provider::Subject;
use acmekit_core::{DnsName, DnsProvider, async_trait};
use acmekit_route53::{Config, Credential, Route53};
use acmekit_testbed::{Moto, MotoRecords};

use self::fake::{Fake, KEY_ID, SECRET};

const WRONG: &str = "another/secret-that-is-n0ne";

fn unquoted(values: Vec<String>) -> Vec<String> {
    values.iter().map(|value| value.trim_matches('"').to_owned()).collect()
}

struct OnFake {
    fake: Fake,
    provider: Route53,
}

impl OnFake {
    async fn start() -> Self {
        let fake = Fake::start().await;
        let provider = fake.provider();
        Self { fake, provider }
    }
}

#[async_trait]
impl Subject for OnFake {
    fn provider(&self) -> Arc<dyn DnsProvider> {
        Arc::new(self.provider.clone())
    }

    fn another(&self) -> Arc<dyn DnsProvider> {
        Arc::new(self.fake.provider())
    }

    fn zone(&self) -> DnsName {
        "deep.example.test".parse().unwrap()
    }

    fn foreign_name(&self) -> DnsName {
        "www.example.org".parse().unwrap()
    }

    async fn lookup(&self, name: &DnsName) -> Vec<String> {
        unquoted(self.fake.values(name.as_str()))
    }

    async fn plant(&self, name: &DnsName, value: &str) {
        self.fake.put("TXT", name.as_str(), 3600, &[&format!("\"{value}\"")]);
        self.fake.put("CAA", name.as_str(), 3600, &["0 issue \"ca.example.test\""]);
    }

    async fn has_planted_record(&self, name: &DnsName) -> bool {
        self.fake.has("CAA", name.as_str())
    }

    fn secret(&self) -> String {
        SECRET.to_owned()
    }

    fn wrong_secret(&self) -> String {
        WRONG.to_owned()
    }

    fn with_wrong_credential(&self) -> Arc<dyn DnsProvider> {
        Arc::new(Route53::new(self.fake.config_with(WRONG)).unwrap())
    }
}

impl dns_api::Subject for OnFake {
    fn api(&self) -> &Api {
        &self.fake.api
    }

    fn impatient(&self) -> Arc<dyn DnsProvider> {
        Arc::new(self.fake.hurried(Duration::from_secs(2)))
    }
}

struct OnMoto {
    moto: Moto,
    zone: String,
    provider: Route53,
}

impl OnMoto {
    async fn start() -> Self {
        let moto = Moto::start().await.unwrap();
        moto.create_zone("example.test", false).await.unwrap();
        let zone = moto.create_zone("deep.example.test", false).await.unwrap();
        moto.create_zone("d3._acme-challenge.deep.example.test", true).await.unwrap();
        let provider = Self::made(&moto, SECRET);
        Self { moto, zone, provider }
    }

    fn made(moto: &Moto, secret: &str) -> Route53 {
        Route53::new(Config::new(Credential::keys(KEY_ID, secret)).with_endpoint(moto.url())).unwrap()
    }

    async fn at(&self, name: &DnsName, kind: &str) -> Vec<MotoRecords> {
        let records = self.moto.records(&self.zone).await.unwrap();
        records.into_iter().filter(|it| it.kind == kind && it.name == format!("{name}.")).collect()
    }
}

#[async_trait]
impl Subject for OnMoto {
    fn provider(&self) -> Arc<dyn DnsProvider> {
        Arc::new(self.provider.clone())
    }

    fn another(&self) -> Arc<dyn DnsProvider> {
        Arc::new(Self::made(&self.moto, SECRET))
    }

    fn zone(&self) -> DnsName {
        "deep.example.test".parse().unwrap()
    }

    fn foreign_name(&self) -> DnsName {
        "www.example.org".parse().unwrap()
    }

    async fn lookup(&self, name: &DnsName) -> Vec<String> {
        unquoted(self.at(name, "TXT").await.into_iter().flat_map(|it| it.values).collect())
    }

    async fn plant(&self, name: &DnsName, value: &str) {
        self.moto.set(&self.zone, name.as_str(), "TXT", 3600, &[&format!("\"{value}\"")]).await.unwrap();
        self.moto
            .set(&self.zone, name.as_str(), "CAA", 3600, &["0 issue \"ca.example.test\""])
            .await
            .unwrap();
    }

    async fn has_planted_record(&self, name: &DnsName) -> bool {
        !self.at(name, "CAA").await.is_empty()
    }

    fn secret(&self) -> String {
        SECRET.to_owned()
    }

    fn wrong_secret(&self) -> String {
        WRONG.to_owned()
    }

    fn with_wrong_credential(&self) -> Arc<dyn DnsProvider> {
        Arc::new(Self::made(&self.moto, WRONG))
    }
}

mod on_fake {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnFake::start().await);
    acmekit_conformance::dns_api_suite!(
        OnFake::start().await,
        skip {
            d17_a_limit_is_told_with_the_vendors_time: "AWS throttles with status 400 and tells no time; see tests/answers.rs",
        }
    );
}

mod on_moto {
    use super::*;
    acmekit_conformance::dns_provider_suite!(
        OnMoto::start().await,
        skip {
            d10_a_refused_credential_says_so_and_stays_secret: "moto that checks signatures refuses all with a query, so it takes any credential; the fake refuses",
        }
    );
}
