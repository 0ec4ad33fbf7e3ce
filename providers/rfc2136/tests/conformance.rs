//! The provider keeps its contract on a real BIND, with each algorithm and over UDP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use acmekit_conformance::dns_provider::Subject;
use acmekit_core::dns::Transport;
use acmekit_core::{DnsName, DnsProvider, async_trait};
use acmekit_rfc2136::{Algorithm, Config, Key, Rfc2136};
use acmekit_testbed::{Bind, TsigAlgorithm};

struct OnBind {
    bind: Bind,
    algorithm: Algorithm,
    transport: Transport,
}

impl OnBind {
    async fn start(testbed: TsigAlgorithm, algorithm: Algorithm) -> Self {
        let builder = Bind::builder().zone("example.test").zone("deep.example.test").tsig_algorithm(testbed);
        Self { bind: builder.start().await.unwrap(), algorithm, transport: Transport::Tcp }
    }

    async fn over_udp() -> Self {
        let over_tcp = Self::start(TsigAlgorithm::HmacSha256, Algorithm::HmacSha256).await;
        Self { transport: Transport::Udp, ..over_tcp }
    }

    fn made_with(&self, secret: &str) -> Arc<dyn DnsProvider> {
        let key = Key::new(self.bind.tsig_name(), self.algorithm, secret);
        let mut config = Config::new(self.bind.addr().to_string(), key);
        config.transport = self.transport;
        Arc::new(Rfc2136::new(config).unwrap())
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
        "deep.example.test".parse().unwrap()
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

mod hmac_sha256 {
    use super::*;
    acmekit_conformance::dns_provider_suite!(
        OnBind::start(TsigAlgorithm::HmacSha256, Algorithm::HmacSha256).await
    );
}

mod hmac_sha384 {
    use super::*;
    acmekit_conformance::dns_provider_suite!(
        OnBind::start(TsigAlgorithm::HmacSha384, Algorithm::HmacSha384).await
    );
}

mod hmac_sha512 {
    use super::*;
    acmekit_conformance::dns_provider_suite!(
        OnBind::start(TsigAlgorithm::HmacSha512, Algorithm::HmacSha512).await
    );
}

mod over_udp {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnBind::over_udp().await);
}
