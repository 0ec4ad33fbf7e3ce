//! One round.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use acmekit::stores::{FileStore, MemoryStore};
use acmekit::{
    CertificateSpec, Condition, Error, ErrorKind, Issuance, Pipeline, Result, Retry, Store, Timeouts,
};
use acmekit_server::{MovableClock, OrderState, TestCa};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::failing::{Failing, Ills};
use super::folder::{self, SizeLimit, SmallDisk};
use crate::Counts;
use crate::world::{Dice, Server, Zone, ZoneSolver, authority, issued_for, start};

/// How often a certificate is asked for once everything works again.
const TRIES: u32 = 8;
/// After so many of them, with a store that does not know what it has altered, a person gives up the journal.
const PATIENCE: u32 = 3;

/// What goes wrong in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Setting {
    /// Calls of a store in memory fail.
    Memory,
    /// Calls of a store on the disk fail.
    Files,
    /// A store in memory gives back what it does not know to be altered.
    Silent,
    /// Files are destroyed between the runs.
    Destroyed,
    /// The disk is full.
    Full,
    /// The disk is read-only.
    ReadOnly,
    /// Files cannot grow.
    SizeLimit,
    /// The folder is moved away while a process works with it.
    Away,
}

/// What became of a round.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// What is counted.
    pub counts: Counts,
    /// Everything that was not as it has to be, in words.
    pub wrong: Vec<String>,
    /// What went wrong in it.
    pub setting: String,
    /// Certificates beyond those asked for, that are excused by what was lost.
    pub excused: u64,
    /// Records left in the zone, excused by a journal that was lost.
    pub excused_records: u64,
    /// Calls of the store that failed.
    pub failed_calls: u64,
    /// Runs that ended by an error.
    pub failed_runs: u64,
    /// Files that were destroyed.
    pub destroyed: u64,
    /// What could not be tried here, and why.
    pub note: Option<String>,
}

/// Plays one round in this folder. Time has to be paused.
///
/// # Errors
/// If the world cannot be set up: nothing is said of acmekit then.
pub async fn run(dice: Dice, scratch: PathBuf) -> Result<Outcome> {
    let mut round = Round::set_up(dice, scratch).await?;
    round.suffer().await?;
    round.recover().await?;
    round.look().await?;
    Ok(round.outcome)
}

struct Round {
    dice: Dice,
    setting: Setting,
    clock: MovableClock,
    ca: TestCa,
    zone: Zone,
    server: Server,
    /// Where the store's folder is, if it has one.
    folder: PathBuf,
    base: Arc<dyn Store>,
    failing: Failing,
    /// Over the same store, without what goes wrong.
    witness: Arc<Pipeline>,
    disk: Option<SmallDisk>,
    specs: Vec<CertificateSpec>,
    timeouts: Timeouts,
    /// How many certificates were asked for, by id.
    wanted: BTreeMap<String, u64>,
    excuses: BTreeMap<String, u64>,
    excused_records: BTreeSet<(String, String)>,
    outcome: Outcome,
}

fn broken(what: &'static str, error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Other, "campaign.disk", what).with("reason", error)
}

