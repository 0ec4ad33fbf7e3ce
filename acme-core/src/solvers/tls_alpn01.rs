//! Answers tls-alpn-01 challenges (RFC 8737): a certificate in a handshake on port 443.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::solvers::shared::SharedAnswers;
use crate::tls::CertResolver;
use crate::{
    Challenge, ChallengeKind, ChallengeSolver, Deadline, DnsName, Error, ErrorKind, Identifier, Presentation,
    Result, Store,
};

/// Answers tls-alpn-01 challenges in the handshakes of a TLS server that this program has anyway, by its
/// [`CertResolver`].
///
/// The CA connects to port 443 of each name, and of each address that the name has. The answers live in memory: after a
/// restart acmekit presents them again. Where other processes serve the same names, the answers are to be
/// [shared](Self::shared). Of two orders that prove the same name at the same time, the one that began last is answered.
#[derive(Debug, Clone)]
pub struct TlsAlpn01 {
    resolver: CertResolver,
    shared: Option<SharedAnswers>,
}

impl TlsAlpn01 {
    /// A solver that answers by this resolver, whose server is on port 443.
    pub fn new(resolver: CertResolver) -> Self {
        Self { resolver, shared: None }
    }

    /// Has the answers given by other processes on this store, too: behind a load balancer it does not matter to which of
    /// them the CA connects. Their acceptors [are told of the store](crate::tls::TlsAcceptor::shared_answers).
    #[must_use]
    pub fn shared(mut self, store: Arc<dyn Store>) -> Self {
        self.shared = Some(SharedAnswers::new(store));
        self
    }
}

#[async_trait]
impl ChallengeSolver for TlsAlpn01 {
    fn kind(&self) -> ChallengeKind {
        ChallengeKind::TlsAlpn01
    }

    /// # Errors
    /// `Unsupported` if it is a wildcard or no tls-alpn-01 challenge.
    async fn prepare(&self, challenge: &Challenge, _: Deadline) -> Result<Presentation> {
        asked_for(challenge)?;
        Ok(Presentation::new(challenge.clone()))
    }

    async fn present(&self, presentation: &Presentation, _: Deadline) -> Result<Presentation> {
        let challenge = presentation.challenge();
        let name = asked_for(challenge)?;
        if let Some(shared) = &self.shared {
            shared.put(name.as_str(), challenge).await?;
        }
        self.resolver.answer(&name, challenge)?;
        Ok(presentation.clone())
    }

    /// Whether the resolver has the answer, and the shared store. Whether the CA's connections reach a server that has
    /// them, it cannot know.
    ///
    /// # Errors
    /// `NotFound` if it was not presented here, or a later one for the same name took its place; `Storage`.
    async fn ready(&self, presentation: &Presentation, _: Deadline) -> Result<()> {
        let challenge = presentation.challenge();
        let name = asked_for(challenge)?;
        let in_store = match &self.shared {
            Some(shared) => {
                shared.find(&challenge.kind, name.as_str()).await?.is_some_and(|there| there == *challenge)
            }
            None => true,
        };
        if in_store && self.resolver.answers(&name, &challenge.token) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::NotFound,
            "tls_alpn01.ready",
            "the answer is not what this server's handshakes give",
        )
        .with("identifier", &challenge.identifier)
        .with_hint(
            "present the challenge in the process that has the TLS server, and one at a time for a name",
        ))
    }

    async fn cleanup(&self, presentation: &Presentation, _: Deadline) -> Result<()> {
        let challenge = presentation.challenge();
        let Ok(name) = asked_for(challenge) else { return Ok(()) };
        self.resolver.forget_answer(&name, &challenge.token);
        match &self.shared {
            Some(shared) => shared.take_away(name.as_str(), challenge).await,
            None => Ok(()),
        }
    }
}

/// The name that the CA asks for in its handshake: that of an address is its reverse (RFC 8738 section 6).
fn asked_for(challenge: &Challenge) -> Result<DnsName> {
    let refuse = |why| {
        let error = Error::new(ErrorKind::Unsupported, "tls_alpn01.prepare", why);
        error.with("kind", &challenge.kind).with("identifier", &challenge.identifier)
    };
    if challenge.kind != ChallengeKind::TlsAlpn01 {
        return Err(refuse("this is no tls-alpn-01 challenge"));
    }
    match &challenge.identifier {
        Identifier::Dns(name) => Ok(name.clone()),
        Identifier::Ip(address) => reverse(*address).parse(),
        Identifier::Wildcard(_) => {
            Err(refuse("tls-alpn-01 cannot prove a wildcard").with_hint("use dns-01 for it"))
        }
    }
}

/// RFC 1035 section 3.5 and RFC 3596 section 2.5.
fn reverse(address: IpAddr) -> String {
    let mut name = String::new();
    match address {
        IpAddr::V4(address) => {
            for octet in address.octets().iter().rev() {
                // Writing to a String cannot fail.
                let _ = write!(name, "{octet}.");
            }
            name + "in-addr.arpa"
        }
        IpAddr::V6(address) => {
            for octet in address.octets().iter().rev() {
                let _ = write!(name, "{:x}.{:x}.", octet & 0xf, octet >> 4);
            }
            name + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_asked_for_by_their_reverse_name() {
        assert_eq!(reverse("192.0.2.1".parse().unwrap()), "1.2.0.192.in-addr.arpa");
        let of_v6 = reverse("2001:db8::567:89ab".parse().unwrap());
        assert_eq!(of_v6, "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
    }
}
