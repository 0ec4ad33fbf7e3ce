//! The way to a CA and back: every call ends, no answer is too long, no nonce is used twice.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use serde::de::DeserializeOwned;

use crate::backoff::LONGEST_WAIT;
use crate::bundle::position;
use crate::order::hint;
use crate::{Authority, Clock, Deadline, Error, ErrorKind, Exchange, Problem, Result, Retry, metrics};

/// The longest answer taken: a chain with a hundred names is below 20 KiB.
const MAX_BODY: usize = 1024 * 1024;
/// RFC 8555 section 6.2.
const JOSE: &str = "application/jose+json";
/// More nonces than requests ever under way would only grow old.
const MAX_NONCES: usize = 64;
/// The phase in which a nonce is all that is asked for.
const NEW_NONCE: &str = "newNonce";

/// A hardened HTTPS client for one authority.
#[derive(Debug)]
pub(crate) struct Transport {
    way: Way,
    nonces: Mutex<Vec<String>>,
    timeout: Duration,
    connect: Duration,
    /// The authority's id.
    authority: String,
    pub(crate) clock: Arc<dyn Clock>,
}

/// How a request gets there.
#[derive(Debug)]
enum Way {
    Https(reqwest::Client),
    Given(Arc<dyn Exchange>),
}

/// An answer read whole. Its status has not been looked at.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// How long the CA asks to wait (`Retry-After`, RFC 9110 section 10.2.3).
    pub(crate) retry_after: Option<Duration>,
}

impl Transport {
    pub(crate) fn new(authority: &Authority, clock: Arc<dyn Clock>) -> Result<Self> {
        let (nonces, timeout) = (Mutex::default(), authority.timeouts().request);
        let connect = authority.timeouts().connect;
        let id = authority.id().to_owned();
        if let Some(exchange) = authority.exchange() {
            return Ok(Self {
                way: Way::Given(Arc::clone(exchange)),
                nonces,
                timeout,
                connect,
                authority: id,
                clock,
            });
        }
        let failed = |why: &str| Error::new(ErrorKind::Config, "ca.connect", why);
        let tls = authority.tls_config()?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("acmekit/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(authority.timeouts().connect)
            .timeout(authority.timeouts().request)
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()
            .map_err(|e| failed("the HTTPS client could not be made").with_source(e))?;
        Ok(Self { way: Way::Https(client), nonces, timeout, connect, authority: id, clock })
    }

    /// One request, one answer; whatever its status.
    #[tracing::instrument(level = "debug", skip_all, fields(%phase, %method, %url, status))]
    pub(crate) async fn exchange(
        &self,
        phase: &'static str,
        method: Method,
        url: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Reply> {
        let answer = async {
            match &self.way {
                Way::Https(client) => self.by_https(client, phase, method, url, body).await,
                Way::Given(exchange) => self.by_exchange(&**exchange, phase, method, url, body).await,
            }
        };
        let (status, headers, body) = metrics::requesting(&self.authority, phase, answer).await?;
        tracing::Span::current().record("status", status.as_u16());
        // One that was asked for is its asker's alone: in the pool, another request may be quicker to take it.
        if let Some(nonce) = nonce_of(&headers).filter(|_| phase != NEW_NONCE) {
            self.keep_nonce(nonce);
        }
        let retry_after = retry_after(&headers, self.clock.now());
        Ok(Reply { status, headers, body, retry_after })
    }

    async fn by_https(
        &self,
        client: &reqwest::Client,
        phase: &str,
        method: Method,
        url: &str,
        body: Option<Vec<u8>>,
    ) -> Result<(StatusCode, HeaderMap, Bytes)> {
        let mut request = client.request(method, url);
        if let Some(body) = body {
            request = request.header(http::header::CONTENT_TYPE, JOSE).body(body);
        }
        let mut response = request.send().await.map_err(|e| self.unreachable(phase, url, e))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut content = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.unreachable(phase, url, e))? {
            if content.len() + chunk.len() > MAX_BODY {
                return Err(too_long(phase, url, status));
            }
            content.extend_from_slice(&chunk);
        }
        Ok((status, headers, content.freeze()))
    }

    async fn by_exchange(
        &self,
        exchange: &dyn Exchange,
        phase: &str,
        method: Method,
        url: &str,
        body: Option<Vec<u8>>,
    ) -> Result<(StatusCode, HeaderMap, Bytes)> {
        let request = Request::builder().method(method).uri(url);
        let request = match body {
            Some(body) => request.header(http::header::CONTENT_TYPE, JOSE).body(Bytes::from(body)),
            None => request.body(Bytes::new()),
        };
        let request = request.map_err(|e| {
            let why = format!("{phase}: this URL cannot be asked");
            Error::new(ErrorKind::Protocol, "ca.http", why).with("url", url).with_source(e)
        })?;
        let answer = Deadline::after(self.timeout).run("ca.http", phase, exchange.exchange(request)).await;
        let (parts, body) = answer.map_err(|error| error.with("url", url))?.into_parts();
        match body.len() > MAX_BODY {
            true => Err(too_long(phase, url, parts.status)),
            false => Ok((parts.status, parts.headers, body)),
        }
    }

    /// A nonce from the pool, or a new one from the CA (RFC 8555 section 7.2).
    pub(crate) async fn nonce(&self, new_nonce: &str) -> Result<String> {
        if let Some(nonce) = self.take_nonce() {
            return Ok(nonce);
        }
        // Some CAs answer 200, some 204; what counts is the header.
        let reply = self.exchange(NEW_NONCE, Method::HEAD, new_nonce, None).await?;
        nonce_of(&reply.headers).map(str::to_owned).ok_or_else(|| match reply.status.is_success() {
            true => {
                Error::new(ErrorKind::Protocol, "ca.nonce", "the CA gives no nonce").with("url", new_nonce)
            }
            false => reply.into_error(NEW_NONCE, new_nonce),
        })
    }

    fn take_nonce(&self) -> Option<String> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep_nonce(&self, nonce: &str) {
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        if nonces.len() < MAX_NONCES {
            nonces.push(nonce.to_owned());
        }
    }

    /// After a `badNonce` only the nonce that came with it can be trusted: the CA may have
    /// restarted and forgotten the others.
    pub(crate) fn distrust_nonces(&self) {
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newest) = nonces.pop() {
            nonces.clear();
            nonces.push(newest);
        }
    }

