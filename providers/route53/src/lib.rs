//! DNS-01 in hosted zones at [AWS Route 53](https://docs.aws.amazon.com/Route53/latest/APIReference/Welcome.html),
//! by the AWS SDK.
//!
//! ```
//! use acmekit_route53::{Config, Credential, Role, Route53};
//!
//! # fn example() -> acmekit_core::Result<()> {
//! // What the SDK finds: environment, profile, SSO, the role of a container or a machine …
//! let provider = Route53::new(Config::default())?;
//! // … or an access key, for a role in another account.
//! let provider = Route53::new(
//!     Config::new(Credential::keys("AKIAIOSFODNN7EXAMPLE", "the-secret-key"))
//!         .with_role(Role::new("arn:aws:iam::123456789012:role/acme").with_external_id("the-id")),
//! )?;
//! # Ok(()) }
//! # example().unwrap();
//! ```
//!
//! # Permissions
//! | action | on | |
//! |---|---|---|
//! | `route53:ListHostedZones` | `*` | not with [`hosted_zone_id`](Config::hosted_zone_id) |
//! | `route53:GetHostedZone` | the zone | only with [`hosted_zone_id`](Config::hosted_zone_id) |
//! | `route53:ListResourceRecordSets`, `route53:ChangeResourceRecordSets` | the zone | the latter may be [restricted](https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/specifying-conditions-route53.html) to TXT at `_acme-challenge.…` |
//! | `route53:GetChange` | `arn:aws:route53:::change/*` | without it, a change is not waited for, and a warning says so |
//!
//! # Zones
//! A name is in the public hosted zone with the longest name that fits. Private ones are left out: no CA
//! sees them. Two public zones of one name are an error that names both, because only one of them is
//! delegated to: say which by [`hosted_zone_id`](Config::hosted_zone_id).
//!
//! # Values
//! Route 53 has no way to add a value: the whole record is replaced. So it is read, and a batch that
//! deletes exactly what was read and creates what is wanted is sent. Route 53 takes all of it or nothing:
//! if another process was faster, it is refused, and done again from the start, after a pause and within
//! the deadline. Tasks of this process wait for each other, name by name. After the change is everywhere it is looked
//! for once more, because programs that overwrite the whole record do not notice ours; where they have,
//! it is added again.
//!
//! Values of others stay to the octet, and so does the record's TTL: the value's own counts only where it
//! is the first. Records with a routing policy are refused: they cannot be added to.
//!
//! Adding waits until Route 53 says `INSYNC`, which takes up to a minute; removing does not wait.
//!
//! # The SDK
//! Its environment and files count, as `AWS_PROFILE` and `AWS_ENDPOINT_URL_ROUTE_53`; but how often a
//! request is made, how long it may take, and the region are set here. Nothing is read before the first
//! call, and nothing sent. It trusts the system's root certificates, or those that `SSL_CERT_FILE` and
//! `SSL_CERT_DIR` name; it does not read `AWS_CA_BUNDLE`. HTTPS goes through the proxy that `HTTPS_PROXY`
//! or `ALL_PROXY` names, unless `NO_PROXY` has the host. The SDK logs nothing, because at trace it would
//! log session tokens.
//!
//! This crate needs Rust 1.94.1, as the SDK does.
//!
//! # Errors
//! | AWS says | error | because |
//! |---|---|---|
//! | `AccessDenied` | `Auth` | the policy lacks a permission; the hint has all |
//! | `InvalidClientTokenId`, `SignatureDoesNotMatch`, `ExpiredToken`, … | `Auth` | the credential is wrong, or has expired |
//! | nothing, because there is no credential, or the role is refused | `Auth` | |
//! | `NoSuchHostedZone` | `NotFound` | |
//! | `InvalidInput`, `InvalidChangeBatch` | `Config` | there is a CNAME at the name, or the record would be too long |
//! | `InvalidChangeBatch`, because others were faster | none, or at last `Conflict` | it is tried again within the deadline |
//! | `Throttling`, `PriorRequestNotComplete` | `RateLimited` | after four attempts; five requests a second are allowed to an account, and no more are made |
//! | 5xx, an HTML page | `Unavailable` | after four attempts |
//! | a 2xx that cannot be read | `Protocol` | |
//! | nothing, or `PENDING` without an end | `Timeout` | after [`timeout`](Config::timeout) |

