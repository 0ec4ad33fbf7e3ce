//! What clients see.

use std::time::Duration;

use acmekit_core::{Bundle, Deadline, Result, probe};

use crate::config::Instance;

const PAUSE: Duration = Duration::from_millis(100);

/// Asks each address for each name until the bundle is served there, or the deadline is over.
#[tracing::instrument(level = "debug", skip_all, fields(instance = instance.label()))]
pub(crate) async fn verify(instance: &Instance, bundle: &Bundle) -> Result<()> {
    for address in &instance.addresses {
        let deadline = Deadline::after(instance.verify_timeout);
        loop {
            let seen = probe::verify_served(*address, bundle, deadline.capped(instance.timeout)).await;
            let Err(error) = seen else { break };
            if !deadline.sleep(PAUSE).await {
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Asks each address once.
pub(crate) async fn once(instance: &Instance, bundle: &Bundle) -> bool {
    for address in &instance.addresses {
        if probe::verify_served(*address, bundle, Deadline::after(instance.timeout)).await.is_err() {
            return false;
        }
    }
    true
}
