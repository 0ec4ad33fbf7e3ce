//! What came back, or did not, and what it means.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use reqwest::Url;

use super::{CONNECT, Client};
use crate::bundle::position;
use crate::ca::http::{deepest, reason, retry_after};
use crate::{Error, ErrorKind, Result, Retry, Secret};

/// The longest answer taken: a page of a hundred records is below 100 KiB.
const MAX_BODY: usize = 1024 * 1024;

/// What a vendor says when it refuses: its code, its words, and what they mean.
///
/// It decides the [`ErrorKind`] only where the status says no more than "refused": 429 stays
/// `RateLimited` and 5xx `Unavailable`, whatever the body says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The vendor's own code, if it has one: [`Error::vendor_code`].
    pub code: Option<String>,
    /// The vendor's words. Credentials in them are blotted out.
    pub message: String,
    /// What it means, where the status alone says too little.
    pub kind: Option<ErrorKind>,
    /// What the person can do about it.
    pub hint: Option<String>,
    /// After how many characters the words are cut.
    longest: usize,
}

impl Refusal {
    /// These words, and nothing known of their meaning.
    pub fn new(message: impl Into<String>) -> Self {
        Self { code: None, message: message.into(), kind: None, hint: None, longest: usize::MAX }
    }

    /// Adds the vendor's code.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Says what it means.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Cuts the words after so many characters. Whoever cut them before would leave the beginning of a credential that
    /// stood there, which could then no longer be found.
    #[must_use]
    pub fn cut_after(mut self, characters: usize) -> Self {
        self.longest = characters;
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Method and path: what errors and spans name a request by. The query may hold anything.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Call {
    pub(super) fn new(method: &Method, url: &Url) -> Self {
        Self { method: method.clone(), path: url.path().to_owned() }
    }

    fn error(&self, kind: ErrorKind, op: &'static str, message: impl Into<String>) -> Error {
        Error::new(kind, op, message).with("method", &self.method).with("path", &self.path)
    }

    /// Names the request in an error that does not yet: a missed deadline.
    pub(super) fn name_if_unnamed(&self, error: Error) -> Error {
        if error.context().any(|(key, _)| key == "path") {
            return error;
        }
        self.explain_write(error.with("method", &self.method).with("path", &self.path))
    }

    /// Whether it does no harm, and may help, to make it again.
    pub(super) fn may_repeat(&self, error: &Error) -> bool {
        self.method == Method::GET && matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::RateLimited)
    }

    /// A write without an answer.
    fn explain_write(&self, error: Error) -> Error {
        if self.method == Method::GET {
            return error;
        }
        error.with_hint("whether the vendor has done it is not known: look before doing it again")
    }

    pub(super) fn unreachable(&self, op: &'static str, url: &Url, error: reqwest::Error) -> Error {
        let host = url.host_str().unwrap_or_default();
        let shown = if error.is_timeout() && error.is_connect() {
            let deadline = format!("{CONNECT:?}");
            self.error(
                ErrorKind::Timeout,
                op,
                format!("connecting: no connection to {host} within {deadline}"),
            )
            .with("phase", "connecting")
            .with("deadline", deadline)
        } else if error.is_builder() {
            self.error(ErrorKind::Config, op, "this URL cannot be asked")
        } else if error.is_connect() {
            self.error(ErrorKind::Unavailable, op, format!("no connection to {host}"))
                .with_hint("check the base URL, the network, and proxies in the environment")
        } else {
            self.explain_write(self.error(
                ErrorKind::Unavailable,
                op,
                format!("the connection to {host} broke off"),
            ))
        };
        shown.with("reason", deepest(&error)).with_source(error.without_url())
    }

    pub(super) fn misunderstood(&self, op: &'static str, error: &serde_json::Error) -> Error {
        self.error(ErrorKind::Protocol, op, "the vendor's answer is not of the form it documents")
            .with("at", position(error))
            .with("reason", reason(error))
    }
}

/// Reads an answer: the body of a success that is JSON, or nothing where nothing was said.
pub(super) async fn read(
    client: &Client,
    op: &'static str,
    call: &Call,
    url: &Url,
    response: reqwest::Response,
) -> Result<Bytes> {
    let (status, form) = (response.status(), Form::of(response.headers()));
    let wait = retry_after(response.headers(), client.clock.now());
    let empty = status == StatusCode::NO_CONTENT || response.content_length() == Some(0);
    if status.is_success() && empty {
        return Ok(Bytes::new());
    }
    let is_own = match &form {
        Form::Json => true,
        // Many a proxy redirects without a word.
        Form::Text | Form::Unsaid => client.text && !status.is_redirection(),
        Form::Html | Form::Other(_) => false,
    };
    if !is_own {
        return Err(not_json(op, call, status, &form.without(&client.secrets), wait));
    }
    // What a refusal says is welcome, but a broken one does not change what the status means.
    let body = match whole(op, call, url, response).await {
        Err(_) if !status.is_success() => Bytes::new(),
        body => body?,
    };
    match (client.refusals)(status, &body) {
        None if status.is_success() => Ok(body),
        said => Err(refused(op, call, status, said, wait, &client.secrets)),
    }
}

async fn whole(op: &'static str, call: &Call, url: &Url, mut response: reqwest::Response) -> Result<Bytes> {
    let status = response.status().as_u16();
    let too_long = || {
        call.error(ErrorKind::Protocol, op, "the vendor's answer is longer than 1 MiB").with("status", status)
    };
    if response.content_length().is_some_and(|declared| declared > MAX_BODY as u64) {
        return Err(too_long());
    }
    let mut content = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| call.unreachable(op, url, e))? {
        if content.len() + chunk.len() > MAX_BODY {
            return Err(too_long());
        }
        content.extend_from_slice(&chunk);
    }
    Ok(content.freeze())
}

