//! The campaign `soak`: weeks of a hundred short-lived certificates under one manager after the other, while the CA and
//! the DNS are out of order for up to an hour now and again, the CA wants certificates back early, and the manager is
//! dropped or shut down and started again.
//!
//! A round is a day of it. What has to hold:
//!
//! - No certificate that is served expires; looked at every ten minutes.
//! - Of each certificate no more are issued than it is due, and one for each time the CA wanted it back early.
//! - Nothing is left when a manager has ended: as many tokio tasks live as before there was one.
//! - The store holds as many entries as after the first three days, and no more than a tenth more octets.
//! - The process grows by [`SLACK`] after the first three days at most, and by [`PER_CERTIFICATE`] for each certificate that
//!   was issued since: the CA lives in the same process, and remembers all orders, certificates and answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use acmekit::stores::{FileStore, MemoryStore};
use acmekit::{CertificateSpec, Clock, Error, ErrorKind, Manager, Pipeline, Result, Store};
use acmekit_server::faults::{Action, Fault, RetryAfter, presets};
use acmekit_server::{MovableClock, RenewalInfo, TestCa};
use tokio::time::Instant;

use crate::Counts;
use crate::world::{Dice, Server, Zone, ZoneSolver, authority, due_in, issued_for, start};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// How long certificates live.
const LIVES: [u64; 6] = [6, 12, 24, 48, 96, 160];
/// How often it is looked whether what is served is good.
const LOOK: Duration = Duration::from_secs(600);
/// So many days pass before growth counts.
const WARM: u64 = 3;
/// By how many octets the process may grow.
pub const SLACK: u64 = 16 << 20;
/// By how many octets for each certificate that the CA remembers.
pub const PER_CERTIFICATE: u64 = 24 << 10;

/// What is to be done.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Task {
    /// How much time passes.
    pub hours: u64,
    /// How many certificates.
    pub certificates: u64,
    /// A folder, for a store of files; or else a store in memory.
    pub folder: Option<PathBuf>,
}

impl Task {
    /// In memory.
    pub fn new(hours: u64, certificates: u64) -> Self {
        Self { hours, certificates, folder: None }
    }
}

/// What became of one day.
#[derive(Debug, Default, Clone)]
#[non_exhaustive]
pub struct Day {
    /// What is counted.
    pub counts: Counts,
    /// Everything that was not as it has to be, in words.
    pub wrong: Vec<String>,
    /// How large the process was, in octets.
    pub memory: u64,
    /// Certificates the CA has issued since the beginning.
    pub issued: u64,
}

/// What became of all.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// Day by day.
    pub days: Vec<Day>,
    /// How often the manager was started again.
    pub restarts: u64,
    /// How often the CA or the DNS were out of order.
    pub outages: u64,
    /// How many certificates the CA wanted back early.
    pub wanted_back: u64,
    /// What the store held in the end: entries and octets.
    pub stored: (u64, u64),
}

struct Certificate {
    spec: CertificateSpec,
    life: Duration,
    wanted_back: u64,
    expired: bool,
}

struct Soak {
    dice: Dice,
    clock: MovableClock,
    ca: TestCa,
    zone: Zone,
    server: Server,
    store: Arc<dyn Store>,
    certificates: Vec<Certificate>,
    manager: Option<Manager>,
    /// How many tasks live while there is no manager.
    alive: usize,
    begun: Instant,
    /// When what is out of order is in order again.
    until: Option<Instant>,
    today: Day,
    outcome: Outcome,
}

/// Lets the time pass. It has to be paused.
///
/// # Errors
/// If the world cannot be set up: nothing is said of acmekit then.
pub async fn run(dice: Dice, task: Task) -> Result<Outcome> {
    let mut soak = Soak::set_up(dice, &task).await?;
    let (days, mut warm) = (task.hours.div_ceil(24).max(1), None);
    for day in 0..days {
        let hours = (task.hours - day * 24).min(24);
        soak.day(hours).await?;
        let (memory, issued, stored) = (resident()?, soak.ca.certificates_issued(), soak.stored().await?);
        (soak.today.memory, soak.today.issued) = (memory, issued);
        match warm {
            None if day + 1 >= WARM => warm = Some((memory, issued, stored)),
            Some((memory_then, issued_then, stored_then)) => {
                let may = memory_then + SLACK + PER_CERTIFICATE * (issued - issued_then);
                if memory > may {
                    soak.wrong(format!("the process has grown from {memory_then} to {memory}, beyond {may}"));
                }
                if stored.0 > stored_then.0 || stored.1 > stored_then.1 + stored_then.1 / 10 {
                    soak.wrong(format!("the store has grown from {stored_then:?} to {stored:?}"));
                }
            }
            None => {}
        }
        if day + 1 == days {
            soak.end().await?;
        }
        soak.today.counts.certificates = task.certificates;
        let today = std::mem::take(&mut soak.today);
        soak.outcome.days.push(today);
    }
    soak.outcome.stored = soak.stored().await?;
    Ok(soak.outcome)
}

