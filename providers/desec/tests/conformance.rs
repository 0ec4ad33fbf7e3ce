//! The provider keeps its contract on an API that answers as documented.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use std::sync::Arc;
use std::time::Duration;

use acmekit_conformance::api::Api;
use acmekit_conformance::dns_api;
use acmekit_conformance::dns_provider::Subject;
use acmekit_core::{DnsName, DnsProvider, async_trait};
use acmekit_desec::Desec;

use self::fake::{Fake, RESTRICTED, TOKEN};

const WRONG: &str = "nobody-k-NOWS_this-token_1234";

struct OnFake {
    fake: Fake,
    token: &'static str,
    settle: Duration,
    /// The one that all calls are made on, if it is one.
    one: Option<Desec>,
}

impl OnFake {
    /// As in one process.
    async fn on_one() -> Self {
        let fake = Fake::start().await;
        let one = Some(fake.provider());
        Self { fake, token: TOKEN, settle: Duration::from_millis(20), one }
    }

    /// As in one process, when deSEC takes two changes a second.
    async fn limited() -> Self {
        let made = Self::on_one().await;
        made.fake.change(|inner| inner.limit = Some((2, Duration::from_secs(1))));
        made
    }

    /// As if each call came from a process of its own.
    async fn on_many() -> Self {
        let made = Self::on_one().await;
        Self { one: None, settle: Duration::from_millis(200), ..made }
    }

    async fn with_restricted_token() -> Self {
        Self { token: RESTRICTED, ..Self::on_many().await }
    }

    fn provider_with(&self, token: &str) -> Arc<dyn DnsProvider> {
        let mut config = self.fake.config(token);
        config.settle = self.settle;
        Arc::new(Desec::new(config).unwrap())
    }
}

#[async_trait]
impl Subject for OnFake {
    fn provider(&self) -> Arc<dyn DnsProvider> {
        match &self.one {
            Some(one) => Arc::new(one.clone()),
            None => self.another(),
        }
    }

    fn another(&self) -> Arc<dyn DnsProvider> {
        self.provider_with(self.token)
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
        self.fake.plant(name.as_str(), "TXT", &format!("\"{value}\""));
        self.fake.plant(name.as_str(), "CAA", "0 issue \"ca.example\"");
    }

    async fn has_planted_record(&self, name: &DnsName) -> bool {
        !self.fake.contents(name.as_str(), "CAA").is_empty()
    }

    fn secret(&self) -> String {
        self.token.to_owned()
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
        let mut config = self.fake.config(self.token);
        config.timeout = Duration::from_secs(2);
        Arc::new(Desec::new(config).unwrap())
    }
}

mod on_one {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnFake::on_one().await);
    acmekit_conformance::dns_api_suite!(OnFake::on_one().await);
}

mod limited {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnFake::limited().await);
}

mod on_many {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnFake::on_many().await);
}

mod restricted {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnFake::with_restricted_token().await);
}
