//! The provider keeps its contract, as far as a server can that removes nothing and keeps two values.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "a file for a test")]

mod fake;

use std::sync::Arc;
use std::time::Duration;

use acmekit_acme_dns::{AcmeDns, Config};
use acmekit_conformance::api::Api;
use acmekit_conformance::dns_api;
use acmekit_conformance::dns_provider::Subject;
use acmekit_core::stores::MemoryStore;
use acmekit_core::{DnsName, DnsProvider, Store, async_trait};

use self::fake::{Fake, ZONE};

/// The names there are accounts for: those of the suites.
const LABELS: [&str; 18] = [
    "www",
    "a.b.c",
    "d2",
    "d3",
    "d17-limit",
    "d17-401",
    "d17-403",
    "d17-403-html",
    "d17-500",
    "d17-502-html",
    "d17-503",
    "d17-html",
    "d17-cut",
    "d17-other",
    "d17-end",
    "d17-silence",
    "d17-stops",
    "d17-endless",
];

struct OnFake {
    fake: Fake,
    store: Arc<dyn Store>,
    folder: tempfile::TempDir,
}

impl OnFake {
    /// With an account for each name of the suite, in a file as lego keeps it.
    async fn start() -> Self {
        let (fake, folder) = (Fake::start().await, tempfile::tempdir().unwrap());
        let accounts: Vec<String> = LABELS
            .iter()
            .map(|label| {
                let account = fake.register(&format!("_acme-challenge.{label}"));
                let (user, key, sub) = (account.username, account.password, account.subdomain);
                format!(
                    r#""{label}.example.test":{{"fulldomain":"{sub}.{ZONE}","subdomain":"{sub}","username":"{user}","password":"{key}","server_url":""}}"#
                )
            })
            .collect();
        std::fs::write(folder.path().join("lego.json"), format!("{{{}}}", accounts.join(","))).unwrap();
        Self { fake, store: Arc::new(MemoryStore::new()), folder }
    }

    fn config(&self) -> Config {
        let mut config = self.fake.config();
        config.accounts_file = Some(self.folder.path().join("lego.json"));
        config
    }
}

impl dns_api::Subject for OnFake {
    fn api(&self) -> &Api {
        &self.fake.api
    }

    fn impatient(&self) -> Arc<dyn DnsProvider> {
        let mut config = self.config();
        config.timeout = Duration::from_secs(2);
        Arc::new(AcmeDns::new(config, Arc::clone(&self.store)).unwrap())
    }
}

#[async_trait]
impl Subject for OnFake {
    fn provider(&self) -> Arc<dyn DnsProvider> {
        Arc::new(AcmeDns::new(self.config(), Arc::clone(&self.store)).unwrap())
    }

    fn another(&self) -> Arc<dyn DnsProvider> {
        self.provider()
    }

    fn zone(&self) -> DnsName {
        ZONE.parse().unwrap()
    }

    fn foreign_name(&self) -> DnsName {
        "www.example.org".parse().unwrap()
    }

    async fn lookup(&self, name: &DnsName) -> Vec<String> {
        self.fake.values(name.as_str())
    }

    async fn plant(&self, _: &DnsName, _: &str) {}

    async fn has_planted_record(&self, _: &DnsName) -> bool {
        false
    }

    /// All passwords begin so.
    fn secret(&self) -> String {
        "htB9mR9DYgcu9bX_afHF62erXaH2TS7bg9".to_owned()
    }

    fn wrong_secret(&self) -> String {
        String::new()
    }

    fn with_wrong_credential(&self) -> Arc<dyn DnsProvider> {
        self.provider()
    }
}

acmekit_conformance::dns_provider_suite!(
    OnFake::start().await,
    skip {
        d03_an_added_value_can_be_seen: "the server takes values of 43 octets only; see tests/values.rs",
        d04_two_values_stand_side_by_side: "there are three with the planted one, and the server keeps two",
        d05_adding_twice_is_ok: "it expects the value to be gone in the end, and the server removes none; see tests/values.rs",
        d06_removing_twice_is_ok: "it expects the value to be gone in the end, and the server removes none; see tests/values.rs",
        d07_removing_one_leaves_the_others: "there are three with the planted one, and the server keeps two",
        d08_a_handle_works_in_another_process: "it expects the value to be gone in the end, and the server removes none; see tests/values.rs",
        d09_an_intent_is_enough_to_remove: "it expects the value to be gone in the end, and the server removes none; see tests/values.rs",
        d10_a_refused_credential_says_so_and_stays_secret: "nothing is sent to remove, so nothing is refused; see tests/values.rs and tests/secrets.rs",
        d11_values_added_at_once_all_survive: "there are eight, and the server keeps two; see tests/values.rs",
        d12_it_works_behind_pointers: "it expects the value to be gone in the end, and the server removes none; see tests/certificate.rs",
        d13_values_are_kept_to_the_octet: "there are three, and the server keeps two",
        d14_every_name_in_the_zone_will_do: "the server takes values of 43 octets only, and every name that is a CNAME to it",
        d16_a_dropped_call_leaves_nothing_that_cannot_be_removed: "the server removes none",
    }
);

acmekit_conformance::dns_api_suite!(OnFake::start().await);
