//! What stands where the CA looks, and the CA's eyes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use acmekit::{
    Challenge, ChallengeKind, ChallengeSolver, Deadline, Identifier, Presentation, Result, async_trait,
};
use acmekit_server::{Problem, ProblemType, Validation, Validator};

/// TXT values that stand. As a solver it puts them up and takes them away; as a validator it looks for them.
#[derive(Debug, Clone, Default)]
pub(super) struct Board(Arc<Mutex<BTreeSet<String>>>);

impl Board {
    fn open(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn standing(&self) -> usize {
        self.open().len()
    }
}

#[async_trait]
impl ChallengeSolver for Board {
    fn kind(&self) -> ChallengeKind {
        ChallengeKind::Dns01
    }
    async fn prepare(&self, challenge: &Challenge, _: Deadline) -> Result<Presentation> {
        Ok(Presentation::new(challenge.clone()))
    }
    async fn present(&self, presentation: &Presentation, _: Deadline) -> Result<Presentation> {
        self.open().insert(presentation.challenge().key_authorization.txt_value());
        Ok(presentation.clone())
    }
    async fn ready(&self, _: &Presentation, _: Deadline) -> Result<()> {
        Ok(())
    }
    async fn cleanup(&self, presentation: &Presentation, _: Deadline) -> Result<()> {
        self.open().remove(&presentation.challenge().key_authorization.txt_value());
        Ok(())
    }
}

#[async_trait]
impl Validator for Board {
    fn kinds(&self, _: &Identifier) -> Vec<ChallengeKind> {
        vec![ChallengeKind::Dns01]
    }
    async fn validate(&self, validation: &Validation) -> std::result::Result<(), Problem> {
        match self.open().contains(&validation.key_authorization.txt_value()) {
            true => Ok(()),
            false => Err(Problem::new(ProblemType::Unauthorized, "No TXT record found")),
        }
    }
}