impl Round {
    async fn set_up(dice: Dice, scratch: PathBuf) -> Result<Self> {
        let mut setting = match dice.below(100) {
            0..40 => Setting::Memory,
            40..55 => Setting::Files,
            55..65 => Setting::Silent,
            65..82 => Setting::Destroyed,
            82..89 => Setting::Full,
            89..92 => Setting::ReadOnly,
            92..97 => Setting::SizeLimit,
            _ => Setting::Away,
        };
        let mut outcome = Outcome::default();
        let mut disk = None;
        let mut place = scratch.join("place");
        if matches!(setting, Setting::Full | Setting::ReadOnly) {
            match SmallDisk::mount(&place, 512) {
                Ok(mounted) => disk = Some(mounted),
                Err(why) => {
                    outcome.note = Some(format!("no small disk, the calls fail instead: {why}"));
                    (setting, place) = (Setting::Files, scratch.join("files"));
                }
            }
        }
        outcome.setting = format!("{setting:?}");
        if disk.is_none() {
            std::fs::create_dir(&place).map_err(|error| broken("no folder", error))?;
        }
        let folder = place.join("store");
        let clock = MovableClock::paced(start());
        let zone = Zone::default();
        let ca = TestCa::builder().validator(zone.clone()).clock(clock.clone()).start().await?;
        let base: Arc<dyn Store> = match setting {
            Setting::Memory | Setting::Silent => Arc::new(MemoryStore::with_clock(Arc::new(clock.clone()))),
            _ => Arc::new(FileStore::builder(&folder).clock(Arc::new(clock.clone())).open().await?),
        };
        let failing = Failing::new(Arc::clone(&base), dice.clone());
        let solver = ZoneSolver::new(zone.clone(), dice.clone());
        let witness = Pipeline::builder(authority(&ca, "test")?, Arc::clone(&base)).solver(solver);
        let witness = Arc::new(witness.clock(Arc::new(clock.clone())).build()?);
        let specs = (0..dice.from_to(1, 3)).map(|n| {
            let names = (0..dice.from_to(1, 3)).map(|m| match m {
                2 => format!("*.n{n}.example"),
                _ => format!("m{m}.n{n}.example"),
            });
            CertificateSpec::new(names)?.named(&format!("c{n}"))
        });
        let specs: Vec<CertificateSpec> = specs.collect::<Result<_>>()?;
        outcome.counts.certificates = u64::try_from(specs.len()).unwrap_or_default();
        Ok(Self {
            setting,
            clock,
            ca,
            zone,
            server: Server::watched_by(Arc::clone(&witness)),
            folder,
            base,
            failing,
            witness,
            disk,
            wanted: specs.iter().map(|spec| (spec.id().to_string(), 1)).collect(),
            specs,
            timeouts: Timeouts::default(),
            excuses: BTreeMap::new(),
            excused_records: BTreeSet::new(),
            outcome,
            dice,
        })
    }

    /// Runs of several processes, one after the other or two at once, while everything goes wrong.
    async fn suffer(&mut self) -> Result<()> {
        for _ in 0..self.dice.from_to(2, 6) {
            self.zone.misbehave(self.dice.below(15), self.dice.up_to(Duration::from_secs(100)));
            if self.setting == Setting::Destroyed && self.dice.percent(75) {
                self.destroy().await?;
            }
            let limit = self.begin_trouble()?;
            self.runs().await;
            drop(limit);
            self.end_trouble()?;
            tokio::time::sleep(self.dice.up_to(Duration::from_secs(1800))).await;
        }
        Ok(())
    }

    fn begin_trouble(&self) -> Result<Option<SizeLimit>> {
        match self.setting {
            Setting::Memory | Setting::Files => self.failing.suffer(self.ills()),
            Setting::Silent => {
                self.failing.suffer(Ills { altered: self.dice.from_to(2, 40), ..Ills::default() });
            }
            Setting::Full => {
                let free = 4096 * self.dice.below(20) + self.dice.below(4096);
                let disk = self.disk.as_ref();
                disk.map_or(Ok(()), |disk| disk.fill(free))
                    .map_err(|error| broken("the disk cannot be filled", error))?;
            }
            Setting::SizeLimit => {
                let limit = SizeLimit::set(self.dice.below(6000));
                return limit.map(Some).map_err(|error| broken("no limit", error));
            }
            // A disk with open files would not let itself be changed.
            Setting::ReadOnly => self.read_only(true)?,
            // Strikes between the runs, or in the middle of one.
            Setting::Destroyed | Setting::Away => {}
        }
        Ok(None)
    }

    fn end_trouble(&self) -> Result<()> {
        if self.setting == Setting::Full
            && let Some(disk) = &self.disk
        {
            disk.free().map_err(|error| broken("the disk cannot be freed", error))?;
        }
        if self.setting == Setting::ReadOnly { self.read_only(false) } else { Ok(()) }
    }

    fn read_only(&self, read_only: bool) -> Result<()> {
        let done = self.disk.as_ref().map_or(Ok(()), |disk| disk.read_only(read_only));
        done.map_err(|error| broken("the disk cannot be changed", error))
    }

