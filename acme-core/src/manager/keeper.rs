//! The loop: what is due goes to the gate, what may begin becomes a task, what has ended is scheduled anew.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};

use super::Managed;
use super::gate::{Caps, Gate, Key, Wait};
use super::health::{FAILURES, Health, is_outage};
use super::item::{Item, Next, Phase, wish};
use super::queue::DueQueue;
use super::status::{AuthorityStatus, CertificateStatus, DeploymentStatus, NextTask, State, Status, Task};
use super::work::{Done, Ended, Job};
use crate::connection::Connection;
use crate::limits::covering;
use crate::renewal::upkeep::{Index, Upkeep};
use crate::{
    CertificateId, CertificateSpec, Error, ErrorKind, Expected, Pipeline, Result, Retry, journal, metrics,
};

/// The longest sleep: a wall clock that jumps is noticed after that.
const NAP: Duration = Duration::from_secs(300);
/// A clock that is set back by less than this was only put right a little.
const SET_BACK: Duration = Duration::from_secs(1);
/// How long a certificate is left to another process that is working on it.
const BUSY: Duration = Duration::from_secs(30);
/// How long an authority that has refused a name by its policy is not asked for it, where there is another.
const REFUSED: Duration = Duration::from_secs(7 * 24 * 3600);
/// A refusal that lasts longer than this is reason to ask another authority.
const TOO_LONG: Duration = Duration::from_secs(3600);

/// What the manager is told from outside.
#[derive(Debug)]
pub(super) enum Command {
    Add { managed: Box<Managed>, reply: oneshot::Sender<Result<()>> },
    Remove { id: CertificateId, reply: oneshot::Sender<bool> },
    Rotate { id: CertificateId, reply: oneshot::Sender<bool> },
    Force { id: CertificateId, reply: oneshot::Sender<bool> },
    GoOn { id: CertificateId, reply: oneshot::Sender<bool> },
    Pause { id: CertificateId, paused: bool, reply: oneshot::Sender<bool> },
    Status { reply: oneshot::Sender<Result<Status>> },
    Settled { reply: oneshot::Sender<()> },
    Shutdown,
}

#[derive(Debug)]
pub(super) struct Keeper {
    pipeline: Arc<Pipeline>,
    deployers: Vec<String>,
    grace: Duration,
    looks_again: bool,
    inbox: mpsc::Receiver<Command>,
    items: Vec<Option<Item>>,
    free: Vec<u32>,
    slots: HashMap<CertificateId, u32>,
    generations: u32,
    queue: DueQueue,
    gate: Gate,
    health: Vec<Health>,
    tasks: JoinSet<Done>,
    running: HashMap<Id, Wait>,
    /// What was known of all certificates when the first was added.
    index: Option<Index>,
    /// The certificates that had a journal when this process began.
    begun: Option<BTreeSet<CertificateId>>,
    /// Those whose keys were compromised then, and that are not revoked yet.
    compromised: BTreeSet<CertificateId>,
    settled: Vec<oneshot::Sender<()>>,
    /// What the clock showed when it was last looked at.
    seen: SystemTime,
}

