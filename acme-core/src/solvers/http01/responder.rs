//! [`Http01Responder`]: the answers, and what is said to who asks for them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
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
use crate::solvers::shared::SharedAnswers;
use crate::{Challenge, ChallengeKind, KeyAuthorization, Result, Store};

/// The answers to http-01 challenges in memory; clones share them. Processes can, too: by a [store](Self::shared).
///
/// As a `tower_service::Service` it fits hyper, axum (`route_service` at
/// `/.well-known/acme-challenge/{token}`) and tower; [`answer`](Self::answer) fits everything else. For a port 80 that
/// has nothing else to say there is [`Http01Redirect`](super::Http01Redirect).
///
/// | Request | Answer |
/// |---|---|
/// | GET of a token presented | 200, `application/octet-stream`, the key authorization |
/// | HEAD of a token presented | the same without a body |
/// | any other method | 405 |
/// | any other path or token | 404 |
/// | a token that is not here, while the store of others cannot be read | 503 |
///
/// Nothing of a request ever appears in an answer. Without a store its future is ready at once.
#[derive(Clone, Default)]
pub struct Http01Responder {
    answers: Arc<RwLock<HashMap<String, KeyAuthorization>>>,
    shared: Option<SharedAnswers>,
}

impl fmt::Debug for Http01Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http01Responder").field("challenges", &self.count()).finish()
    }
}

impl Http01Responder {
    /// One whose answers other processes on this store give, too, as it gives theirs: behind a load balancer it does not
    /// matter which of them the CA asks. At most 16 unknown tokens are looked for at once, each for 5 seconds at most.
    pub fn shared(store: Arc<dyn Store>) -> Self {
        Self { answers: Arc::default(), shared: Some(SharedAnswers::new(store)) }
    }

    /// The answer to a request of this method for this path (no query, not decoded), if it was presented in this
    /// process: [`find`](Self::find) also knows those of others.
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
        match token(path).and_then(|token| self.known(token)) {
            Some(proof) => answer(method, &proof),
            None => short(StatusCode::NOT_FOUND),
        }
    }

    /// As [`answer`](Self::answer), and if the token is not known here, it is looked for in the store.
    pub async fn find(&self, method: &Method, path: &str) -> Response<Bytes> {
        let Some(token) = token(path) else { return short(StatusCode::NOT_FOUND) };
        if let Some(proof) = self.known(token) {
            return answer(method, &proof);
        }
        let Some(shared) = &self.shared else { return short(StatusCode::NOT_FOUND) };
        match shared.find(&ChallengeKind::Http01, token).await {
            Ok(Some(challenge)) => answer(method, &challenge.key_authorization),
            Ok(None) => short(StatusCode::NOT_FOUND),
            Err(error) => {
                tracing::debug!(%error, "whether another process has the answer cannot be told");
                short(StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    }

    fn known(&self, token: &str) -> Option<KeyAuthorization> {
        self.answers.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    /// Answers from now on.
    pub(super) async fn present(&self, challenge: &Challenge) -> Result<()> {
        if let Some(shared) = &self.shared {
            shared.put(&challenge.token, challenge).await?;
        }
        self.insert(challenge);
        Ok(())
    }

    /// Answers no longer.
    pub(super) async fn withdraw(&self, challenge: &Challenge) -> Result<()> {
        self.remove(&challenge.token);
        match &self.shared {
            Some(shared) => shared.take_away(&challenge.token, challenge).await,
            None => Ok(()),
        }
    }

    /// Whether other processes can give the answer, too, where there are any.
    pub(super) async fn is_shared(&self, challenge: &Challenge) -> Result<bool> {
        let Some(shared) = &self.shared else { return Ok(true) };
        let found = shared.find(&ChallengeKind::Http01, &challenge.token).await?;
        Ok(found.is_some_and(|found| found == *challenge))
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

/// The token that a path asks for: base64url, of 128 characters at most.
fn token(path: &str) -> Option<&str> {
    let token = path.strip_prefix('/')?.strip_prefix(WELL_KNOWN)?.strip_prefix('/')?;
    let in_alphabet = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    ((1..=128).contains(&token.len()) && token.bytes().all(in_alphabet)).then_some(token)
}

fn answer(method: &Method, proof: &KeyAuthorization) -> Response<Bytes> {
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

pub(super) fn short(status: StatusCode) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    answer
}

impl<B> Service<Request<B>> for Http01Responder {
    type Response = Response<Http01Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (responder, method, uri) = (self.clone(), request.method().clone(), request.uri().clone());
        Box::pin(async move { Ok(responder.find(&method, uri.path()).await.map(Http01Body::new)) })
    }
}

/// The body of an answer: in memory, complete from the start.
pub struct Http01Body(Full<Bytes>);

impl Http01Body {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(Full::new(bytes))
    }
}

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
