//! One round.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use acmekit::limits::Limits;
use acmekit::stores::{FileStore, MemoryStore};
use acmekit::{CertificateSpec, Clock, Lease, Manager, Pipeline, Result, Store, Timeouts};
use acmekit_server::faults::{Fault, RetryAfter, presets};
use acmekit_server::{MovableClock, TestCa};
use tokio::time::Instant;

use super::{Skewed, Wrong};
use crate::Counts;
use crate::world::{BACKDATED, Dice, Server, Zone, ZoneSolver, authority, due_in, issued_for, start};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// When a manager has to have nothing to do any more, once the clock is right for good.
const SETTLES: Duration = HOUR;

/// What became of a round.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// What is counted.
    pub counts: Counts,
    /// Everything that was not as it has to be, in words.
    pub wrong: Vec<String>,
    /// Certificates the CA has issued.
    pub issued: u64,
    /// How often the clock was wrong.
    pub jumps: u64,
    /// How often the manager, or the program, was started again.
    pub restarts: u64,
    /// How much time has passed.
    pub passed: Duration,
}

/// One certificate, and what it may cost.
struct Certificate {
    spec: CertificateSpec,
    life: Duration,
    /// How many more may be issued because the clock was wrong.
    allowed: u64,
    expired: bool,
}

struct Round {
    dice: Dice,
    clock: Skewed,
    ca: TestCa,
    zone: Zone,
    server: Server,
    store: Arc<dyn Store>,
    limits: Limits,
    certificates: Vec<Certificate>,
    /// Looks after them all the time; or else each look is a program of its own.
    manager: Option<Manager>,
    managed: bool,
    next_look: Instant,
    /// What a process hangs on.
    held: Vec<Lease>,
    begun: Instant,
    outcome: Outcome,
}

/// Plays one round. Time has to be paused.
///
/// # Errors
/// If the world cannot be set up: nothing is said of acmekit then.
pub async fn run(dice: Dice, scratch: PathBuf) -> Result<Outcome> {
    let mut round = Round::set_up(dice, scratch).await?;
    let life = round.certificates.iter().map(|one| one.life).max().unwrap_or(DAY);
    round.restart().await?;
    round.pass(HOUR.min(round.shortest() / 4)).await?;
    while round.begun.elapsed() < life * 2 {
        let calm = round.dice.up_to(life / 3) + HOUR + HOUR / 2;
        round.pass(calm).await?;
        round.jump().await?;
    }
    round.end().await?;
    Ok(round.outcome)
}

impl Round {
    async fn set_up(dice: Dice, scratch: PathBuf) -> Result<Self> {
        let clock = Skewed::new(MovableClock::paced(start()));
        let zone = Zone::default();
        // Those of one round are not too different, or a round would take too long.
        let lives: &[Duration] = match dice.below(3) {
            0 => &[6 * HOUR, 24 * HOUR],
            1 => &[24 * HOUR, 160 * HOUR],
            _ => &[160 * HOUR, 45 * DAY, 90 * DAY],
        };
        let long_lived = lives.len() == 3;
        let limits = match long_lived && dice.percent(40) {
            true => Limits::lets_encrypt(),
            false => Limits::none(),
        };
        let mut ca = TestCa::builder()
            .validator(zone.clone())
            .clock(clock.truth_clock().clone())
            .limits(limits.clone());
        for life in lives {
            ca = ca.profile(&profile(*life), "of this lifetime", *life);
        }
        let ca = ca.start().await?;
        let store: Arc<dyn Store> = match dice.percent(12) {
            false => Arc::new(MemoryStore::with_clock(Arc::new(clock.clone()))),
            true => {
                let store = FileStore::builder(scratch.join("store")).clock(Arc::new(clock.clone()));
                Arc::new(store.open().await?)
            }
        };
        let mut certificates = Vec::new();
        for n in 0..dice.from_to(2, 5) {
            let life = dice.pick(lives).copied().unwrap_or(DAY);
            let spec = CertificateSpec::new([format!("n{n}.example")])?.profile(profile(life));
            certificates.push(Certificate { spec, life, allowed: 0, expired: false });
        }
        let mut outcome = Outcome::default();
        outcome.counts.certificates = u64::try_from(certificates.len()).unwrap_or_default();
        let managed = dice.percent(75);
        Ok(Self {
            zone,
            ca,
            server: Server::default(),
            store,
            limits,
            certificates,
            manager: None,
            managed,
            next_look: Instant::now(),
            held: Vec::new(),
            begun: Instant::now(),
            outcome,
            clock,
            dice,
        })
    }