/// How much memory the process has, in octets.
fn resident() -> Result<u64> {
    let broken =
        |why: &str| Error::new(ErrorKind::Other, "campaign.soak", "no memory figures").with("reason", why);
    let text = std::fs::read_to_string("/proc/self/status").map_err(|error| broken(&error.to_string()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes << 10).ok_or_else(|| broken("there is no line VmRSS"))
}

impl Soak {
    async fn set_up(dice: Dice, task: &Task) -> Result<Self> {
        let clock = MovableClock::paced(start());
        let zone = Zone::default();
        let mut ca = TestCa::builder().validator(zone.clone()).clock(clock.clone());
        ca = ca.settings(|settings| settings.renewal_info_retry_after = HOUR);
        for hours in LIVES {
            ca = ca.profile(&format!("hours-{hours}"), "of this lifetime", Duration::from_secs(hours * 3600));
        }
        let ca = ca.start().await?;
        let store: Arc<dyn Store> = match &task.folder {
            None => Arc::new(MemoryStore::with_clock(Arc::new(clock.clone()))),
            Some(folder) => Arc::new(FileStore::builder(folder).clock(Arc::new(clock.clone())).open().await?),
        };
        let mut certificates = Vec::new();
        for n in 0..task.certificates {
            let hours = dice.pick(&LIVES).copied().unwrap_or(24);
            let names = [format!("n{n}.example"), format!("*.n{n}.example")];
            let count = if dice.percent(20) { 2 } else { 1 };
            let spec = CertificateSpec::new(names.iter().take(count))?.profile(format!("hours-{hours}"));
            let life = Duration::from_secs(hours * 3600);
            certificates.push(Certificate { spec, life, wanted_back: 0, expired: false });
        }
        tokio::time::sleep(MINUTE).await;
        let mut soak = Self {
            dice,
            clock,
            ca,
            zone,
            server: Server::default(),
            store,
            certificates,
            manager: None,
            alive: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            begun: Instant::now(),
            until: None,
            today: Day::default(),
            outcome: Outcome::default(),
        };
        soak.start().await?;
        Ok(soak)
    }

    fn wrong(&mut self, line: String) {
        self.today.counts.wrong += 1;
        self.today.wrong.push(line);
    }

    async fn start(&mut self) -> Result<()> {
        let solver = ZoneSolver::new(self.zone.clone(), self.dice.clone());
        let pipeline = Pipeline::builder(authority(&self.ca, "test")?, Arc::clone(&self.store))
            .solver(solver)
            .deployer(self.server.clone())
            .clock(Arc::new(self.clock.clone()))
            .build()?;
        let manager = Manager::builder(pipeline).start();
        for one in &self.certificates {
            manager.add(one.spec.clone()).await?;
        }
        self.manager = Some(manager);
        Ok(())
    }

    /// Ends the manager, half of the times without a farewell, and counts what it has left.
    async fn stop(&mut self) {
        match self.manager.take() {
            Some(manager) if self.dice.percent(50) => manager.shutdown().await,
            manager => drop(manager),
        }
        // What was dropped ends the next time it would have gone on; and the CA ends what it was asked for.
        tokio::time::sleep(MINUTE).await;
        let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        if alive > self.alive {
            let left = alive - self.alive;
            self.today.counts.leftovers += u64::try_from(left).unwrap_or_default();
            self.today.wrong.push(format!("{left} tasks are left by a manager that has ended"));
        }
    }

    async fn day(&mut self, hours: u64) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(hours * 3600);
        let mut next_trouble = Instant::now() + self.dice.up_to(2 * HOUR);
        while Instant::now() < until {
            tokio::time::sleep(LOOK.min(until - Instant::now())).await;
            let now = Instant::now();
            if self.until.is_some_and(|until| until <= now) {
                self.until = None;
                self.ca.faults().clear();
                self.zone.misbehave(0, Duration::from_secs(5));
            }
            if next_trouble <= now {
                next_trouble = now + HOUR + self.dice.up_to(4 * HOUR);
                self.trouble().await?;
            }
            self.look();
        }
        Ok(())
    }

    async fn trouble(&mut self) -> Result<()> {
        let lasts = self.dice.up_to(HOUR).max(MINUTE);
        match self.dice.below(5) {
            0 => {
                let actions = [
                    presets::unavailable(RetryAfter::Seconds(600)),
                    presets::unavailable(RetryAfter::Date(5 * MINUTE)),
                    presets::rate_limited(RetryAfter::Seconds(300)),
                    Action::Reset,
                    Action::Hang,
                ];
                let action = self.dice.pick(&actions).cloned().unwrap_or(Action::Reset);
                let share = u8::try_from(self.dice.from_to(20, 100)).unwrap_or(100);
                self.ca
                    .faults()
                    .add(Fault::everywhere(action).always().percent(share).seed(self.dice.below(1000)));
                self.outcome.outages += 1;
                self.until = Some(Instant::now() + lasts);
            }
            1 => {
                self.zone.misbehave(self.dice.from_to(20, 100), Duration::from_secs(60));
                self.outcome.outages += 1;
                self.until = Some(Instant::now() + lasts);
            }
            2 | 3 => {
                self.stop().await;
                self.outcome.restarts += 1;
                self.start().await?;
            }
            _ => self.want_back().await?,
        }
        Ok(())
    }

    /// The CA suggests to renew some certificates now.
    async fn want_back(&mut self) -> Result<()> {
        let now = self.clock.now();
        let every = usize::try_from(self.dice.from_to(2, 20)).unwrap_or(10);
        for one in self.certificates.iter_mut().step_by(every) {
            let reader = Pipeline::builder(authority(&self.ca, "test")?, Arc::clone(&self.store));
            let reader = reader.solver(ZoneSolver::new(self.zone.clone(), self.dice.clone())).build()?;
            if let Some(bundle) = reader.load(one.spec.id()).await? {
                let window = RenewalInfo::new(now - HOUR, now - HOUR / 2);
                self.ca.set_renewal_window(&bundle.leaf_pem(), window)?;
                one.wanted_back += 1;
                self.outcome.wanted_back += 1;
            }
        }
        Ok(())
    }

    fn look(&mut self) {
        let now = self.clock.now();
        for one in self.certificates.iter_mut() {
            let served = self.server.serves(one.spec.id().as_str());
            let good = served.as_ref().is_some_and(|(_, not_after)| *not_after > now);
            // In the first hour they are still being got.
            if !good && !one.expired && self.begun.elapsed() > HOUR {
                self.today.counts.lost += 1;
                let (id, life, after) = (one.spec.id(), one.life, self.begun.elapsed());
                let line = format!(
                    "{id} of {life:?} is not served by a good certificate after {after:?}: {served:?}"
                );
                self.today.wrong.push(line);
            }
            one.expired = !good;
        }
    }

    async fn stored(&self) -> Result<(u64, u64)> {
        let (mut entries, mut octets) = (0, 0);
        for folder in ["accounts", "budgets", "certificates", "compromised", "renewals"] {
            for (_, entry) in self.store.load_all(&folder.parse()?).await? {
                entries += 1;
                octets += u64::try_from(entry.value.expose().len()).unwrap_or_default();
            }
        }
        Ok((entries, octets))
    }

    async fn end(&mut self) -> Result<()> {
        self.ca.faults().clear();
        self.zone.misbehave(0, Duration::ZERO);
        tokio::time::sleep(2 * HOUR).await;
        self.look();
        if let Some(manager) = &self.manager
            && tokio::time::timeout(HOUR, manager.settled()).await.is_err()
        {
            self.today.counts.deadline_misses += 1;
            self.today.wrong.push("the manager is not done an hour after all is in order".to_owned());
        }
        self.stop().await;
        let passed = self.begun.elapsed();
        let mut lines = Vec::new();
        for one in &self.certificates {
            let issued = issued_for(&self.ca, one.spec.identifiers());
            let bound = due_in(one.life, passed) + one.wanted_back;
            if issued > bound {
                self.today.counts.duplicated += issued - bound;
                lines.push(format!("{} of {:?}: {issued} issued, at most {bound}", one.spec.id(), one.life));
            }
        }
        let journals = self.store.list(&"journals".parse()?).await?;
        let records = self.zone.records();
        if !journals.is_empty() || !records.is_empty() {
            let left = journals.len() + records.len();
            self.today.counts.leftovers += u64::try_from(left).unwrap_or_default();
            lines.push(format!("left behind: {journals:?}, {records:?}"));
        }
        self.today.wrong.extend(lines);
        Ok(())
    }
}
