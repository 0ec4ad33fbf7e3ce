//! Real validation of challenges: http-01, dns-01 (RFC 8555 section 8), tls-alpn-01 (RFC 8737), addresses (RFC 8738),
//! dns-account-01 and dns-persist-01 (drafts), and CAA (RFC 8659, RFC 8657).
//!
//! [`RealValidator`] asks the network; [`AlwaysValid`] asks nobody.

mod caa;
mod config;
mod dns;
pub(crate) mod fuzzing;
mod http01;
mod issue_value;
mod persist;
mod tls;
mod tls_alpn01;
mod txt;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use acmekit_core::{ChallengeKind, Clock, Deadline, Identifier, Result as CoreResult};
use async_trait::async_trait;

pub use self::config::ValidationConfig;
use self::dns::Dns;
use self::http01::Http01;
use self::tls_alpn01::TlsAlpn01;
use crate::{Problem, ProblemType, Validation, Validator};

/// All kinds that can prove control of an identifier: for a wildcard only those by DNS (RFC 8555 section 8.3,
/// RFC 8737 section 3), for an address only those by connecting to it (RFC 8738 section 4).
fn fitting(identifier: &Identifier) -> Vec<ChallengeKind> {
    let by_dns = [ChallengeKind::Dns01, ChallengeKind::DnsAccount01, ChallengeKind::DnsPersist01];
    match identifier {
        Identifier::Dns(_) => {
            [ChallengeKind::Http01, ChallengeKind::TlsAlpn01].into_iter().chain(by_dns).collect()
        }
        Identifier::Wildcard(_) => by_dns.into(),
        Identifier::Ip(_) => vec![ChallengeKind::Http01, ChallengeKind::TlsAlpn01],
        _ => Vec::new(),
    }
}

/// Believes every client: for tests of what comes after validation.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct AlwaysValid;

#[async_trait]
impl Validator for AlwaysValid {
    fn kinds(&self, identifier: &Identifier) -> Vec<ChallengeKind> {
        fitting(identifier)
    }

    async fn validate(&self, _: &Validation) -> Result<(), Problem> {
        Ok(())
    }
}

/// Looks where the client says it has put the proof.
///
/// Connections are made from this process, to whatever address the identifier leads to: do not run it where that
/// reaches services which trust this machine.
///
/// ```
/// use acmekit_server::validation::{RealValidator, ValidationConfig};
/// let config = ValidationConfig::new().with_http_port(5002).with_resolve_all_to([127, 0, 0, 1]);
/// let validator = RealValidator::new(config)?;
/// # Ok::<(), acmekit_core::Error>(())
/// ```
#[derive(Debug)]
pub struct RealValidator {
    config: ValidationConfig,
    clock: Arc<dyn Clock>,
    dns: Arc<Dns>,
    http: Http01,
    tls: TlsAlpn01,
}

impl RealValidator {
    /// Makes the clients it will need; nothing is asked yet.
    ///
    /// # Errors
    /// `Config` if the HTTP client, the resolver or TLS cannot be set up.
    pub fn new(config: ValidationConfig) -> CoreResult<Self> {
        let dns = Arc::new(Dns::new(&config)?);
        Ok(Self {
            http: Http01::new(&config, Arc::clone(&dns))?,
            tls: TlsAlpn01::new(&config)?,
            clock: Arc::clone(&config.clock),
            dns,
            config,
        })
    }

    async fn check(&self, validation: &Validation, deadline: Deadline) -> Result<(), Failure> {
        match &validation.kind {
            ChallengeKind::Http01 => self.http.check(validation).await,
            ChallengeKind::TlsAlpn01 => self.tls.check(validation, &self.dns, deadline).await,
            ChallengeKind::Dns01 => txt::dns01(validation, &self.dns).await,
            ChallengeKind::DnsAccount01 => txt::dns_account01(validation, &self.dns).await,
            ChallengeKind::DnsPersist01 => {
                let prefix = self.config.account_hash_prefix.as_deref();
                persist::check(validation, &self.dns, prefix, self.clock.now()).await
            }
            kind => Err(unfit(kind, &validation.identifier)),
        }
    }

    async fn check_all(&self, validation: &Validation) -> Result<(), Failure> {
        let kind = &validation.kind;
        if !fitting(&validation.identifier).contains(kind) {
            return Err(unfit(kind, &validation.identifier));
        }
        let deadline = Deadline::after(self.config.timeout);
        let Ok(done) = tokio::time::timeout(deadline.remaining(), self.check(validation, deadline)).await
        else {
            let by_dns = !matches!(kind, ChallengeKind::Http01 | ChallengeKind::TlsAlpn01);
            let problem = if by_dns { ProblemType::Dns } else { ProblemType::Connection };
            let budget = deadline.budget();
            return Err(Failure::new(problem, format!("Timeout: {kind} did not end within {budget:?}")));
        };
        done?;
        if self.config.checks_caa() && !validation.issuer_domains.is_empty() {
            let Ok(done) =
                tokio::time::timeout(deadline.remaining(), caa::check(validation, &self.dns)).await
            else {
                return Err(Failure::new(
                    ProblemType::Caa,
                    "Timeout: the CAA records could not be looked up",
                ));
            };
            done?;
        }
        Ok(())
    }
}

/// Why a validation failed, before the secret is taken out of the text.
#[derive(Debug)]
struct Failure {
    kind: ProblemType,
    detail: String,
}

impl Failure {
    fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    fn malformed(detail: impl Into<String>) -> Self {
        Self::new(ProblemType::Malformed, detail)
    }

    fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(ProblemType::Unauthorized, detail)
    }
}

fn unfit(kind: &ChallengeKind, identifier: &Identifier) -> Failure {
    Failure::malformed(format!("{kind} cannot prove control of {identifier}"))
}

#[async_trait]
impl Validator for RealValidator {
    fn kinds(&self, identifier: &Identifier) -> Vec<ChallengeKind> {
        let mut kinds = fitting(identifier);
        if let Some(offered) = &self.config.kinds {
            kinds.retain(|kind| offered.contains(kind));
        }
        kinds
    }

    async fn validate(&self, validation: &Validation) -> Result<(), Problem> {
        let done = self.check_all(validation).await.map_err(|failure| {
            // Names and URLs that the client's side chose are in the text too, so the whole of it is looked through.
            let secret = validation.key_authorization.as_secret().expose();
            let detail = redact(&failure.detail, secret);
            Problem::new(failure.kind, detail).with_identifier(validation.identifier.clone())
        });
        let (identifier, kind) = (&validation.identifier, &validation.kind);
        match &done {
            Ok(()) => tracing::debug!(%identifier, %kind, "validated"),
            Err(problem) => tracing::debug!(%identifier, %kind, %problem, "validation failed"),
        }
        done
    }
}

/// The text without the key authorization: a server may echo it within a wrong answer.
fn redact(text: &str, secret: &str) -> String {
    text.replace(secret, "[key authorization]")
}

/// What was received, safe to show: the secret taken out, escaped, and cut.
fn quote(received: &[u8], secret: &str) -> String {
    const SHOWN: usize = 128;
    let text = redact(&String::from_utf8_lossy(received), secret);
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

/// The innermost cause: "connection refused" rather than "error sending request".
fn deepest<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause
}
