//! [`Http01Responder`]: the answers, and what is said to who asks for them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use tower_service::Service;

use super::WELL_KNOWN;
use crate::{Challenge, KeyAuthorization};

/// The answers to http-01 challenges in memory; clones share them.
///
/// As a `tower_service::Service` it fits hyper, axum (`route_service` at
/// `/.well-known/acme-challenge/{token}`) and tower; [`answer`](Self::answer) fits everything else.
///
/// | Request | Answer |
/// |---|---|
/// | GET of a token presented | 200, `application/octet-stream`, the key authorization |
/// | HEAD of a token presented | the same without a body |
/// | any other method | 405 |
/// | any other path or token | 404 |
///
/// Nothing of a request ever appears in an answer. Its future is ready at once.
#[derive(Clone, Default)]
pub struct Http01Responder {
    answers: Arc<RwLock<HashMap<String, KeyAuthorization>>>,
}

impl fmt::Debug for Http01Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http01Responder").field("challenges", &self.count()).finish()
    }
}

impl Http01Responder {
    /// The answer to a request of this method for this path (no query, not decoded).
    ///
    /// ```
    /// use acmekit_core::solvers::Http01Responder;
    /// use http::{Method, StatusCode};
    ///
    /// let responder = Http01Responder::default();
    /// let answer = responder.answer(&Method::GET, "/.well-known/acme-challenge/unknown");
    /// assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    /// ```
    pub fn answer(&self, method: &Method, path: &str) -> Response<Bytes> {
        let Some(proof) = self.proof(path) else { return short(StatusCode::NOT_FOUND) };
        if *method != Method::GET && *method != Method::HEAD {
            let mut answer = short(StatusCode::METHOD_NOT_ALLOWED);
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        let body = Bytes::copy_from_slice(proof.as_secret().expose().as_bytes());
        let length = HeaderValue::from(body.len());
        let mut answer = Response::new(if *method == Method::HEAD { Bytes::new() } else { body });
        let headers = answer.headers_mut();
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        answer
    }

    fn proof(&self, path: &str) -> Option<KeyAuthorization> {
        let token = path.strip_prefix('/')?.strip_prefix(WELL_KNOWN)?.strip_prefix('/')?;
        self.answers.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    pub(super) fn insert(&self, challenge: &Challenge) {
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        answers.insert(challenge.token.clone(), challenge.key_authorization.clone());
    }

    pub(super) fn remove(&self, token: &str) {
        self.answers.write().unwrap_or_else(PoisonError::into_inner).remove(token);
    }

    pub(super) fn has(&self, token: &str) -> bool {
        self.answers.read().unwrap_or_else(PoisonError::into_inner).contains_key(token)
    }

    pub(super) fn count(&self) -> usize {
        self.answers.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

fn short(status: StatusCode) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    answer
}

impl<B> Service<Request<B>> for Http01Responder {
    type Response = Response<Http01Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.answer(request.method(), request.uri().path());
        ready(Ok(answer.map(|bytes| Http01Body(Full::new(bytes)))))
    }
}

/// The body of an answer: in memory, complete from the start.
pub struct Http01Body(Full<Bytes>);

impl fmt::Debug for Http01Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http01Body").finish_non_exhaustive()
    }
}

impl Body for Http01Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
