//! A world without a network: a CA, a DNS zone and a server that are values in this process, in time that stands still
//! while anything is done.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use acmekit::{
    Authority, Bundle, Challenge, ChallengeKind, ChallengeSolver, Deadline, Deployer, Error, ErrorKind,
    Identifier, Outcome, Pipeline, Presentation, Result, async_trait,
};
use acmekit_server::{OrderState, Problem, ProblemType, TestCa, Validation, Validator};
use rand::Rng;
use rand::rngs::StdRng;

/// How long a round may take by the machine's own clock, whatever it says of its virtual one.
const HANGING: Duration = Duration::from_secs(300);

/// By how much the CA dates certificates back.
pub const BACKDATED: Duration = Duration::from_secs(3600);

/// When every round begins.
pub fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// Chance that several tasks throw their dice with.
#[derive(Debug, Clone)]
pub struct Dice(Arc<Mutex<StdRng>>);

impl Dice {
    /// From the chance of a round.
    pub fn new(chance: StdRng) -> Self {
        Self(Arc::new(Mutex::new(chance)))
    }

    /// A number below this one; 0 if there is none.
    pub fn below(&self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { lock(&self.0).random_range(0..limit) }
    }

    /// A number from this to that one.
    pub fn from_to(&self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// Whether it happens, in so many of a hundred times.
    pub fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        let place = self.below(u64::try_from(from.len()).unwrap_or_default());
        from.get(usize::try_from(place).unwrap_or_default())
    }