    fn shortest(&self) -> Duration {
        self.certificates.iter().map(|one| one.life).min().unwrap_or(DAY)
    }

    fn pipeline(&self) -> Result<Pipeline> {
        let solver = ZoneSolver::new(self.zone.clone(), self.dice.clone());
        let authority = authority(&self.ca, "test")?.with_limits(self.limits.clone());
        Pipeline::builder(authority, Arc::clone(&self.store))
            .solver(solver)
            .deployer(self.server.clone())
            .clock(Arc::new(self.clock.clone()))
            .build()
    }

    /// Starts the manager, or starts it again: half of the times without a farewell.
    async fn restart(&mut self) -> Result<()> {
        if !self.managed {
            return Ok(());
        }
        if let Some(before) = self.manager.take() {
            self.outcome.restarts += 1;
            match self.dice.percent(50) {
                true => drop(before),
                false => before.shutdown().await,
            }
        }
        let manager = Manager::builder(self.pipeline()?).start();
        for one in &self.certificates {
            manager.add(one.spec.clone()).await?;
        }
        self.manager = Some(manager);
        Ok(())
    }

    /// Lets time pass, looking all the while.
    async fn pass(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        let step = (self.shortest() / 40).min(HOUR);
        while Instant::now() < until {
            tokio::time::sleep(step.min(until - Instant::now())).await;
            self.outcome.passed = self.begun.elapsed();
            if !self.managed && self.next_look <= Instant::now() {
                self.next_look = Instant::now() + self.shortest() / 20;
                self.look_after().await?;
            }
            self.look();
        }
        Ok(())
    }

    /// What a program does that is run from time to time.
    async fn look_after(&mut self) -> Result<()> {
        let pipeline = self.pipeline()?;
        self.outcome.restarts += 1;
        for one in &self.certificates {
            let begun = Instant::now();
            let done = pipeline.obtain(&one.spec).await;
            if let Err(error) = done {
                tracing::info!(%error, "not this time");
            }
            let Timeouts { lease, present, ready, poll, cleanup, deploy, request, .. } = Timeouts::default();
            let longest = 2 * lease + present + ready + 2 * poll + 3 * cleanup + deploy + 4 * request;
            if begun.elapsed() > longest {
                self.outcome.counts.deadline_misses += 1;
                self.outcome.wrong.push(format!("a run took {:?}, and had {longest:?}", begun.elapsed()));
            }
        }
        Ok(())
    }

    /// Whether what is served is good by the right clock.
    fn look(&mut self) {
        let now = self.clock.truth();
        for one in self.certificates.iter_mut().filter(|one| !one.expired) {
            let served = self.server.serves(one.spec.id().as_str());
            if served.as_ref().is_none_or(|(_, not_after)| *not_after <= now) {
                one.expired = true;
                self.outcome.counts.lost += 1;
                let since = now.duration_since(start()).unwrap_or_default();
                self.outcome.wrong.push(format!(
                    "{} of {:?} is not served by a good certificate after {since:?}: {served:?}",
                    one.spec.id(),
                    one.life
                ));
            }
        }
    }

    /// The clock is wrong for a while.
    async fn jump(&mut self) -> Result<()> {
        self.outcome.jumps += 1;
        let wrong = self.wrong();
        let lasts = self.dice.up_to(self.shortest() / 12).max(MINUTE);
        tracing::info!(?wrong, ?lasts, at = ?self.begun.elapsed(), "the clock jumps");
        for one in &mut self.certificates {
            one.allowed += allowance(one.life, wrong, lasts);
        }
        let runs = self.outcome.restarts;
        if self.dice.percent(30) {
            // In the middle of something, and up to the end of what is under way.
            self.zone.misbehave(0, Duration::from_secs(50));
        }
        // As a machine starts: with a wrong clock.
        let starts = self.dice.percent(30);
        if starts && let Some(before) = self.manager.take() {
            drop(before);
            self.clock.set(wrong);
            self.restart().await?;
        }
        self.clock.set(wrong);
        let first = self.dice.up_to(lasts);
        self.pass(first).await?;
        match self.dice.below(4) {
            0 => self.hang().await?,
            1 => self.break_the_ca(),
            2 => self.restart().await?,
            _ => {}
        }
        self.pass(lasts - first).await?;
        self.ca.faults().clear();
        if starts && self.dice.percent(50) {
            // And is put right before it is started again.
            drop(self.manager.take());
        }
        self.clock.set(Wrong::Right);
        if self.manager.is_none() {
            self.restart().await?;
        }
        self.zone.misbehave(0, Duration::ZERO);
        if !self.managed
            && let Wrong::Ahead(by) = wrong
        {
            let runs = self.outcome.restarts - runs;
            let expired = self.certificates.iter_mut().filter(|one| one.life <= by + BACKDATED);
            expired.for_each(|one| one.allowed += runs);
        }
        Ok(())
    }

