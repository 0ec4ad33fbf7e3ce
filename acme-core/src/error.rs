//! One error for the whole family.
//!
//! [`Error`] is one word wide and carries, as data, what a caller needs to act on it: what kind of
//! failure ([`ErrorKind`]), whether and when to try again ([`Retry`]), which operation, the values
//! involved, the CA's own words ([`Problem`]) and a [hint](Error::hint) for the person.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The result of nearly everything in acmekit.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the coarsest terms a program can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// A credential was refused: account, EAB key, API token, TSIG key.
    Auth,
    /// The configuration or the input is wrong; nothing was sent.
    Config,
    /// No zone of this DNS provider holds the name.
    ZoneNotFound,
    /// The thing asked for does not exist.
    NotFound,
    /// Somebody else changed it first, or holds it.
    Conflict,
    /// The other side asks to slow down; see [`Error::retry`].
    RateLimited,
    /// The other side cannot be reached or is broken for now.
    Unavailable,
    /// A deadline passed. The message names the phase and the deadline.
    Timeout,
    /// The other side answered something its protocol does not allow.
    Protocol,
    /// The CA could not validate control of an identifier.
    Validation,
    /// The CA refused the order by policy.
    Rejected,
    /// The store could not read or write.
    Storage,
    /// A deployer could not get the certificate served.
    Deploy,
    /// The other side does not offer what was asked.
    Unsupported,
    /// The caller gave up.
    Cancelled,
    /// None of the above.
    Other,
}

impl ErrorKind {
    /// The kind as one word, as it is written in JSON and on metrics: `rate-limited`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Config => "config",
            Self::ZoneNotFound => "zone-not-found",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::RateLimited => "rate-limited",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Validation => "validation",
            Self::Rejected => "rejected",
            Self::Storage => "storage",
            Self::Deploy => "deploy",
            Self::Unsupported => "unsupported",
            Self::Cancelled => "cancelled",
            Self::Other => "other",
        }
    }
}

/// Whether trying again can help, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Retry {
    /// The same call fails again until somebody changes something.
    Never,
    /// Try again, with growing pauses.
    Backoff,
    /// Try again after this time; the other side said so.
    After(Duration),
}

/// A problem document as a CA sends it (RFC 7807, RFC 8555 section 6.7).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// The type URI, such as `urn:ietf:params:acme:error:rateLimited`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// What the CA says to a person.
    #[serde(default)]
    pub detail: String,
    /// The HTTP status, where one is known.
    #[serde(default)]
    pub status: Option<u16>,
    /// The identifier it is about, as text; only in subproblems.
    #[serde(default, deserialize_with = "identifier_text")]
    pub identifier: Option<String>,
    /// One entry per identifier that failed (RFC 8555 section 6.7.1).
    #[serde(default, deserialize_with = "null_as_empty")]
    pub subproblems: Vec<Self>,
}

/// Accepts the wire form `{"type":"dns","value":"…"}` and the plain text this crate writes.
fn identifier_text<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Wire { value: String },
    }
    Ok(Option::<Form>::deserialize(input)?.map(|form| match form {
        Form::Text(value) | Form::Wire { value } => value,
    }))
}

/// Some CAs write `null` where RFC 8555 wants an array.
pub(crate) fn null_as_empty<'de, D, T>(input: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(input)?.unwrap_or_default())
}

impl Problem {
    /// The last part of an ACME type URI: `rateLimited`, `badNonce`, … Empty if it is not one.
    pub fn acme_type(&self) -> &str {
        self.kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or_default()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(identifier) = &self.identifier {
            write!(f, "{identifier}: ")?;
        }
        f.write_str(if self.detail.is_empty() { "no detail given" } else { &self.detail })?;
        match (self.acme_type(), self.kind.as_str()) {
            ("", "" | "about:blank") => {}
            ("", other) => write!(f, " ({other})")?,
            (acme, _) => write!(f, " ({acme})")?,
        }
        for sub in &self.subproblems {
            write!(f, "; {sub}")?;
        }
        Ok(())
    }
}

