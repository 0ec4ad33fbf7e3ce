//! The script carried out around a service.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, to_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, response};
use serde_json::Value;
use tower::util::ServiceExt as _;

use super::action::{merge_patch, rearranged};
use super::{Action, Answer, Due, Faults};
use crate::{Endpoint, Problem};

pub(super) const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

/// No message of ACME is longer.
const LONGEST_MESSAGE: usize = 16 * 1024 * 1024;
const NEW_NONCE: &str = "/acme/new-nonce";

/// What a [`FaultService`] fails with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The connection is to be reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionReset;

impl fmt::Display for ConnectionReset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is to be reset, as the script of faults says")
    }
}

impl std::error::Error for ConnectionReset {}

/// Whether an error, or one of its sources, asks for the connection to be reset.
pub fn is_reset(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| match error.downcast_ref::<std::io::Error>() {
        // Its source is that of the error it wraps, not that error itself.
        Some(io) => io.get_ref().map(|wrapped| wrapped as &(dyn std::error::Error + 'static)),
        None => error.source(),
    })
    .any(|error| error.is::<ConnectionReset>())
}

/// Puts [`Faults`] around a service.
#[derive(Debug, Clone)]
pub struct FaultLayer {
    faults: Faults,
}

impl FaultLayer {
    pub(super) fn new(faults: Faults) -> Self {
        Self { faults }
    }
}

impl<S> tower::Layer<S> for FaultLayer {
    type Service = FaultService<S>;

    fn layer(&self, inner: S) -> FaultService<S> {
        FaultService::new(self.faults.clone(), inner)
    }
}

/// A service that does as a script of [`Faults`] says.
#[derive(Debug, Clone)]
pub struct FaultService<S> {
    faults: Faults,
    inner: S,
}

impl<S> FaultService<S> {
    pub(super) fn new(faults: Faults, inner: S) -> Self {
        Self { faults, inner }
    }
}

impl<S> tower::Service<Request<Body>> for FaultService<S>
where
    S: tower::Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Each call waits for a clone of the inner service, and may need a second one for a nonce.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(serve(self.faults.clone(), self.inner.clone(), request))
    }
}

async fn serve<S>(faults: Faults, inner: S, request: Request<Body>) -> Result<Response<Body>, BoxError>
where
    S: tower::Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    let Some(endpoint) = Endpoint::of_path(request.uri().path()) else {
        return inner.oneshot(request).await.map_err(Into::into);
    };
    let mut replaces = false;
    let request = if faults.wants_payload(endpoint) {
        let (parts, body) = request.into_parts();
        let Ok(body) = to_bytes(body, LONGEST_MESSAGE).await else {
            let problem = Problem::malformed("the request cannot be read to its end").with_status(413);
            return Ok(Answer::problem(&problem).render(None, faults.clock().now()));
        };
        replaces = names_replaced(&body);
        Request::from_parts(parts, Body::from(body))
    } else {
        request
    };

    let plan = faults.plan(endpoint, request.method() == Method::POST, replaces);
    let nonce_request = nonce_request(&request);
    for action in plan.before {
        match action {
            Action::Respond(answer) => {
                let nonce =
                    if answer.wants_nonce() { fresh_nonce(inner, nonce_request).await? } else { None };
                return Ok(answer.render(nonce, faults.clock().now()));
            }
            Action::Delay(pause) => tokio::time::sleep(pause).await,
            Action::Hang => return std::future::pending().await,
            Action::Reset => return Err(ConnectionReset.into()),
            Action::Flood(bytes) => return Ok(flood(bytes)),
            // They need an answer, and are never planned before it.
            _ => {}
        }
    }

    let response = inner.clone().oneshot(request).await.map_err(Into::into)?;
    if plan.after.is_empty() {
        return Ok(response);
    }
    let mut real = Real::read(response).await?;
    for due in plan.after {
        let Some(changed) = real.changed_by(&due) else { continue };
        if !faults.claim(&due) {
            continue;
        }
        match due.action {
            Action::Delay(pause) => tokio::time::sleep(pause).await,
            Action::Hang => return std::future::pending().await,
            Action::Reset => return Err(ConnectionReset.into()),
            Action::Flood(bytes) => return Ok(flood(bytes)),
            Action::Abort => return Ok(real.aborted()),
            Action::Respond(answer) => {
                let nonce = real.parts.headers.get(REPLAY_NONCE).cloned();
                let response = answer.render(nonce, faults.clock().now());
                real = Real::read(response).await?;
            }
            _ => real = changed,
        }
    }
    Ok(real.into_response())
}

/// Whether the payload of a JWS names a certificate to replace. What cannot be read names none: the server
/// says why.
fn names_replaced(jws: &[u8]) -> bool {
    let read = || -> Option<bool> {
        let jws: Value = serde_json::from_slice(jws).ok()?;
        let payload = URL_SAFE_NO_PAD.decode(jws.get("payload")?.as_str()?).ok()?;
        let payload: Value = serde_json::from_slice(&payload).ok()?;
        Some(!payload.get("replaces")?.as_str()?.is_empty())
    };
    read().unwrap_or(false)
}

