//! DNS-01 by an [acme-dns](https://github.com/joohoi/acme-dns) server: a name server that holds nothing
//! but challenges, so that whoever steals its credential can change nothing else.
//!
//! ```
//! # use std::sync::Arc;
//! use acmekit_acme_dns::{AcmeDns, Config};
//! use acmekit_core::stores::MemoryStore;
//!
//! # async fn example() -> acmekit_core::Result<()> {
//! let store = Arc::new(MemoryStore::new()); // or the FileStore that certificates are in
//! let provider = AcmeDns::new(Config::new("https://auth.example.org"), store)?;
//! // Once for each domain; the record has to be set by hand, in the domain's own zone.
//! println!("{}", provider.register(&"example.com".parse()?).await?);
//! // _acme-challenge.example.com. CNAME 8e5700ea-a4bf-41c7-8a77-e990661dcc6a.auth.example.org.
//! # Ok(()) }
//! ```
//!
//! # The protocol
//! `POST /register` gives a name at the server and a credential for it; `POST /update` with that
//! credential writes one value there. Both are [documented](https://github.com/joohoi/acme-dns#api) in
//! the server's README. The CNAME of each `_acme-challenge` name leads to such a name, and
//! `Dns01` follows it: the provider is asked for the name at its end.
//!
//! Where the CNAME is missing, the domain is registered if it is not yet, and the error tells the very
//! record to set. The next run finds it.
//!
//! # Two values
//! A name holds the two values that were written last; there is no call that removes one. So:
//!
//! - A value that is no longer needed stays until it is overwritten: [`remove_txt`](DnsProvider::remove_txt)
//!   sends nothing, and forgets. It proves nothing to anyone else: it is bound to one key and one challenge.
//! - What stands at a name, and which values are still needed, is kept in the store before anything is
//!   sent. One that is needed and would be overwritten next is written again first.
//! - A third value that is needed at the same time is refused as a `Conflict`, to be tried later. One
//!   that nobody has given up for an hour, because a journal was lost, no longer counts.
//! - One program writes at a name at a time, under a lease of the store. Programs that share a name must
//!   share the store. Updates are 1.1 s apart, as the server orders them by whole seconds.
//!
//! # What is in the store
//! `acme-dns/accounts/…` (the credential), `acme-dns/domains/…` and `acme-dns/values/…`. A crash between
//! registration and the first of these costs an account at the server that nobody uses.
//!
//! # Errors
//! | | error | |
//! |---|---|---|
//! | the CNAME is missing | `Config` | the hint is the record |
//! | it leads to an account that is not in the store | `NotFound` | |
//! | 401 | `Auth` | the credential is wrong, or the server allows updates from elsewhere only (`allowfrom`) |
//! | 404 on `/register` | `NotFound` | registration is switched off, or the URL is wrong |
//! | 400 `bad_txt`, an HTML page | `Protocol` | |
//! | 429 | `RateLimited` with the time it says | |
//! | 5xx | `Unavailable` | |
//! | nothing | `Timeout` | |

mod account;
mod config;
#[doc(hidden)]
pub mod fuzzing;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use acmekit_core::rest::{Client, Pool, Refusal};
use acmekit_core::{
    Clock, Condition, Deadline, DnsName, DnsProvider, Error, ErrorKind, Lease, RecordHandle, Result, Retry,
    Store, StoreKey, SystemClock, TxtRecord, Zone, async_trait,
};
use http::{HeaderName, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::account::{APART, Account, Values};
pub use self::config::Config;

/// The provider's id.
pub const ID: &str = "acme-dns";

/// In front of the name of a domain.
const CHALLENGE: &str = "_acme-challenge";
/// How long a lease lasts: longer than any call.
const TURN: Duration = Duration::from_secs(120);
/// How long a value may be needed, in seconds.
const NEEDED: u64 = 3600;

/// Names at an acme-dns server.
#[derive(Debug, Clone)]
pub struct AcmeDns {
    client: Client,
    server: String,
    domains: Arc<[DnsName]>,
    /// From a file, beside those in the store.
    accounts: Arc<[Account]>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

/// Where a domain's challenges go. Shown as the record to set, as zone files have it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// The domain.
    pub domain: DnsName,
    /// The name at the server.
    pub target: DnsName,
}

impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CHALLENGE}.{}. CNAME {}.", self.domain, self.target)
    }
}

/// <https://github.com/joohoi/acme-dns#update-endpoint>
#[derive(Serialize)]
struct Update<'a> {
    subdomain: &'a str,
    txt: &'a str,
}

/// What it is answered with: the value once more.
#[derive(Deserialize)]
struct Updated {
    txt: String,
}

impl AcmeDns {
    /// Checks the configuration, and reads the file of accounts if there is one; nothing is sent.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names what is wrong.
    pub fn new(config: Config, store: Arc<dyn Store>) -> Result<Self> {
        Self::with_pool(config, store, &Pool::new()?)
    }

