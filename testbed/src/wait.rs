//! A condition with a deadline: what tests use instead of sleeping.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::TestbedError;

/// How long a server may take to start; generous, for a machine that is busy compiling.
pub(crate) const START: Duration = Duration::from_secs(30);

/// Asks `check` again and again until it returns `Some`, and returns that.
///
/// `what` names the condition in the error when `within` is over, e.g. "HAProxy serves the new certificate".
/// One call of `check` that hangs is cut off at the deadline.
pub async fn wait_for<T, F, Fut>(within: Duration, what: &str, mut check: F) -> Result<T, TestbedError>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Option<T>> + Send,
    T: Send,
{
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Ok(Some(found)) = timeout_at(deadline, check()).await {
            return Ok(found);
        }
        if Instant::now() + pause >= deadline {
            return Err(TestbedError::NotReady { what: what.to_owned(), waited: within, log: String::new() });
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hanging_check_ends_at_the_deadline() {
        let error = wait_for::<(), _, _>(Duration::from_millis(30), "the moon", std::future::pending)
            .await
            .unwrap_err();
        assert!(error.to_string().starts_with("the moon: not so after"), "{error}");
    }

    #[tokio::test]
    async fn the_first_some_is_returned() {
        let mut calls = 0;
        let found = wait_for(Duration::from_secs(5), "three calls", || {
            calls += 1;
            std::future::ready((calls == 3).then_some(calls))
        });
        assert_eq!(found.await.unwrap(), 3);
    }
}
