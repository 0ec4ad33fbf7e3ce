//! Taking a lease in turn, and keeping it for as long as the work lasts.

use std::future::Future;
use std::time::Duration;

use crate::{Deadline, Error, ErrorKind, Lease, Result, Store, StoreKey};

/// Takes a lease, waiting in line for at most `patience`.
pub(crate) async fn take(
    store: &dyn Store,
    name: &StoreKey,
    ttl: Duration,
    patience: Duration,
) -> Result<Lease> {
    let deadline = Deadline::after(patience);
    let mut pause = Duration::from_millis(20);
    loop {
        if let Some(lease) = store.lease(name, ttl).await? {
            return Ok(lease);
        }
        if !deadline.sleep(pause).await {
            return Err(Error::new(
                ErrorKind::Conflict,
                "lease.take",
                "another process is still working on this",
            )
            .with("lease", name)
            .with("waited", format!("{patience:?}"))
            .with_hint("look for a second instance that is stuck; the lease ends by itself when it does"));
        }
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Does the work while renewing the lease three times in its life. The work is dropped if the
/// lease is lost, because somebody else may be doing it now.
pub(crate) async fn holding<T>(
    store: &dyn Store,
    lease: &Lease,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    // Side by side: a renewal may wait in line behind a lock that the work itself is about to get. The lease comes
    // first, so that work that wakes up too late is not gone on with.
    tokio::select! {
        biased;
        lost = hold(store, lease) => Err(lost),
        done = work => done,
    }
}

/// Renews the lease for ever; ends with why it is lost. A store that cannot be written for a moment has not lost it.
async fn hold(store: &dyn Store, lease: &Lease) -> Error {
    let ttl = lease.ttl();
    let (mut good, mut pause) = (Deadline::after(ttl), ttl / 3);
    loop {
        tokio::time::sleep(pause).await;
        let from_now = Deadline::after(ttl);
        match store.renew(lease).await {
            Ok(()) => (good, pause) = (from_now, ttl / 3),
            Err(error) if error.kind() == ErrorKind::Conflict || good.remaining() < ttl / 6 => return error,
            Err(error) => {
                tracing::warn!(%error, lease = %lease.name(), "the lease could not be renewed yet");
                pause = ttl / 30;
            }
        }
    }
}

#[cfg(test)]
mod tests;
