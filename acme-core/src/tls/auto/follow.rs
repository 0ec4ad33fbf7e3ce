//! What other processes on the same store have got, served here, too.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::manager::Handle;
use crate::pipeline::certificate_key;
use crate::tls::CertResolver;
use crate::tls::certified::Served;
use crate::tls::on_demand::Gate;
use crate::{Bundle, CertificateId, Deadline, Result, Store, Version};

/// How long one look at the store may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks at the store in intervals.
pub(super) struct Follow {
    pub(super) store: Arc<dyn Store>,
    pub(super) resolver: CertResolver,
    pub(super) manager: Handle,
    /// Those that are to be served, whether they are yet or not.
    pub(super) expected: BTreeSet<CertificateId>,
    pub(super) every: Duration,
    pub(super) on_demand: Option<Gate>,
    /// What was last looked at.
    pub(super) seen: HashMap<CertificateId, Version>,
    /// What was under way then, by whomever.
    pub(super) under_way: BTreeSet<CertificateId>,
}

impl Follow {
    /// Never ends by itself.
    pub(super) async fn run(mut self) -> Infallible {
        loop {
            tokio::time::sleep(self.every).await;
            let look = self.look();
            if let Err(error) = Deadline::after(PATIENCE).run("tls.follow", "a look at the store", look).await
            {
                tracing::warn!(%error, "whether others have renewed a certificate is not known");
            }
            let look = self.look_at_journals();
            if let Err(error) = Deadline::after(PATIENCE).run("tls.follow", "a look at the store", look).await
            {
                tracing::warn!(%error, "whether others have left something midway is not known");
            }
        }
    }

    async fn look(&mut self) -> Result<()> {
        // As they are before the store is read: what is withdrawn meanwhile stays so, and what is renewed is newer.
        let served = self.resolver.snapshot();
        let mut wanted: BTreeSet<_> = served.keys().cloned().collect();
        wanted.extend(self.expected.iter().cloned());
        wanted.extend(self.on_demand.iter().flat_map(Gate::wanted));
        self.seen.retain(|id, _| wanted.contains(id));
        for (key, version) in self.store.versions(&"certificates".parse()?).await? {
            let id = key.as_str().strip_prefix("certificates/").and_then(|id| id.parse().ok());
            let Some(id) = id.filter(|id| wanted.contains(id) && self.seen.get(id) != Some(&version)) else {
                continue;
            };
            match self.take_over(&id, served.get(&id)).await {
                Ok(()) => drop(self.seen.insert(id, version)),
                // One that is damaged keeps nobody from the others.
                Err(error) => tracing::warn!(%error, certificate = %id, "what is stored is not served"),
            }
        }
        Ok(())
    }

    /// What another process was killed over is gone on with here. What is under way twice in a row may be that; the lease
    /// tells.
    async fn look_at_journals(&mut self) -> Result<()> {
        let before = std::mem::take(&mut self.under_way);
        for key in self.store.list(&"journals".parse()?).await? {
            let id = key.as_str().strip_prefix("journals/").and_then(|id| id.parse().ok());
            let Some(id): Option<CertificateId> = id else { continue };
            if before.contains(&id) {
                self.manager.go_on(&id).await?;
            }
            self.under_way.insert(id);
        }
        Ok(())
    }

    /// Serves what is stored, if it is not what was served before.
    async fn take_over(&self, id: &CertificateId, before: Option<&Arc<Served>>) -> Result<()> {
        let Some(entry) = self.store.load(&certificate_key(id)?).await? else { return Ok(()) };
        let bundle = Bundle::from_stored(entry.value.expose())?;
        if before.is_some_and(|before| before.is_of(&bundle)) {
            return Ok(());
        }
        if self.resolver.serve_after(before, &bundle)? {
            tracing::info!(certificate = %id, serial = %bundle.facts().serial, "serving what another process has got");
        }
        // A name that has lost its permission a moment ago was not served by then.
        let is_wanted =
            self.expected.contains(id) || self.on_demand.as_ref().is_some_and(|gate| gate.wants(id));
        if before.is_none() && !is_wanted {
            self.resolver.withdraw(id);
        }
        Ok(())
    }
}
