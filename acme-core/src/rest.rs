//! The JSON client that API providers share: one base URL, one credential, and no call without an end.
//!
//! It is to vendors' APIs what the CA client is to CAs. A provider says what to ask and reads what
//! comes back; this module sees to the rest:
//!
//! - **Deadlines.** A request has [`with_timeout`](Client::with_timeout) and never more than the
//!   caller's own [`Deadline`], repeats and pauses included.
//! - **Size.** An answer over 1 MiB is an error.
//! - **Where to.** Only below the base URL, only https (http on loopback, for tests), no redirects.
//! - **Order.** Status and content type are looked at before the body is: a proxy's HTML page is
//!   never mistaken for an answer.
//! - **Repeats.** A `GET` that meets [`Unavailable`](ErrorKind::Unavailable) or
//!   [`RateLimited`](ErrorKind::RateLimited) is made up to three times, as far as the deadline and
//!   the vendor's `Retry-After` allow. Anything else is made once: whether a write whose answer was
//!   lost has been done, only the caller can find out. One that met `RateLimited` has not been done.
//! - **Secrets.** Credentials are marked as such, and are in no error, `Debug` output or span, even
//!   if the vendor repeats them in its own words.
//!
//! | the vendor answers | kind | |
//! |---|---|---|
//! | 401, 403 | `Auth` | |
//! | 404 | `NotFound` | `Protocol` with an HTML page, which is not the API's word |
//! | 409 | `Conflict` | the same |
//! | 429 | `RateLimited` | [`Retry::After`] if it says when |
//! | 408, 5xx | `Unavailable` | [`Retry::After`] if it says when |
//! | any other than 2xx | `Protocol` | a redirect too |
//! | 2xx, but not JSON | `Protocol` | plain text will do [where it is usual](Client::with_text_answers) |
//! | nothing in time | `Timeout` | names phase and deadline |
//! | nothing: no connection, or it broke off | `Unavailable` | |
//!
//! What the vendor's own error codes mean is told by a function: see
//! [`with_refusals`](Client::with_refusals).
//!
//! ```
//! use acmekit_core::rest::{Client, Pool, Refusal};
//! use acmekit_core::{ErrorKind, Secret};
//! use http::Method;
//!
//! #[derive(serde::Deserialize)]
//! struct Domain { id: String }
//!
//! # async fn example() -> acmekit_core::Result<()> {
//! let client = Client::new("https://api.example.com/v1", &Pool::new()?)?
//!     .with_bearer(&Secret::from("the-token"))?
//!     .with_refusals(|_status, body| {
//!         let said: serde_json::Value = serde_json::from_slice(body).ok()?;
//!         Some(Refusal::new(said["error"].as_str()?).with_code("E1").with_kind(ErrorKind::Config))
//!     });
//! let domain: Domain = client.request("example.zone", Method::GET, &["domains", "example.org"]).send().await?;
//! client.request("example.remove", Method::DELETE, &["domains", &domain.id]).done().await?;
//! # Ok(()) }
//! ```

mod address;
mod reply;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use ::http::{Method, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::Url;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::reply::Refusal;
use crate::{Clock, Deadline, Error, ErrorKind, Result, Retry, Secret, SystemClock};

/// How long a connection and its TLS handshake may take.
const CONNECT: Duration = Duration::from_secs(10);
/// The longest time a request may be given: a point further off than any clock can tell has no deadline.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// How often a `GET` is made at most.
const READ_ATTEMPTS: u32 = 3;

type Refusals = dyn Fn(StatusCode, &[u8]) -> Option<Refusal> + Send + Sync;

/// Connections that clients share. Clones share them too; an idle one is kept for 30 seconds.
#[derive(Clone)]
pub struct Pool {
    https: reqwest::Client,
    /// Apart, because a proxy from the environment must not see what is meant for this machine.
    loopback: reqwest::Client,
}

impl Pool {
    /// An empty pool. It trusts the well-known roots, and takes proxies from the environment.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the HTTPS client cannot be made.
    pub fn new() -> Result<Self> {
        Self::made(&[])
    }

    /// The same, but it also trusts these roots (PEM): for an API inside one's own network.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no certificate in it, or one that is no root.
    pub fn with_extra_roots_pem(text: &str) -> Result<Self> {
        Self::made(&crate::authority::roots_from_pem(text)?)
    }

