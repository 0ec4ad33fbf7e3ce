//! dns-01 (RFC 8555 section 8.4) and dns-account-01 (draft-ietf-acme-dns-account-label) over any DNS provider.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::dns::memo::{LONGEST, Memo};
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
/// provider may serve quite another zone; and of several providers the one is taken that has the zone
/// the name is delegated to. What was decided is kept with the challenge: clean-up
/// removes the very record that was added, also when the CNAME has moved since.
#[derive(Debug, Clone)]
pub struct Dns01 {
    kind: ChallengeKind,
    providers: Vec<Limited>,
    /// Where the records of a domain go, whatever the DNS says.
    aliases: BTreeMap<DnsName, DnsName>,
    resolver: Resolver,
    ttl: Duration,
    visibility: Visibility,
}

/// A provider, never asked for more at once than its vendor bears. Clones share the count.
#[derive(Debug, Clone)]
struct Limited {
    provider: Arc<dyn DnsProvider>,
    free: Arc<Semaphore>,
    /// Its zones, by the apex that the DNS knows.
    zones: Arc<Memo<DnsName, Zone>>,
}

impl Limited {
    fn new(provider: impl DnsProvider + 'static) -> Self {
        let calls = provider.limits().concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Self { provider: Arc::new(provider), free: Arc::new(Semaphore::new(calls)), zones: Arc::default() }
    }

    /// Its zone for a name. What it said of another name of the same zone counts: a hundred names cost one or two calls.
    async fn zone(&self, name: &DnsName, apex: Option<&DnsName>, deadline: Deadline) -> Result<Option<Zone>> {
        // When its turn has come, somebody before it may have asked.
        let ask = async {
            match apex.and_then(|apex| self.zones.recall(apex)) {
                Some(zone) => Ok(Some(zone)),
                None => self.provider.zone(name).await,
            }
        };
        let found = self.call(deadline, "dns01.zone", "looking for the zone", ask).await?;
        if let (Some(zone), Some(apex)) = (&found, apex)
            && zone.name == *apex
        {
            self.zones.keep(apex.clone(), zone.clone(), LONGEST);
        }
        Ok(found)
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
            kind: ChallengeKind::Dns01,
            providers: vec![Limited::new(provider)],
            aliases: BTreeMap::new(),
            resolver,
            ttl: Duration::from_secs(60),
            visibility: Visibility::Authoritative,
        }
    }

    /// Adds another provider. The first one is taken that has the zone in which the DNS has the name; or else, the first
    /// one with any zone above it.
    #[must_use]
    pub fn or(mut self, provider: impl DnsProvider + 'static) -> Self {
        self.providers.push(Limited::new(provider));
        self
    }

    /// Answers dns-account-01 instead, with the same providers: the record is at a name of the account's own, so that
    /// accounts at several CAs, or of several programs, prove one domain without a common CNAME.
    #[must_use]
    pub fn for_account(mut self) -> Self {
        self.kind = ChallengeKind::DnsAccount01;
        self
    }

    /// Puts the records of this domain, and of the wildcard below it, at this name, and asks the DNS for no CNAME: where
    /// the one that leads there cannot be seen from here. (acme.sh: `--domain-alias`.)
    ///
    /// ```no_run
    /// # fn example(provider: impl acmekit_core::DnsProvider + 'static) -> acmekit_core::Result<()> {
    /// use acmekit_core::solvers::Dns01;
    /// // In the DNS: _acme-challenge.example.com. CNAME example-com.acme.example.net.
    /// let dns = Dns01::new(provider)?.alias("example.com".parse()?, "example-com.acme.example.net".parse()?);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn alias(mut self, domain: DnsName, name: DnsName) -> Self {
        self.aliases.insert(domain, name);
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

    /// Where the record of a challenge goes.
    async fn place(&self, challenge: &Challenge, domain: &DnsName, deadline: Deadline) -> Result<Canonical> {
        let asked = domain.child("_acme-challenge")?;
        let asked = match self.kind {
            ChallengeKind::DnsAccount01 => asked.child(&account_label(&challenge.account))?,
            _ => asked,
        };
        match self.aliases.get(domain) {
            Some(alias) => Ok(Canonical { name: alias.clone(), hops: vec![asked] }),
            None => self.resolver.canonical(&asked, deadline).await,
        }
    }

    /// The apex of the zone the DNS has the name in, where the DNS is to be believed.
    async fn apex(&self, name: &DnsName, deadline: Deadline) -> Option<DnsName> {
        let is_asked = matches!(self.visibility, Visibility::Authoritative);
        if !is_asked || self.resolver.has_given_servers() {
            return None;
        }
        match self.resolver.zone_apex(name, deadline).await {
            Ok(apex) => Some(apex),
            Err(error) => {
                tracing::debug!(%name, %error, "the DNS does not say where this name's zone begins");
                None
            }
        }
    }

    /// The provider for a name, and its zone. If there is none, but one could not say, its error.
    async fn find_zone(&self, at: &Canonical, deadline: Deadline) -> Result<(&dyn DnsProvider, Zone)> {
        let apex = self.apex(&at.name, deadline).await;
        // A name that is delegated away is still in the zone above it for whoever only compares names.
        let mut above = None;
        let mut failed = None;
        for limited in &self.providers {
            let provider = &*limited.provider;
            match limited.zone(&at.name, apex.as_ref(), deadline).await {
                Ok(Some(zone)) => match &apex {
                    Some(apex) if !zone.name.is_within(apex) => above = above.or(Some((provider, zone))),
                    _ => return Ok((provider, zone)),
                },
                Ok(None) => {}
                // One that is out of order must not hide the others.
                Err(error) => {
                    tracing::debug!(name = %at.name, provider = provider.id(), %error, "this provider does not say whether it has the zone");
                    failed.get_or_insert(error);
                }
            }
        }
        // A program or a server may know by itself that there is a zone in between.
        if let (Some((provider, zone)), Some(apex)) = (above, &apex) {
            tracing::warn!(
                name = %at.name, provider = provider.id(), zone = %zone.name, delegated_to = %apex,
                "the name is delegated to a zone that no provider here has; trying the zone above"
            );
            return Ok((provider, zone));
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
        if let Some(apex) = apex {
            error = error.with("zone", apex);
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

/// `_` and the base32 of the first ten octets of the digest of the account's URL (draft-ietf-acme-dns-account-label
/// section 3.2).
fn account_label(url: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let digest = Sha256::digest(url);
    // Eighty bits are sixteen letters (RFC 4648 section 6), without padding.
    let bits = digest.iter().take(10).fold(0_u128, |bits, octet| bits << 8 | u128::from(*octet));
    let letter = |at: u32| ALPHABET.get((bits >> (5 * at) & 31) as usize).copied().unwrap_or_default();
    std::iter::once('_').chain((0..16).rev().map(|at| char::from(letter(at)))).collect()
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
        self.kind.clone()
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
        let at = self.place(challenge, domain, deadline).await?;
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
