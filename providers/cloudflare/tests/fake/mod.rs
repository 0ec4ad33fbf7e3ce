//! A Cloudflare API v4 in this process, which answers as the vendor documents, and misbehaves on demand.
//!
//! Forms of answers: <https://developers.cloudflare.com/api/resources/zones/methods/list/> and
//! <https://developers.cloudflare.com/api/resources/dns/subresources/records/>. Cloudflare has no list of
//! its error codes; beside each is a public report of it, where there is one to link to.

#![expect(clippy::unwrap_used, reason = "test code: what is impossible here may panic")]
#![expect(dead_code, reason = "no test binary uses all of it")]

mod answers;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acmekit_cloudflare::{Cloudflare, Config, Credential};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Response, StatusCode};
use futures_util::{StreamExt, stream};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

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

/// What is answered in place of the truth.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Answer(u16, Vec<(&'static str, &'static str)>, &'static str),
    /// The truth happens, but this is answered.
    After(u16, &'static str),
    EndlessBody,
    BodyThatStops,
    Silence,
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
    /// Requests as `GET /zones?page=1`, and bodies.
    pub(crate) seen: Vec<(String, String)>,
    pub(crate) faults: VecDeque<(Method, Fault)>,
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
    pub(crate) address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    _serving: JoinSet<()>,
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
        let router = Router::new().fallback(serve).with_state(Arc::clone(&inner));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, inner, _serving: serving }
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap())
    }

    /// Adds a token.
    pub(crate) fn with_token(self, token: &str, scope: Scope) -> Self {
        self.change(|inner| inner.tokens.insert(token.to_owned(), scope));
        self
    }

    /// Has the next request of this method, not yet spoken for, meet a fault.
    pub(crate) fn fail(&self, method: Method, fault: Fault) {
        self.change(|inner| inner.faults.push_back((method, fault)));
    }

    pub(crate) fn config(&self, credential: Credential) -> Config {
        let mut config = Config::new(credential);
        config.base_url = format!("http://{}/client/v4", self.address);
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

    /// The requests there were that start so: `POST /zones`.
    pub(crate) fn count(&self, start: &str) -> usize {
        self.change(|inner| inner.seen.iter().filter(|(line, _)| line.starts_with(start)).count())
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
    fn authorize(&self, headers: &HeaderMap) -> Result<Scope, Box<Response<Body>>> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
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
        Err(Box::new(refusal))
    }
}

async fn serve(State(inner): State<Arc<Mutex<Inner>>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let path = parts.uri.path().strip_prefix("/client/v4").unwrap().to_owned();
    let query = parts.uri.query().unwrap_or_default();
    let fault = {
        let mut inner = inner.lock().unwrap();
        let line = format!("{} {path}?{query}", parts.method);
        inner.seen.push((line, String::from_utf8(body.to_vec()).unwrap()));
        let next = inner.faults.iter().position(|(method, _)| *method == parts.method);
        next.and_then(|at| inner.faults.remove(at)).map(|(_, fault)| fault)
    };
    let truth = || inner.lock().unwrap().answer(&parts.method, &parts.headers, &path, query, &body);
    match fault {
        None => truth(),
        Some(Fault::Answer(status, headers, body)) => {
            let builder = Response::builder().status(status);
            let builder =
                headers.into_iter().fold(builder, |builder, (name, value)| builder.header(name, value));
            builder.body(Body::from(body)).unwrap()
        }
        Some(Fault::After(status, body)) => {
            drop(truth());
            answers::json(status, body.to_owned())
        }
        Some(Fault::EndlessBody) => streamed(stream::repeat(Bytes::from_static(&[b' '; 4096]))),
        Some(Fault::BodyThatStops) => {
            streamed(stream::once(async { Bytes::from_static(b"{") }).chain(stream::pending()))
        }
        Some(Fault::Silence) => std::future::pending().await,
    }
}

fn streamed(chunks: impl stream::Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    let body = Body::from_stream(chunks.map(Ok::<_, Infallible>));
    let builder = Response::builder().status(StatusCode::OK).header("content-type", "application/json");
    builder.body(body).unwrap()
}