    fn made(extra_roots: &[CertificateDer<'static>]) -> Result<Self> {
        let tls = crate::authority::tls_config(extra_roots)?;
        let builder = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("acmekit/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT)
                .tcp_nodelay(true)
                .pool_idle_timeout(Duration::from_secs(30))
        };
        let failed = |e: reqwest::Error| {
            Error::new(ErrorKind::Config, "rest.pool", "the HTTPS client could not be made").with_source(e)
        };
        Ok(Self {
            https: builder().https_only(true).build().map_err(failed)?,
            loopback: builder().no_proxy().build().map_err(failed)?,
        })
    }
}

/// A client of its own for one URL, which may have a query: under the same rules as those of a [`Client`].
#[cfg(feature = "rustls")]
pub(crate) fn outside(url: &str) -> Result<(reqwest::Client, Url)> {
    let pool = Pool::new()?;
    let url = address::with_query(url)?;
    let http = if url.scheme() == "https" { pool.https } else { pool.loopback };
    Ok((http, url))
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The HTTP client's own would show proxies with their passwords.
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

/// A client for one API, with one credential.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    headers: Vec<(HeaderName, HeaderValue)>,
    secrets: Vec<Secret<String>>,
    timeout: Duration,
    refusals: Arc<Refusals>,
    text: bool,
    slash: bool,
    clock: Arc<dyn Clock>,
}

impl Client {
    /// A client for what is below `base_url`, as in `https://api.example.com/v1`; `http://` is for
    /// this machine only, as in `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if `base_url` is another, or carries a user name, query or fragment.
    pub fn new(base_url: &str, pool: &Pool) -> Result<Self> {
        let base = address::base(base_url)?;
        let http = if base.scheme() == "https" { &pool.https } else { &pool.loopback };
        Ok(Self {
            http: http.clone(),
            base,
            headers: Vec::new(),
            secrets: Vec::new(),
            timeout: Duration::from_secs(30),
            refusals: Arc::new(|_, _| None),
            text: false,
            slash: false,
            clock: Arc::new(SystemClock::default()),
        })
    }

    /// Sends `Authorization: Bearer <token>` with each request.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the token is empty or has characters that no header may have.
    pub fn with_bearer(self, token: &Secret<String>) -> Result<Self> {
        self.with_authorization("Bearer", token)
    }

    /// Sends `Authorization: <scheme> <token>` with each request: for vendors whose scheme is
    /// `Token`, `sso-key` or another of their own.
    ///
    /// # Errors
    /// As [`with_bearer`](Self::with_bearer).
    pub fn with_authorization(self, scheme: &'static str, token: &Secret<String>) -> Result<Self> {
        let value = Secret::new(format!("{scheme} {}", token.expose()));
        self.secret_header(AUTHORIZATION, &value, token)
    }

    /// Sends `Authorization: Basic …` with each request (RFC 7617, in UTF-8).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if one of them is empty or has control characters, or the user name has
    /// a colon, which would end it.
    pub fn with_basic(mut self, username: &str, password: &Secret<String>) -> Result<Self> {
        let refuse = |why: &str, hint: &str| {
            Err(Error::new(ErrorKind::Config, "rest.credential", why).with_hint(hint.to_owned()))
        };
        let unfit = |text: &str| text.is_empty() || text.contains(char::is_control);
        if unfit(username) || username.contains(':') {
            return refuse(
                "the user name is empty, or has a colon or characters that cannot be sent",
                "copy it again, whole, without quotes or a line break; basic authentication has no colon in it",
            );
        }
        if unfit(password.expose()) {
            return refuse(
                "the password is empty, or has characters that cannot be sent",
                "copy it again, whole, without quotes or a line break",
            );
        }
        let pair = Secret::new(format!("{username}:{}", password.expose()));
        let encoded = Secret::new(STANDARD.encode(pair.expose()));
        self.secrets.push(password.clone());
        let value = Secret::new(format!("Basic {}", encoded.expose()));
        self.secret_header(AUTHORIZATION, &value, &encoded)
    }

    /// Sends this header with each request. May be called more than once.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the value is empty or has characters that no header may have.
    pub fn with_header(self, name: HeaderName, value: &Secret<String>) -> Result<Self> {
        self.secret_header(name, value, value)
    }

