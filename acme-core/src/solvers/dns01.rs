//! dns-01 (RFC 8555 section 8.4) over any DNS provider.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use crate::dns::{Canonical, Resolver};
use crate::{
    Challenge, ChallengeKind, ChallengeSolver, Deadline, DnsName, DnsProvider, Error, ErrorKind,
    Presentation, RecordHandle, Result, TxtRecord, Zone, metrics,
};

/// Under which name a [`Presentation`] holds the [`RecordHandle`].
const HANDLE: &str = "record";

/// Answers dns-01 challenges by TXT records of any [`DnsProvider`].
///
/// A CNAME at `_acme-challenge.<name>` is followed to where the record really goes, so the
/// provider may serve quite another zone. What was decided is kept with the challenge: clean-up
/// removes the very record that was added, also when the CNAME has moved since.
#[derive(Debug, Clone)]
pub struct Dns01 {
    providers: Vec<Limited>,
    resolver: Resolver,
    ttl: Duration,
    visibility: Visibility,
}

/// A provider, never asked for more at once than its vendor bears. Clones share the count.
#[derive(Debug, Clone)]
struct Limited {
    provider: Arc<dyn DnsProvider>,
    free: Arc<Semaphore>,
}

impl Limited {
    fn new(provider: impl DnsProvider + 'static) -> Self {
        let calls = provider.limits().concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Self { provider: Arc::new(provider), free: Arc::new(Semaphore::new(calls)) }
    }

    /// One call. Its own time begins when its turn has come.
    async fn call<T>(
        &self,
        deadline: Deadline,
        op: &'static str,
        what: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        // The semaphore is never closed: an error here could only mean that nothing counts any more.
        let _turn = deadline.run(op, what, async { Ok(self.free.acquire().await.ok()) }).await?;
        let deadline = deadline.capped(self.provider.limits().call_timeout);
        metrics::calling(self.provider.id(), op, deadline.run(op, what, call)).await
    }
}

/// How a record is known to be visible.
#[derive(Debug, Clone, Copy)]
enum Visibility {
    /// Every authoritative server has it.
    Authoritative,
    /// It has been there for this long.
    After(Duration),
}

impl Dns01 {
    /// Asks this provider, and the machine's own resolvers.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the machine has no resolvers.
    pub fn new(provider: impl DnsProvider + 'static) -> Result<Self> {
        Ok(Self::with_resolver(provider, Resolver::system()?))
    }

    /// Asks this provider, and these resolvers.
    pub fn with_resolver(provider: impl DnsProvider + 'static, resolver: Resolver) -> Self {
        Self {
            providers: vec![Limited::new(provider)],
            resolver,
            ttl: Duration::from_secs(60),
            visibility: Visibility::Authoritative,
        }
    }

    /// Adds another provider: the first one with a zone for the name is taken.
    #[must_use]
    pub fn or(mut self, provider: impl DnsProvider + 'static) -> Self {
        self.providers.push(Limited::new(provider));
        self
    }

    /// Sets the TTL of the records (default 60 s; at least what the provider accepts).
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Does not ask the authoritative servers, but waits this long: where they cannot be reached
    /// from here.
    #[must_use]
    pub fn wait_instead_of_asking(mut self, pause: Duration) -> Self {
        self.visibility = Visibility::After(pause);
        self
    }

