//! Answers, and the headers all of them have.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, LINK, LOCATION, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::Inner;
use crate::{Endpoint, Problem};

const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

/// When the client is to ask again. The header is written last, because only the server knows the time.
#[derive(Debug, Clone, Copy)]
struct RetryAt(SystemTime);

/// JSON with a status.
pub(super) fn json(status: StatusCode, body: &Value) -> Response {
    let mut response = (status, body.to_string()).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Adds a header, unless its value cannot be one.
pub(super) fn with(mut response: Response, name: HeaderName, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().append(name, value);
    }
    response
}

pub(super) fn located(response: Response, url: &str) -> Response {
    with(response, LOCATION, url)
}

pub(super) fn linked(response: Response, url: &str, relation: &str) -> Response {
    with(response, LINK, &format!("<{url}>;rel=\"{relation}\""))
}

pub(super) fn retry_after(response: Response, pause: Duration) -> Response {
    with(response, RETRY_AFTER, &pause.as_secs().to_string())
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json(status, &self.to_json());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(at) = self.retry_at() {
            response.extensions_mut().insert(RetryAt(at));
        }
        response
    }
}

/// Every answer names the directory (RFC 8555 section 7.1); those to signed requests, also errors, and those of
/// newNonce bring a nonce (section 6.5).
pub(super) async fn complete(State(server): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    let wants_nonce = request.method() == Method::POST
        || Endpoint::of_path(request.uri().path()) == Some(Endpoint::NewNonce);
    let mut response = next.run(request).await;
    if let Some(RetryAt(at)) = response.extensions_mut().remove() {
        let pause = at.duration_since(server.now()).unwrap_or_default();
        // Rounded up: asking a fraction of a second early is refused again.
        response = retry_after(response, pause + Duration::from_millis(999));
    }
    let response = linked(response, &server.url("/directory"), "index");
    if !wants_nonce {
        return response;
    }
    match server.state.new_nonce().await {
        Ok(nonce) => with(response, REPLAY_NONCE, &nonce),
        Err(problem) => {
            tracing::warn!(%problem, "an answer goes without a nonce");
            response
        }
    }
}
