//! Work that goes on to its end although the caller has lost interest.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use acmekit_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Owns every task it starts. Dropping it lets them go on.
#[derive(Debug, Default)]
pub(crate) struct Tasks(Mutex<Vec<JoinHandle<()>>>);

impl Tasks {
    /// Runs `job` to its end, and answers what it came to unless the caller is dropped before.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = oneshot::channel();
        #[expect(clippy::disallowed_methods, reason = "the handle is kept here, and close() awaits it")]
        let handle = tokio::spawn(async move {
            tell.send(job.await).ok();
        });
        {
            let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            running.retain(|task| !task.is_finished());
            running.push(handle);
        }
        let ended = |e| Error::new(ErrorKind::Cancelled, "haproxy.task", "the runtime ended").with_source(e);
        told.await.map_err(ended)?
    }

    /// Waits until nothing runs any more.
    pub(crate) async fn close(&self) {
        loop {
            let running = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
            if running.is_empty() {
                return;
            }
            for task in running {
                task.await.ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_dropped_caller_does_not_end_the_work_and_close_waits_for_it() {
        let tasks = Tasks::default();
        let done = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&done);
        let work = tasks.run(async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            flag.store(true, Ordering::SeqCst);
            Ok(())
        });
        tokio::time::timeout(Duration::from_secs(1), work).await.unwrap_err();
        assert!(!done.load(Ordering::SeqCst));
        tasks.close().await;
        assert!(done.load(Ordering::SeqCst));
    }
}
