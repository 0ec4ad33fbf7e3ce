//! One replacement in one process: `set`, a look at what was set, `commit`.

use acmekit_core::{Error, ErrorKind, Result, Retry};

use crate::client::Lost;
use crate::mark::{Marks, State};
use crate::material::Material;
use crate::worker::{Set, Worker};

/// Why a certificate was not replaced.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The old one is in use, and no transaction of ours is open.
    Answered(Error),
    /// A commit was sent and not answered. Not one more command for this path, except by a new
    /// process: HAProxy may crash of it.
    Unanswered(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Answered(error)
    }
}

/// Replaces what the store holds. It must run to its end: see [`Client::commit`](crate::client::Client).
#[tracing::instrument(level = "debug", skip(worker, material, marks), fields(process = worker.info.process))]
pub(crate) async fn replace(
    worker: &Worker,
    path: &str,
    material: &Material,
    marks: &Marks,
) -> Result<(), Failure> {
    let process = worker.info.process.as_str();
    marks.note(process, path, State::Set).await?;
    stage(worker, path, material, marks).await?;
    // From here on the mark says: do not touch.
    if let Err(error) = marks.note(process, path, State::Commit).await {
        return Err(give_up(worker, path, marks, error).await.into());
    }
    match worker.commit(path).await {
        Ok(Ok(())) => Ok(marks.clear(process).await?),
        Ok(Err(refused)) => Err(give_up(worker, path, marks, refused).await.into()),
        Err(Lost::Unsent(error)) => Err(give_up(worker, path, marks, error).await.into()),
        Err(Lost::Unanswered(error)) => Err(Failure::Unanswered(unanswered(path).with_source(error))),
    }
}

/// Has HAProxy take the new certificate into a transaction, and looks whether that is what it holds.
async fn stage(worker: &Worker, path: &str, material: &Material, marks: &Marks) -> Result<()> {
    match worker.set(path, material).await {
        Set::Taken => {}
        Set::Elsewhere(other) => {
            // Ours is in *their* transaction now; committing it would serve it on their site.
            let theirs = worker.abort(&other).await;
            marks.clear(&worker.info.process).await?;
            let error = foreign(&other);
            return Err(match theirs {
                Ok(()) => error.with("aborted", other),
                Err(failed) => error.with("abort_failed", failed),
            });
        }
        Set::Unsent(error) => {
            marks.clear(&worker.info.process).await?;
            return Err(error);
        }
        Set::Refused(error) => return Err(give_up(worker, path, marks, error).await),
        Set::Unanswered(error) => {
            let error = error.with_hint("nothing was committed; a later attempt can succeed");
            return Err(give_up(worker, path, marks, error).await.with_retry(Retry::Backoff));
        }
    }
    let staged = worker.show(&format!("*{path}")).await;
    let wrong = match staged {
        Ok(Some(shown)) if material.leaf.is(&shown) => return Ok(()),
        Ok(Some(shown)) => {
            Error::new(ErrorKind::Conflict, "haproxy.set", "the transaction holds another certificate")
                .with("path", path)
                .with("held_serial", shown.serial)
                .with("wanted_serial", &material.leaf.serial)
        }
        Ok(None) => {
            Error::new(ErrorKind::Conflict, "haproxy.set", "the transaction has gone").with("path", path)
        }
        Err(error) => error,
    };
    Err(give_up(worker, path, marks, wrong).await)
}

/// Aborts our own transaction. The commit was not sent, or was answered: that is safe.
async fn give_up(worker: &Worker, path: &str, marks: &Marks, error: Error) -> Error {
    let open = match worker.list().await {
        Ok(listing) => listing.transaction,
        Err(failed) => return error.with("left_open", "perhaps").with("list_failed", failed),
    };
    let closed = if open.as_deref() == Some(path) { worker.abort(path).await } else { Ok(()) };
    match closed {
        Ok(()) => match marks.clear(&worker.info.process).await {
            Ok(()) => error,
            Err(failed) => error.with("mark_left", failed),
        },
        Err(failed) => {
            // The commit did not happen: the next attempt may abort.
            marks.note(&worker.info.process, path, State::Set).await.ok();
            error.with("left_open", path).with("abort_failed", failed)
        }
    }
}

/// Somebody else has a transaction open.
pub(crate) fn foreign(path: &str) -> Error {
    Error::new(ErrorKind::Conflict, "haproxy.transaction", "another certificate change is open in HAProxy")
        .with("transaction", path)
        .with_hint(
            "if nobody is at work there, it is left over: `abort ssl cert` it if its commit was never sent, \
             else reload HAProxy; aborting it after an interrupted commit can crash HAProxy",
        )
}

/// A commit was sent and not answered.
pub(crate) fn unanswered(path: &str) -> Error {
    Error::new(ErrorKind::Deploy, "haproxy.commit", "HAProxy did not answer the commit to its end")
        .with("path", path)
        .with("served", "unknown")
        .with("file", "new")
        .with_hint(
            "reload HAProxy: the file is right; any other certificate command before that can crash it",
        )
}