/// What failed, as data: the kind, when to try again, the operation, the values involved, the CA's
/// own words, and a [hint](Error::hint) for the person.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    op: &'static str,
    message: String,
    context: Vec<(&'static str, String)>,
    problem: Option<Problem>,
    vendor_code: Option<String>,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` in operation `op` (`"file_store.save"`), with one line for the person.
    ///
    /// [`Retry`] starts as what is usual for the kind; see [`with_retry`](Self::with_retry).
    pub fn new(kind: ErrorKind, op: &'static str, message: impl Into<String>) -> Self {
        let retry = match kind {
            ErrorKind::RateLimited | ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Conflict => {
                Retry::Backoff
            }
            _ => Retry::Never,
        };
        Self(Box::new(Inner {
            kind,
            retry,
            op,
            message: message.into(),
            context: Vec::new(),
            problem: None,
            vendor_code: None,
            hint: None,
            source: None,
        }))
    }

    /// Adds a value that explains the failure. Never a secret.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Says when trying again can help.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Attaches the CA's problem document.
    #[must_use]
    pub fn with_problem(mut self, problem: Problem) -> Self {
        self.0.problem = Some(problem);
        self
    }

    /// Attaches the vendor's own error code.
    #[must_use]
    pub fn with_vendor_code(mut self, code: impl Into<String>) -> Self {
        self.0.vendor_code = Some(code.into());
        self
    }

    /// Tells the person what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether trying again can help, and when.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// The operation that failed.
    pub fn op(&self) -> &'static str {
        self.0.op
    }

    /// The one line for the person, without operation and context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The values that explain it.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// The CA's problem document, if the CA sent one.
    pub fn problem(&self) -> Option<&Problem> {
        self.0.problem.as_ref()
    }

    /// The vendor's own error code, if there is one.
    pub fn vendor_code(&self) -> Option<&str> {
        self.0.vendor_code.as_deref()
    }

    /// What the person can do about it, if acmekit knows.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The whole story over several lines: this error, its hint, and the chain of causes.
    pub fn report(&self) -> String {
        let mut out = self.to_string();
        if let Some(hint) = self.hint() {
            out.push_str("\n  hint: ");
            out.push_str(&one_line(hint));
        }
        let mut cause = self.source();
        while let Some(error) = cause {
            out.push_str("\n  caused by: ");
            out.push_str(&one_line(&error.to_string()));
            cause = error.source();
        }
        out
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.op, one_line(&self.0.message))?;
        if let Some(problem) = &self.0.problem {
            write!(f, ": {}", one_line(&problem.to_string()))?;
        }
        if let Some(code) = &self.0.vendor_code {
            write!(f, " [{}]", one_line(code))?;
        }
        for (i, (key, value)) in self.0.context.iter().enumerate() {
            f.write_str(if i == 0 { " (" } else { ", " })?;
            write!(f, "{key}={}", one_line(value))?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        if let Retry::After(wait) = self.0.retry {
            write!(f, "; try again in {} s", wait.as_secs())?;
        }
        Ok(())
    }
}

/// Foreign text must not break a log line, nor fill it.
fn one_line(text: &str) -> String {
    const MAX: usize = 2000;
    let mut out: String = text.chars().take(MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX).is_some() {
        out.push('…');
    }
    out
}

/// As a program's `main` shows it: the [report](Error::report). Field by field it is `{:#?}`.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return f.write_str(&self.report());
        }
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("retry", &self.0.retry)
            .field("op", &self.0.op)
            .field("message", &self.0.message)
            .field("context", &self.0.context)
            .field("problem", &self.0.problem)
            .field("vendor_code", &self.0.vendor_code)
            .field("hint", &self.0.hint)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_the_same_word_everywhere() {
        for kind in [
            ErrorKind::Auth,
            ErrorKind::Config,
            ErrorKind::ZoneNotFound,
            ErrorKind::NotFound,
            ErrorKind::Conflict,
            ErrorKind::RateLimited,
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::Protocol,
            ErrorKind::Validation,
            ErrorKind::Rejected,
            ErrorKind::Storage,
            ErrorKind::Deploy,
            ErrorKind::Unsupported,
            ErrorKind::Cancelled,
            ErrorKind::Other,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    #[test]
    fn error_is_one_word_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn display_is_one_line_without_the_source() {
        let error = Error::new(ErrorKind::Config, "spec.name", "bad\nname")
            .with("name", "a b")
            .with_hint("use letters")
            .with_source(std::io::Error::other("inner"));
        assert_eq!(error.to_string(), "spec.name: bad name (name=a b)");
        assert_eq!(error.report(), "spec.name: bad name (name=a b)\n  hint: use letters\n  caused by: inner");
    }

    #[test]
    fn what_main_answers_is_shown_as_its_report() {
        let error = Error::new(ErrorKind::Config, "x", "y")
            .with_hint("do\x1b[2Jz")
            .with_source(std::io::Error::other("a\nb"));
        assert_eq!(format!("{error:?}"), "x: y\n  hint: do [2Jz\n  caused by: a b");
        assert!(format!("{error:#?}").contains("retry: Never"));
    }

    #[test]
    fn foreign_text_is_cut_and_kept_on_one_line() {
        let shown = Error::new(ErrorKind::Other, "x", "y\r\n".repeat(5000)).to_string();
        assert!(shown.len() < 2100 && !shown.contains('\n'), "{}", shown.len());
    }

    #[test]
    fn problems_show_each_subproblem_with_its_identifier() {
        let problem: Problem = serde_json::from_str(
            r#"{"type":"urn:ietf:params:acme:error:malformed","detail":"two bad",
                "subproblems":[{"type":"urn:ietf:params:acme:error:caa","detail":"no","identifier":{"type":"dns","value":"a.test"}}]}"#,
        )
        .unwrap();
        assert_eq!(problem.to_string(), "two bad (malformed); a.test: no (caa)");
        let again: Problem = serde_json::from_str(&serde_json::to_string(&problem).unwrap()).unwrap();
        assert_eq!(again, problem);
    }

    #[test]
    fn null_subproblems_are_none() {
        let problem: Problem = serde_json::from_str(r#"{"detail":"x","subproblems":null}"#).unwrap();
        assert!(problem.subproblems.is_empty());
    }
}
