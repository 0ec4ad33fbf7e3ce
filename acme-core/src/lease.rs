//! Taking a lease in turn, and keeping it for as long as the work lasts.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
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
/// lease is lost, because somebody else may be doing it now; and work that wakes up after a stop longer than the lease
/// stands still until it is renewed.
pub(crate) async fn holding<T>(
    store: &dyn Store,
    lease: &Lease,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut work = pin!(work);
    let ttl = lease.ttl();
    let (mut good, mut pause) = (Deadline::after(ttl), ttl / 3);
    loop {
        // The lease comes first, so that it is looked at before the work goes on.
        tokio::select! {
            biased;
            () = tokio::time::sleep(pause) => {}
            done = while_good(work.as_mut(), good) => return done,
        }
        // Side by side while the lease is good: the renewal may wait in line behind a lock that the work is about to get.
        let from_now = Deadline::after(ttl);
        let over = good.is_over();
        let limit = if over { Deadline::after(ttl / 3) } else { good };
        let renewed = tokio::select! {
            biased;
            renewed = limit.run("lease.renew", "renewing the lease", store.renew(lease)) => renewed,
            done = while_good(work.as_mut(), good) => return done,
        };
        match renewed {
            Ok(()) => (good, pause) = (from_now, ttl / 3),
            Err(error) if over || error.kind() == ErrorKind::Conflict => return Err(error),
            Err(error) => {
                tracing::warn!(%error, lease = %lease.name(), "the lease could not be renewed yet");
                pause = (ttl / 30).min(good.remaining());
            }
        }
    }
}

/// The work, which stands still once the lease may be another's. Whoever waits for it looks at the lease then.
fn while_good<F: Future>(mut work: Pin<&mut F>, good: Deadline) -> impl Future<Output = F::Output> {
    poll_fn(move |context| if good.is_over() { Poll::Pending } else { work.as_mut().poll(context) })
}

#[cfg(test)]
mod tests;