    /// Some of all ills, each more or less bad.
    fn ills(&self) -> Ills {
        let worst = self.dice.from_to(2, 30);
        let some = || if self.dice.percent(45) { self.dice.from_to(1, worst) } else { 0 };
        Ills {
            full: some(),
            late: some(),
            unreadable: some(),
            damaged: some(),
            slow: some() / 3,
            leases: some(),
            renewals: some(),
            altered: 0,
        }
    }

    /// What one or two processes do, until they have done it or are killed.
    async fn runs(&mut self) {
        let processes = if self.dice.percent(25) { 2 } else { 1 };
        let begun = Instant::now();
        let delay = self.failing.delay();
        let mut tasks = JoinSet::new();
        for _ in 0..processes {
            let pipeline = match self.process().await {
                Ok(pipeline) => Arc::new(pipeline),
                Err(error) => {
                    self.judge("opening the store", &error);
                    continue;
                }
            };
            if self.dice.percent(40) {
                let pipeline = Arc::clone(&pipeline);
                tasks.spawn(async move { ("sweep", pipeline.sweep().await.map(drop)) });
            }
            for spec in self.specs.clone() {
                let pipeline = Arc::clone(&pipeline);
                let id = spec.id().to_string();
                let wanted = self.wanted.get(&id).copied().unwrap_or_default();
                let renews = wanted == 1 && self.dice.percent(8) && self.stored(&spec).await.is_some();
                if renews {
                    self.wanted.insert(id, wanted + 1);
                }
                tasks.spawn(async move {
                    let done = match renews {
                        true => pipeline.renew(&spec).await,
                        false => pipeline.obtain(&spec).await,
                    };
                    ("obtain", done.map(drop))
                });
            }
        }
        let killed_after = self.dice.percent(25).then(|| self.dice.up_to(Duration::from_secs(600)));
        let strikes_after = self.dice.up_to(Duration::from_secs(60));
        let strike = async {
            if self.setting != Setting::Away {
                return Ok(());
            }
            tokio::time::sleep(strikes_after).await;
            let aside = self.folder.with_extension("aside");
            std::fs::rename(&self.folder, &aside)?;
            tokio::time::sleep(strikes_after * 2).await;
            std::fs::rename(&aside, &self.folder)
        };
        let rest = async {
            let mut ended = Vec::new();
            while let Some(done) = tasks.join_next().await {
                ended.push((done, begun.elapsed()));
            }
            ended
        };
        let rest = async {
            match killed_after {
                Some(limit) => tokio::time::timeout(limit, rest).await.unwrap_or_default(),
                None => rest.await,
            }
        };
        let (struck, ended) = tokio::join!(strike, rest);
        if let Err(why) = struck {
            self.outcome.counts.wrong += 1;
            self.outcome.wrong.push(format!("the folder could not be moved: {why}"));
        }
        tasks.shutdown().await;
        let patience = self.longest() + (self.failing.delay() - delay);
        for (done, took) in ended {
            if took > patience {
                self.outcome.counts.deadline_misses += 1;
                self.outcome.wrong.push(format!("a run took {took:?}, and had {patience:?}"));
            }
            match done {
                Ok((what, Err(error))) => self.judge(what, &error),
                Ok((_, Ok(()))) => {}
                Err(error) => {
                    self.outcome.counts.wrong += 1;
                    self.outcome.wrong.push(format!("a run ended by itself: {error}"));
                }
            }
        }
    }

    /// The longest a run may take, by the deadlines it has.
    fn longest(&self) -> Duration {
        let Timeouts { present, ready, poll, cleanup, deploy, lease, request, .. } = self.timeouts;
        // Twice in line, for the certificate and for the account; the CA answers at once, unless the budget is in line, too.
        2 * lease + present + ready + 2 * poll + 3 * cleanup + deploy + 4 * request
    }

    /// A process that has just been started.
    async fn process(&self) -> Result<Pipeline> {
        let store: Arc<dyn Store> = match self.setting {
            Setting::Memory | Setting::Silent => Arc::clone(&self.base),
            _ => Arc::new(FileStore::builder(&self.folder).clock(Arc::new(self.clock.clone())).open().await?),
        };
        let solver = ZoneSolver::new(self.zone.clone(), self.dice.clone());
        Pipeline::builder(authority(&self.ca, "test")?, Arc::new(self.failing.over(store)))
            .solver(solver)
            .deployer(self.server.clone())
            .clock(Arc::new(self.clock.clone()))
            .build()
    }

