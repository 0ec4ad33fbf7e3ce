//! dns-01 (RFC 8555 section 8.4) over any DNS provider.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::dns::{Canonical, Resolver};
use crate::{
    Challenge, ChallengeKind, ChallengeSolver, Deadline, DnsName, DnsProvider, Error, ErrorKind,
    Presentation, RecordHandle, Result, TxtRecord, Zone,
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
    providers: Vec<Arc<dyn DnsProvider>>,
    resolver: Resolver,
    ttl: Duration,
    visibility: Visibility,
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
            providers: vec![Arc::new(provider)],
            resolver,
            ttl: Duration::from_secs(60),
            visibility: Visibility::Authoritative,
        }
    }

    /// Adds another provider: the first one with a zone for the name is taken.
    #[must_use]
    pub fn or(mut self, provider: impl DnsProvider + 'static) -> Self {
        self.providers.push(Arc::new(provider));
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

    /// The first provider with a zone for the name.
    async fn find_zone(&self, at: &Canonical, deadline: Deadline) -> Result<(&dyn DnsProvider, Zone)> {
        for provider in &self.providers {
            let found = deadline
                .capped(provider.limits().call_timeout)
                .run("dns01.zone", "looking for the zone", provider.zone(&at.name))
                .await?;
            if let Some(zone) = found {
                return Ok((&**provider, zone));
            }
        }
        let asked: Vec<&str> = self.providers.iter().map(|provider| provider.id()).collect();
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
    async fn provider_of(&self, handle: &RecordHandle, deadline: Deadline) -> Result<&dyn DnsProvider> {
        let with_id: Vec<&dyn DnsProvider> = self
            .providers
            .iter()
            .filter(|provider| provider.id() == handle.provider)
            .map(|provider| &**provider)
            .collect();
        if let [only] = with_id.as_slice() {
            return Ok(*only);
        }
        let mut failed = None;
        for provider in with_id {
            let found = deadline
                .capped(provider.limits().call_timeout)
                .run(
                    "dns01.provider",
                    "looking for the record's provider",
                    provider.zone(&handle.record.name),
                )
                .await;
            match found {
                Ok(Some(zone)) if zone == handle.zone => return Ok(provider),
                Ok(_) => {}
                // One that is out of order must not hide the others.
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
        let provider = self.provider_of(&planned, deadline).await?;
        let added = deadline
            .capped(provider.limits().call_timeout)
            .run("dns01.present", "adding the TXT record", provider.add_txt(&planned.zone, &planned.record))
            .await?;
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
        let provider = self.provider_of(&handle, deadline).await?;
        deadline
            .capped(provider.limits().call_timeout)
            .run("dns01.cleanup", "removing the TXT record", provider.remove_txt(&handle))
            .await?;
        tracing::debug!(name = %handle.record.name, value = handle.record.value, zone = %handle.zone.name, "removed a TXT value");
        Ok(())
    }
}