/// What the content type says the body is.
enum Form {
    Json,
    Text,
    Html,
    Other(String),
    Unsaid,
}

impl Form {
    fn of(headers: &HeaderMap) -> Self {
        let Some(text) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
            return Self::Unsaid;
        };
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" | "text/json" => Self::Json,
            other if other.starts_with("application/") && other.ends_with("+json") => Self::Json,
            "text/plain" => Self::Text,
            "text/html" | "application/xhtml+xml" => Self::Html,
            _ => Self::Other(essence),
        }
    }

    /// Without a credential that the vendor repeats even here, in lower case as the type is.
    fn without(self, secrets: &[Secret<String>]) -> Self {
        let Self::Other(essence) = self else { return self };
        let secrets = secrets.iter().map(|secret| Secret::new(secret.expose().to_ascii_lowercase()));
        Self::Other(blotted(&essence, &secrets.collect::<Vec<_>>()))
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json => f.write_str("JSON"),
            Self::Text => f.write_str("plain text"),
            Self::Html => f.write_str("an HTML page"),
            Self::Other(essence) => write!(f, "`{}`", essence.escape_debug()),
            Self::Unsaid => f.write_str("a body of no type"),
        }
    }
}

fn not_json(op: &'static str, call: &Call, status: StatusCode, form: &Form, wait: Option<Duration>) -> Error {
    let kind = match (kind(status), form) {
        // That a page is not there, or is another's, says nothing of what the API has.
        (ErrorKind::NotFound | ErrorKind::Conflict, Form::Html) => ErrorKind::Protocol,
        (kind, _) => kind,
    };
    let error = call
        .error(kind, op, format!("the answer is {} with {form} instead of JSON", status.as_u16()))
        .with("status", status.as_u16())
        .with_hint(match kind {
            ErrorKind::Unavailable | ErrorKind::RateLimited => {
                "something in front of the API has answered in its place; it may be over soon"
            }
            _ if status.is_redirection() => "redirects are not followed: give the base URL they lead to",
            _ => "this was not the API: check the base URL, and proxies in the environment",
        });
    with_wait(error, wait)
}

fn refused(
    op: &'static str,
    call: &Call,
    status: StatusCode,
    said: Option<Refusal>,
    wait: Option<Duration>,
    secrets: &[Secret<String>],
) -> Error {
    let by_status = kind(status);
    let meant = match by_status {
        ErrorKind::RateLimited | ErrorKind::Unavailable => by_status,
        _ => said.as_ref().and_then(|said| said.kind).unwrap_or(by_status),
    };
    let error = match &said {
        Some(said) if !said.message.is_empty() => {
            let words: String = blotted(&said.message, secrets).chars().take(said.longest).collect();
            call.error(meant, op, format!("the vendor refuses: {words}"))
        }
        _ => call.error(meant, op, format!("the vendor answers {status}")),
    };
    let mut error = error.with("status", status.as_u16());
    if let Some(Refusal { code, hint, .. }) = said {
        if let Some(code) = code {
            error = error.with_vendor_code(blotted(&code, secrets));
        }
        if let Some(hint) = hint {
            error = error.with_hint(hint);
        }
    }
    with_wait(error, wait)
}

/// Some vendors repeat in their words what was sent to them.
fn blotted(text: &str, secrets: &[Secret<String>]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose().as_str(), "…"))
}

fn with_wait(error: Error, wait: Option<Duration>) -> Error {
    match (wait, error.kind()) {
        (Some(wait), ErrorKind::RateLimited | ErrorKind::Unavailable | ErrorKind::Conflict) => {
            error.with_retry(Retry::After(wait))
        }
        _ => error,
    }
}

fn kind(status: StatusCode) -> ErrorKind {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Auth,
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        StatusCode::CONFLICT => ErrorKind::Conflict,
        StatusCode::TOO_MANY_REQUESTS => ErrorKind::RateLimited,
        StatusCode::REQUEST_TIMEOUT => ErrorKind::Unavailable,
        status if status.is_server_error() => ErrorKind::Unavailable,
        _ => ErrorKind::Protocol,
    }
}