mod api;
mod client;
mod config;
#[doc(hidden)]
pub mod fuzzing;
mod merge;
mod pace;
mod refusal;
mod text;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use acmekit_core::{
    Deadline, DnsName, DnsProvider, Error, ErrorKind, ProviderLimits, RecordHandle, Result, TxtRecord, Zone,
    async_trait,
};
use tokio::sync::{Mutex, OnceCell};

use self::api::{Api, Change};
pub use self::config::{Config, Credential, Role};
use self::merge::Wish;

/// The provider's id.
pub const ID: &str = "route53";

/// How often a batch may be refused although nothing has changed.
const MAX_AGAIN: i64 = 5;
/// The first pause after a lost race, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// The first pause before a change is asked for, and the longest.
const POLLS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// How much sooner than its caller a call gives up, so that the error can say what it was about.
const GRACE: Duration = Duration::from_secs(5);

/// Hosted zones at Route 53. Clones share connections, credentials, and the turns at each name.
#[derive(Clone)]
pub struct Route53 {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    api: Api,
    only: OnceCell<Zone>,
    turns: std::sync::Mutex<HashMap<Place, Weak<Mutex<()>>>>,
}

/// The id of a zone, and a name in it.
type Place = (String, DnsName);

impl fmt::Debug for Route53 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The SDK's own words are left out.
        f.debug_struct("Route53").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Route53 {
    /// Checks the configuration; nothing is read and nothing sent.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names what is wrong.
    pub fn new(config: Config) -> Result<Self> {
        let config = config.checked()?;
        let api = Api::new(&config)?;
        let shared = Shared { config, api, only: OnceCell::new(), turns: std::sync::Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.shared.config.timeout)
    }
}

impl Shared {
    /// The one zone of a configuration that names it. Its name is learnt once.
    async fn only_zone(&self, op: &'static str, id: &str, deadline: Deadline) -> Result<&Zone> {
        let learn = async || {
            let zone = self.api.zone(op, id, deadline).await?;
            if zone.private {
                return Err(Error::new(ErrorKind::Config, op, "this hosted zone is private: no CA sees it")
                    .with("hosted_zone_id", id)
                    .with("zone", &zone.name)
                    .with_hint("give the id of the public zone, or none: then it is looked for"));
            }
            let name = zone.name.parse().map_err(|e: Error| {
                Error::new(ErrorKind::Protocol, op, "the zone's name is none").with_source(e)
            })?;
            Ok(Zone::new(name).with_id(id))
        };
        self.only.get_or_try_init(learn).await
    }

    async fn find(&self, op: &'static str, at: &DnsName, deadline: Deadline) -> Result<Option<Zone>> {
        if let Some(id) = &self.config.hosted_zone_id {
            let zone = self.only_zone(op, id, deadline).await?;
            return Ok(at.is_within(&zone.name).then(|| zone.clone()));
        }
        let mut fit: Vec<Zone> = Vec::new();
        for zone in self.api.zones(op, deadline).await? {
            // A name that is no domain name, as of a zone with a wildcard's, holds none of ours.
            let Ok(name) = zone.name.parse::<DnsName>() else { continue };
            if zone.private || !at.is_within(&name) {
                continue;
            }
            match fit.first().map_or(0, |best| best.name.as_str().len()) {
                best if name.as_str().len() > best => fit = vec![Zone::new(name).with_id(zone.id)],
                best if name.as_str().len() == best => fit.push(Zone::new(name).with_id(zone.id)),
                _ => {}
            }
        }
        let mut fit = fit.into_iter();
        let Some(zone) = fit.next() else { return Ok(None) };
        let others: Vec<String> = fit.filter_map(|zone| zone.id).collect();
        if others.is_empty() {
            return Ok(Some(zone));
        }
        Err(Error::new(ErrorKind::Config, op, "several public hosted zones have this name")
            .with("zone", &zone.name)
            .with("ids", [zone.id.unwrap_or_default(), others.join(" ")].join(" "))
            .with_hint(
                "set hosted_zone_id to the one whose name servers the parent zone has; the others answer nobody",
            ))
    }

