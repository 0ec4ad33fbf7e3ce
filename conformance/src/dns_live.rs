//! Clause D18: the provider works in a real zone, at the real vendor.
//!
//! Such a test is ignored unless it is asked for, and told by the environment where to work:
//!
//! ```sh
//! ACMEKIT_LIVE_ZONE=example.com CF_DNS_API_TOKEN=… cargo test -p acmekit-cloudflare --test live -- --ignored
//! ```

use std::sync::Arc;
use std::time::Duration;

use acmekit_core::dns::{Resolver, Verdict};
use acmekit_core::{Deadline, DnsName, DnsProvider, RecordHandle, Result, TxtRecord, Zone};

/// What is enough for every vendor.
const SHOWN: Duration = Duration::from_secs(600);

/// D18: in `zone`, at a name that nobody else uses, one value after the other is added, seen on every authoritative name
/// server, and removed, one before the other; whatever happens, both are removed in the end.
///
/// `resolver` looks, and not the provider. All name servers may take `patience` to show a change.
///
/// # Panics
/// If the clause does not hold.
pub async fn d18_it_works_in_a_real_zone(
    provider: &dyn DnsProvider,
    zone: &DnsName,
    resolver: &Resolver,
    patience: Duration,
) {
    let label = format!("acmekit-live-{:08x}", std::process::id());
    let at = zone.child(&label).and_then(|parent| parent.child("_acme-challenge"));
    let at = at.unwrap_or_else(|e| panic!("D18: no name can be made in {zone}: {e}"));
    let found = provider.zone(&at).await.unwrap_or_else(|e| panic!("D18: zone({at}) failed: {}", e.report()));
    let found = found.unwrap_or_else(|| panic!("D18: the provider has no zone for {at}"));
    let live = Live { provider, resolver, patience, zone: found, at };
    let ended = live.tried().await;
    let mut left = Vec::new();
    for value in VALUES {
        let intent = RecordHandle::intent(provider.id(), live.zone.clone(), live.record(value));
        if let Err(e) = provider.remove_txt(&intent).await {
            left.push(format!("{value}: {}", e.report()));
        }
    }
    assert!(left.is_empty(), "D18: at {} there is left behind {left:?}, and before that: {ended:?}", live.at);
    ended.unwrap_or_else(|e| panic!("D18: {}", e.report()));
    for value in VALUES {
        live.until(value, false).await.unwrap_or_else(|e| panic!("D18: it is not gone: {}", e.report()));
    }
}

/// As a CA wants them.
const VALUES: [&str; 2] =
    ["-Live_One_AbCdEfGhIjKlMnOpQrStUvWxYz-01234567", "_Live-Two-AbCdEfGhIjKlMnOpQrStUvWxYz_01234567"];

struct Live<'a> {
    provider: &'a dyn DnsProvider,
    resolver: &'a Resolver,
    patience: Duration,
    zone: Zone,
    at: DnsName,
}

impl Live<'_> {
    fn record(&self, value: &str) -> TxtRecord {
        let ttl = self.provider.limits().min_ttl.max(Duration::from_secs(60));
        TxtRecord::new(self.at.clone(), value).with_ttl(ttl)
    }

    async fn tried(&self) -> Result<()> {
        let [one, two] = VALUES;
        let handle = self.provider.add_txt(&self.zone, &self.record(one)).await?;
        self.provider.add_txt(&self.zone, &self.record(two)).await?;
        self.provider.add_txt(&self.zone, &self.record(two)).await?;
        self.until(one, true).await?;
        self.until(two, true).await?;
        self.provider.remove_txt(&handle).await?;
        self.provider.remove_txt(&handle).await?;
        self.until(one, false).await?;
        self.until(two, true).await
    }

    /// Waits until every name server of the zone has the value, or until none has it.
    async fn until(&self, value: &str, there: bool) -> Result<()> {
        let deadline = Deadline::after(self.patience);
        if there {
            return self.resolver.wait_for_txt(&self.zone.name, &self.at, value, deadline).await;
        }
        loop {
            let seen = self.resolver.look_for_txt(&self.zone.name, &self.at, value, deadline).await?;
            if seen.iter().all(|(_, verdict)| *verdict != Verdict::Seen) {
                return Ok(());
            }
            if !deadline.sleep(Duration::from_secs(1)).await {
                return Err(deadline.missed("d18", "waiting for the value to go"));
            }
        }
    }
}

/// What the environment says: the zone to work in, and the machine's resolvers.
///
/// # Panics
/// If `ACMEKIT_LIVE_ZONE` is not set to the name of a zone.
pub async fn run(made: Result<Arc<dyn DnsProvider>>) {
    let zone = std::env::var("ACMEKIT_LIVE_ZONE");
    let zone = zone.unwrap_or_else(|_| panic!("set ACMEKIT_LIVE_ZONE to a zone that may be changed"));
    let zone: DnsName = zone.parse().unwrap_or_else(|e| panic!("ACMEKIT_LIVE_ZONE: {e}"));
    let provider = made.unwrap_or_else(|e| panic!("{}", e.report()));
    let resolver = Resolver::system().unwrap_or_else(|e| panic!("{}", e.report()));
    d18_it_works_in_a_real_zone(&provider, &zone, &resolver, SHOWN).await;
}

/// Makes the test of clause D18, which is ignored unless it is asked for: of a provider as its environment variables
/// have it.
///
/// ```
/// # use acmekit_core::{DnsProvider, Error, ErrorKind, Result};
/// # fn from_env() -> Result<std::sync::Arc<dyn DnsProvider>> { Err(Error::new(ErrorKind::Config, "example", "")) }
/// acmekit_conformance::dns_provider_live!(from_env());
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! dns_provider_live {
    ($made:expr) => {
        #[tokio::test]
        #[ignore = "it changes a real zone: set ACMEKIT_LIVE_ZONE and the provider's own variables"]
        async fn d18_it_works_in_a_real_zone() {
            let made: acmekit_core::Result<_> = $made;
            $crate::dns_live::run(made.map(|provider| std::sync::Arc::new(provider) as _)).await;
        }
    };
}
