//! The provider keeps its contract by DNS updates on BIND, where one value comes or goes, and by PowerDNS's HTTP API,
//! where all values of a name are set at once.

#![cfg(feature = "aws-lc-rs")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use acmekit_conformance::dns_provider::Subject;
use acmekit_core::{DnsName, DnsProvider, async_trait};
use acmekit_dns_update::{Config, DnsUpdate};
use acmekit_testbed::{Bind, PowerDns};

const ZONES: [&str; 2] = ["example.test", "deep.example.test"];

fn with_zones(config: Config) -> Config {
    ZONES.iter().fold(config, |config, zone| config.zone(zone.parse().unwrap()))
}

struct OnBind {
    bind: Bind,
    over: &'static str,
}

impl OnBind {
    async fn start(over: &'static str) -> Self {
        let builder = Bind::builder().zone(ZONES[0]).zone(ZONES[1]);
        Self { bind: builder.start().await.unwrap(), over }
    }

    fn made_with(&self, secret: &str) -> Arc<dyn DnsProvider> {
        let config = Config::new("rfc2136")
            .setting("server", format!("{}{}", self.over, self.bind.addr()))
            .setting("key_name", self.bind.tsig_name())
            .setting("key_secret", secret);
        Arc::new(DnsUpdate::new(with_zones(config)).unwrap())
    }
}

#[async_trait]
impl Subject for OnBind {
    fn provider(&self) -> Arc<dyn DnsProvider> {
        self.made_with(self.bind.tsig_secret_base64())
    }

    fn another(&self) -> Arc<dyn DnsProvider> {
        self.provider()
    }

    fn zone(&self) -> DnsName {
        ZONES[1].parse().unwrap()
    }

    fn foreign_name(&self) -> DnsName {
        "www.example.org".parse().unwrap()
    }

    async fn lookup(&self, name: &DnsName) -> Vec<String> {
        self.bind.query_txt(name.as_str()).await.unwrap()
    }

    async fn plant(&self, name: &DnsName, value: &str) {
        // BIND takes no address at a name with an underscore.
        let lines = format!("add {name}. 1 TXT \"{value}\"\nadd {name}. 1 CAA 0 issue \"ca.test\"");
        self.bind.update(self.bind.tsig(), self.zone().as_str(), &lines).await.unwrap();
    }

    async fn has_planted_record(&self, name: &DnsName) -> bool {
        let records = self.bind.transfer(self.zone().as_str()).await.unwrap();
        records.iter().any(|line| line.starts_with(&format!("{name}. ")) && line.contains(" CAA "))
    }

    fn secret(&self) -> String {
        self.bind.tsig_secret_base64().to_owned()
    }

    fn wrong_secret(&self) -> String {
        "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc=".to_owned()
    }

    fn with_wrong_credential(&self) -> Arc<dyn DnsProvider> {
        self.made_with(&self.wrong_secret())
    }
}

mod bind_over_tcp {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnBind::start("tcp://").await);
}

mod bind_over_udp {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnBind::start("udp://").await);
}

struct OnPowerDns {
    server: PowerDns,
    provider: Arc<dyn DnsProvider>,
}

impl OnPowerDns {
    async fn start() -> Self {
        let server = PowerDns::start(&ZONES).await.unwrap();
        Self { provider: made_with(&server, server.api_key()), server }
    }
}

fn made_with(server: &PowerDns, key: &str) -> Arc<dyn DnsProvider> {
    let config = Config::new("pdns").setting("api_key", key).setting("endpoint", server.api_url());
    let mut config = with_zones(config);
    config.settle = Duration::from_millis(50);
    Arc::new(DnsUpdate::new(config).unwrap())
}

#[async_trait]
impl Subject for OnPowerDns {
    /// Always the same: writers in one process lose nothing, those in several could.
    fn provider(&self) -> Arc<dyn DnsProvider> {
        Arc::clone(&self.provider)
    }

    fn another(&self) -> Arc<dyn DnsProvider> {
        made_with(&self.server, self.server.api_key())
    }

    fn zone(&self) -> DnsName {
        ZONES[1].parse().unwrap()
    }

    fn foreign_name(&self) -> DnsName {
        "www.example.org".parse().unwrap()
    }

    async fn lookup(&self, name: &DnsName) -> Vec<String> {
        self.server.client().query_txt(name.as_str()).await.unwrap()
    }

    async fn plant(&self, name: &DnsName, value: &str) {
        let lines = format!("add {name}. 1 TXT \"{value}\"\nadd {name}. 1 CAA 0 issue \"ca.test\"");
        self.server.client().update(self.server.tsig(), self.zone().as_str(), &lines).await.unwrap();
    }

    async fn has_planted_record(&self, name: &DnsName) -> bool {
        let client = self.server.client();
        let records = client.transfer(self.server.tsig(), self.zone().as_str()).await.unwrap();
        records.iter().any(|line| line.starts_with(&format!("{name}. ")) && line.contains(" CAA "))
    }

    fn secret(&self) -> String {
        self.server.api_key().to_owned()
    }

    fn wrong_secret(&self) -> String {
        "not-the-testbeds".to_owned()
    }

    fn with_wrong_credential(&self) -> Arc<dyn DnsProvider> {
        made_with(&self.server, &self.wrong_secret())
    }
}

mod power_dns_over_http {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnPowerDns::start().await);
}
