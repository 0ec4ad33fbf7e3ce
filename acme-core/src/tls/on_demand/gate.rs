//! Who gets in: a handshake for a name there is no certificate for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;

use super::names::Turn;
use super::{Names, OnDemand};
use crate::manager::Handle;
use crate::pipeline::certificate_key;
use crate::tls::CertResolver;
use crate::tls::waiting::next;
use crate::{
    Bundle, CertificateId, CertificateSpec, Clock, Condition, Deadline, DnsName, Error, ErrorKind, Result,
    Secret, Store, StoreKey,
};

/// How many permissions are asked for at once.
const ASKED_AT_ONCE: usize = 64;
/// How many are asked for again in one go.
const AGAIN_AT_ONCE: usize = 16;
/// How long a name is refused whose permission cannot be told.
const UNKNOWN: Duration = Duration::from_secs(10);
/// How long one that has a certificate is left alone then.
const LATER: Duration = Duration::from_secs(10 * 60);
/// Where it is written down which certificates were got on demand: a restart goes on with them.
const FOLDER: &str = "on-demand";

#[derive(Clone)]
pub(in crate::tls) struct Gate(Arc<Inner>);

struct Inner {
    settings: OnDemand,
    names: Arc<Names>,
    resolver: CertResolver,
    store: Arc<dyn Store>,
    manager: Handle,
    clock: Arc<dyn Clock>,
    asking: Semaphore,
}

impl Gate {
    pub(in crate::tls) fn new(
        settings: OnDemand,
        names: Arc<Names>,
        resolver: CertResolver,
        store: Arc<dyn Store>,
        manager: Handle,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let asking = Semaphore::new(ASKED_AT_ONCE);
        Self(Arc::new(Inner { settings, names, resolver, store, manager, clock, asking }))
    }

    /// Waits until there is a certificate for this name, or it is known that there will be none in time.
    pub(in crate::tls) async fn admit(&self, name: &DnsName) {
        let gate = &*self.0;
        if !gate.is_eligible(name) {
            tracing::debug!(%name, "no certificate is got for what is no public name");
            return;
        }
        let deadline = Deadline::after(gate.settings.wait);
        let mut changes = gate.resolver.changes();
        loop {
            match gate.names.enter(name, gate.clock.now()) {
                Turn::Refused => return,
                Turn::Wait => {}
                Turn::Decide => {
                    let _turn = Deciding { gate, name };
                    let decide = gate.decide(name);
                    if let Err(error) = deadline.run("on_demand.decide", "deciding on a name", decide).await {
                        tracing::warn!(%error, %name, "whether the name may have a certificate is not known");
                        gate.names.refuse(name, gate.later(UNKNOWN));
                    }
                }
            }
            if gate.resolver.has(name.as_str()) || !next(&mut changes, deadline).await {
                return;
            }
        }
    }

    /// Serves and renews what was got on demand before.
    pub(in crate::tls) async fn restore(&self) -> Result<()> {
        let gate = &*self.0;
        for (key, entry) in gate.store.load_all(&FOLDER.parse()?).await? {
            let text = String::from_utf8_lossy(entry.value.expose());
            let Ok(name) = text.parse::<DnsName>() else {
                tracing::warn!(%key, "this entry names nothing that was got on demand");
                continue;
            };
            let spec = CertificateSpec::new([name.as_str()])?;
            // Whether it is still allowed is asked soon; but what is still to be got has its time.
            let asked_at = match gate.stored(spec.id()).await? {
                Some(bundle) => {
                    gate.resolver.serve(&bundle)?;
                    SystemTime::UNIX_EPOCH
                }
                None => gate.clock.now(),
            };
            gate.want(&name, &spec, asked_at).await?;
        }
        Ok(())
    }

    /// Asks for the permission of some again, if it is time to.
    pub(in crate::tls) async fn ask_again(&self) {
        let gate = &*self.0;
        let before = gate.clock.now().checked_sub(gate.settings.ask_again);
        for (name, id) in gate.names.to_ask_again(before.unwrap_or(SystemTime::UNIX_EPOCH), AGAIN_AT_ONCE) {
            let kept = match gate.is_allowed(&name).await {
                // It has had its time, and there is nothing to show for it: the next client asks anew.
                Ok(true) => gate.resolver.has(name.as_str()),
                Ok(false) => {
                    tracing::info!(%name, "the name has lost its permission: it is served no longer");
                    gate.names.refuse(&name, gate.later(gate.settings.refused_for));
                    false
                }
                Err(error) => {
                    tracing::warn!(%error, %name, "whether the name may keep its certificate is not known");
                    gate.names.asked(&name, before.unwrap_or(SystemTime::UNIX_EPOCH) + LATER);
                    continue;
                }
            };
            gate.names.asked(&name, gate.clock.now());
            if !kept && let Err(error) = gate.give_up(&name, &id).await {
                tracing::warn!(%error, %name, "the name could not be given up yet");
            }
        }
    }
}

