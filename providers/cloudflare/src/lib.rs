//! DNS-01 in zones at Cloudflare, by its [API v4](https://developers.cloudflare.com/api/).
//!
//! ```
//! use acmekit_cloudflare::{Cloudflare, Config, Credential};
//!
//! # fn example() -> acmekit_core::Result<()> {
//! let provider = Cloudflare::new(Config::new(Credential::token("the-token")))?;
//! # Ok(()) }
//! # example().unwrap();
//! ```
//!
//! The token needs the permissions *Zone → Zone → Read* and *Zone → DNS → Edit*, and may be
//! restricted to the zones concerned. Where even that is too much, give
//! [`zone_id`](Config::zone_id) and [`zone_name`](Config::zone_name): then DNS → Edit is enough. The
//! Global API Key works too, and may do everything its owner may.
//!
//! A zone is looked for by the name and by each of its parents, longest first, because a token for
//! single zones may not list them. One value is one record: it is made by `POST`, with the comment
//! `acmekit`, and removed by its id after its content was compared. Other records are never touched.
//! The TTL is at least 60 seconds, Cloudflare's smallest for most plans, or 120 where that is refused.
//!
//! | Cloudflare says | error | because |
//! |---|---|---|
//! | 10000, 9109, 9103, 9106, 9107, or any 401 and 403 | `Auth` | the token is wrong, has expired, or lacks the permission that the hint names |
//! | 6003 with 6102, 6103, 6111 | `Auth` | the credential is of another form: a key given as a token, or the other way round |
//! | 7003, 7000 | `Config` | the zone id is none |
//! | 81057, 81058 | none | the value is there already: its record is found and taken |
//! | 81044, 404 on removal | none | it is gone already |
//! | 81053, 81054, 81056 | `Protocol` | the name has a CNAME, or is delegated |
//! | 429 | `RateLimited` with the time it says | 1200 requests in five minutes are allowed to a user, by whatever program |
//! | 5xx, an HTML page | `Unavailable` | Cloudflare, or a proxy on the way, is out of order |
//! | nothing | `Timeout` | it does not answer within [`timeout`](Config::timeout) |
//!
//! Reads are repeated as [`acmekit_core::rest`] tells, writes never are, but for a TTL that was refused.

mod api;
mod config;
#[doc(hidden)]
pub mod fuzzing;

use std::sync::Arc;
use std::time::Duration;

use acmekit_core::rest::{Client, Pool};
use acmekit_core::{
    Deadline, DnsName, DnsProvider, Error, ErrorKind, ProviderLimits, RecordHandle, Result, Secret,
    TxtRecord, Zone, async_trait,
};
use http::{HeaderName, Method};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use self::api::{NewRecord, One, Page, Record};
pub use self::config::{Config, Credential};

/// The provider's id.
pub const ID: &str = "cloudflare";

/// The smallest TTL, in seconds, on all plans but Enterprise; and the largest.
const TTL: std::ops::RangeInclusive<u64> = 60..=86_400;
/// The smallest TTL of plans that still have the old one.
const OLD_MIN_TTL: u64 = 120;
/// More zones than this on one page are refused; of records, a hundred is the default.
const PAGE: usize = 50;
/// No list that is asked for here is longer; an API that never comes to its last page must not keep us.
const MAX_PAGES: usize = 1000;

const ZONE_READ: &str = "Zone → Zone → Read";
const DNS_EDIT: &str = "Zone → DNS → Edit";

/// Zones at Cloudflare.
#[derive(Debug, Clone)]
pub struct Cloudflare {
    client: Client,
    only: Option<Arc<Only>>,
}

/// The one zone of a configuration that names its id. Its name is learnt once.
#[derive(Debug)]
struct Only {
    id: String,
    zone: OnceCell<Zone>,
}

impl Cloudflare {
    /// Checks the configuration; nothing is sent.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names what is wrong.
    pub fn new(config: Config) -> Result<Self> {
        Self::with_pool(config, &Pool::new()?)
    }