impl Keeper {
    pub(super) fn new(
        pipeline: Arc<Pipeline>,
        caps: Caps,
        grace: Duration,
        looks_again: bool,
        inbox: mpsc::Receiver<Command>,
    ) -> Self {
        let seen = pipeline.now();
        Self {
            deployers: pipeline.deployer_ids().map(str::to_owned).collect(),
            health: vec![Health::default(); pipeline.connections.len()],
            pipeline,
            grace,
            looks_again,
            inbox,
            items: Vec::new(),
            free: Vec::new(),
            slots: HashMap::new(),
            generations: 0,
            queue: DueQueue::new(),
            gate: Gate::new(caps),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            index: None,
            begun: None,
            compromised: BTreeSet::new(),
            settled: Vec::new(),
            seen,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.look_at_the_clock();
            self.begin_what_can();
            self.tell_if_settled();
            let nap = self.nap();
            tokio::select! {
                command = self.inbox.recv() => match command {
                    None | Some(Command::Shutdown) => break,
                    Some(command) => self.obey(command).await,
                },
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.ended(ended),
                () = tokio::time::sleep(nap) => {}
            }
        }
        let rest = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.grace, rest).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "what is under way is left to the next start");
            self.tasks.shutdown().await;
        }
    }

    /// What was put off by a clock that was ahead, and has been set back, would wait for as long as it was ahead: it is
    /// all looked at anew.
    fn look_at_the_clock(&mut self) {
        let now = self.pipeline.now();
        let before = std::mem::replace(&mut self.seen, now);
        let Some(back) = before.duration_since(now).ok().filter(|back| *back >= SET_BACK) else { return };
        tracing::warn!(?back, "the clock was set back: everything is scheduled anew");
        self.gate.reopen(now);
        self.health.iter_mut().for_each(Health::succeeded);
        for slot in 0..u32::try_from(self.items.len()).unwrap_or(u32::MAX) {
            if let Some(item) = self.item_mut(slot) {
                item.avoid.clear();
                self.schedule(slot, now);
            }
        }
    }

    fn nap(&mut self) -> Duration {
        let now = self.pipeline.now();
        let next = self.queue.next_at().into_iter().chain(self.gate.next_open()).min();
        let nap = next.map_or(NAP, |next| next.duration_since(now).unwrap_or_default());
        // The clock is asked to the nanosecond, and slept to the millisecond.
        nap.min(NAP).max(Duration::from_millis(1))
    }

    fn begin_what_can(&mut self) {
        let now = self.pipeline.now();
        self.index.take_if(|index| !index.is_fresh(now));
        while let Some(slot) = self.queue.pop_due(now) {
            self.schedule(slot, now);
        }
        self.gate.open(now);
        while let Some(wait) = self.gate.take(now) {
            self.begin(wait, now);
        }
    }

    /// Puts a certificate into the queue or to the gate, by what there is to do next.
    fn schedule(&mut self, slot: u32, now: SystemTime) {
        let Some(item) = self.item(slot).filter(|item| item.phase == Phase::Resting) else { return };
        match item.next(&self.pipeline.policy, now) {
            Next::Never => self.queue.cancel(slot),
            Next::At(at, _) => self.queue.schedule(slot, at),
            Next::Now(task) => match self.wait(slot, item, task, now) {
                Ok(wait) => {
                    self.gate.enter(wait);
                    self.queue.cancel(slot);
                    if let Some(item) = self.item_mut(slot) {
                        item.phase = Phase::Waiting(task);
                    }
                }
                Err(at) => self.queue.schedule(slot, at),
            },
        }
    }

    /// What a task needs; or when the first authority can be turned to, if none can now.
    fn wait(&self, slot: u32, item: &Item, task: Task, now: SystemTime) -> Result<Wait, SystemTime> {
        let mut keys = Vec::new();
        match task {
            Task::Ask => keys.push(Key::Asking),
            Task::Deploy => keys.push(Key::All),
            Task::Issue | Task::Rotate => {
                let connection = self.choose(item, now)?;
                keys.extend([Key::All, Key::Authority(connection)]);
                let zones: BTreeSet<String> = item.spec.identifiers().iter().map(covering).collect();
                keys.extend(zones.into_iter().map(|zone| Key::Zone(zone.into())));
                // What was begun has its order already, and most renewals need none of the account's.
                if item.upkeep.current.is_none() && !item.begun {
                    keys.push(Key::Budget(connection));
                }
            }
        }
        let current = item.upkeep.current.as_ref();
        let rank = (current.is_none(), current.map_or(now, |current| current.not_after));
        Ok(Wait { slot, generation: item.generation, group: Arc::clone(&item.group), rank, keys })
    }

    /// The first authority that is in order and has not refused this certificate; else when there is one.
    fn choose(&self, item: &Item, now: SystemTime) -> Result<usize, SystemTime> {
        let mut soonest = now.checked_add(REFUSED).unwrap_or(now);
        let candidates = self.candidates(&item.spec);
        // Where there is an order, there may be a certificate: as long as its authority is in order, it is not left for
        // one that is preferred, or another certificate is issued.
        let id_of = |position: &usize| self.pipeline.connections.get(*position).map(Connection::id);
        let ordered_from = item.ordered_from.as_deref();
        let first =
            candidates.iter().copied().find(|one| ordered_from.is_some() && id_of(one) == ordered_from);
        for position in first.into_iter().chain(candidates) {
            let refused = item.avoid.get(&position).copied().filter(|until| *until > now);
            let down = self.health.get(position).and_then(|health| health.is_down(now));
            match refused.max(down) {
                None => return Ok(position),
                Some(until) => soonest = soonest.min(until),
            }
        }
        Err(soonest)
    }

    fn candidates(&self, spec: &CertificateSpec) -> Vec<usize> {
        let wanted = spec.wanted_authority();
        let ids = self.pipeline.connections.iter().enumerate();
        ids.filter(|(_, one)| wanted.is_none_or(|wanted| wanted == one.id()))
            .map(|(place, _)| place)
            .collect()
    }

    fn begin(&mut self, wait: Wait, now: SystemTime) {
        let job =
            self.item_mut(wait.slot).filter(|item| item.generation == wait.generation).and_then(|item| {
                let Phase::Waiting(task) = item.phase else { return None };
                if item.paused {
                    item.phase = Phase::Resting;
                    return None;
                }
                item.phase = Phase::Working(task);
                Some(Job {
                    spec: Arc::clone(&item.spec),
                    wish: item.wish.clone(),
                    task,
                    connection: connection_of(&wait.keys),
                    force: matches!(task, Task::Issue | Task::Rotate) && std::mem::take(&mut item.forced),
                    deployers: match task {
                        Task::Deploy => item.to_deploy(now),
                        _ => item.deployers.clone(),
                    },
                    known: (item.upkeep.clone(), item.expected),
                })
            });
        match job {
            // It was changed, removed or paused while it stood in line.
            None => self.gate.leave(&wait.keys, now),
            Some(job) => {
                let handle = self.tasks.spawn(job.run(Arc::clone(&self.pipeline)));
                self.running.insert(handle.id(), wait);
            }
        }
    }

    fn ended(&mut self, ended: Result<(Id, Done), JoinError>) {
        let now = self.pipeline.now();
        let (id, done) = match ended {
            Ok((id, done)) => (id, Some(done)),
            Err(error) => {
                tracing::error!(%error, "the work on a certificate has panicked");
                (error.id(), None)
            }
        };
        let Some(wait) = self.running.remove(&id) else { return };
        let position = connection_of(&wait.keys);
        if let Some(done) = &done {
            self.learn(&done.ended, position, &wait, now);
        }
        self.gate.leave(&wait.keys, now);
        let is_down = self.health.get(position).is_some_and(|health| health.is_down(now).is_some());
        let policy = self.pipeline.policy.clone();
        let others = self.item(wait.slot).map_or(0, |item| self.candidates(&item.spec).len());
        let Some(item) = self.item_mut(wait.slot).filter(|item| item.generation == wait.generation) else {
            return;
        };
        let task = match std::mem::replace(&mut item.phase, Phase::Resting) {
            Phase::Working(task) => task,
            _ => Task::Issue,
        };
        let Some(Done { upkeep, expected, forced, ordered_from, ended }) = done else {
            self.queue.schedule(wait.slot, now + TOO_LONG);
            return;
        };
        (item.upkeep, item.expected) = (upkeep, expected);
        item.forced |= forced && matches!(ended, Ended::Busy | Ended::Spent(_));
        if matches!(ended, Ended::Badly(_)) || matches!((&ended, task), (Ended::Well, Task::Issue)) {
            item.ordered_from = ordered_from;
        }
        match ended {
            Ended::Busy => {
                self.queue.schedule(wait.slot, now + BUSY);
                return;
            }
            // Back to the gate, in line for the budget; or by itself, where nobody else waits for that.
            Ended::Spent(until) => {
                if !wait.keys.contains(&Key::Budget(position)) {
                    self.queue.schedule(wait.slot, until);
                    return;
                }
            }
            Ended::Well => {
                item.begun &= task != Task::Issue;
                item.looks_again &= task == Task::Ask;
                item.compromised &= task != Task::Rotate;
                // What ended well and is to be done again at once has changed nothing that is known: a store, or
                // somebody else, is in the way. It must not be done in a circle. (What was forced meanwhile is another matter.)
                if !item.forced && item.next(&policy, now) == Next::Now(task) {
                    self.queue.schedule(wait.slot, now + BUSY);
                    return;
                }
            }
            Ended::Badly(error) => {
                if matches!(task, Task::Issue | Task::Rotate) {
                    item.begun = false;
                    let failures = item.upkeep.trouble.as_ref().map_or(0, |trouble| trouble.failures);
                    let refused = refusal(&error, failures, now);
                    if others > 1 && (refused.is_some() || (is_down && is_outage(&error))) {
                        item.avoid.extend(refused.map(|until| (position, until)));
                        // Another authority may be asked at once.
                        item.upkeep.trouble = None;
                    }
                } else {
                    tracing::warn!(%error, certificate = %item.spec.id(), "a task of its upkeep has failed");
                    self.queue.schedule(wait.slot, now + NAP);
                    return;
                }
            }
        }
        self.schedule(wait.slot, now);
    }

    /// What an end says of the authority.
    fn learn(&mut self, ended: &Ended, position: usize, wait: &Wait, now: SystemTime) {
        let of_the_ca = wait.keys.iter().any(|key| matches!(key, Key::Authority(_)));
        if let Ended::Spent(until) = ended {
            self.gate.close(Key::Budget(position), *until);
        }
        let Some(health) = self.health.get_mut(position).filter(|_| of_the_ca) else { return };
        match ended {
            Ended::Badly(error) if is_outage(error) => health.failed(now),
            Ended::Well => health.succeeded(),
            _ => {}
        }
    }

    async fn obey(&mut self, command: Command) {
        let now = self.pipeline.now();
        match command {
            Command::Add { managed, reply } => {
                reply.send(self.add(*managed).await).ok();
            }
            Command::Remove { id, reply } => {
                let slot = self.slots.remove(&id);
                if let Some(slot) = slot {
                    metrics::forgotten(&id);
                    self.queue.cancel(slot);
                    if let Some(place) = place(slot).and_then(|place| self.items.get_mut(place)) {
                        *place = None;
                    }
                    self.free.push(slot);
                }
                reply.send(slot.is_some()).ok();
            }
            Command::Force { id, reply } => {
                let known = self.change(&id, now, |item| {
                    item.forced = true;
                    item.upkeep.trouble = None;
                    item.avoid.clear();
                });
                reply.send(known).ok();
            }
            Command::GoOn { id, reply } => {
                let slot = self.slots.get(&id).copied();
                let known = slot.and_then(|slot| self.item(slot));
                if known.is_some_and(|item| item.phase == Phase::Resting && !item.begun) {
                    self.change(&id, now, |item| item.begun = true);
                }
                reply.send(slot.is_some()).ok();
            }
            Command::Rotate { id, reply } => {
                let known = self.change(&id, now, |item| {
                    item.compromised = true;
                    item.upkeep.trouble = None;
                });
                reply.send(known).ok();
            }
            Command::Pause { id, paused, reply } => {
                reply.send(self.change(&id, now, |item| item.paused = paused)).ok();
            }
            Command::Status { reply } => {
                reply.send(self.status(now).await).ok();
            }
            Command::Settled { reply } => self.settled.push(reply),
            // Ends the loop.
            Command::Shutdown => {}
        }
    }

    fn change(&mut self, id: &CertificateId, now: SystemTime, change: impl FnOnce(&mut Item)) -> bool {
        let Some(slot) = self.slots.get(id).copied() else { return false };
        let Some(item) = self.item_mut(slot) else { return false };
        change(item);
        self.schedule(slot, now);
        true
    }

    async fn add(&mut self, managed: Managed) -> Result<()> {
        let Managed { spec, group, deployers, at_once } = managed;
        self.pipeline.connection_for(&spec)?;
        let unknown = deployers.iter().flatten().find(|id| !self.deployers.contains(id));
        if let Some(unknown) = unknown {
            let why = "the certificate is for a deployer this pipeline does not have";
            return Err(Error::new(ErrorKind::Config, "manager.add", why)
                .with("wanted", unknown)
                .with("present", self.deployers.join(" ")));
        }
        let group: Arc<str> = group.into();
        let deployers = deployers.unwrap_or_else(|| self.deployers.clone());
        if self.begun.is_none() {
            self.compromised = self.listed("compromised").await?;
            self.begun = Some(self.listed("journals").await?);
            match Index::load(&*self.pipeline.store, self.pipeline.now()).await {
                Ok(index) => self.index = Some(index),
                Err(error) => tracing::warn!(%error, "what is known of all certificates is read one by one"),
            }
        }
        let (upkeep, expected) = self.known(spec.id()).await;
        let begun = self.begun.as_mut().is_some_and(|begun| begun.remove(spec.id()));
        let ordered_from = match begun {
            true => journal::ordered_from(&*self.pipeline.store, spec.id()).await.unwrap_or_default(),
            false => None,
        };
        let compromised = self.compromised.remove(spec.id());
        let now = self.pipeline.now();
        let known = self.slots.get(spec.id()).copied();
        let wish = wish(&spec);
        if let Some(item) = known.and_then(|slot| self.item_mut(slot))
            && item.wish == wish
        {
            (item.group, item.deployers) = (group, deployers);
            item.forced |= at_once;
            if let Some(slot) = known {
                self.schedule(slot, now);
            }
            return Ok(());
        }
        self.generations = self.generations.wrapping_add(1);
        let authorities =
            self.candidates(&spec).into_iter().filter_map(|place| self.pipeline.connections.get(place));
        let item = Item {
            wish,
            group,
            deployers,
            pipeline: Arc::clone(&self.pipeline),
            authorities: authorities.map(|connection| connection.id().to_owned()).collect(),
            upkeep,
            expected,
            generation: self.generations,
            phase: Phase::Resting,
            paused: known.and_then(|slot| self.item(slot)).is_some_and(|item| item.paused),
            forced: at_once,
            looks_again: self.looks_again,
            begun,
            ordered_from,
            compromised: compromised
                || known.and_then(|slot| self.item(slot)).is_some_and(|item| item.compromised),
            avoid: std::collections::BTreeMap::new(),
            spec: Arc::new(spec),
        };
        let slot = match known.or_else(|| self.free.pop()) {
            Some(slot) => slot,
            None => {
                self.items.push(None);
                u32::try_from(self.items.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.slots.insert(item.spec.id().clone(), slot);
        if let Some(place) = place(slot).and_then(|place| self.items.get_mut(place)) {
            *place = Some(item);
        }
        self.schedule(slot, now);
        Ok(())
    }

    /// What is known of a certificate: of the many that are added at the start, by the index.
    async fn known(&self, id: &CertificateId) -> (Upkeep, Expected) {
        match self.index.as_ref().filter(|index| index.is_fresh(self.pipeline.now())) {
            Some(index) => index.of(id),
            None => Upkeep::known(&*self.pipeline.store, id).await,
        }
    }

    /// The certificates that have an entry below this in the store.
    async fn listed(&self, prefix: &str) -> Result<BTreeSet<CertificateId>> {
        let keys = self.pipeline.store.list(&prefix.parse()?).await?;
        let last = keys.iter().filter_map(|key| key.as_str().rsplit('/').next()?.parse().ok());
        Ok(last.collect())
    }

    async fn status(&self, now: SystemTime) -> Result<Status> {
        let mut certificates: Vec<_> =
            self.items.iter().flatten().map(|item| self.status_of(item, now)).collect();
        certificates.sort_by(|one, other| one.id.cmp(&other.id));
        let budgets = self.pipeline.budget_left().await?;
        let authorities = budgets.into_iter().zip(&self.health).map(|(budget, health)| AuthorityStatus {
            id: budget.authority.clone(),
            down_until: health.is_down(now),
            budget,
        });
        Ok(Status { at: now, certificates, authorities: authorities.collect() })
    }

    fn status_of(&self, item: &Item, now: SystemTime) -> CertificateStatus {
        let current = item.upkeep.current.as_ref();
        let deployments = item.deployers.iter().map(|id| {
            let known = item.upkeep.deployed.get(id);
            let current = item.is_deployed(id, known.map_or("", |known| known.sha256.as_str()));
            (id.clone(), DeploymentStatus { current, trouble: known.and_then(|known| known.trouble.clone()) })
        });
        CertificateStatus {
            id: item.spec.id().clone(),
            names: item.spec.identifiers().iter().map(ToString::to_string).collect(),
            group: item.group.to_string(),
            state: match (item.phase, item.paused) {
                (Phase::Working(Task::Issue | Task::Rotate), _) => State::Issuing,
                (Phase::Working(Task::Deploy), _) => State::Deploying,
                (Phase::Working(Task::Ask), _) => State::Asking,
                (_, true) => State::Paused,
                (Phase::Waiting(_), _) => State::Waiting,
                (Phase::Resting, _) => State::Resting,
            },
            serial: current.map(|current| current.serial.clone()),
            authority: current.map(|current| current.authority.clone()),
            not_after: current.map(|current| current.not_after),
            renewal: item.upkeep.decide(item.spec.id(), &self.pipeline.policy),
            trouble: item.trouble().cloned(),
            deployments: deployments.collect(),
            next: match item.next(&self.pipeline.policy, now) {
                Next::Never => None,
                Next::Now(task) => Some(NextTask::new(task, now)),
                Next::At(at, task) => Some(NextTask::new(task, at)),
            },
        }
    }

    fn tell_if_settled(&mut self) {
        if !self.settled.is_empty() && self.tasks.is_empty() && self.gate.is_idle() {
            for reply in self.settled.drain(..) {
                reply.send(()).ok();
            }
        }
    }

    fn item(&self, slot: u32) -> Option<&Item> {
        self.items.get(place(slot)?)?.as_ref()
    }

    fn item_mut(&mut self, slot: u32) -> Option<&mut Item> {
        self.items.get_mut(place(slot)?)?.as_mut()
    }
}

fn place(slot: u32) -> Option<usize> {
    usize::try_from(slot).ok()
}

fn connection_of(keys: &[Key]) -> usize {
    let of = |key: &Key| match key {
        Key::Authority(position) => Some(*position),
        _ => None,
    };
    keys.iter().find_map(of).unwrap_or_default()
}

/// Until when the authority is not to be asked again for this certificate, if there is another to ask.
fn refusal(error: &Error, failures: u32, now: SystemTime) -> Option<SystemTime> {
    match (error.kind(), error.retry()) {
        // Alone in a small fleet, it would wait for its own pauses to end, which soon are longer than the CA's rests.
        _ if is_outage(error) && failures >= FAILURES => now.checked_add(TOO_LONG),
        (ErrorKind::Rejected, _) => now.checked_add(REFUSED),
        (ErrorKind::RateLimited, Retry::After(wait)) if wait > TOO_LONG => now.checked_add(wait),
        _ => None,
    }
}
