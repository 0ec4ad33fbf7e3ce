//! Side effects, told before and after they happen.

use std::future::Future;

use tracing::Instrument;

use crate::Result;

/// The `tracing` target of every side effect on the way of a certificate.
pub(crate) const TARGET: &str = "acmekit::effect";

/// Runs one side effect in a span of its own. It is told at level `debug` when it begins and when it has ended, so that
/// a log shows between which two a crash fell. The crash tests kill the process at each of them.
pub(crate) async fn effect<T>(name: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    tracing::debug!(target: TARGET, effect = name, at = "begin");
    let done = work.instrument(tracing::debug_span!(target: TARGET, "effect", name)).await;
    match &done {
        Ok(_) => tracing::debug!(target: TARGET, effect = name, at = "end"),
        Err(error) => tracing::debug!(target: TARGET, effect = name, at = "failed", %error),
    }
    done
}