    /// An error has to say what to do: to a person, or to whoever tries again.
    fn judge(&mut self, what: &str, error: &Error) {
        self.outcome.failed_runs += 1;
        if error.hint().is_none() && error.retry() == Retry::Never {
            self.outcome.counts.wrong += 1;
            self.outcome.wrong.push(format!("{what}: the error does not say what to do: {error}"));
        }
    }

    async fn stored(&self, spec: &CertificateSpec) -> Option<acmekit::Bundle> {
        self.witness.load(spec.id()).await.ok().flatten()
    }

    /// Whether the CA has had a CSR whose certificate is not in the store.
    async fn is_awaited(&self, spec: &CertificateSpec) -> bool {
        let stored = self.stored(spec).await;
        let mut orders = self.ca.state().orders().into_iter().filter(|order| {
            order.identifiers.iter().eq(spec.identifiers().iter())
                && matches!(order.state, OrderState::Valid(_) | OrderState::Processing)
        });
        let Some(last) = orders.next_back() else { return false };
        stored.is_none_or(|stored| !stored.origin().order.ends_with(&format!("/{}", last.id)))
    }

    /// Destroys a file, and notes what that excuses.
    async fn destroy(&mut self) -> Result<()> {
        let mut awaited = BTreeSet::new();
        for spec in &self.specs {
            if self.is_awaited(spec).await {
                awaited.insert(spec.id().to_string());
            }
        }
        let loss = folder::destroy(&self.folder, &self.dice);
        let Some(loss) = loss.map_err(|error| broken("nothing could be destroyed", error))? else {
            return Ok(());
        };
        self.outcome.destroyed += 1;
        tracing::info!(loss = loss.what, "destroyed");
        let Some(key) = loss.newest_of else { return Ok(()) };
        let specs = self.specs.iter().map(|spec| (spec, spec.id().to_string()));
        for (spec, id) in specs {
            let of_it = key.rsplit('/').next() == Some(id.as_str());
            let excused = match key.split('/').next() {
                Some("certificates") => of_it,
                Some("journals") => of_it && awaited.contains(&id),
                Some("accounts") => awaited.contains(&id),
                _ => false,
            };
            if excused {
                *self.excuses.entry(id).or_default() += 1;
            }
            if of_it && key.starts_with("journals/") {
                let names: BTreeSet<String> = spec.identifiers().iter().map(ToString::to_string).collect();
                let named = self.zone.records().into_iter().filter(|(name, _)| names.contains(name));
                self.excused_records.extend(named);
            }
        }
        Ok(())
    }

    /// Everything works again; each certificate is asked for until it is there.
    async fn recover(&mut self) -> Result<()> {
        self.failing.suffer(Ills::default());
        self.zone.misbehave(0, Duration::ZERO);
        for spec in self.specs.clone() {
            let mut last = None;
            for attempt in 0..TRIES {
                let begun = Instant::now();
                let done = self.once_more(&spec).await;
                if begun.elapsed() > self.longest() {
                    self.outcome.counts.deadline_misses += 1;
                    self.outcome.wrong.push(format!("after it was put right it took {:?}", begun.elapsed()));
                }
                match done {
                    Ok(_) => {
                        last = None;
                        break;
                    }
                    Err(error) => {
                        self.judge("put right", &error);
                        self.do_as_told(&spec, &error, attempt).await?;
                        last = Some(error);
                    }
                }
                tokio::time::sleep(Duration::from_secs(61)).await;
            }
            if let Some(error) = last {
                self.outcome.counts.lost += 1;
                self.outcome.wrong.push(format!("{} cannot be had: {}", spec.id(), error.report()));
            }
        }
        for _ in 0..TRIES {
            let swept = match self.process().await {
                Ok(pipeline) => pipeline.sweep().await,
                Err(error) => Err(error),
            };
            let Err(error) = swept else { break };
            self.judge("sweep", &error);
            folder::as_told(&error).map_err(|error| broken("it cannot be moved", error))?;
        }
        Ok(())
    }