    /// As [`new`](Self::new), on connections shared with others.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_pool(config: Config, pool: &Pool) -> Result<Self> {
        let Config { credential, zone_id, zone_name, base_url, timeout } = config;
        let trimmed = |secret: &Secret<String>| Secret::new(secret.expose().trim().to_owned());
        let client = Client::new(base_url.trim(), pool)?.with_timeout(timeout).with_refusals(api::refusal);
        let client = match credential {
            Credential::Token(token) => client.with_bearer(&trimmed(&token))?,
            Credential::GlobalKey { email, key } => client
                .with_header(HeaderName::from_static("x-auth-email"), &trimmed(&Secret::new(email)))?
                .with_header(HeaderName::from_static("x-auth-key"), &trimmed(&key))?,
        };
        let only = match (zone_id, zone_name) {
            (None, None) => None,
            (Some(id), name) => {
                let id = id.trim().to_owned();
                let known = name.map(|name| Zone::new(name).with_id(&id));
                Some(Arc::new(Only { id, zone: OnceCell::new_with(known) }))
            }
            (None, Some(name)) => {
                return Err(Error::new(ErrorKind::Config, "cloudflare.zone_name", "zone_name needs zone_id")
                    .with("zone_name", name)
                    .with_hint("give the zone's id too, or neither: then the zone is looked for"));
            }
        };
        Ok(Self { client, only })
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.limits().call_timeout)
    }

    /// All entries of a list, over all its pages, that `keep` wants.
    async fn list<T: DeserializeOwned>(
        &self,
        op: &'static str,
        path: &[&str],
        query: &[(&str, &str)],
        deadline: Deadline,
        keep: impl Fn(&T) -> bool + Send,
    ) -> Result<Vec<T>> {
        let mut found = Vec::new();
        for number in 1..=MAX_PAGES {
            let mut request = self.client.request(op, Method::GET, path).deadline(deadline);
            for (name, value) in query {
                request = request.query(name, value);
            }
            let request = request.query("page", &number.to_string()).query("per_page", &PAGE.to_string());
            let page: Page<T> = request.send().await?;
            let last = page.is_last(number, PAGE);
            found.extend(page.into_entries().filter(&keep));
            if last {
                return Ok(found);
            }
        }
        Err(Error::new(ErrorKind::Protocol, op, format!("the list does not end after {MAX_PAGES} pages")))
    }

    /// The zone of exactly this name. Several accounts may have one; the active one counts.
    async fn zone_named(&self, name: &DnsName, deadline: Deadline) -> Result<Option<Zone>> {
        let query = [("name", name.as_str())];
        let is_it = |zone: &api::Zone| api::is_name(&zone.name, name);
        let mut zones = self.list("cloudflare.zone", &["zones"], &query, deadline, is_it).await?;
        zones.sort_by_key(|zone| zone.status.as_deref() != Some("active"));
        Ok(zones.into_iter().next().map(|zone| Zone::new(name.clone()).with_id(zone.id)))
    }

    async fn only_zone<'a>(&self, only: &'a Only, deadline: Deadline) -> Result<&'a Zone> {
        let learn = async || {
            let request = self.client.request("cloudflare.zone", Method::GET, &["zones", &only.id]);
            let One { result: zone }: One<api::Zone> = request.deadline(deadline).send().await?;
            let name = zone.name.parse().map_err(|e: Error| {
                Error::new(ErrorKind::Protocol, "cloudflare.zone", "the zone's name is none").with_source(e)
            })?;
            Ok(Zone::new(name).with_id(&only.id))
        };
        only.zone.get_or_try_init(learn).await
    }

    /// The zone's id, looked for if the zone was known by its name alone.
    async fn zone_id(&self, op: &'static str, zone: &Zone, deadline: Deadline) -> Result<String> {
        if let Some(id) = &zone.id {
            return Ok(id.clone());
        }
        let found = match &self.only {
            Some(only) => {
                Some(self.only_zone(only, deadline).await?.clone()).filter(|only| only.name == zone.name)
            }
            None => self.zone_named(&zone.name, deadline).await?,
        };
        found.and_then(|zone| zone.id).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, op, "there is no such zone, or the credential may not see it")
                .with("zone", &zone.name)
        })
    }

    /// The records that are this value at this name.
    async fn find(
        &self,
        op: &'static str,
        zone: &str,
        record: &TxtRecord,
        deadline: Deadline,
    ) -> Result<Vec<Record>> {
        let query = [("type", "TXT"), ("name.exact", record.name.as_str())];
        let path = ["zones", zone, "dns_records"];
        self.list(op, &path, &query, deadline, |found: &Record| found.is(record)).await
    }

    async fn create(&self, zone: &str, record: &NewRecord<'_>, deadline: Deadline) -> Result<Record> {
        let request =
            self.client.request("cloudflare.add_txt", Method::POST, &["zones", zone, "dns_records"]);
        let One { result } = request.json(record).deadline(deadline).send().await?;
        Ok(result)
    }

    /// Deletes a record; one that is gone is no error.
    async fn delete(&self, op: &'static str, zone: &str, id: &str, deadline: Deadline) -> Result<()> {
        let request = self.client.request(op, Method::DELETE, &["zones", zone, "dns_records", id]);
        match request.deadline(deadline).done().await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    async fn add(&self, zone: &Zone, record: &TxtRecord, deadline: Deadline) -> Result<RecordHandle> {
        let op = "cloudflare.add_txt";
        // Cloudflare would take it for a name relative to the zone.
        if !record.name.is_within(&zone.name) {
            return Err(
                Error::new(ErrorKind::Config, op, "the name is not in the zone").with("zone", &zone.name)
            );
        }
        let id = self.zone_id(op, zone, deadline).await?;
        let mut new = NewRecord::txt(record, record.ttl.as_secs().clamp(*TTL.start(), *TTL.end()));
        let mut made = self.create(&id, &new, deadline).await;
        if new.ttl < OLD_MIN_TTL && made.as_ref().is_err_and(|error| api::has_code(error, api::BAD_TTL)) {
            new.ttl = OLD_MIN_TTL;
            made = self.create(&id, &new, deadline).await;
        }
        let handle = RecordHandle::intent(ID, zone.clone().with_id(&id), record.clone());
        let made = match made {
            Err(error) if api::EXISTS.iter().any(|code| api::has_code(&error, code)) => {
                let found = self.find(op, &id, record, deadline).await?.into_iter().next();
                // Somebody has removed it in between.
                return found.map(|found| handle.with_id(found.id)).ok_or(error);
            }
            made => made?,
        };
        if !made.is_at(&record.name) {
            self.delete(op, &id, &made.id, deadline).await?;
            return Err(Error::new(
                ErrorKind::Config,
                op,
                "this id is of another zone: the record came to stand elsewhere",
            )
            .with("zone", &zone.name)
            .with("zone_id", &id)
            .with_hint("check zone_id and zone_name; the record has been removed again"));
        }
        Ok(handle.with_id(made.id))
    }

    async fn remove(&self, handle: &RecordHandle, deadline: Deadline) -> Result<()> {
        let (op, record) = ("cloudflare.remove_txt", &handle.record);
        let zone = self.zone_id(op, &handle.zone, deadline).await?;
        let mut found = self.find(op, &zone, record, deadline).await?;
        if let (true, Some(id)) = (found.is_empty(), &handle.id) {
            // A list may be behind. The record itself is not; but it may be somebody else's by now.
            let request = self.client.request(op, Method::GET, &["zones", &zone, "dns_records", id]);
            match request.deadline(deadline).send().await {
                Ok(One { result }) => found.extend(Some(result).filter(|it: &Record| it.is(record))),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for it in found {
            self.delete(op, &zone, &it.id, deadline).await?;
        }
        Ok(())
    }
}

/// Says which permission may be missing, unless something better is known.
fn explained(error: Error, permission: &str) -> Error {
    if error.kind() != ErrorKind::Auth || error.hint().is_some() {
        return error;
    }
    error.with_hint(format!(
        "check that the credential is right, has not expired, and is of the kind it is given as; an API token \
         needs the permission {permission} for this zone"
    ))
}

#[async_trait]
impl DnsProvider for Cloudflare {
    fn id(&self) -> &str {
        ID
    }

    fn limits(&self) -> ProviderLimits {
        let mut limits = ProviderLimits::default();
        limits.min_ttl = Duration::from_secs(*TTL.start());
        limits
    }

    async fn zone(&self, at: &DnsName) -> Result<Option<Zone>> {
        let deadline = self.deadline();
        let named = |error: Error| explained(error, ZONE_READ).with("name", at);
        if let Some(only) = &self.only {
            let zone = self.only_zone(only, deadline).await.map_err(named)?;
            return Ok(at.is_within(&zone.name).then(|| zone.clone()));
        }
        // Nobody has a top-level domain there.
        for candidate in at.ancestors().filter(|name| name.parent().is_some()) {
            match self.zone_named(&candidate, deadline).await {
                Ok(None) => {}
                Err(error) if api::may_not_list(&error) => {
                    tracing::debug!(name = %candidate, "the token may not see this zone, if it is one");
                }
                ended => return ended.map_err(named),
            }
        }
        Ok(None)
    }

    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        let added = self.add(zone, record, self.deadline()).await;
        added.map_err(|error| explained(error, DNS_EDIT).with("name", &record.name))
    }

    async fn remove_txt(&self, handle: &RecordHandle) -> Result<()> {
        let removed = self.remove(handle, self.deadline()).await;
        removed.map_err(|error| explained(error, DNS_EDIT).with("name", &handle.record.name))
    }
}
