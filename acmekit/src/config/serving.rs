//! dns-01 by DNS servers in this program: they have to answer before the DNS is asked.

use std::sync::Arc;

use acmekit_core::solvers::Dns01;
use acmekit_core::{Challenge, ChallengeKind, ChallengeSolver, Deadline, Presentation, Result, async_trait};

use super::plugins::Server;

/// Begins the servers with the first challenge.
///
/// Not when the configuration is read: who only plans, or looks at the status, has no use for port 53, which the
/// program that runs beside it may have. Not when the first record is added: before that the DNS is asked for aliases and
/// zones, and those questions are for the servers already.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) dns: Dns01,
    pub(super) servers: Vec<Arc<dyn Server>>,
}

impl Serving {
    fn listen(&self) -> Result<()> {
        self.servers.iter().try_for_each(|server| server.listen())
    }
}

#[async_trait]
impl ChallengeSolver for Serving {
    fn kind(&self) -> ChallengeKind {
        self.dns.kind()
    }

    /// Nothing is left to be undone if what follows never happens: the sockets end with the program.
    async fn prepare(&self, challenge: &Challenge, deadline: Deadline) -> Result<Presentation> {
        self.listen()?;
        self.dns.prepare(challenge, deadline).await
    }

    async fn present(&self, presentation: &Presentation, deadline: Deadline) -> Result<Presentation> {
        self.listen()?;
        self.dns.present(presentation, deadline).await
    }

    async fn ready(&self, presentation: &Presentation, deadline: Deadline) -> Result<()> {
        self.listen()?;
        self.dns.ready(presentation, deadline).await
    }

    async fn cleanup(&self, presentation: &Presentation, deadline: Deadline) -> Result<()> {
        self.dns.cleanup(presentation, deadline).await
    }
}