    /// The first provider with a zone for the name. If there is none, but one could not say, its error.
    async fn find_zone(&self, at: &Canonical, deadline: Deadline) -> Result<(&dyn DnsProvider, Zone)> {
        let mut failed = None;
        for limited in &self.providers {
            let provider = &*limited.provider;
            let found =
                limited.call(deadline, "dns01.zone", "looking for the zone", provider.zone(&at.name)).await;
            match found {
                Ok(Some(zone)) => return Ok((provider, zone)),
                Ok(None) => {}
                // One that is out of order must not hide the others.
                Err(error) => {
                    tracing::debug!(name = %at.name, provider = provider.id(), %error, "this provider does not say whether it has the zone");
                    failed.get_or_insert(error);
                }
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let asked: Vec<&str> = self.providers.iter().map(|limited| limited.provider.id()).collect();
        let mut error = Error::new(ErrorKind::ZoneNotFound, "dns01.zone", "no DNS provider here has a zone for this name")
            .with("name", &at.name)
            .with("providers", asked.join(" "))
            .with_hint("check that the credential may see the zone, or delegate `_acme-challenge` by a CNAME to one it may");
        if !at.hops.is_empty() {
            let way: Vec<&str> = at.hops.iter().chain([&at.name]).map(DnsName::as_str).collect();
            error = error.with("cname", way.join(" -> "));
        }
        Err(error)
    }

    /// The provider a record is with. Of several with one id, such as two servers of one kind, the
    /// first one that holds the record's zone; the name's aliases are not followed again.
    async fn provider_of(&self, handle: &RecordHandle, deadline: Deadline) -> Result<&Limited> {
        let with_id: Vec<&Limited> =
            self.providers.iter().filter(|limited| limited.provider.id() == handle.provider).collect();
        if let [only] = with_id.as_slice() {
            return Ok(*only);
        }
        let mut failed = None;
        for limited in with_id {
            let zone = limited.provider.zone(&handle.record.name);
            let found =
                limited.call(deadline, "dns01.provider", "looking for the record's provider", zone).await;
            match found {
                Ok(Some(zone)) if zone == handle.zone => return Ok(limited),
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "dns01.provider",
                "the DNS provider that has the record is not configured here",
            )
            .with("provider", &handle.provider)
            .with("zone", &handle.zone.name)
            .with_hint("run once with that provider configured, so that its record can be removed")
        }))
    }
}

fn handle(presentation: &Presentation) -> Result<Option<RecordHandle>> {
    presentation.read(HANDLE)
}

fn planned(presentation: &Presentation) -> Result<RecordHandle> {
    handle(presentation)?.ok_or_else(|| {
        Error::new(
            ErrorKind::Storage,
            "dns01.record",
            "the presentation does not say which record it is about",
        )
    })
}

#[async_trait]
impl ChallengeSolver for Dns01 {
    fn kind(&self) -> ChallengeKind {
        ChallengeKind::Dns01
    }

    async fn prepare(&self, challenge: &Challenge, deadline: Deadline) -> Result<Presentation> {
        let domain = challenge.identifier.domain().ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "dns01.prepare",
                "an address cannot be proved by dns-01 (RFC 8738)",
            )
            .with("identifier", &challenge.identifier)
        })?;
        let at = self.resolver.canonical(&domain.child("_acme-challenge")?, deadline).await?;
        let (provider, zone) = self.find_zone(&at, deadline).await?;
        let ttl = self.ttl.max(provider.limits().min_ttl);
        let record = TxtRecord::new(at.name, challenge.key_authorization.txt_value()).with_ttl(ttl);
        Presentation::new(challenge.clone()).note(HANDLE, &RecordHandle::intent(provider.id(), zone, record))
    }

    async fn present(&self, presentation: &Presentation, deadline: Deadline) -> Result<Presentation> {
        let planned = planned(presentation)?;
        let limited = self.provider_of(&planned, deadline).await?;
        let add = limited.provider.add_txt(&planned.zone, &planned.record);
        let added = limited.call(deadline, "dns01.present", "adding the TXT record", add).await?;
        tracing::debug!(name = %added.record.name, value = added.record.value, zone = %added.zone.name, "added a TXT value");
        presentation.clone().note(HANDLE, &added)
    }

    async fn ready(&self, presentation: &Presentation, deadline: Deadline) -> Result<()> {
        match self.visibility {
            Visibility::Authoritative => {
                let RecordHandle { record, zone, .. } = planned(presentation)?;
                // The provider's zone may be a part of what it manages; the DNS knows the real cut.
                let apex = match self.resolver.has_given_servers() {
                    true => zone.name,
                    false => self.resolver.zone_apex(&record.name, deadline).await?,
                };
                self.resolver.wait_for_txt(&apex, &record.name, &record.value, deadline).await
            }
            Visibility::After(pause) if deadline.sleep(pause).await => Ok(()),
            Visibility::After(_) => Err(deadline.missed("dns01.ready", "propagation")),
        }
    }

    async fn cleanup(&self, presentation: &Presentation, deadline: Deadline) -> Result<()> {
        let Some(handle) = handle(presentation)? else { return Ok(()) };
        let limited = self.provider_of(&handle, deadline).await?;
        let remove = limited.provider.remove_txt(&handle);
        limited.call(deadline, "dns01.cleanup", "removing the TXT record", remove).await?;
        tracing::debug!(name = %handle.record.name, value = handle.record.value, zone = %handle.zone.name, "removed a TXT value");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