    fn secret_header(
        mut self,
        name: HeaderName,
        whole: &Secret<String>,
        part: &Secret<String>,
    ) -> Result<Self> {
        let text = part.expose();
        if text.is_empty() || !text.bytes().all(|octet| octet.is_ascii_graphic()) {
            let why = if text.is_empty() { "is empty" } else { "has characters that cannot be sent" };
            return Err(Error::new(ErrorKind::Config, "rest.credential", format!("the credential {why}"))
                .with("header", name.as_str())
                .with_hint("copy it again, whole, without blanks, quotes or a line break"));
        }
        let mut value = HeaderValue::from_str(whole.expose()).map_err(|e| {
            Error::new(ErrorKind::Config, "rest.credential", "the credential cannot be sent").with_source(e)
        })?;
        value.set_sensitive(true);
        self.headers.push((name, value));
        self.secrets.push(part.clone());
        Ok(self)
    }

    /// Sets how long one request may take with its whole answer and its repeats (default 30 s, at
    /// most an hour).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(LONGEST);
        self
    }

    /// Takes answers of plain text, or of no type, as the API's own too: for protocols that say
    /// nothing of what an answer looks like. An HTML page still is none.
    #[must_use]
    pub fn with_text_answers(mut self) -> Self {
        self.text = true;
        self
    }

    /// Ends each path with `/`: for vendors that redirect a path without, which is not followed.
    #[must_use]
    pub fn with_trailing_slash(mut self) -> Self {
        self.slash = true;
        self
    }

    /// Says what the vendor's words mean. `read` gets status and body of each answer that is JSON
    /// (or [text](Self::with_text_answers)), and says whether it is a refusal: also with status 200, for vendors that refuse so.
    #[must_use]
    pub fn with_refusals(
        mut self,
        read: impl Fn(StatusCode, &[u8]) -> Option<Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.refusals = Arc::new(read);
        self
    }

    /// Takes the time from this clock (default: the machine's). Needed for a `Retry-After` that is a date.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// A request below the base URL: `&["zones", id]` is `/zones/<id>`. Each segment is encoded, so
    /// that none can lead elsewhere, and none may be empty: see
    /// [`with_trailing_slash`](Self::with_trailing_slash). `op` names the operation in errors: `"cloudflare.zone"`.
    pub fn request(&self, op: &'static str, method: Method, path: &[&str]) -> Request<'_> {
        let url = address::below(&self.base, op, path, self.slash);
        Request { client: self, op, method, url, body: Ok(None), deadline: None }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Client")
            .field("base", &self.base.as_str())
            .field("headers", &headers)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// One request that is about to be made. Nothing happens before [`send`](Self::send) or
/// [`done`](Self::done), which also tell of what was wrong with its parts.
#[must_use = "nothing is sent before `send` or `done`"]
pub struct Request<'a> {
    client: &'a Client,
    op: &'static str,
    method: Method,
    url: Result<Url>,
    body: Result<Option<Bytes>>,
    deadline: Option<Deadline>,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither query nor body, which may hold anything.
        f.debug_struct("Request")
            .field("op", &self.op)
            .field("method", &self.method)
            .field("path", &self.url.as_ref().map(Url::path))
            .finish_non_exhaustive()
    }
}

impl Request<'_> {
    /// Adds a query parameter. It is shown nowhere.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        if let Ok(url) = &mut self.url {
            url.query_pairs_mut().append_pair(name, value);
        }
        self
    }

    /// Sends this as JSON.
    pub fn json(mut self, body: &(impl Serialize + ?Sized)) -> Self {
        self.body = serde_json::to_vec(body).map(|octets| Some(Bytes::from(octets))).map_err(|e| {
            Error::new(ErrorKind::Other, self.op, "the request cannot be written as JSON").with_source(e)
        });
        self
    }

    /// Ends at this deadline, if that is before the client's own timeout.
    pub fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Makes the request and reads the answer.
    ///
    /// # Errors
    /// As in the [table](self#).
    pub async fn send<T: DeserializeOwned>(self) -> Result<T> {
        let op = self.op;
        let (body, call) = self.answer().await?;
        serde_json::from_slice(&body).map_err(|e| call.misunderstood(op, &e))
    }

    /// Makes the request; the answer may be empty, or any JSON, or [text](Client::with_text_answers).
    ///
    /// # Errors
    /// As in the [table](self#).
    pub async fn done(self) -> Result<()> {
        self.answer().await.map(drop)
    }

    async fn answer(self) -> Result<(Bytes, reply::Call)> {
        let (client, op) = (self.client, self.op);
        let (url, body) = (self.url?, self.body?);
        let deadline = match self.deadline {
            Some(given) => given.capped(client.timeout),
            None => Deadline::after(client.timeout),
        };
        let call = reply::Call::new(&self.method, &url);
        let phase = call.to_string();
        let body = deadline.run(op, &phase, client.attempts(op, &call, &url, body, deadline)).await;
        Ok((body.map_err(|e| call.name_if_unnamed(e))?, call))
    }
}

