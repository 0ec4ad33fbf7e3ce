//! The other half of a CA that believes everything.

use acmekit_core::{Challenge, ChallengeKind, ChallengeSolver, Deadline, Presentation, Result, async_trait};

/// Answers no challenge: a client's solver (dns-01) for a [`TestCa`](super::TestCa) that is
/// [`always_valid`](super::TestCaBuilder::always_valid).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct NoProof;

#[async_trait]
impl ChallengeSolver for NoProof {
    fn kind(&self) -> ChallengeKind {
        ChallengeKind::Dns01
    }
    async fn prepare(&self, challenge: &Challenge, _: Deadline) -> Result<Presentation> {
        Ok(Presentation::new(challenge.clone()))
    }
    async fn present(&self, presentation: &Presentation, _: Deadline) -> Result<Presentation> {
        Ok(presentation.clone())
    }
    async fn ready(&self, _: &Presentation, _: Deadline) -> Result<()> {
        Ok(())
    }
    async fn cleanup(&self, _: &Presentation, _: Deadline) -> Result<()> {
        Ok(())
    }
}
