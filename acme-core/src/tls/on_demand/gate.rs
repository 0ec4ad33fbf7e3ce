//! Who gets in: a handshake for a name there is no certificate for.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::sync::{Mutex, Semaphore};

use super::names::{Turn, until};
use super::{Names, OnDemand};
use crate::manager::{Handle, Managed, wish};
use crate::pipeline::certificate_key;
use crate::renewal::upkeep::Upkeep;
use crate::tls::CertResolver;
use crate::tls::waiting::next;
use crate::{
    Bundle, CertificateId, CertificateSpec, Clock, Condition, Deadline, DnsName, Error, ErrorKind, Result,
    Secret, Store, StoreKey,
};

/// How many permissions are asked for at once.
const ASKED_AT_ONCE: usize = 64;
/// How many are asked for again in one go, and how long each may take.
const AGAIN_AT_ONCE: usize = 16;
const AGAIN: Duration = Duration::from_secs(10);
/// How long what follows from that may take.
const GIVING_UP: Duration = Duration::from_secs(60);
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
    /// Whoever has a name wanted or gives one up does so alone.
    changing: Mutex<()>,
    /// Certificates of names that the program serves anyway.
    fixed: BTreeSet<CertificateId>,
}

impl Gate {
    pub(in crate::tls) fn new(
        settings: OnDemand,
        names: Arc<Names>,
        resolver: CertResolver,
        store: Arc<dyn Store>,
        manager: Handle,
        clock: Arc<dyn Clock>,
        fixed: BTreeSet<CertificateId>,
    ) -> Self {
        let asking = Semaphore::new(ASKED_AT_ONCE);
        let changing = Mutex::new(());
        Self(Arc::new(Inner { settings, names, resolver, store, manager, clock, asking, changing, fixed }))
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
                        tracing::debug!(%error, %name, "whether the name may have a certificate is not known");
                        gate.names.refuse(name, gate.later(UNKNOWN));
                    }
                }
            }
            if gate.resolver.has(name.as_str()) || !next(&mut changes, deadline).await {
                return;
            }
        }
    }

    /// Serves and renews what was got on demand before. One that cannot be keeps nobody from the others.
    ///
    /// # Errors
    /// `Storage` if it cannot be read which those are.
    pub(in crate::tls) async fn restore(&self) -> Result<()> {
        for (key, entry) in self.0.store.load_all(&FOLDER.parse()?).await? {
            let text = String::from_utf8_lossy(entry.value.expose());
            let restored = async { self.0.restore(text.parse()?).await };
            if let Err(error) = restored.await {
                tracing::warn!(%error, %key, "what was got on demand is not served yet");
            }
        }
        Ok(())
    }

    /// The certificates that are to be served for names that were asked for.
    pub(in crate::tls) fn wanted(&self) -> Vec<CertificateId> {
        self.0.names.wanted()
    }

    /// Whether this is one of them.
    pub(in crate::tls) fn wants(&self, id: &CertificateId) -> bool {
        self.0.names.is_wanted(id)
    }

    /// Asks for permissions again, in intervals. Never ends by itself.
    pub(in crate::tls) async fn keep_asking(self, every: Duration) -> Infallible {
        loop {
            tokio::time::sleep(every).await;
            self.0.ask_again().await;
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
        let allowed = self.is_allowed(name, self.settings.wait).await;
        if matches!(allowed, Ok(false)) {
            tracing::debug!(%name, "the name may have no certificate");
            self.names.refuse(name, self.later(self.settings.refused_for));
            return Ok(());
        }
        let (spec, now) = (CertificateSpec::new([name.as_str()])?, self.clock.now());
        let stored = self.stored(spec.id()).await?.filter(|stored| stored.facts().not_after > now);
        let asked_at = match allowed {
            Ok(_) => now,
            // It was allowed before, and nobody has said since that it is not. A server that decides on names and is down
            // takes nobody's certificate away.
            Err(error) if stored.is_some() && self.store.load(&note(spec.id())?).await?.is_some() => {
                tracing::debug!(%error, %name, "the name is served as it was before");
                SystemTime::UNIX_EPOCH
            }
            Err(error) => return Err(error),
        };
        let pause = self.pause(&spec).await;
        if stored.is_none() && pause.is_none_or(|until| until <= now) {
            self.spend(name, &spec, now)?;
        }
        let mut managed = Managed::new(spec.clone());
        // What the CA would not grant it may grant a day later, but nobody else tries.
        if pause.is_some_and(|until| until <= now) {
            managed = managed.at_once();
        }
        self.want(name, managed, asked_at).await?;
        match (stored, pause) {
            (Some(bundle), _) => self.resolver.serve(&bundle)?,
            (None, Some(until)) if until > now => self.names.failed(name, until),
            _ => {}
        }
        Ok(())
    }

    /// How long the manager does not try, or would not, because of what went wrong before.
    async fn pause(&self, spec: &CertificateSpec) -> Option<SystemTime> {
        let (upkeep, _) = Upkeep::known(&*self.store, spec.id()).await;
        let trouble = upkeep.trouble.filter(|trouble| trouble.holds(self.clock.now()))?;
        (upkeep.tried == wish(spec)).then(|| until(&trouble))
    }

    fn spend(&self, name: &DnsName, spec: &CertificateSpec, now: SystemTime) -> Result<()> {
        if !self.names.has_room(spec.id(), self.settings.names) {
            return Err(self.full());
        }
        self.names.spend(self.settings.orders, now).map_err(|until| {
            self.names.refuse(name, until);
            Error::new(
                ErrorKind::RateLimited,
                "on_demand.spend",
                "all orders for new names are spent for now",
            )
        })
    }

    fn full(&self) -> Error {
        Error::new(ErrorKind::Rejected, "on_demand.want", "there are as many names as there may be")
            .with("at_most", self.settings.names)
            .with_hint("allow more by `names_at_most`, or fewer by the permission")
    }

    async fn restore(&self, name: DnsName) -> Result<()> {
        let spec = CertificateSpec::new([name.as_str()])?;
        if self.fixed.contains(spec.id()) {
            // It is one of the program's own names by now.
            return self.store.delete(&note(spec.id())?, &Condition::ANY).await;
        }
        // Whether it is still allowed is asked soon. Those there were have room, also if there may be fewer now.
        self.names.want(&name, spec.id(), SystemTime::UNIX_EPOCH, usize::MAX);
        if let Err(error) = self.manager.add(spec.clone()).await {
            self.names.forget(&name, spec.id());
            return Err(error);
        }
        if let Some(bundle) = self.stored(spec.id()).await? {
            return self.resolver.serve(&bundle);
        }
        if let Some(until) = self.pause(&spec).await {
            self.names.failed(&name, until);
        }
        Ok(())
    }

    async fn ask_again(&self) {
        let now = self.clock.now();
        let before = now.checked_sub(self.settings.ask_again).unwrap_or(SystemTime::UNIX_EPOCH);
        for (name, id) in self.names.to_ask_again(before, AGAIN_AT_ONCE) {
            match self.is_allowed(&name, self.settings.wait.min(AGAIN)).await {
                Ok(true) => {
                    self.names.asked(&name, now);
                    // It has had its time, and there is nothing to show for it: the next client asks anew.
                    if !self.resolver.has(name.as_str()) && self.names.has_failed(&name) {
                        self.names.give_up(&name, &id, now);
                    }
                }
                Ok(false) => {
                    tracing::info!(%name, "the name has lost its permission: it is served no longer");
                    self.names.refuse(&name, self.later(self.settings.refused_for));
                    self.names.give_up(&name, &id, now);
                }
                Err(error) => {
                    tracing::warn!(%error, %name, "whether the name may keep its certificate is not known");
                    self.names.asked(&name, before + LATER);
                }
            }
        }
        for id in self.names.given_up(now) {
            let deadline = Deadline::after(GIVING_UP);
            if let Err(error) = deadline.run("on_demand.give_up", "giving up a name", self.give_up(&id)).await
            {
                tracing::warn!(%error, certificate = %id, "the name is not given up wholly yet");
            }
        }
    }

    async fn is_allowed(&self, name: &DnsName, within: Duration) -> Result<bool> {
        let ask = async {
            // Never closed.
            let _turn = self.asking.acquire().await.ok();
            // A permission is the program's own code: its mistakes shall not end what asks it.
            let asked = AssertUnwindSafe(self.settings.permission.allows(name)).catch_unwind().await;
            asked.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Other, "on_demand.permission", "the permission has panicked"))
            })
        };
        Deadline::after(within).run("on_demand.permission", "the permission", ask).await
    }

    async fn stored(&self, id: &CertificateId) -> Result<Option<Bundle>> {
        let Some(entry) = self.store.load(&certificate_key(id)?).await? else { return Ok(None) };
        Bundle::from_stored(entry.value.expose()).map(Some)
    }

    /// Has a certificate got, and renewed from now on.
    async fn want(&self, name: &DnsName, managed: Managed, asked_at: SystemTime) -> Result<()> {
        let id = managed.id().clone();
        let _changing = self.changing.lock().await;
        if self.fixed.contains(&id) || !self.names.want(name, &id, asked_at, self.settings.names) {
            return Err(self.full());
        }
        // Dropped midway, it is not wanted: the next handshake begins anew.
        let mut wanting = Wanting { names: &self.names, name, id: &id, done: false };
        let noted = Secret::new(name.as_str().as_bytes().to_vec());
        self.store.save(&note(&id)?, &noted, &Condition::ANY).await?;
        self.manager.add(managed).await?;
        wanting.done = true;
        Ok(())
    }

    /// What was given up is served no longer, renewed no longer, and not known after a restart.
    async fn give_up(&self, id: &CertificateId) -> Result<()> {
        let _changing = self.changing.lock().await;
        // Somebody may have asked for it again.
        let Some(is_done) = self.names.is_given_up(id) else { return Ok(()) };
        self.resolver.withdraw(id);
        if !is_done {
            self.manager.remove(id).await?;
            self.store.delete(&note(id)?, &Condition::ANY).await?;
            self.names.has_given_up(id);
        }
        Ok(())
    }

    fn later(&self, pause: Duration) -> SystemTime {
        let now = self.clock.now();
        now.checked_add(pause).unwrap_or(now)
    }
}

/// A name that is going to be wanted.
struct Wanting<'a> {
    names: &'a Names,
    name: &'a DnsName,
    id: &'a CertificateId,
    done: bool,
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.names.forget(self.name, self.id);
        }
    }
}

fn note(id: &CertificateId) -> Result<StoreKey> {
    format!("{FOLDER}/{id}").parse()
}
