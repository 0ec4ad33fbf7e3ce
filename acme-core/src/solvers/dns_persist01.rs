//! dns-persist-01 (draft-ietf-acme-dns-persist): a TXT record that a person sets once, and that stays.

mod record;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use self::record::StandingRecord;
use self::record::{Verdict, judge};
use crate::dns::Resolver;
use crate::dns::issue_value::is_issuer;
use crate::{
    Challenge, ChallengeKind, ChallengeSolver, Clock, Deadline, DnsName, Error, ErrorKind, Presentation,
    Result, SystemClock,
};

/// For the fuzz targets only: octets as a value that stands in the DNS.
pub(crate) fn fuzz(value: &[u8], challenge: &Challenge, now: std::time::SystemTime) {
    if let Verdict::Fits(until) = judge(value, challenge, now) {
        assert!(until.is_none_or(|until| until >= now), "a record fits that has passed");
        let text = String::from_utf8_lossy(value).to_ascii_lowercase();
        assert!(text.contains("accounturi"), "a record fits that names no account");
    }
}

/// Under which name a [`Presentation`] holds the [`Found`] record.
const FOUND: &str = "standing";

/// Answers dns-persist-01 challenges by the records that stand: nothing is changed in the DNS, so no credential for
/// it is needed. What has to stand is told by
/// [`Pipeline::standing_records`](crate::Pipeline::standing_records), and by the error where it does not.
///
/// The account's key is all that certificates for these domains need: keep it as safe as the domains are worth.
/// Each directory has its own accounts, so a record for production is none for staging.
#[derive(Debug, Clone)]
pub struct DnsPersist01 {
    resolver: Resolver,
    clock: Arc<dyn Clock>,
    warn_before: Duration,
}

/// The record the CA is going to go by.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    zone: DnsName,
    name: DnsName,
    value: String,
}

impl DnsPersist01 {
    /// Looks with the machine's own resolvers.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the machine has no resolvers.
    pub fn new() -> Result<Self> {
        Ok(Self::with_resolver(Resolver::system()?))
    }

    /// Looks with these resolvers.
    pub fn with_resolver(resolver: Resolver) -> Self {
        Self { resolver, clock: Arc::new(SystemClock), warn_before: Duration::from_secs(60 * 86_400) }
    }

    /// Warns in the log when a record ends in less than this (default 60 days): at each order, so it should be longer than
    /// the time between two.
    #[must_use]
    pub fn warn_before(mut self, time: Duration) -> Self {
        self.warn_before = time;
        self
    }

    /// Sets the clock that says whether a record has ended; by default the machine's own.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The first record that fits, or what is wrong with those that name the CA.
    fn choose(&self, values: Vec<Vec<u8>>, challenge: &Challenge) -> Result<String, Option<&'static str>> {
        let now = self.clock.now();
        let mut refused = None;
        for value in values {
            match judge(&value, challenge, now) {
                Verdict::Fits(until) => {
                    if let Some(until) = until
                        && let Ok(left) = until.duration_since(now)
                        && left < self.warn_before
                    {
                        let days = left.as_secs() / 86_400;
                        tracing::warn!(identifier = %challenge.identifier, days, "the standing record of dns-persist-01 ends soon; set one with a later `persistUntil`");
                    }
                    return Ok(String::from_utf8_lossy(&value).into_owned());
                }
                Verdict::Refused(why) => refused = Some(why),
                Verdict::Foreign => {}
            }
        }
        Err(refused)
    }
}

#[async_trait]
impl ChallengeSolver for DnsPersist01 {
    fn kind(&self) -> ChallengeKind {
        ChallengeKind::DnsPersist01
    }

    /// Looks for the record at one authoritative server, since a resolver may still know that there was none.
    async fn prepare(&self, challenge: &Challenge, deadline: Deadline) -> Result<Presentation> {
        let refuse = |kind, why: &'static str| {
            Error::new(kind, "dns_persist01.prepare", why).with("identifier", &challenge.identifier)
        };
        let domain = challenge.identifier.domain().ok_or_else(|| {
            refuse(ErrorKind::Unsupported, "an address cannot be proved by dns-persist-01 (RFC 8738)")
        })?;
        let Some(issuer) = challenge.issuers.iter().find(|name| is_issuer(name)) else {
            return Err(refuse(
                ErrorKind::Protocol,
                "the CA does not say by which names it goes in dns-persist-01 (`issuer-domain-names`)",
            ));
        };
        let mut wanted = StandingRecord::new(domain.clone(), issuer, &challenge.account);
        wanted.wildcard = challenge.identifier.is_wildcard();
        let at = self.resolver.canonical(&wanted.name()?, deadline).await?.name;
        let (zone, values) = self.resolver.txt_values(&at, deadline).await?;
        let value = self.choose(values, challenge).map_err(|why| {
            let error = match why {
                Some(why) => {
                    refuse(ErrorKind::NotFound, "the record that stands is of no use").with("reason", why)
                }
                None => refuse(ErrorKind::NotFound, "no record stands that lets this account prove the name"),
            };
            error.with("name", &at).with_hint(format!("set this record: {wanted}"))
        })?;
        Presentation::new(challenge.clone()).note(FOUND, &Found { zone, name: at, value })
    }

    /// Nothing has to be put up.
    async fn present(&self, presentation: &Presentation, _: Deadline) -> Result<Presentation> {
        Ok(presentation.clone())
    }

    /// Waits until every authoritative server has the record: it may have been set a moment ago.
    async fn ready(&self, presentation: &Presentation, deadline: Deadline) -> Result<()> {
        let found: Option<Found> = presentation.read(FOUND)?;
        let Found { zone, name, value } = found.ok_or_else(|| {
            let why = "the presentation does not say which record it is about";
            Error::new(ErrorKind::Storage, "dns_persist01.ready", why)
        })?;
        self.resolver.wait_for_txt(&zone, &name, &value, deadline).await
    }

    /// The record stays.
    async fn cleanup(&self, _: &Presentation, _: Deadline) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