    /// As [`new`](Self::new), on connections shared with others; or, by
    /// [`Pool::with_extra_roots_pem`], to a server whose certificate no well-known root vouches for.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_pool(config: Config, store: Arc<dyn Store>, pool: &Pool) -> Result<Self> {
        let Config { base_url, domains, accounts_file, timeout } = config;
        let server = base_url.trim().trim_end_matches('/').to_owned();
        let client = Client::new(&server, pool)?.with_timeout(timeout).with_refusals(refusal);
        let accounts = accounts_file.map(|path| account::from_lego(&path)).transpose()?.unwrap_or_default();
        let clock = Arc::new(SystemClock::default());
        Ok(Self { client, server, domains: domains.into(), accounts: accounts.into(), store, clock })
    }

    /// Takes the time from this clock (default: the machine's).
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The domain's name at the server. Registered now if it is not yet: for one that is, nothing is sent.
    ///
    /// # Errors
    /// As in the [table](crate), or the store's.
    pub async fn register(&self, domain: &DnsName) -> Result<Registration> {
        self.registered(domain, Deadline::after(self.limits().call_timeout)).await
    }

    async fn registered(&self, domain: &DnsName, deadline: Deadline) -> Result<Registration> {
        let registration = |target| Registration { domain: domain.clone(), target };
        if let Some(account) = self.accounts.iter().find(|account| account.domain.as_ref() == Some(domain)) {
            return Ok(registration(account.fulldomain.clone()));
        }
        let key = key("domains", domain)?;
        let turn = self.turn(&key, deadline).await?;
        if let Some(target) = self.load::<DnsName>(&key).await?
            && self.account(&target).await?.is_some()
        {
            return Ok(registration(target));
        }
        let request = self.client.request("acme-dns.register", Method::POST, &["register"]);
        let made: Account = request.deadline(deadline).send().await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.with("domain", domain).with_hint(
                "check the base URL; or registration is switched off there (disable_registration): then have an \
                 account made, and give it in a file as lego keeps it",
            ),
            _ => error.with("domain", domain),
        })?;
        let account = Account { server: Some(self.server.clone()), domain: Some(domain.clone()), ..made };
        let target = account.fulldomain.clone();
        let under = Condition::ANY.under(&turn);
        // The credential comes first: a name that can be found can be written.
        self.store.save(&self::key("accounts", &target)?, &account.octets()?, &under).await?;
        self.store.save(&key, &account::octets(&target)?, &under).await?;
        tracing::info!(%domain, %target, "registered at acme-dns");
        Ok(registration(target))
    }

    /// The account of this name at this server, if it is known here.
    async fn account(&self, target: &DnsName) -> Result<Option<Account>> {
        if let Some(account) = self.accounts.iter().find(|account| account.fulldomain == *target) {
            return Ok(Some(account.clone()));
        }
        let known: Option<Account> = self.load(&key("accounts", target)?).await?;
        Ok(known.filter(|account| account.server.as_ref() == Some(&self.server)))
    }

    /// The domain of a name whose CNAME is missing.
    fn domain_of(&self, name: &DnsName) -> Option<DnsName> {
        let domain = name.parent().filter(|_| name.labels().next() == Some(CHALLENGE))?;
        (self.domains.is_empty() || self.domains.contains(&domain)).then_some(domain)
    }

    async fn load<T: DeserializeOwned>(&self, key: &StoreKey) -> Result<Option<T>> {
        let Some(entry) = self.store.load(key).await? else { return Ok(None) };
        serde_json::from_slice(entry.value.expose()).map(Some).map_err(|e| {
            // What serde says of a wrong value would show it.
            Error::new(ErrorKind::Storage, "acme-dns.load", "the entry is not what this program has written")
                .with("key", key)
                .with("at", format!("line {}, column {}", e.line(), e.column()))
        })
    }

    /// Waits for the turn to work on what this entry is about.
    async fn turn(&self, key: &StoreKey, deadline: Deadline) -> Result<Lease> {
        let mut pause = Duration::from_millis(20);
        loop {
            if let Some(lease) = self.store.lease(key, TURN).await? {
                return Ok(lease);
            }
            if !deadline.sleep(pause).await {
                return Err(deadline.missed("acme-dns.turn", "waiting for others who write at this name"));
            }
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    fn now(&self) -> Duration {
        self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    async fn values(&self, key: &StoreKey) -> Result<Values> {
        let mut values: Values = self.load(key).await?.unwrap_or_default();
        let now = self.now().as_secs();
        values.held.retain(|held| now.saturating_sub(held.since) < NEEDED);
        Ok(values)
    }

    async fn add(&self, record: &TxtRecord, deadline: Deadline) -> Result<()> {
        let op = "acme-dns.add_txt";
        let Some(account) = self.account(&record.name).await? else {
            let Some(domain) = self.domain_of(&record.name) else {
                return Err(Error::new(ErrorKind::NotFound, op, "the account of this name is not known here")
                    .with_hint("its CNAME was set for another store: register the domain again, and set the record that is told then"));
            };
            let registration = self.registered(&domain, deadline).await?;
            return Err(Error::new(ErrorKind::Config, op, "the CNAME to the acme-dns server is missing")
                .with_hint(format!(
                    "set this record in the DNS zone of {domain}, then run again: {registration}"
                )));
        };
        let key = key("values", &record.name)?;
        let turn = self.turn(&key, deadline).await?;
        let mut values = self.values(&key).await?;
        if !values.is_held(&record.value) && values.held.len() >= 2 {
            return Err(Error::new(
                ErrorKind::Conflict,
                op,
                "acme-dns keeps two values at a name, and two others are still needed by orders under way",
            )
            .with_retry(Retry::After(Duration::from_secs(60)))
            .with_hint("order certificates of one domain one after the other"));
        }
        let before = values.clone();
        let updates = values.begin(&record.value, self.now());
        if values != before {
            self.save(&key, &values, &turn).await?;
        }
        if updates.is_empty() {
            return Ok(());
        }
        for value in &updates {
            let since = self.now().saturating_sub(Duration::from_millis(values.written));
            // A clock that was set back must not make us wait for long.
            if since < APART && !deadline.sleep(APART - since).await {
                return Err(deadline.missed(op, "keeping updates apart"));
            }
            self.update(&account, value, deadline).await?;
            values.wrote(value, self.now());
        }
        values.end(&record.value);
        self.save(&key, &values, &turn).await
    }

    async fn update(&self, account: &Account, value: &str, deadline: Deadline) -> Result<()> {
        let client = self.client.clone();
        let client = client.with_header(HeaderName::from_static("x-api-user"), &account.username)?;
        let client = client.with_header(HeaderName::from_static("x-api-key"), &account.password)?;
        let update = Update { subdomain: &account.subdomain, txt: value };
        let request = client.request("acme-dns.add_txt", Method::POST, &["update"]).json(&update);
        let updated: Updated = request.deadline(deadline).send().await.map_err(|error| match error.kind() {
            ErrorKind::Auth => error.with_hint(
                "the server refuses the account: it was deleted there, or may be used from other networks only \
                 (allowfrom); if it is gone, take it out of the store, register again, and set the new CNAME",
            ),
            _ => error,
        })?;
        if updated.txt == value {
            return Ok(());
        }
        let why = "the server says that it has taken another value than the one sent";
        Err(Error::new(ErrorKind::Protocol, "acme-dns.add_txt", why)
            .with_hint("check that the base URL is that of an acme-dns server"))
    }

    async fn save(&self, key: &StoreKey, values: &Values, turn: &Lease) -> Result<()> {
        self.store.save(key, &account::octets(values)?, &Condition::ANY.under(turn)).await.map(drop)
    }

    async fn remove(&self, record: &TxtRecord, deadline: Deadline) -> Result<()> {
        let key = key("values", &record.name)?;
        if self.store.load(&key).await?.is_none() {
            return Ok(());
        }
        let turn = self.turn(&key, deadline).await?;
        let mut values = self.values(&key).await?;
        if !values.is_held(&record.value) {
            return Ok(());
        }
        values.forget(&record.value);
        self.save(&key, &values, &turn).await
    }
}

/// Names may begin with an underscore, and parts of keys may not.
fn key(kind: &str, name: &DnsName) -> Result<StoreKey> {
    format!("acme-dns/{kind}/n.{name}").parse()
}

/// `{"error":"forbidden"}`.
fn refusal(status: StatusCode, body: &[u8]) -> Option<Refusal> {
    if status.is_success() {
        return None;
    }
    let said: serde_json::Value = serde_json::from_slice(body).ok()?;
    let word = said.get("error")?.as_str()?;
    Some(Refusal::new(word).with_code(word))
}

#[async_trait]
impl DnsProvider for AcmeDns {
    fn id(&self) -> &str {
        ID
    }

    async fn zone(&self, name: &DnsName) -> Result<Option<Zone>> {
        if let Some(account) = self.account(name).await? {
            return Ok(Some(Zone::new(account.zone())));
        }
        if let Some(domain) = self.domain_of(name) {
            return Ok(Some(Zone::new(domain)));
        }
        // A name beside one that is registered: said to be ours, so that adding tells what is missing.
        let keys = self.store.list(&"acme-dns/accounts".parse()?).await?;
        // A registered name is one label below the zone.
        let stored = keys
            .iter()
            .filter_map(|key| key.as_str().rsplit_once("/n.")?.1.parse::<DnsName>().ok()?.parent());
        let zone = self.accounts.iter().map(Account::zone).chain(stored).find(|zone| name.is_within(zone));
        if let Some(zone) = zone {
            return Ok(Some(Zone::new(zone)));
        }
        Ok(None)
    }

    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        let added = self.add(record, Deadline::after(self.limits().call_timeout)).await;
        added.map_err(|error| error.with("name", &record.name))?;
        Ok(RecordHandle::intent(ID, zone.clone(), record.clone()))
    }

    async fn remove_txt(&self, handle: &RecordHandle) -> Result<()> {
        let removed = self.remove(&handle.record, Deadline::after(self.limits().call_timeout)).await;
        removed.map_err(|error| error.with("name", &handle.record.name))
    }
}
