//! What can go wrong.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::Value;

use super::service::REPLAY_NONCE;
use crate::Problem;

/// What goes wrong. The first five take the place of the real answer, the others change it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Action {
    /// Answers this.
    Respond(Answer),
    /// Waits; then all goes on as if nothing was.
    Delay(Duration),
    /// Never answers. It ends with the connection, and nothing but the waiting request is held.
    Hang,
    /// Breaks the connection: the service fails with [`ConnectionReset`](super::ConnectionReset).
    Reset,
    /// Answers a JSON object of about this many bytes, made up while it is sent, without a `Content-Length`.
    Flood(u64),
    /// The body ends after this percentage, with a `Content-Length` to match.
    Cut(u8),
    /// The connection ends within the body: `Content-Length` says more than there is.
    Abort,
    /// A merge patch (RFC 7396) is applied to the JSON.
    Patch(Value),
    /// The JSON is changed by a function: for what no merge patch can say.
    Rewrite(Rewrite),
    /// Another body, with the real status and headers.
    Body(Bytes),
    /// The PEM chain is rearranged.
    Chain(ChainFault),
    /// A header has this value. `Content-Length` and `Transfer-Encoding` are not changed: see
    /// [`Abort`](Self::Abort) and [`Flood`](Self::Flood).
    SetHeader(HeaderName, HeaderValue),
    /// A header is missing.
    RemoveHeader(HeaderName),
    /// There are this many headers more, each of this many bytes.
    HugeHeaders {
        /// How many.
        count: u16,
        /// How long each value is.
        bytes: usize,
    },
}

/// What is done to a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChainFault {
    /// The leaf comes last.
    IntermediateFirst,
    /// The leaf is missing. A chain of nothing but a leaf becomes an empty body.
    LeafMissing,
}

/// A function over the JSON of an answer.
#[derive(Clone)]
pub struct Rewrite(Arc<dyn Fn(&mut Value) + Send + Sync>);

impl Rewrite {
    pub(super) fn apply(&self, value: &mut Value) {
        (self.0)(value);
    }
}

impl fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rewrite(..)")
    }
}

impl Action {
    /// Changes the JSON by a function.
    pub fn rewrite(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self::Rewrite(Rewrite(Arc::new(change)))
    }

    /// Answers an error that the server itself would send, with a fresh nonce.
    pub fn problem(problem: &Problem) -> Self {
        Self::Respond(Answer::problem(problem))
    }

    /// Serves this instead of the chain.
    pub fn certificate(pem: impl Into<String>) -> Self {
        Self::Body(Bytes::from(pem.into()))
    }

    /// 302 to this URL.
    pub fn redirect(url: HeaderValue) -> Self {
        Self::Respond(Answer::new(StatusCode::FOUND).header(LOCATION, url))
    }

    /// Whether it changes the real answer, so that there must be one.
    pub(super) fn needs_answer(&self) -> bool {
        !matches!(self, Self::Respond(_) | Self::Delay(_) | Self::Hang | Self::Reset | Self::Flood(_))
    }
}

/// When the client is told to come again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryAfter {
    /// In so many seconds.
    Seconds(u64),
    /// At the HTTP date that is this far from now.
    Date(Duration),
}

/// An answer made up.
#[derive(Debug, Clone)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    retry_after: Option<RetryAfter>,
    nonce: bool,
}

/// Further away than any test needs, and far from where dates end.
const FARTHEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Answer {
    /// This status with an empty body.
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new(), retry_after: None, nonce: false }
    }

    /// A problem document as the server itself would send it: with a nonce.
    pub fn problem(problem: &Problem) -> Self {
        let status = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status)
            .body(HeaderValue::from_static("application/problem+json"), problem.to_json().to_string())
            .with_nonce()
    }

    /// With this body. `{retry-at}` in it becomes the time of `Retry-After`, as Boulder writes it.
    #[must_use]
    pub fn body(mut self, content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header(CONTENT_TYPE, content_type)
    }

    /// With this header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, retry_after: RetryAfter) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// With a fresh `Replay-Nonce`, that the server is asked for. What a proxy answers has none.
    #[must_use]
    pub fn with_nonce(mut self) -> Self {
        self.nonce = true;
        self
    }

    pub(super) fn wants_nonce(&self) -> bool {
        self.nonce
    }

    pub(super) fn render(&self, nonce: Option<HeaderValue>, now: SystemTime) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        // The body says what they are, and hyper panics if they contradict it.
        response.headers_mut().remove(CONTENT_LENGTH);
        response.headers_mut().remove(TRANSFER_ENCODING);
        let mut body = self.body.clone();
        if let Some(retry_after) = &self.retry_after {
            let (wait, seconds) = match retry_after {
                RetryAfter::Seconds(seconds) => (Duration::from_secs(*seconds), Some(*seconds)),
                RetryAfter::Date(wait) => (*wait, None),
            };
            // httpdate and jiff know no time before 1970 or after 9999.
            let at = now.max(SystemTime::UNIX_EPOCH).checked_add(wait.min(FARTHEST)).unwrap_or(now);
            let value = match seconds {
                Some(seconds) => Ok(HeaderValue::from(seconds)),
                None => HeaderValue::try_from(httpdate::fmt_http_date(at)),
            };
            if let Ok(value) = value {
                response.headers_mut().insert(RETRY_AFTER, value);
            }
            body = with_retry_at(body, at);
        }
        if let Some(nonce) = nonce.filter(|_| self.nonce) {
            response.headers_mut().insert(REPLAY_NONCE, nonce);
        }
        *response.body_mut() = Body::from(body);
        response
    }
}

fn with_retry_at(body: Bytes, at: SystemTime) -> Bytes {
    const PLACE: &str = "{retry-at}";
    let Ok(text) = std::str::from_utf8(&body) else { return body };
    let Ok(at) = jiff::Timestamp::try_from(at) else { return body };
    if !text.contains(PLACE) {
        return body;
    }
    Bytes::from(text.replace(PLACE, &at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()))
}

/// Applies a merge patch (RFC 7396).
pub(super) fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge_patch(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// `pem` rearranged; `None` if it is no chain.
pub(super) fn rearranged(pem: &[u8], how: ChainFault) -> Option<String> {
    let mut chain = pem::parse_many(pem).ok().filter(|chain| !chain.is_empty())?;
    match how {
        ChainFault::IntermediateFirst => chain.rotate_left(1),
        ChainFault::LeafMissing => drop(chain.remove(0)),
    }
    Some(pem::encode_many_config(&chain, pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF)))
}