    fn wrong(&self) -> Wrong {
        let scales = [MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 40 * DAY, 80 * DAY, YEAR, 30 * YEAR];
        let by = self.dice.pick(&scales).copied().unwrap_or(HOUR);
        let by = by + self.dice.up_to(by);
        match self.dice.below(5) {
            0 | 1 => Wrong::Ahead(by),
            2 | 3 => Wrong::Behind(by),
            _ => Wrong::Frozen(self.clock.now()),
        }
    }

    /// Another process takes the lease on a certificate and hangs, until the end of the round.
    async fn hang(&mut self) -> Result<()> {
        let Some(one) = self.dice.pick(&self.certificates) else { return Ok(()) };
        let name = format!("certificates/{}", one.spec.id()).parse()?;
        self.held.extend(self.store.lease(&name, MINUTE).await?);
        Ok(())
    }

    /// The CA is out of order until the clock is right again.
    fn break_the_ca(&self) {
        let wait = match self.dice.below(3) {
            0 => RetryAfter::Seconds(600),
            1 => RetryAfter::Date(10 * MINUTE),
            _ => RetryAfter::Seconds(5),
        };
        let action = match self.dice.percent(50) {
            true => presets::unavailable(wait),
            false => presets::rate_limited(wait),
        };
        self.ca.faults().add(Fault::everywhere(action).always());
    }

    async fn end(&mut self) -> Result<()> {
        self.next_look = Instant::now();
        self.pass(self.shortest() / 10).await?;
        if let Some(manager) = &self.manager {
            match tokio::time::timeout(SETTLES, manager.settled()).await {
                Ok(settled) => settled?,
                Err(_) => {
                    self.outcome.counts.deadline_misses += 1;
                    self.outcome.wrong.push(format!("the manager is not done after {SETTLES:?}"));
                }
            }
            for one in manager.status().await?.certificates {
                if one.serial.is_none() {
                    self.outcome.counts.lost += 1;
                    self.outcome.wrong.push(format!("{} was never had: {:?}", one.id, one.trouble));
                }
            }
        }
        self.look();
        if let Some(manager) = self.manager.take() {
            manager.shutdown().await;
        }
        // What was begun while the clock was wrong stays in the journal until somebody goes on with it.
        let pipeline = self.pipeline()?;
        for one in &self.certificates {
            if let Err(error) = pipeline.obtain(&one.spec).await {
                self.outcome.counts.lost += 1;
                self.outcome.wrong.push(format!("{} cannot be had: {}", one.spec.id(), error.report()));
            }
        }
        let passed = self.begun.elapsed();
        for one in &self.certificates {
            let issued = issued_for(&self.ca, one.spec.identifiers());
            self.outcome.issued += issued;
            let bound = due_in(one.life, passed) + one.allowed;
            if issued > bound {
                self.outcome.counts.duplicated += issued - bound;
                let (id, life) = (one.spec.id(), one.life);
                self.outcome
                    .wrong
                    .push(format!("{id} of {life:?}: {issued} issued in {passed:?}, at most {bound}"));
            }
        }
        pipeline.sweep().await?;
        let (journals, records) = (self.store.list(&"journals".parse()?).await?, self.zone.records());
        if !journals.is_empty() || !records.is_empty() {
            let left = journals.len() + records.len();
            self.outcome.counts.leftovers += u64::try_from(left).unwrap_or_default();
            self.outcome.wrong.push(format!("left behind: {journals:?}, {records:?}"));
        }
        Ok(())
    }
}

/// How many more than usual may be issued because the clock is wrong for so long.
fn allowance(life: Duration, wrong: Wrong, lasts: Duration) -> u64 {
    let Wrong::Ahead(by) = wrong else { return 2 };
    let usual = (life / 20).max(HOUR);
    // What is left of a new certificate by the wrong clock.
    let left = life.saturating_sub(BACKDATED).saturating_sub(by);
    let each = if left.is_zero() || left > 2 * usual { usual } else { 10 * MINUTE };
    u64::try_from(lasts.as_nanos() / each.as_nanos()).unwrap_or(u64::MAX).saturating_add(2)
}

fn profile(life: Duration) -> String {
    format!("hours-{}", life.as_secs() / 3600)
}
