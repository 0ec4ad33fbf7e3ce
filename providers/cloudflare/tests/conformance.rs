//! The provider keeps its contract, with each kind of credential, on an API that answers as documented.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use std::sync::Arc;
use std::time::Duration;

use acmekit_cloudflare::{Cloudflare, Config, Credential};
use acmekit_conformance::api::Api;
use acmekit_conformance::dns_api;
use acmekit_conformance::dns_provider::Subject;
use acmekit_core::{DnsName, DnsProvider, async_trait};

use self::fake::{DEEP, EMAIL, Fake, KEY, Scope, TOKEN};

const ONE_ZONE: &str = "tokEN-for_One-zone-0123456789abcdefghijk";
const WRONG_TOKEN: &str = "tokEN-nobody-knows_0123456789abcdefghijk";
const WRONG_KEY: &str = "0000000000000000000000000000000000000";

struct OnFake {
    fake: Fake,
    right: Credential,
    wrong: Credential,
    zone: Option<(String, Option<DnsName>)>,
}

impl OnFake {
    async fn with_token() -> Self {
        Self::made(Fake::start().await, TOKEN)
    }

    async fn with_token_for_one_zone() -> Self {
        Self::made(Fake::start().await.with_token(ONE_ZONE, Scope::OneStrictly(DEEP)), ONE_ZONE)
    }

    async fn with_zone_id() -> Self {
        let made = Self::made(Fake::start().await.with_token(ONE_ZONE, Scope::One(DEEP)), ONE_ZONE);
        Self { zone: Some((DEEP.to_owned(), None)), ..made }
    }

    async fn without_zone_read() -> Self {
        let made = Self::made(Fake::start().await.with_token(ONE_ZONE, Scope::DnsOnly), ONE_ZONE);
        Self { zone: Some((DEEP.to_owned(), Some("deep.example.test".parse().unwrap()))), ..made }
    }

    async fn with_global_key() -> Self {
        let (right, wrong) = (Credential::global_key(EMAIL, KEY), Credential::global_key(EMAIL, WRONG_KEY));
        Self { fake: Fake::start().await, right, wrong, zone: None }
    }

    /// Everything comes on pages of two.
    async fn in_pages() -> Self {
        let made = Self::with_token().await;
        made.fake.change(|inner| inner.page = Some(2));
        made
    }

    fn made(fake: Fake, token: &str) -> Self {
        Self { fake, right: Credential::token(token), wrong: Credential::token(WRONG_TOKEN), zone: None }
    }

    fn provider_with(&self, credential: &Credential) -> Arc<dyn DnsProvider> {
        Arc::new(Cloudflare::new(self.config(credential)).unwrap())
    }

    fn config(&self, credential: &Credential) -> Config {
        let mut config: Config = self.fake.config(credential.clone());
        if let Some((id, name)) = self.zone.clone() {
            config.zone_id = Some(id);
            config.zone_name = name;
        }
        config
    }
}

fn secret(credential: &Credential) -> String {
    match credential {
        Credential::Token(token) => token.expose().clone(),
        Credential::GlobalKey { key, .. } => key.expose().clone(),
        _ => unreachable!("there are no others"),
    }
}

#[async_trait]
impl Subject for OnFake {
    fn provider(&self) -> Arc<dyn DnsProvider> {
        self.provider_with(&self.right)
    }

    fn another(&self) -> Arc<dyn DnsProvider> {
        self.provider()
    }

    fn zone(&self) -> DnsName {
        "deep.example.test".parse().unwrap()
    }

    fn foreign_name(&self) -> DnsName {
        "www.example.org".parse().unwrap()
    }

    async fn lookup(&self, name: &DnsName) -> Vec<String> {
        self.fake.values(name.as_str())
    }

    async fn plant(&self, name: &DnsName, value: &str) {
        // Others write the value without quotes.
        self.fake.plant(DEEP, "TXT", name.as_str(), value);
        self.fake.plant(DEEP, "A", name.as_str(), "192.0.2.1");
    }

    async fn has_planted_record(&self, name: &DnsName) -> bool {
        let name = name.as_str();
        self.fake.change(|inner| inner.records.iter().any(|it| it.kind == "A" && it.name == name))
    }

    fn secret(&self) -> String {
        secret(&self.right)
    }

    fn wrong_secret(&self) -> String {
        secret(&self.wrong)
    }

    fn with_wrong_credential(&self) -> Arc<dyn DnsProvider> {
        self.provider_with(&self.wrong)
    }
}

impl dns_api::Subject for OnFake {
    fn api(&self) -> &Api {
        &self.fake.api
    }

    fn impatient(&self) -> Arc<dyn DnsProvider> {
        let mut config = self.config(&self.right);
        config.timeout = Duration::from_secs(2);
        Arc::new(Cloudflare::new(config).unwrap())
    }
}

mod token {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnFake::with_token().await);
    acmekit_conformance::dns_api_suite!(OnFake::with_token().await);
}

mod token_for_one_zone {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnFake::with_token_for_one_zone().await);
}

mod zone_id {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnFake::with_zone_id().await);
}

mod without_zone_read {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnFake::without_zone_read().await);
}

mod global_key {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnFake::with_global_key().await);
}

mod in_pages {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnFake::in_pages().await);
}
