//! A Cloudflare API v4 in this process, which answers as the vendor documents, and misbehaves on demand.
//!
//! Forms of answers: <https://developers.cloudflare.com/api/resources/zones/methods/list/> and
//! <https://developers.cloudflare.com/api/resources/dns/subresources/records/>. Cloudflare has no list of
//! its error codes; beside each is a public report of it, where there is one to link to.

#![expect(clippy::unwrap_used, reason = "test code: what is impossible here may panic")]
#![expect(dead_code, reason = "no test binary uses all of it")]

mod answers;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acmekit_cloudflare::{Cloudflare, Config, Credential};
use acmekit_conformance::api::{Answer, Api, Asked};

/// Where the API begins.
const BASE: &str = "/client/v4";
pub(crate) const TOKEN: &str = "tokEN-for_All-zones-0123456789abcdefghij";
pub(crate) const EMAIL: &str = "owner@example.test";
pub(crate) const KEY: &str = "144c9defac04969c7bfad8efaa8ea1940f3a2";
pub(crate) const PARENT: &str = "023e105f4ecef8ad9ca31a8372d0c353";
pub(crate) const DEEP: &str = "372e67954025e0ba6aaa6d586b9e0b59";

/// What a token may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Zone:Read and DNS:Edit on all zones.
    All,
    /// The same on one zone; another zone's name is answered with none.
    One(&'static str),
    /// The same, but another zone's name is answered with a refusal.
    OneStrictly(&'static str),
    /// Zone:Read and DNS:Read.
    ReadOnly,
    /// DNS:Edit alone.
    DnsOnly,
}

#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) zone: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) content: String,
    pub(crate) ttl: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    /// Id, name, status.
    pub(crate) zones: Vec<(String, String, &'static str)>,
    pub(crate) records: Vec<Record>,
    pub(crate) tokens: HashMap<String, Scope>,
    /// Pages are no longer than this.
    pub(crate) page: Option<usize>,
    /// The smallest TTL.
    pub(crate) min_ttl: u64,
    /// Lists leave this record out, as if they were behind.
    pub(crate) unlisted: Option<String>,
    made: u32,
}

/// The API, served until it is dropped.
pub(crate) struct Fake {
    pub(crate) api: Api,
    inner: Arc<Mutex<Inner>>,
}

impl Fake {
    /// Two zones, `example.test` and `deep.example.test`, and a token for both.
    pub(crate) async fn start() -> Self {
        let zones = [(PARENT, "example.test"), (DEEP, "deep.example.test")];
        let inner = Inner {
            zones: zones.map(|(id, name)| (id.to_owned(), name.to_owned(), "active")).to_vec(),
            tokens: HashMap::from([(TOKEN.to_owned(), Scope::All)]),
            min_ttl: 60,
            ..Inner::default()
        };
        let inner = Arc::new(Mutex::new(inner));
        let answering = Arc::clone(&inner);
        let api = Api::start(move |asked| {
            let answer = answering.lock().unwrap().answer(&asked);
            async move { answer }
        })
        .await;
        Self { api, inner }
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap())
    }

    /// Adds a token.
    pub(crate) fn with_token(self, token: &str, scope: Scope) -> Self {
        self.change(|inner| inner.tokens.insert(token.to_owned(), scope));
        self
    }

    pub(crate) fn config(&self, credential: Credential) -> Config {
        let mut config = Config::new(credential);
        config.base_url = format!("{}{BASE}", self.api.url());
        config.timeout = Duration::from_secs(10);
        config
    }

    /// A provider with a token.
    pub(crate) fn provider(&self, token: &str) -> Cloudflare {
        Cloudflare::new(self.config(Credential::token(token))).unwrap()
    }

    /// Puts a record there, past the API. It is not there twice.
    pub(crate) fn plant(&self, zone: &str, kind: &str, name: &str, content: &str) -> String {
        self.change(|inner| inner.insert(zone, kind, name, content, 300))
    }

    /// The TXT values at a name, as a resolver would see them.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        self.change(|inner| {
            let at = inner.records.iter().filter(|record| record.kind == "TXT" && record.name == name);
            at.map(|record| record.content.trim_matches('"').to_owned()).collect()
        })
    }
}

impl Inner {
    fn insert(&mut self, zone: &str, kind: &str, name: &str, content: &str, ttl: u64) -> String {
        if let Some(there) = self.twin(kind, name, content) {
            return there;
        }
        self.made += 1;
        let id = format!("{:032x}", self.made);
        let [zone, kind, name, content] = [zone, kind, name, content].map(str::to_owned);
        self.records.push(Record { id: id.clone(), zone, kind, name, content, ttl });
        id
    }

    fn twin(&self, kind: &str, name: &str, content: &str) -> Option<String> {
        let bare = content.trim_matches('"');
        let is_it = |it: &&Record| it.kind == kind && it.name == name && it.content.trim_matches('"') == bare;
        self.records.iter().find(is_it).map(|record| record.id.clone())
    }

    /// What the credential may do; or why it is refused.
    fn authorize(&self, asked: &Asked) -> Result<Scope, Answer> {
        let text = |name: &str| asked.header(name).map(str::to_owned);
        let refusal = match (text("authorization"), text("x-auth-email"), text("x-auth-key")) {
            (Some(bearer), None, None) => {
                let token = bearer.strip_prefix("Bearer ").unwrap_or_default();
                if let Some(scope) = self.tokens.get(token) {
                    return Ok(scope.clone());
                }
                match token.len() {
                    // Met by many, documented nowhere.
                    40 => answers::refused(403, 9109, "Invalid access token"),
                    // https://github.com/jeessy2/ddns-go/issues/916
                    _ => answers::malformed(6111, "Invalid format for Authorization header"),
                }
            }
            (None, Some(email), Some(key)) => match (email.as_str(), key.as_str()) {
                (EMAIL, KEY) => return Ok(Scope::All),
                // https://github.com/netcccyun/dnsmgr/issues/245
                _ if key.len() == KEY.len() => {
                    answers::refused(400, 9103, "Unknown X-Auth-Key or X-Auth-Email")
                }
                // https://github.com/cloudflare/cloudflare-typescript/issues/161
                _ => answers::malformed(6103, "Invalid format for X-Auth-Key header"),
            },
            _ => answers::malformed(6111, "Invalid format for Authorization header"),
        };
        Err(refusal)
    }
}
