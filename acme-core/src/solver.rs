//! The [`ChallengeSolver`] trait: who answers a challenge, and takes the answer away afterwards.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bundle::position;
use crate::{Challenge, ChallengeKind, Deadline, Error, ErrorKind, Result};

/// Answers challenges of one kind, in four phases that each survive a crash.
///
/// ```text
/// prepare ──> (journaled) ──> present ──> (journaled) ──> ready ──> the CA validates ──> cleanup
/// ```
///
/// # The typical mistake
/// Keeping what clean-up needs in memory. All that `cleanup` needs is in the [`Presentation`],
/// which acmekit writes to its journal **before** `present` runs; a process started after a
/// `kill -9` hands the same value to `cleanup`.
#[async_trait]
pub trait ChallengeSolver: fmt::Debug + Send + Sync {
    /// The kind of challenge it answers.
    fn kind(&self) -> ChallengeKind;

    /// Decides what [`present`](Self::present) is going to do, and writes it down as a value.
    ///
    /// *Must not* have any side effect. (S1)
    ///
    /// # Errors
    /// `ZoneNotFound` and the like, when the challenge cannot be answered here.
    async fn prepare(&self, challenge: &Challenge, deadline: Deadline) -> Result<Presentation>;

    /// Puts the answer where the CA will look. Answers the presentation, with what was learnt.
    ///
    /// *Must* be repeatable: after a crash it is called again with the same value. (S2)
    ///
    /// # Errors
    /// Whatever stands in the way. `cleanup` is called also after an error.
    async fn present(&self, presentation: &Presentation, deadline: Deadline) -> Result<Presentation>;

    /// Waits until the CA can see the answer, at most until the deadline. (S3)
    ///
    /// # Errors
    /// `Timeout` that says who does not see it.
    async fn ready(&self, presentation: &Presentation, deadline: Deadline) -> Result<()>;

    /// Takes the answer away: exactly this one. (S4)
    ///
    /// *Must* be `Ok` when it is not there, also when `present` never ran. (S5)
    ///
    /// # Errors
    /// If it may still be there. acmekit keeps the journal entry and tries again later.
    async fn cleanup(&self, presentation: &Presentation, deadline: Deadline) -> Result<()>;
}

/// What one answer consists of: a value that is journaled, and enough to take the answer away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presentation {
    challenge: Challenge,
    state: BTreeMap<String, String>,
}

impl Presentation {
    /// The answer to a challenge, with nothing noted yet.
    pub fn new(challenge: Challenge) -> Self {
        Self { challenge, state: BTreeMap::new() }
    }

    /// The challenge it answers.
    pub fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// Notes a value under a name of the solver's choice.
    ///
    /// # Errors
    /// `Other` if the value cannot be written as JSON.
    pub fn note(mut self, name: &str, value: &impl Serialize) -> Result<Self> {
        let text = serde_json::to_string(value).map_err(|e| {
            Error::new(ErrorKind::Other, "solver.note", "could not write down a value")
                .with("name", name)
                .with_source(e)
        })?;
        self.state.insert(name.to_owned(), text);
        Ok(self)
    }

    /// Reads a value noted before; `None` if there is none.
    ///
    /// # Errors
    /// `Storage` if it is of another form: the journal was written by another solver or version.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        self.state
            .get(name)
            .map(|text| {
                serde_json::from_str(text).map_err(|e| {
                    Error::new(ErrorKind::Storage, "solver.read", "a noted value is not of the form expected")
                        .with("name", name)
                        .with("at", position(&e))
                })
            })
            .transpose()
    }
}

macro_rules! forward {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: ChallengeSolver + ?Sized> ChallengeSolver for $pointer<T> {
            fn kind(&self) -> ChallengeKind {
                (**self).kind()
            }
            async fn prepare(&self, challenge: &Challenge, deadline: Deadline) -> Result<Presentation> {
                (**self).prepare(challenge, deadline).await
            }
            async fn present(&self, presentation: &Presentation, deadline: Deadline) -> Result<Presentation> {
                (**self).present(presentation, deadline).await
            }
            async fn ready(&self, presentation: &Presentation, deadline: Deadline) -> Result<()> {
                (**self).ready(presentation, deadline).await
            }
            async fn cleanup(&self, presentation: &Presentation, deadline: Deadline) -> Result<()> {
                (**self).cleanup(presentation, deadline).await
            }
        }
    };
}
forward!(Arc);
forward!(Box);