/// A request for a nonce that looks as if it came by the same connection to the same host.
fn nonce_request(like: &Request<Body>) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::HEAD;
    *request.version_mut() = like.version();
    let mut uri = like.uri().clone().into_parts();
    uri.path_and_query = Some(http::uri::PathAndQuery::from_static(NEW_NONCE));
    *request.uri_mut() = Uri::from_parts(uri).unwrap_or_else(|_| Uri::from_static(NEW_NONCE));
    if let Some(host) = like.headers().get(HOST) {
        request.headers_mut().insert(HOST, host.clone());
    }
    *request.extensions_mut() = like.extensions().clone();
    request
}

async fn fresh_nonce<S>(inner: S, request: Request<Body>) -> Result<Option<HeaderValue>, BoxError>
where
    S: tower::Service<Request<Body>, Response = Response<Body>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    let response = inner.oneshot(request).await.map_err(Into::into)?;
    Ok(response.headers().get(REPLAY_NONCE).cloned())
}

/// A JSON object of about this many bytes; only one piece of it ever exists.
fn flood(bytes: u64) -> Response<Body> {
    const PIECE: &[u8] = &[b'a'; 64 * 1024];
    let pieces = (0..bytes / (64 * 1024)).map(|_| Bytes::from_static(PIECE));
    let pieces = std::iter::once(Bytes::from_static(b"{\"padding\":\""))
        .chain(pieces)
        .chain(std::iter::once(Bytes::from_static(b"\"}")));
    let mut response = Response::new(Body::from_stream(stream::iter(pieces.map(Ok::<_, Infallible>))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A real answer.
#[derive(Debug, Clone)]
struct Real {
    parts: response::Parts,
    body: Bytes,
}

impl Real {
    async fn read(response: Response<Body>) -> Result<Self, BoxError> {
        let (mut parts, body) = response.into_parts();
        let body = to_bytes(body, LONGEST_MESSAGE).await?;
        parts.headers.remove(TRANSFER_ENCODING);
        Ok(Self { parts, body })
    }

    fn json(&self) -> Option<Value> {
        if !self.parts.status.is_success() {
            return None;
        }
        serde_json::from_slice(&self.body).ok().filter(Value::is_object)
    }

    /// What a fault makes of it; itself if the fault takes its place; `None` if they do not fit.
    fn changed_by(&self, due: &Due) -> Option<Self> {
        if let Some(states) = &due.states {
            let json = self.json()?;
            let state = json.get("status")?.as_str()?;
            if !states.iter().any(|known| known == state) {
                return None;
            }
        }
        let mut new = self.clone();
        match &due.action {
            Action::Cut(percent) => {
                let kept = self.body.len().saturating_mul(usize::from(*percent)) / 100;
                new.set_body(self.body.slice(..kept.min(self.body.len())));
            }
            Action::Patch(patch) => {
                let mut json = self.json()?;
                merge_patch(&mut json, patch);
                new.set_body(json.to_string());
            }
            Action::Rewrite(rewrite) => {
                let mut json = self.json()?;
                rewrite.apply(&mut json);
                new.set_body(json.to_string());
            }
            Action::Body(body) if self.parts.status.is_success() => new.set_body(body.clone()),
            Action::Chain(how) if self.parts.status.is_success() => {
                new.set_body(rearranged(&self.body, *how)?);
            }
            Action::Body(_) | Action::Chain(_) => return None,
            // The body says what they are, and hyper panics if they contradict it.
            Action::SetHeader(name, _) if [CONTENT_LENGTH, TRANSFER_ENCODING].contains(name) => return None,
            Action::SetHeader(name, value) => {
                new.parts.headers.insert(name, value.clone());
            }
            Action::RemoveHeader(name) => {
                new.parts.headers.remove(name)?;
            }
            Action::HugeHeaders { count, bytes } => pad(&mut new.parts.headers, *count, *bytes)?,
            _ => {}
        }
        Some(new)
    }

    fn set_body(&mut self, body: impl Into<Bytes>) {
        self.body = body.into();
        self.parts.headers.remove(CONTENT_LENGTH);
    }

    fn into_response(self) -> Response<Body> {
        Response::from_parts(self.parts, Body::from(self.body))
    }

    /// Half of the body, under the length of the whole; then an error, which ends the connection.
    fn aborted(mut self) -> Response<Body> {
        let claimed = self.body.len().max(1);
        self.parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(claimed));
        let half = self.body.slice(..claimed / 2);
        let body = stream::unfold(0, move |step| {
            let half = half.clone();
            async move {
                if step == 0 {
                    return Some((Ok(half), 1));
                }
                // Gives the connection time to send the half before the error makes it drop all it holds.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                (step == 1).then(|| (Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)), 2))
            }
        });
        Response::from_parts(self.parts, Body::from_stream(body))
    }
}

/// Adds headers nobody asked for; `None` if that is more than a `HeaderMap` holds.
fn pad(headers: &mut HeaderMap, count: u16, bytes: usize) -> Option<()> {
    let value = HeaderValue::from_maybe_shared(Bytes::from(vec![b'a'; bytes])).ok()?;
    for number in 0..count {
        let name = HeaderName::try_from(format!("x-padding-{number}")).ok()?;
        headers.try_insert(name, value.clone()).ok()?;
    }
    Some(())
}
