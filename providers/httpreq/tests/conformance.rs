//! The provider keeps its contract on a server that does as the protocol's documentation says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use std::sync::Arc;
use std::time::Duration;

use acmekit_conformance::api::Api;
use acmekit_conformance::dns_api;
use acmekit_conformance::dns_provider::Subject;
use acmekit_core::{DnsName, DnsProvider, async_trait};
use acmekit_httpreq::{BasicAuth, Config, HttpReq};

use self::fake::{Fake, PASSWORD, USER};

const WRONG: &str = "an0ther-pass: w0rd";

struct OnFake {
    fake: Fake,
    zones: bool,
}

impl OnFake {
    async fn with_zones() -> Self {
        Self { fake: Fake::start().await, zones: true }
    }

    async fn for_every_name() -> Self {
        Self { fake: Fake::start().await, zones: false }
    }

    fn provider_with(&self, password: &str) -> Arc<dyn DnsProvider> {
        Arc::new(HttpReq::new(self.config(password)).unwrap())
    }

    fn config(&self, password: &str) -> Config {
        let mut config = self.fake.config().with_auth(BasicAuth::new(USER, password));
        if !self.zones {
            config.zones.clear();
        }
        config
    }
}

#[async_trait]
impl Subject for OnFake {
    fn provider(&self) -> Arc<dyn DnsProvider> {
        self.provider_with(PASSWORD)
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
        self.fake.plant(name.as_str(), value);
    }

    async fn has_planted_record(&self, name: &DnsName) -> bool {
        self.fake.has_other(name.as_str())
    }

    fn secret(&self) -> String {
        PASSWORD.to_owned()
    }

    fn wrong_secret(&self) -> String {
        WRONG.to_owned()
    }

    fn with_wrong_credential(&self) -> Arc<dyn DnsProvider> {
        self.provider_with(WRONG)
    }
}

impl dns_api::Subject for OnFake {
    fn api(&self) -> &Api {
        &self.fake.api
    }

    fn impatient(&self) -> Arc<dyn DnsProvider> {
        let mut config = self.config(PASSWORD);
        config.timeout = Duration::from_secs(2);
        Arc::new(HttpReq::new(config).unwrap())
    }
}

mod with_zones {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnFake::with_zones().await);
    acmekit_conformance::dns_api_suite!(
        OnFake::with_zones().await,
        skip { d17_nonsense_is_no_success: "the protocol has no form for answers: any 2xx is success" }
    );
}

mod for_every_name {
    use super::*;
    acmekit_conformance::dns_provider_suite!(
        OnFake::for_every_name().await,
        skip {
            d01_the_zone_of_a_name_is_found: "without zones each name is taken for its own",
            d02_a_foreign_name_has_no_zone: "without zones no name is foreign",
        }
    );
}