    fn unreachable(&self, phase: &str, url: &str, error: reqwest::Error) -> Error {
        // A connection has a deadline of its own.
        let deadline = if error.is_connect() { self.connect } else { self.timeout };
        let (kind, why) = if error.is_timeout() && error.is_connect() {
            (ErrorKind::Timeout, format!("{phase}: no connection to the CA within {deadline:?}"))
        } else if error.is_timeout() {
            (ErrorKind::Timeout, format!("{phase}: no answer from the CA within {deadline:?}"))
        } else if error.is_builder() {
            (ErrorKind::Protocol, format!("{phase}: this URL cannot be asked"))
        } else if error.is_connect() {
            (ErrorKind::Unavailable, format!("{phase}: no connection to the CA"))
        } else {
            (ErrorKind::Unavailable, format!("{phase}: the connection to the CA broke off"))
        };
        let hint = match kind {
            ErrorKind::Timeout => "the CA is overloaded or frozen; the next run goes on with the same order",
            ErrorKind::Protocol => "only https:// URLs are asked",
            _ => {
                "check the directory URL, the network and, for a private CA, that its root is among the extra roots"
            }
        };
        let deepest = deepest(&error);
        let mut shown = Error::new(kind, "ca.http", why)
            .with("phase", phase)
            .with("url", url)
            .with("reason", deepest)
            .with_hint(hint)
            .with_source(error.without_url());
        if kind == ErrorKind::Timeout {
            shown = shown.with("deadline", format!("{deadline:?}"));
        }
        shown
    }
}

/// The nonce that comes with an answer. RFC 8555 section 6.5.1: base64url.
fn nonce_of(headers: &HeaderMap) -> Option<&str> {
    let nonce = headers.get("replay-nonce")?.to_str().ok()?;
    let usable = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (!nonce.is_empty() && nonce.bytes().all(usable)).then_some(nonce)
}