    /// A time up to this long.
    pub fn up_to(&self, longest: Duration) -> Duration {
        Duration::from_millis(self.below(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Locks, also after a panic elsewhere: that is counted by itself.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The zone: what is presented, by identifier and token.
#[derive(Debug, Clone, Default)]
pub struct Zone(Arc<Mutex<Records>>);

#[derive(Debug, Default)]
struct Records {
    there: BTreeMap<(String, String), String>,
    /// So many percent of all calls fail.
    failing: u64,
    slow: Duration,
}

impl Zone {
    /// From now on so many percent of the calls fail, half of them after they have done what they were to do; and each
    /// takes up to so long.
    pub fn misbehave(&self, failing: u64, slow: Duration) {
        let mut records = lock(&self.0);
        (records.failing, records.slow) = (failing, slow);
    }

    /// What stands there: identifier and token.
    pub fn records(&self) -> BTreeSet<(String, String)> {
        lock(&self.0).there.keys().cloned().collect()
    }
}

/// Presents in the zone.
#[derive(Debug, Clone)]
pub struct ZoneSolver {
    zone: Zone,
    dice: Dice,
}

impl ZoneSolver {
    /// For this zone.
    pub fn new(zone: Zone, dice: Dice) -> Self {
        Self { zone, dice }
    }

    /// What every call suffers: whether it fails, and whether that is after its effect.
    async fn weather(&self) -> Option<bool> {
        let (failing, slow) = {
            let records = lock(&self.zone.0);
            (records.failing, records.slow)
        };
        if !slow.is_zero() {
            tokio::time::sleep(self.dice.up_to(slow)).await;
        }
        self.dice.percent(failing).then(|| self.dice.percent(50))
    }

    async fn change(&self, what: &'static str, change: impl FnOnce(&mut Records) + Send) -> Result<()> {
        let failed = self.weather().await;
        if failed != Some(false) {
            change(&mut lock(&self.zone.0));
        }
        match failed {
            None => Ok(()),
            Some(_) => Err(Error::new(ErrorKind::Unavailable, what, "the vendor's API answers 502")),
        }
    }
}

fn place(challenge: &Challenge) -> (String, String) {
    (challenge.identifier.to_string(), challenge.token.clone())
}

#[async_trait]
impl ChallengeSolver for ZoneSolver {
    fn kind(&self) -> ChallengeKind {
        ChallengeKind::Dns01
    }
    async fn prepare(&self, challenge: &Challenge, _: Deadline) -> Result<Presentation> {
        Presentation::new(challenge.clone()).note("value", &challenge.key_authorization.txt_value())
    }
    async fn present(&self, presentation: &Presentation, _: Deadline) -> Result<Presentation> {
        let value: String = presentation.read("value")?.unwrap_or_default();
        let place = place(presentation.challenge());
        self.change("zone.present", |zone| drop(zone.there.insert(place, value))).await?;
        Ok(presentation.clone())
    }
    async fn ready(&self, _: &Presentation, _: Deadline) -> Result<()> {
        self.change("zone.ready", |_| ()).await
    }
    async fn cleanup(&self, presentation: &Presentation, _: Deadline) -> Result<()> {
        let place = place(presentation.challenge());
        self.change("zone.cleanup", |zone| drop(zone.there.remove(&place))).await
    }
}

#[async_trait]
impl Validator for Zone {
    fn kinds(&self, _: &Identifier) -> Vec<ChallengeKind> {
        vec![ChallengeKind::Dns01]
    }
    async fn validate(&self, validation: &Validation) -> std::result::Result<(), Problem> {
        let place = (validation.identifier.to_string(), validation.token.clone());
        match lock(&self.0).there.get(&place) {
            Some(value) if *value == validation.key_authorization.txt_value() => Ok(()),
            _ => Err(Problem::new(ProblemType::Unauthorized, "the record is not there")),
        }
    }
}

/// A server: which certificate it serves under which id, and until when that is good.
#[derive(Debug, Clone, Default)]
pub struct Server {
    serving: Arc<Mutex<BTreeMap<String, (String, SystemTime)>>>,
    /// Certificates that it was given before they were stored.
    unstored: Arc<AtomicU64>,
    /// Looks into the store behind the back of what goes wrong.
    witness: Option<Arc<Pipeline>>,
}

impl Server {
    /// One that looks whether what it is given is stored: in the store of this pipeline.
    pub fn watched_by(witness: Arc<Pipeline>) -> Self {
        Self { witness: Some(witness), ..Self::default() }
    }

    /// The fingerprint of what is served under this id, and until when that is good.
    pub fn serves(&self, id: &str) -> Option<(String, SystemTime)> {
        lock(&self.serving).get(id).cloned()
    }

    /// How many certificates it was given that were not stored.
    pub fn unstored(&self) -> u64 {
        self.unstored.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Deployer for Server {
    fn id(&self) -> &str {
        "server"
    }
    async fn deploy(&self, bundle: &Bundle) -> Result<Outcome> {
        let facts = bundle.facts();
        if let Some(witness) = &self.witness {
            let stored = witness.load(bundle.id()).await.ok().flatten();
            if stored.is_none_or(|stored| stored.facts().sha256 != facts.sha256) {
                self.unstored.fetch_add(1, Ordering::SeqCst);
            }
        }
        let served = (facts.sha256.clone(), facts.not_after);
        let before = lock(&self.serving).insert(bundle.id().to_string(), served.clone());
        Ok(if before == Some(served) { Outcome::AlreadyCurrent } else { Outcome::Applied })
    }
    async fn verify(&self, bundle: &Bundle) -> Result<()> {
        match self.serves(bundle.id().as_str()) {
            Some((sha256, _)) if sha256 == bundle.facts().sha256 => Ok(()),
            _ => Err(Error::new(ErrorKind::Deploy, "server.verify", "another certificate is served")),
        }
    }
    async fn remove(&self, id: &acmekit::CertificateId) -> Result<()> {
        lock(&self.serving).remove(id.as_str());
        Ok(())
    }
}

/// The CA as an authority that is reached without a network.
///
/// # Errors
/// Never for a running CA.
pub fn authority(ca: &TestCa, id: &str) -> Result<Authority> {
    Ok(Authority::custom(&ca.directory_url())?.with_id(id).agree_to_terms().through(ca.in_process()))
}

/// How many certificates the CA has issued for exactly these names.
pub fn issued_for(ca: &TestCa, names: &BTreeSet<Identifier>) -> u64 {
    let orders = ca.state().orders().into_iter();
    let valid = orders.filter(|order| {
        matches!(order.state, OrderState::Valid(_) | OrderState::Processing)
            && order.identifiers.iter().eq(names.iter())
    });
    u64::try_from(valid.count()).unwrap_or(u64::MAX)
}

/// How often a certificate of this lifetime is due in a time, the first one included.
pub fn due_in(life: Duration, passed: Duration) -> u64 {
    let share = if life < Duration::from_secs(10 * 24 * 3600) { life / 2 } else { life / 3 * 2 };
    // As early as chance has it, by the CA's window or by the lifetime.
    let each =
        (share - life / 40).saturating_sub(BACKDATED + Duration::from_secs(120)).max(Duration::from_secs(60));
    u64::try_from(passed.as_nanos() / each.as_nanos()).unwrap_or(u64::MAX).saturating_add(2)
}

/// Counts the panics of this process, wherever they are caught.
#[derive(Debug, Clone, Default)]
pub struct Panics(Arc<AtomicU64>);

impl Panics {
    /// Counts from now on. What they say still goes to the standard error.
    pub fn watch() -> Self {
        let panics = Self::default();
        let (count, usual) = (Arc::clone(&panics.0), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            count.fetch_add(1, Ordering::SeqCst);
            usual(panic);
        }));
        panics
    }

    /// How many there were so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// What became of a round.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "whoever plays rounds looks at each of its ends")]
pub enum Ran<T> {
    /// It ended.
    Well(T),
    /// It could not be run: what is missing.
    Impossible(String),
    /// It panicked itself.
    Panicked,
    /// It has no end.
    Hanging,
}

/// Runs a round on a thread and in a tokio runtime of its own, whose time is paused.
pub fn in_paused_time<T, F>(round: impl FnOnce() -> F + Send + 'static) -> Ran<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
{
    in_paused_time_within(HANGING, round)
}

/// As [`in_paused_time`], for what may take so long by the machine's own clock.
pub fn in_paused_time_within<T, F>(longest: Duration, round: impl FnOnce() -> F + Send + 'static) -> Ran<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
{
    let (tell, told) = mpsc::channel();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let done = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
            let done = runtime.block_on(round()).map_err(|error| error.report());
            // A store that still works on a thread of its own is waited for, a little.
            runtime.shutdown_timeout(Duration::from_secs(20));
            done
        });
        tell.send(done).ok();
    };
    let thread = std::thread::spawn(move || std::panic::catch_unwind(AssertUnwindSafe(work)).is_ok());
    match told.recv_timeout(longest) {
        Ok(done) => {
            thread.join().ok();
            done.map_or_else(Ran::Impossible, Ran::Well)
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Ran::Panicked,
        Err(mpsc::RecvTimeoutError::Timeout) => Ran::Hanging,
    }
}

/// Says something to whoever runs the campaign.
pub fn say(line: impl std::fmt::Display) {
    // Who has closed the pipe does not want to hear it.
    writeln!(std::io::stdout(), "{line}").ok();
}
