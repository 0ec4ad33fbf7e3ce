//! Answers to challenges in the store: whichever process the CA turns to gives the one that another has presented.
//!
//! They are put there and taken away as the journal says, like any other answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::bundle::{hex, position};
use crate::{
    Challenge, ChallengeKind, Condition, Deadline, Error, ErrorKind, Expected, Result, Secret, Store,
    StoreKey,
};

/// How many are looked for at once: anybody can ask.
const AT_ONCE: usize = 16;
/// How many wait for their turn; who comes when there are as many is told that it takes too long.
const IN_LINE: usize = 256;
/// How long looking for one may take, with the wait for one's turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// The answers that processes on one store share.
#[derive(Clone)]
pub(crate) struct SharedAnswers {
    store: Arc<dyn Store>,
    turns: Arc<Semaphore>,
    line: Arc<Semaphore>,
}

impl SharedAnswers {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, turns: Arc::new(Semaphore::new(AT_ONCE)), line: Arc::new(Semaphore::new(IN_LINE)) }
    }

    /// Has this answer given to who asks for `asked`: a token, or a name.
    pub(crate) async fn put(&self, asked: &str, challenge: &Challenge) -> Result<()> {
        let text = serde_json::to_vec(challenge).map_err(|e| {
            Error::new(ErrorKind::Other, "answers.put", "the answer could not be written as JSON")
                .with_source(e)
        })?;
        self.store.save(&key(&challenge.kind, asked)?, &Secret::new(text), &Condition::ANY).await.map(drop)
    }

    /// The answer to this challenge is given no longer; that to another one of the same name is.
    pub(crate) async fn take_away(&self, asked: &str, challenge: &Challenge) -> Result<()> {
        let key = key(&challenge.kind, asked)?;
        let Some(entry) = self.store.load(&key).await? else { return Ok(()) };
        match read(entry.value.expose()) {
            Ok(there) if there.token != challenge.token => return Ok(()),
            _ => {}
        }
        let unchanged = Condition::expecting(Expected::Version(entry.version));
        match self.store.delete(&key, &unchanged).await {
            // Somebody else was quicker, with an answer of its own or in taking away this one.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            done => done,
        }
    }

    /// What to answer who asks for this, by this kind of challenge.
    ///
    /// # Errors
    /// `Storage`; `Timeout` if it takes too long, also where too many ask.
    pub(crate) async fn find(&self, kind: &ChallengeKind, asked: &str) -> Result<Option<Challenge>> {
        let Ok(_place) = self.line.try_acquire() else {
            return Err(Error::new(ErrorKind::Timeout, "answers.find", "too many look for answers at once"));
        };
        let deadline = Deadline::after(PATIENCE);
        let find = async {
            // Never closed.
            let _turn = self.turns.acquire().await.ok();
            let entry = self.store.load(&key(kind, asked)?).await?;
            entry.map(|entry| read(entry.value.expose())).transpose()
        };
        deadline.run("answers.find", "looking for a challenge's answer", find).await
    }
}

impl fmt::Debug for SharedAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedAnswers").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Tokens have letters and signs that keys have not.
fn key(kind: &ChallengeKind, asked: &str) -> Result<StoreKey> {
    format!("answers/{kind}/{}", hex(&Sha256::digest(asked))).parse()
}

fn read(text: &[u8]) -> Result<Challenge> {
    serde_json::from_slice(text).map_err(|e| {
        Error::new(ErrorKind::Storage, "answers.find", "the stored answer is not of the form expected")
            .with("at", position(&e))
    })
}

/// For the fuzz targets only.
pub(crate) mod fuzzing {
    /// Reads octets as an answer that another process has put into the store.
    ///
    /// # Panics
    /// If an answer that can be read cannot be written and read again.
    pub(crate) fn answer(octets: &[u8]) {
        if let Ok(challenge) = super::read(octets) {
            let again = serde_json::to_vec(&challenge).ok().and_then(|octets| super::read(&octets).ok());
            assert!(again.as_ref() == Some(&challenge), "an answer does not survive being written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyAuthorization;
    use crate::stores::MemoryStore;

    fn challenge(token: &str) -> Challenge {
        let proof = KeyAuthorization::new(token, "thumbprint");
        Challenge::new("a.example.com".parse().unwrap(), ChallengeKind::TlsAlpn01, token, proof)
    }

    #[tokio::test]
    async fn an_answer_is_there_for_others_until_it_is_taken_away() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (one, other) = (SharedAnswers::new(Arc::clone(&store)), SharedAnswers::new(Arc::clone(&store)));
        let (old, new) = (challenge("Old-Token_1"), challenge("New-Token_2"));
        one.put("a.example.com", &old).await.unwrap();
        let found = other.find(&ChallengeKind::TlsAlpn01, "a.example.com").await.unwrap();
        assert_eq!(found, Some(old.clone()));
        assert_eq!(other.find(&ChallengeKind::Http01, "a.example.com").await.unwrap(), None);
        assert_eq!(other.find(&ChallengeKind::TlsAlpn01, "b.example.com").await.unwrap(), None);

        other.put("a.example.com", &new).await.unwrap();
        one.take_away("a.example.com", &old).await.unwrap();
        let found = one.find(&ChallengeKind::TlsAlpn01, "a.example.com").await.unwrap();
        assert_eq!(found, Some(new.clone()), "the later one stays");
        one.take_away("a.example.com", &new).await.unwrap();
        one.take_away("a.example.com", &new).await.unwrap();
        assert!(store.list(&"answers".parse().unwrap()).await.unwrap().is_empty());
    }
}
