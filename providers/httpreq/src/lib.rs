//! DNS-01 by a server of one's own that speaks [lego's HTTP request protocol][protocol]: whatever
//! changes the zone is behind it.
//!
//! ```
//! use acmekit_httpreq::{BasicAuth, Config, HttpReq};
//!
//! # fn example() -> acmekit_core::Result<()> {
//! let provider = HttpReq::new(
//!     Config::new("https://dns.internal.example.com/acme")
//!         .with_zones(["example.com".parse()?, "example.org".parse()?])
//!         .with_auth(BasicAuth::new("acme", "the-password")),
//! )?;
//! # Ok(()) }
//! # example().unwrap();
//! ```
//!
//! # The protocol
//! Two calls below the endpoint, each with the same body, and basic authentication if it is set:
//!
//! ```text
//! POST /present   {"fqdn":"_acme-challenge.example.com.","value":"LHDhK3oGRvkiefQnx7OOczTY5Tic_xZ6HcMOc_gmtoM"}
//! POST /cleanup   the same
//! ```
//!
//! `fqdn` is where the TXT record is to be: the end of the CNAMEs, if there are any, with a dot. A 2xx
//! means that it is done, whatever else is said. The TTL is the server's affair.
//!
//! The protocol has no more than this, so the server answers for what [`DnsProvider`] asks: `/present`
//! adds the value **beside those already there**, and is repeated after a crash; `/cleanup` removes
//! exactly that value, and is a success where there is none. A server that sets the whole record loses
//! one of the two values that `example.com` and `*.example.com` need at one name.
//!
//! # Zones
//! A server does not tell which zones it has. With [`Config::zones`] a name is in the longest of them.
//! Without any, every name is taken, and its zone is called after itself: then let this provider be
//! the last one of several, because none after it is ever asked.
//!
//! # RAW mode
//! The protocol's other mode sends `{"domain","token","keyAuth"}`. A [`DnsProvider`] is not told these:
//! it knows a name and a value, and nothing of ACME. So that mode is [refused](Mode), not imitated.
//!
//! # Errors
//! | the server says | error | because |
//! |---|---|---|
//! | 401, 403 | `Auth` | user name or password are missing or wrong, or not for this name |
//! | 404 | `NotFound` | the endpoint is elsewhere, or the server has no zone for the name |
//! | 408, 5xx | `Unavailable` | it, or what is behind it, is out of order |
//! | 429 | `RateLimited` | with the time of `Retry-After`, if it says one |
//! | a redirect, an HTML page, any other 4xx | `Protocol` | something else answers here, or the server does not understand |
//! | nothing | `Timeout` | it does not answer within [`timeout`](Config::timeout) |
//!
//! What the server says, as JSON or text, is in the error, up to 300 characters. Nothing is repeated:
//! acmekit does so by itself, later.
//!
//! [protocol]: https://go-acme.github.io/lego/dns/httpreq/

mod config;
#[doc(hidden)]
pub mod fuzzing;

use acmekit_core::rest::{Client, Pool, Refusal};
use acmekit_core::{
    DnsName, DnsProvider, Error, ErrorKind, RecordHandle, Result, Secret, TxtRecord, Zone, async_trait,
};
use http::{Method, StatusCode};
use serde::Serialize;

pub use self::config::{BasicAuth, Config, Mode};

/// The provider's id.
pub const ID: &str = "httpreq";

/// More of what a server says helps nobody.
const MAX_WORDS: usize = 300;

/// A server of the HTTP request protocol.
#[derive(Debug, Clone)]
pub struct HttpReq {
    client: Client,
    zones: Vec<DnsName>,
    authenticates: bool,
}

/// The body of both calls.
#[derive(Debug, Serialize)]
struct Message<'a> {
    fqdn: String,
    value: &'a str,
}

impl HttpReq {
    /// Checks the configuration; nothing is sent.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names what is wrong.
    pub fn new(config: Config) -> Result<Self> {
        Self::with_pool(config, &Pool::new()?)
    }

    /// As [`new`](Self::new), on connections shared with others; or, by
    /// [`Pool::with_extra_roots_pem`], to a server whose certificate no well-known root vouches for.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_pool(config: Config, pool: &Pool) -> Result<Self> {
        let Config { endpoint, mode: Mode::Default, zones, auth, timeout } = config;
        let client = Client::new(endpoint.trim(), pool)?
            .with_timeout(timeout)
            .with_text_answers()
            .with_refusals(refusal);
        let authenticates = auth.is_some();
        let client = match auth {
            None => client,
            // A line break at the end is what a file leaves there.
            Some(BasicAuth { username, password }) => client.with_basic(
                &username,
                &Secret::new(password.expose().trim_end_matches(['\r', '\n']).to_owned()),
            )?,
        };
        Ok(Self { client, zones, authenticates })
    }

    async fn post(&self, op: &'static str, path: &str, record: &TxtRecord) -> Result<()> {
        let message = Message { fqdn: format!("{}.", record.name), value: &record.value };
        let done = self.client.request(op, Method::POST, &[path]).json(&message).done().await;
        done.map_err(|error| self.explained(error).with("name", &record.name))
    }

    /// Says what can be done, unless something better is known.
    fn explained(&self, error: Error) -> Error {
        if error.hint().is_some() {
            return error;
        }
        match error.kind() {
            ErrorKind::Auth if self.authenticates => {
                error.with_hint("check user name and password, and whether they are for this name")
            }
            ErrorKind::Auth => error.with_hint("the server wants a user name and a password, and none are set"),
            ErrorKind::NotFound => error.with_hint(
                "check the endpoint: /present and /cleanup are below it; or the server has no zone for this name",
            ),
            ErrorKind::Protocol => {
                error.with_hint("check that the server speaks lego's httpreq protocol in its default mode, not RAW")
            }
            _ => error,
        }
    }
}

/// What a server says when it refuses. The protocol has no form for it, so it is told as it stands.
fn refusal(status: StatusCode, body: &[u8]) -> Option<Refusal> {
    if status.is_success() {
        return None;
    }
    let text = String::from_utf8_lossy(body);
    // A line break would be one in the log.
    let words = text.trim().replace(char::is_control, " ");
    (!words.is_empty()).then(|| Refusal::new(words).cut_after(MAX_WORDS))
}

#[async_trait]
impl DnsProvider for HttpReq {
    fn id(&self) -> &str {
        ID
    }

    async fn zone(&self, name: &DnsName) -> Result<Option<Zone>> {
        let zone = match self.zones.is_empty() {
            true => Some(name.clone()),
            false => name.ancestors().find(|candidate| self.zones.contains(candidate)),
        };
        Ok(zone.map(Zone::new))
    }

    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        self.post("httpreq.add_txt", "present", record).await?;
        Ok(RecordHandle::intent(ID, zone.clone(), record.clone()))
    }

    async fn remove_txt(&self, handle: &RecordHandle) -> Result<()> {
        self.post("httpreq.remove_txt", "cleanup", &handle.record).await
    }
}