    async fn once_more(&self, spec: &CertificateSpec) -> Result<Issuance> {
        self.process().await?.obtain(spec).await?.served()
    }

    /// What a person does with an error.
    async fn do_as_told(&self, spec: &CertificateSpec, error: &Error, attempt: u32) -> Result<()> {
        folder::as_told(error).map_err(|error| broken("it cannot be moved", error))?;
        if self.setting != Setting::Silent || attempt + 1 < PATIENCE {
            return Ok(());
        }
        // What was altered has been written back: where the error says so by "deleting", the entry it names is deleted.
        let entry = error.context().find(|(name, _)| *name == "entry").map(|(_, entry)| entry.to_owned());
        let entry = entry.unwrap_or_else(|| format!("journals/{}", spec.id()));
        self.base.delete(&entry.parse()?, &Condition::ANY).await
    }

    /// What there is in the end.
    async fn look(&mut self) -> Result<()> {
        let excused_by_values = |id: &str| match self.setting {
            Setting::Silent => {
                let of = |folder: &str| self.failing.altered(&format!("{folder}/{id}"));
                of("journals") + of("certificates") + of("renewals") + self.failing.altered("accounts/test")
            }
            _ => 0,
        };
        let now = acmekit::Clock::now(&self.clock);
        for spec in self.specs.clone() {
            let id = spec.id().to_string();
            let stored = self.witness.load(spec.id()).await;
            let served = self.server.serves(&id);
            let whole = match &stored {
                Ok(Some(bundle)) => {
                    bundle.check_against(spec.identifiers(), now).is_ok()
                        && bundle.key().is_some()
                        && served.as_ref().is_some_and(|(sha256, _)| *sha256 == bundle.facts().sha256)
                }
                _ => false,
            };
            if !whole {
                self.outcome.counts.lost += 1;
                let stored = stored.map(|stored| stored.map(|stored| stored.facts().sha256.clone()));
                self.outcome.wrong.push(format!("{id}: stored {stored:?}, served {served:?}"));
            }
            let issued = issued_for(&self.ca, spec.identifiers());
            let wanted = self.wanted.get(&id).copied().unwrap_or_default();
            let beyond = issued.saturating_sub(wanted);
            let excuses = self.excuses.get(&id).copied().unwrap_or_default() + excused_by_values(&id);
            self.outcome.excused += beyond.min(excuses);
            if beyond > excuses {
                self.outcome.counts.duplicated += beyond - excuses;
                let line = format!("{id}: {issued} issued, {wanted} asked for, {excuses} excused");
                self.outcome.wrong.push(line);
            }
        }
        self.look_for_leftovers().await?;
        if self.server.unstored() > 0 {
            self.outcome.counts.wrong += self.server.unstored();
            self.outcome.wrong.push("a certificate was served that was not stored".to_owned());
        }
        self.outcome.failed_calls = self.failing.failed();
        Ok(())
    }

    async fn look_for_leftovers(&mut self) -> Result<()> {
        let altered: BTreeSet<String> = self
            .specs
            .iter()
            .filter(|spec| self.failing.altered(&format!("journals/{}", spec.id())) > 0)
            .flat_map(|spec| spec.identifiers().iter().map(ToString::to_string))
            .collect();
        let mut left = Vec::new();
        for record in self.zone.records() {
            match self.excused_records.contains(&record) || altered.contains(&record.0) {
                true => self.outcome.excused_records += 1,
                false => left.push(format!("the record of {}", record.0)),
            }
        }
        for journal in self.base.list(&"journals".parse()?).await? {
            left.push(journal.to_string());
        }
        if !matches!(self.setting, Setting::Memory | Setting::Silent) {
            // As a program that is started next finds it.
            FileStore::open(&self.folder).await?;
            let files = folder::temporary_files(Path::new(&self.folder));
            let files = files.map_err(|error| broken("no folder for temporary files", error))?;
            left.extend(files.into_iter().map(|file| file.display().to_string()));
        }
        self.outcome.counts.leftovers += u64::try_from(left.len()).unwrap_or_default();
        if !left.is_empty() {
            self.outcome.wrong.push(format!("left behind: {}", left.join(", ")));
        }
        Ok(())
    }
}
