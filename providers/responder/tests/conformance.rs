//! The contract of DNS providers; `dig` is who asks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::Arc;

use acmekit_conformance::dns_provider::Subject;
use acmekit_core::stores::MemoryStore;
use acmekit_core::{DnsName, DnsProvider, Store, TxtRecord, Zone, async_trait};
use acmekit_responder::{Config, Responder};

use self::common::{V4, address, config, dig, name, start_on, values};

struct OnLoopback {
    responder: Responder,
    config: Config,
    store: Arc<dyn Store>,
}

impl OnLoopback {
    fn start() -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        // Other records are there from the start: they come from the configuration alone.
        let config = ["d4", "d7"].iter().fold(config(), |config, clause| {
            config.address(name(&format!("_acme-challenge.{clause}.sub.acme.test")), [192, 0, 2, 1].into())
        });
        Self { responder: start_on(config.clone(), Arc::clone(&store)), config, store }
    }

    /// As another process: it shares the store and nothing else, and listens nowhere.
    fn elsewhere(&self) -> Responder {
        let mut config = self.config.clone();
        config.listen.clear();
        Responder::new(config, Arc::clone(&self.store)).unwrap()
    }
}

#[async_trait]
impl Subject for OnLoopback {
    fn provider(&self) -> Arc<dyn DnsProvider> {
        Arc::new(self.responder.clone())
    }

    fn another(&self) -> Arc<dyn DnsProvider> {
        Arc::new(self.elsewhere())
    }

    fn zone(&self) -> DnsName {
        name("sub.acme.test")
    }

    fn foreign_name(&self) -> DnsName {
        name("_acme-challenge.www.example.test")
    }

    async fn lookup(&self, at: &DnsName) -> Vec<String> {
        values(address(&self.responder, V4), at.as_str()).await
    }

    async fn plant(&self, at: &DnsName, value: &str) {
        let zone = Zone::new(self.zone());
        self.elsewhere().add_txt(&zone, &TxtRecord::new(at.clone(), value)).await.unwrap();
    }

    async fn has_planted_record(&self, at: &DnsName) -> bool {
        dig(address(&self.responder, V4), &["+short", at.as_str(), "A"]).await.trim() == "192.0.2.1"
    }

    fn secret(&self) -> String {
        unreachable!("there is none")
    }

    fn wrong_secret(&self) -> String {
        unreachable!("there is none")
    }

    fn with_wrong_credential(&self) -> Arc<dyn DnsProvider> {
        unreachable!("there is none")
    }
}

acmekit_conformance::dns_provider_suite!(
    OnLoopback::start(),
    skip {
        d10_a_refused_credential_says_so_and_stays_secret: "there is no credential: the provider is the server itself",
    }
);