fn too_long(phase: &str, url: &str, status: StatusCode) -> Error {
    Error::new(ErrorKind::Protocol, "ca.http", "the CA's answer is longer than 1 MiB")
        .with("phase", phase)
        .with("url", url)
        .with("status", status.as_u16())
}

/// The innermost cause: "connection refused" rather than "error sending request".
pub(crate) fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

impl Reply {
    /// The body as JSON of an expected form; the status comes first.
    pub(crate) fn json<T: DeserializeOwned>(self, phase: &str, url: &str) -> Result<T> {
        let reply = self.success(phase, url)?;
        serde_json::from_slice(&reply.body).map_err(|e| {
            Error::new(
                ErrorKind::Protocol,
                "ca.http",
                format!("{phase}: the CA's answer is not of the form RFC 8555 says"),
            )
            .with("url", url)
            .with("status", reply.status.as_u16())
            .with("at", position(&e))
            .with("reason", reason(&e))
        })
    }

    /// Itself, if the CA agreed.
    pub(crate) fn success(self, phase: &str, url: &str) -> Result<Self> {
        if self.status.is_success() { Ok(self) } else { Err(self.into_error(phase, url)) }
    }

    /// Itself, unless it says that something is not there and is not the CA's own answer: that one has a problem
    /// document or, as every answer to a POST, a nonce (RFC 8555 section 6.5). A proxy's page has neither.
    pub(crate) fn of_ca(self, phase: &str, url: &str) -> Result<Self> {
        let missing = self.status == StatusCode::NOT_FOUND;
        if !missing || self.headers.contains_key("replay-nonce") || self.problem().is_some() {
            return Ok(self);
        }
        let why = format!("{phase}: something before the CA answers {} in its place", self.status);
        Err(Error::new(ErrorKind::Unavailable, "ca.http", why).with("url", url).with_hint(
            "a proxy or load balancer is in the way: nothing is given up until the CA itself answers",
        ))
    }

    /// The CA's problem document, if the body is one.
    pub(crate) fn problem(&self) -> Option<Problem> {
        let mut problem: Problem = serde_json::from_slice(&self.body).ok()?;
        problem.status = Some(self.status.as_u16());
        (!problem.kind.is_empty() || !problem.detail.is_empty()).then_some(problem)
    }

    /// The `Location` header: the URL of what was made by the request to `url`. It is written down and asked for
    /// again and again, so it must be where the CA is: one elsewhere would have every later run fail.
    pub(crate) fn location(&self, phase: &str, url: &str) -> Result<String> {
        let refused = |why: &str| Error::new(ErrorKind::Protocol, "ca.http", format!("{phase}: {why}"));
        let text = self.headers.get(http::header::LOCATION).and_then(|value| value.to_str().ok());
        let text = text.ok_or_else(|| refused("the CA does not say the URL of what it made"))?;
        let from = reqwest::Url::parse(url).map_err(|e| refused("the URL is none").with_source(e))?;
        match from.join(text) {
            Ok(made) if made.origin() == from.origin() => Ok(made.into()),
            _ => Err(refused("the CA says that what it made is elsewhere")
                .with("url", url)
                .with("location", text.escape_debug())),
        }
    }

    /// The URLs of `Link` headers with this relation (RFC 8288).
    pub(crate) fn links(&self, relation: &str) -> Vec<String> {
        let headers = self.headers.get_all(http::header::LINK).iter();
        headers.filter_map(|value| value.to_str().ok()).flat_map(|text| links(text, relation)).collect()
    }

