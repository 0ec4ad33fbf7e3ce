//! Answers http-01 challenges (RFC 8555 section 8.3): a text at a well-known path on port 80.

mod fetch;
mod redirect;
mod responder;
mod standalone;
mod webroot;

use std::net::SocketAddr;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::{Challenge, ChallengeKind, ChallengeSolver, Deadline, Error, ErrorKind, Presentation, Result};

pub use redirect::Http01Redirect;
pub use responder::{Http01Body, Http01Responder};
pub use standalone::Http01Standalone;
pub use webroot::Http01Webroot;

/// The folder of the answers below a web server's root, without slashes around it.
const WELL_KNOWN: &str = ".well-known/acme-challenge";

/// Answers http-01 challenges from memory, through an HTTP server the program has anyway.
///
/// | You have | Use |
/// |---|---|
/// | an HTTP server in this program | `Http01::new(responder)`, and route to the [`Http01Responder`] |
/// | nothing on port 80 | [`Http01::standalone`] |
/// | another web server on port 80 | [`Http01::webroot`] |
///
/// The answers live in memory: after a restart acmekit presents them again. With a [shared
/// responder](Http01Responder::shared) they are in the store, too, for other processes to give. A dropped future leaves an
/// answer in place at most, until clean-up.
///
/// ```
/// use acmekit_core::solvers::{Http01, Http01Responder};
///
/// let responder = Http01Responder::default();
/// let solver = Http01::new(responder.clone());
/// // Route /.well-known/acme-challenge/ to `responder`: it is a `tower_service::Service`, and
/// // `responder.answer(&method, path)` fits everything else.
/// # let _ = solver;
/// ```
#[derive(Debug, Clone, Default)]
pub struct Http01 {
    responder: Http01Responder,
}

impl Http01 {
    /// A solver that hands its answers to this responder.
    pub fn new(responder: Http01Responder) -> Self {
        Self { responder }
    }

    /// A solver with a server of its own, such as `[::]:80`; see [`Http01Standalone`].
    pub fn standalone(address: impl Into<SocketAddr>) -> Http01Standalone {
        Http01Standalone::new(address.into())
    }

    /// A solver that writes files for another web server; see [`Http01Webroot`].
    pub fn webroot(folder: impl Into<PathBuf>) -> Http01Webroot {
        Http01Webroot::new(folder.into())
    }
}

#[async_trait]
impl ChallengeSolver for Http01 {
    fn kind(&self) -> ChallengeKind {
        ChallengeKind::Http01
    }

    /// # Errors
    /// `Unsupported` if it is a wildcard or no http-01 challenge, `Protocol` if the token is not
    /// base64url.
    async fn prepare(&self, challenge: &Challenge, _: Deadline) -> Result<Presentation> {
        check(challenge)?;
        Ok(Presentation::new(challenge.clone()))
    }

    async fn present(&self, presentation: &Presentation, _: Deadline) -> Result<Presentation> {
        check(presentation.challenge())?;
        self.responder.present(presentation.challenge()).await?;
        Ok(presentation.clone())
    }

    /// Whether the responder has the answer. Whether the CA's requests reach the responder, it
    /// cannot know.
    ///
    /// # Errors
    /// `NotFound` if it was not presented here; `Storage` if the shared store cannot be read.
    async fn ready(&self, presentation: &Presentation, _: Deadline) -> Result<()> {
        let token = &presentation.challenge().token;
        if self.responder.has(token) && self.responder.is_shared(presentation.challenge()).await? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, "http01.ready", "the answer is not in this responder")
            .with("token", token)
            .with_hint("present the challenge in the process that answers requests"))
    }

    async fn cleanup(&self, presentation: &Presentation, _: Deadline) -> Result<()> {
        self.responder.withdraw(presentation.challenge()).await
    }
}

/// That this challenge can be answered here, and its token be part of a path.
fn check(challenge: &Challenge) -> Result<()> {
    if challenge.kind != ChallengeKind::Http01 {
        return Err(Error::new(ErrorKind::Unsupported, "http01.prepare", "this is no http-01 challenge")
            .with("kind", &challenge.kind));
    }
    if challenge.identifier.is_wildcard() {
        return Err(Error::new(ErrorKind::Unsupported, "http01.prepare", "http-01 cannot prove a wildcard")
            .with("identifier", &challenge.identifier)
            .with_hint("use dns-01 for it"));
    }
    let token = &challenge.token;
    let in_alphabet = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if (1..=128).contains(&token.len()) && token.bytes().all(in_alphabet) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Protocol,
        "http01.prepare",
        "the CA's token is not base64url of 1 to 128 characters",
    )
    .with("token", token.escape_debug())
    .with("identifier", &challenge.identifier))
}

#[cfg(test)]
mod tests;
