//! DNS-01 in domains at deSEC, by its [API](https://desec.readthedocs.io/en/latest/dns/rrsets.html).
//!
//! ```
//! use acmekit_desec::{Config, Desec};
//!
//! # fn example() -> acmekit_core::Result<()> {
//! let provider = Desec::new(Config::new("the-token"))?;
//! # Ok(()) }
//! # example().unwrap();
//! ```
//!
//! The token may be [restricted by policies][policies]: every token may read, and to write needs
//! `perm_write` for TXT at the names concerned, or for all of their domain.
//!
//! The domain of a name is asked for in one request (`owns_qname`). The TTL is the smallest that the
//! domain allows, 3600 seconds for most and 60 below `dedyn.io`; where TXT records are at the name
//! already, it is theirs.
//!
//! # Several writers
//! deSEC sets all records of a name and type at once, and has no way to say "only if it is still as I
//! read it". So a value is added and removed by reading, writing and, [`settle`](Config::settle) later
//! (one second), reading again; if the value is not as wanted then, all over, six times at most. What
//! others have at the name goes back as it was read, letter by letter.
//!
//! - In one process, all clones of a [`Desec`] change a zone one after the other, and lose nothing.
//! - Two processes, or two made by [`new`](Desec::new), that write at one name at the same instant: the
//!   one that writes last has not read what the other wrote, and takes it away, or puts back what
//!   the other has removed. The other one sees that when it looks again, and writes again.
//! - What is not seen is a writer that reads before our change and writes after we have looked again: one
//!   that takes longer than `settle` between the two. This provider takes one request's time, and reads
//!   again whenever it had to wait. If another program may be slower, give a longer `settle`.
//! - A program that writes without looking again, as lego and acme.sh do, loses its own values to ours in
//!   the same way, and nothing here can keep it from that.
//! - The first value at a name is made by `POST`, which deSEC refuses if another was first: nothing is
//!   lost there.
//!
//! Give each its own name where you can, by a CNAME at `_acme-challenge`.
//!
//! # Errors
//! | deSEC says | error | because |
//! |---|---|---|
//! | 401 | `Auth` | the token is wrong, deleted or has expired |
//! | 403 | `Auth` | its policies do not let it write here, or it may not be used from this address |
//! | 404 | `NotFound` | the account has no such domain; on removal none: there is nothing to remove |
//! | 400 for `ttl` | `Protocol` | the domain's smallest TTL has changed since it was asked for |
//! | 400 for a CNAME | `Protocol` | the value belongs where the CNAME leads |
//! | 429 for at most ten seconds | none | they are waited for, then all is read anew |
//! | 429 for longer | `RateLimited` with the time it says | [so many changes][limits] of a domain in a second, minute, hour and day are allowed to an account, by whatever program |
//! | values that are undone again and again | `Conflict` | something else sets all records of the name |
//! | 5xx, an HTML page | `Unavailable` | deSEC, or a proxy on the way, is out of order |
//! | nothing | `Timeout` | it does not answer within [`timeout`](Config::timeout) |
//!
//! A certificate of twenty names takes twenty changes to add its values and twenty to remove them, of fifteen
//! that a domain may have in a minute. CNAMEs into several domains share that load.
//!
//! [policies]: https://desec.readthedocs.io/en/latest/auth/tokens.html#token-scoping-policies
//! [limits]: https://desec.readthedocs.io/en/latest/rate-limits.html

mod api;
mod change;
mod config;
#[doc(hidden)]
pub mod fuzzing;
mod txt;

use std::time::Duration;

use acmekit_core::rest::{Client, Pool};
use acmekit_core::{
    Deadline, DnsName, DnsProvider, Error, ErrorKind, ProviderLimits, RecordHandle, Result, Secret,
    TxtRecord, Zone, async_trait,
};
use http::Method;

use self::api::Domain;
use self::change::{Change, Zones};
pub use self::config::Config;

/// The provider's id.
pub const ID: &str = "desec";

/// The smallest TTL of any domain; most have a larger one, which each tells.
const MIN_TTL: Duration = Duration::from_secs(60);

/// Domains at deSEC. Clones change a zone one after the other.
#[derive(Debug, Clone)]
pub struct Desec {
    client: Client,
    settle: Duration,
    zones: Zones,
}

impl Desec {
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
        let Config { token, base_url, timeout, settle } = config;
        let token = Secret::new(token.expose().trim().to_owned());
        let client = Client::new(base_url.trim(), pool)?
            .with_authorization("Token", &token)?
            .with_trailing_slash()
            .with_timeout(timeout)
            .with_refusals(api::refusal);
        Ok(Self { client, settle, zones: Zones::default() })
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.limits().call_timeout)
    }
}

#[async_trait]
impl DnsProvider for Desec {
    fn id(&self) -> &str {
        ID
    }

    fn limits(&self) -> ProviderLimits {
        let mut limits = ProviderLimits::default();
        limits.min_ttl = MIN_TTL;
        limits
    }

    async fn zone(&self, name: &DnsName) -> Result<Option<Zone>> {
        let request = self.client.request("desec.zone", Method::GET, &["domains"]);
        let request = request.query("owns_qname", name.as_str()).deadline(self.deadline());
        let domains: Vec<Domain> = request.send().await.map_err(|error| error.with("name", name))?;
        let Some(domain) = domains.into_iter().next() else { return Ok(None) };
        if !name.is_within(&domain.name) {
            let why = "deSEC answers with a domain that the name is not in";
            return Err(Error::new(ErrorKind::Protocol, "desec.zone", why)
                .with("name", name)
                .with("domain", &domain.name)
                .with_hint("check the base URL: what is there knows no `owns_qname`"));
        }
        self.zones.learn(&domain);
        Ok(Some(Zone::new(domain.name)))
    }

    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        let (op, deadline) = ("desec.add_txt", self.deadline());
        Change { desec: self, op, zone, record, wanted: true, deadline }.make().await?;
        Ok(RecordHandle::intent(ID, zone.clone(), record.clone()))
    }

    async fn remove_txt(&self, handle: &RecordHandle) -> Result<()> {
        let (op, deadline) = ("desec.remove_txt", self.deadline());
        let (zone, record) = (&handle.zone, &handle.record);
        Change { desec: self, op, zone, record, wanted: false, deadline }.make().await
    }
}