    async fn zone_id(&self, op: &'static str, zone: &Zone, deadline: Deadline) -> Result<String> {
        if let Some(id) = &zone.id {
            return Ok(id.clone());
        }
        let found = self.find(op, &zone.name, deadline).await?.filter(|found| found.name == zone.name);
        found.and_then(|found| found.id).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                op,
                "there is no such public hosted zone, or the credential may not see it",
            )
            .with("zone", &zone.name)
        })
    }

    /// The turn at this name: one change after the other.
    fn turn(&self, zone: &str, name: &DnsName) -> Arc<Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let key = (zone.to_owned(), name.clone());
        if let Some(turn) = turns.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(key, Arc::downgrade(&turn));
        turn
    }

    /// Makes the wish true; answers the change, if one was needed.
    async fn change(
        &self,
        op: &'static str,
        zone: &str,
        record: &TxtRecord,
        wish: Wish,
        deadline: Deadline,
    ) -> Result<Option<Change>> {
        let turn = self.turn(zone, &record.name);
        let _turn = deadline.run(op, "wait for a turn at the name", async { Ok(turn.lock().await) }).await?;
        let (mut before, mut again, mut pause) = (None, 0, PAUSES.0);
        loop {
            let found = self.api.records(op, zone, &record.name, deadline).await?;
            merge::simple(op, &found)?;
            let Some(batch) = merge::batch(&found, record, wish, again)? else { return Ok(None) };
            let error = match self.api.change(op, zone, batch, deadline).await {
                Err(error) if error.kind() == ErrorKind::Conflict => error,
                ended => return ended.map(Some),
            };
            if before.as_ref() == Some(&found) {
                again += 1;
            }
            before = Some(found);
            // Half of it by chance: who lost together shall not come back together.
            let wait = pause.mul_f64(0.5 + rand::random::<f64>() / 2.0);
            if again > MAX_AGAIN || wait >= deadline.remaining() {
                return Err(
                    error.with("tried_for", format!("{:?}", deadline.budget() - deadline.remaining()))
                );
            }
            tracing::debug!(%error, ?wait, "somebody else was faster");
            deadline.sleep(wait).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Waits until all of Route 53's servers have the change.
    async fn in_sync(&self, op: &'static str, change: &Change, deadline: Deadline) -> Result<()> {
        let mut pause = POLLS.0;
        loop {
            if pause >= deadline.remaining() {
                return Err(deadline
                    .missed(op, "wait for INSYNC")
                    .with("change", &change.id)
                    .with_hint("Route 53 has taken the change, and is slow: see the AWS Health Dashboard"));
            }
            // In any case: whoever is just about to overwrite the record shall have done so.
            deadline.sleep(pause).await;
            pause = pause.mul_f64(1.5).min(POLLS.1);
            if change.in_sync {
                return Ok(());
            }
            match self.api.is_in_sync(op, &change.id, deadline).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Auth | ErrorKind::NotFound) => {
                    tracing::warn!(%error, "whether Route 53's servers have the value cannot be seen; going on");
                    return Ok(());
                }
                Err(error) if matches!(error.kind(), ErrorKind::RateLimited | ErrorKind::Unavailable) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn add(&self, zone: &Zone, record: &TxtRecord, deadline: Deadline) -> Result<RecordHandle> {
        let op = "route53.add_txt";
        if !record.name.is_within(&zone.name) {
            return Err(
                Error::new(ErrorKind::Config, op, "the name is not in the zone").with("zone", &zone.name)
            );
        }
        let id = self.zone_id(op, zone, deadline).await?;
        while let Some(change) = self.change(op, &id, record, Wish::There, deadline).await? {
            self.in_sync(op, &change, deadline).await?;
            if merge::has(&self.api.records(op, &id, &record.name, deadline).await?, &record.value) {
                break;
            }
            tracing::warn!(name = %record.name, "another program has overwritten the record; adding the value again");
        }
        Ok(RecordHandle::intent(ID, zone.clone().with_id(id), record.clone()))
    }

    async fn remove(&self, handle: &RecordHandle, deadline: Deadline) -> Result<()> {
        let op = "route53.remove_txt";
        let id = self.zone_id(op, &handle.zone, deadline).await?;
        self.change(op, &id, &handle.record, Wish::Gone, deadline).await.map(drop)
    }
}

#[async_trait]
impl DnsProvider for Route53 {
    fn id(&self) -> &str {
        ID
    }

    fn limits(&self) -> ProviderLimits {
        let mut limits = ProviderLimits::default();
        limits.call_timeout = self.shared.config.timeout.saturating_add(GRACE);
        limits
    }

    async fn zone(&self, at: &DnsName) -> Result<Option<Zone>> {
        let found = self.shared.find("route53.zone", at, self.deadline()).await;
        found.map_err(|error| error.with("name", at))
    }

    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        let added = self.shared.add(zone, record, self.deadline()).await;
        added.map_err(|error| error.with("name", &record.name))
    }

    async fn remove_txt(&self, handle: &RecordHandle) -> Result<()> {
        let removed = self.shared.remove(handle, self.deadline()).await;
        removed.map_err(|error| error.with("name", &handle.record.name))
    }
}