    pub(crate) fn into_error(self, phase: &str, url: &str) -> Error {
        let problem = self.problem();
        let acme = problem.as_ref().map(Problem::acme_type).unwrap_or_default().to_owned();
        let kind = kind(&acme, self.status);
        let retry = match (self.retry_after, kind) {
            (Some(wait), ErrorKind::RateLimited | ErrorKind::Unavailable | ErrorKind::Conflict) => {
                Retry::After(wait)
            }
            (None, ErrorKind::RateLimited | ErrorKind::Unavailable | ErrorKind::Conflict) => Retry::Backoff,
            _ => Retry::Never,
        };
        let mut error = match &problem {
            Some(_) => Error::new(kind, "ca.http", format!("{phase}: the CA refuses")),
            None => Error::new(
                kind,
                "ca.http",
                format!("{phase}: the CA answers {} and no problem document", self.status),
            ),
        }
        .with("url", url)
        .with_retry(retry);
        if let Some(problem) = problem {
            error = error.with_problem(problem);
        }
        match hint(&acme) {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// Why a JSON text does not fit, without repeating the text.
pub(crate) fn reason(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax => "it is not JSON",
        serde_json::error::Category::Data => "a member is missing or of another type",
        serde_json::error::Category::Io => "it could not be read",
    }
}

fn kind(acme_type: &str, status: StatusCode) -> ErrorKind {
    match acme_type {
        "rateLimited" => ErrorKind::RateLimited,
        "accountDoesNotExist" => ErrorKind::NotFound,
        "unauthorized" | "userActionRequired" => ErrorKind::Auth,
        "externalAccountRequired" | "invalidContact" | "unsupportedContact" | "invalidProfile" => {
            ErrorKind::Config
        }
        "badCSR" | "badPublicKey" | "rejectedIdentifier" | "unsupportedIdentifier" => ErrorKind::Rejected,
        "caa" | "connection" | "dns" | "incorrectResponse" | "tls" => ErrorKind::Validation,
        "alreadyReplaced" | "orderNotReady" => ErrorKind::Conflict,
        "serverInternal" => ErrorKind::Unavailable,
        _ => match status {
            StatusCode::TOO_MANY_REQUESTS => ErrorKind::RateLimited,
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Auth,
            StatusCode::CONFLICT => ErrorKind::Conflict,
            status if status.is_server_error() => ErrorKind::Unavailable,
            _ => ErrorKind::Protocol,
        },
    }
}

/// `Retry-After` in either of its forms; a date in the past is "now", and none is further off than a year.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(LONGEST_WAIT))
}

/// The targets with a relation in one `Link` header: `<url>;rel="alternate", <url>;rel="index"`.
fn links(header: &str, relation: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let Some((url, after)) = after.split_once('>') else { break };
        let (parameters, next) = match after.find(",<").or_else(|| after.find(", <")) {
            Some(end) => after.split_at(end),
            None => (after, ""),
        };
        let matches = parameters.split(';').any(|parameter| {
            parameter.trim().strip_prefix("rel=").is_some_and(|value| {
                value.trim_matches('"').split(' ').any(|word| word.eq_ignore_ascii_case(relation))
            })
        });
        if matches {
            found.push(url.to_owned());
        }
        rest = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, want) in [
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("", None),
            ("soon", None),
            ("-5", None),
            ("18446744073709551615", Some(31_622_400)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(31_622_400)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::RETRY_AFTER, text.parse().unwrap());
            assert_eq!(retry_after(&headers, now), want.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn alternate_links_are_found_among_others() {
        for (header, want) in [
            (r#"<https://a/1>;rel="alternate", <https://a/2>; rel="index""#, vec!["https://a/1"]),
            (
                r#"<https://a/1>;rel=alternate,<https://a/2>;rel="alternate""#,
                vec!["https://a/1", "https://a/2"],
            ),
            ("<https://a/1", vec![]),
            ("rel=alternate", vec![]),
        ] {
            assert_eq!(links(header, "alternate"), want, "{header}");
        }
    }

    #[test]
    fn status_decides_when_there_is_no_problem_document() {
        let reply = |status: u16, body: &'static str| Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
            retry_after: Some(Duration::from_secs(7)),
        };
        let error = reply(502, "<html>Bad Gateway</html>").into_error("newOrder", "https://ca");
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::Unavailable, Retry::After(Duration::from_secs(7)))
        );
        assert!(error.to_string().contains("newOrder") && !error.to_string().contains("<html>"));
        assert_eq!(reply(500, "").into_error("x", "u").kind(), ErrorKind::Unavailable);
        let limited = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"}"#;
        let error = reply(429, limited).into_error("newOrder", "https://ca");
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        assert_eq!(error.problem().unwrap().detail, "too many");
        assert!(error.hint().is_some());
    }
}
