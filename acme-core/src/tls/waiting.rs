//! Handshakes that wait for a certificate that is about to be there.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::CertResolver;
use super::on_demand::Gate;
use crate::{Deadline, DnsName, Identifier};

/// How many wait at once; of more, the newest are not waited with.
const AT_ONCE: usize = 1024;

/// Which names are waited for, and how long.
#[derive(Clone)]
pub(super) struct Waiting(Arc<Inner>);

struct Inner {
    /// Names whose certificates are being got anyway.
    expected: HashSet<Identifier>,
    patience: Duration,
    on_demand: Option<Gate>,
    turns: Semaphore,
}

impl Waiting {
    pub(super) fn new(expected: HashSet<Identifier>, patience: Duration, on_demand: Option<Gate>) -> Self {
        Self(Arc::new(Inner { expected, patience, on_demand, turns: Semaphore::new(AT_ONCE) }))
    }

    /// Waits until there is a certificate for this name, or it is known that there will be none in time.
    pub(super) async fn wait(&self, resolver: &CertResolver, name: &str) {
        let Ok(_turn) = self.0.turns.try_acquire() else {
            tracing::debug!(waiting = AT_ONCE, "too many handshakes wait for a certificate: one is refused");
            return;
        };
        let Ok(name) = name.parse::<DnsName>() else { return };
        if self.expects(&name) {
            let deadline = Deadline::after(self.0.patience);
            let mut changes = resolver.changes();
            while !resolver.has(name.as_str()) && next(&mut changes, deadline).await {}
        } else if let Some(gate) = &self.0.on_demand {
            gate.admit(&name).await;
        }
    }

    fn expects(&self, name: &DnsName) -> bool {
        let above = name.parent().map(Identifier::Wildcard);
        self.0.expected.contains(&Identifier::Dns(name.clone()))
            || above.is_some_and(|above| self.0.expected.contains(&above))
    }
}

/// Waits for the next change. Says whether there is time left to look at it.
pub(super) async fn next(changes: &mut watch::Receiver<()>, deadline: Deadline) -> bool {
    // Whoever tells of changes is there as long as somebody waits for them.
    let changed = tokio::time::timeout(deadline.remaining(), changes.changed()).await;
    matches!(changed, Ok(Ok(())))
}