/// One handshake decides; if it ends midway, another one does.
struct Deciding<'a> {
    gate: &'a Inner,
    name: &'a DnsName,
}

impl Drop for Deciding<'_> {
    fn drop(&mut self) {
        self.gate.names.decided(self.name);
        self.gate.resolver.tell();
    }
}

impl Inner {
    /// Whether a CA can know the name: one below a public suffix, of the form certificates can have.
    fn is_eligible(&self, name: &DnsName) -> bool {
        let text = name.as_str();
        let suffix = psl::suffix(text.as_bytes());
        let is_public = suffix.is_some_and(|suffix| suffix.is_known()) && psl::domain_str(text).is_some();
        text.contains('.') && !text.contains('_') && (is_public || self.settings.any_name)
    }

    async fn decide(&self, name: &DnsName) -> Result<()> {
        let allowed = self.is_allowed(name).await;
        if matches!(allowed, Ok(false)) {
            tracing::debug!(%name, "the name may have no certificate");
            self.names.refuse(name, self.later(self.settings.refused_for));
            return Ok(());
        }
        let spec = CertificateSpec::new([name.as_str()])?;
        let stored =
            self.stored(spec.id()).await?.filter(|stored| stored.facts().not_after > self.clock.now());
        let asked_at = match (allowed, &stored) {
            (Ok(_), _) => self.clock.now(),
            // It was allowed once. A server that decides on names and is down takes nobody's certificate away.
            (Err(error), Some(_)) => {
                tracing::warn!(%error, %name, "the name is served as it was before");
                SystemTime::UNIX_EPOCH
            }
            (Err(error), None) => return Err(error),
        };
        match stored {
            Some(bundle) => self.resolver.serve(&bundle)?,
            None => {
                if let Err(until) = self.names.spend(self.settings.orders, self.clock.now()) {
                    tracing::warn!(%name, "all orders for new names are spent for now");
                    self.names.refuse(name, until);
                    return Ok(());
                }
            }
        }
        self.want(name, &spec, asked_at).await
    }

    async fn is_allowed(&self, name: &DnsName) -> Result<bool> {
        let deadline = Deadline::after(self.settings.wait);
        let ask = async {
            // Never closed.
            let _turn = self.asking.acquire().await.ok();
            self.settings.permission.allows(name).await
        };
        deadline.run("on_demand.permission", "the permission", ask).await
    }

    async fn stored(&self, id: &CertificateId) -> Result<Option<Bundle>> {
        let Some(entry) = self.store.load(&certificate_key(id)?).await? else { return Ok(None) };
        Bundle::from_stored(entry.value.expose()).map(Some)
    }

    /// Has a certificate got, and renewed from now on.
    async fn want(&self, name: &DnsName, spec: &CertificateSpec, asked_at: SystemTime) -> Result<()> {
        if !self.names.want(name, spec.id(), asked_at, self.settings.names) {
            return Err(Error::new(
                ErrorKind::Rejected,
                "on_demand.want",
                "there are as many names as there may be",
            )
            .with("at_most", self.settings.names)
            .with_hint("allow more by `names_at_most`, or fewer by the permission"));
        }
        let noted = Secret::new(name.as_str().as_bytes().to_vec());
        let begun = async {
            self.store.save(&note(spec.id())?, &noted, &Condition::ANY).await?;
            self.manager.add(spec.clone()).await
        };
        let begun = begun.await;
        if begun.is_err() {
            self.names.forget(name, spec.id());
        }
        begun
    }

    async fn give_up(&self, name: &DnsName, id: &CertificateId) -> Result<()> {
        self.manager.remove(id).await?;
        self.store.delete(&note(id)?, &Condition::ANY).await?;
        self.resolver.withdraw(id);
        self.names.forget(name, id);
        Ok(())
    }

    fn later(&self, pause: Duration) -> SystemTime {
        let now = self.clock.now();
        now.checked_add(pause).unwrap_or(now)
    }
}

fn note(id: &CertificateId) -> Result<StoreKey> {
    format!("{FOLDER}/{id}").parse()
}
