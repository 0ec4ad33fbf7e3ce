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
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep(lease.ttl() / 3) => store.renew(lease).await?,
        }
    }
}