impl Client {
    async fn attempts(
        &self,
        op: &'static str,
        call: &reply::Call,
        url: &Url,
        body: Option<Bytes>,
        deadline: Deadline,
    ) -> Result<Bytes> {
        let mut attempt = 1;
        loop {
            let error = match self.exchange(op, call, url, body.clone()).await {
                Err(error) if attempt < READ_ATTEMPTS && call.may_repeat(&error) => error,
                ended => return ended,
            };
            let pause = match error.retry() {
                Retry::After(wait) => wait,
                // Half of it by chance: clients that failed together shall not come back together.
                _ => (Duration::from_millis(250) * 2u32.pow(attempt))
                    .mul_f64(0.5 + rand::random::<f64>() / 2.0),
            };
            if pause >= deadline.remaining() {
                return Err(error);
            }
            tracing::debug!(%error, ?pause, "asking again");
            deadline.sleep(pause).await;
            attempt += 1;
        }
    }

    /// One request, one answer: the body of a success that is JSON, or empty.
    #[tracing::instrument(level = "debug", skip_all, fields(method = %call.method, path = %call.path, status))]
    async fn exchange(
        &self,
        op: &'static str,
        call: &reply::Call,
        url: &Url,
        body: Option<Bytes>,
    ) -> Result<Bytes> {
        let accepted = if self.text { "application/json, text/plain" } else { "application/json" };
        let mut request = self.http.request(call.method.clone(), url.clone()).header(ACCEPT, accepted);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let response = request.send().await.map_err(|e| call.unreachable(op, url, e))?;
        tracing::Span::current().record("status", response.status().as_u16());
        reply::read(self, op, call, url, response).await
    }
}

/// For the fuzz targets only.
pub(crate) mod fuzzing {
    use futures_util::FutureExt;

    use super::*;

    /// Reads octets as an answer: a line with the status, one with the content type, and the body. What may be
    /// shown of an error is checked here.
    ///
    /// # Panics
    /// If an error shows a credential, or the part of one that no other text has.
    pub(crate) fn answer(client: &Client, octets: &[u8]) -> Option<Result<Bytes>> {
        let mut lines = octets.splitn(3, |octet| *octet == b'\n');
        let status = StatusCode::from_bytes(lines.next()?).ok()?;
        let form = HeaderValue::from_bytes(lines.next()?).ok()?;
        let body = lines.next().unwrap_or_default();
        let mut response = ::http::Response::new(reqwest::Body::from(body.to_vec()));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, form);
        let call = reply::Call::new(&Method::POST, &client.base);
        let read = reply::read(client, "fuzz", &call, &client.base, response.into()).now_or_never()?;
        if let Err(error) = &read {
            check(client, octets, &format!("{} {error:?}", error.report()));
        }
        Some(read)
    }

    fn check(client: &Client, octets: &[u8], shown: &str) {
        for secret in client.secrets.iter().map(Secret::expose) {
            assert!(!shown.contains(secret.as_str()), "an error shows a credential");
            // Nor where its end was cut off; unless the vendor says the part by itself, in whatever letters or in JSON's
            // escapes.
            let said = String::from_utf8_lossy(octets).replace(secret.as_str(), "").to_ascii_lowercase();
            let part = secret.get(..secret.len() / 2).unwrap_or_default();
            let is_said = part.len() < 8 || said.contains(&part.to_ascii_lowercase()) || said.contains("\\u");
            assert!(is_said || !shown.contains(part), "an error shows a part of it");
        }
    }
}

#[cfg(test)]
mod tests;
