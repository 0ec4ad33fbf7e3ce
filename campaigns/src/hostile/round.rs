//! One round: faults on, faults off, and what came of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use acmekit::backoff::Class;
use acmekit::stores::MemoryStore;
use acmekit::{Authority, CertificateSpec, Clock, Error, Manager, Pipeline, Result, Retry, Store, Timeouts};
use acmekit_server::faults::Fault;
use acmekit_server::{MovableClock, OrderState, RenewalInfo, State, TestCa};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::board::Board;
use super::script;
use super::witness::Witness;
use crate::Counts;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// With all faults off, the certificate is to be there after this many calls at most. A call that may not ask the CA
/// yet, because of what the CA said of its limits, says when it may, and is none of these.
const CALLS: usize = 4;
/// So often it says when; and once an hour it is tried whether the CA is asked again if a renewal is due.
const WAITS: usize = 48;
/// And of a manager within this time: its longest pause is a day, and a fifth; unless it was told
/// to wait, by these scripts for less than three.
const PATIENCE: Duration = Duration::from_secs(5 * 24 * 3600);
/// How long a manager may take to end (its grace, and ten seconds).
const END: Duration = Duration::from_secs(41);

/// Everything that chance decides before the round begins.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) sort: Sort,
    /// By HTTPS and the machine's time, rather than in the process and in virtual time.
    pub(super) over_network: bool,
    names: Vec<Vec<String>>,
    /// How many calls are made, or how long a manager runs, while the CA is out of order.
    calls: usize,
    pauses: Vec<Duration>,
    /// A new process for each call.
    restarts: bool,
    /// The first renewal is suggested by the CA, rather than due.
    suggested: bool,
    reuse_orders: bool,
    patient: bool,
    /// By authority.
    pub(super) faults: Vec<Vec<(String, Fault)>>,
}

/// What sort of round it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// A first certificate, by calls.
    First,
    /// A certificate that is due, or that the CA wants renewed, by calls.
    Renewal,
    /// One to three certificates of a manager.
    Manager,
    /// The same with two authorities, one of which may be left for the other.
    FailOver,
}

impl Plan {
    pub(super) fn draw(chance: &mut StdRng, round: u64) -> Self {
        let over_network = chance.random_bool(0.1);
        let sort = match chance.random_range(0..10) {
            0..=3 => Sort::First,
            4 | 5 => Sort::Renewal,
            _ if over_network => Sort::First,
            6 | 7 => Sort::Manager,
            _ => Sort::FailOver,
        };
        let is_managed = matches!(sort, Sort::Manager | Sort::FailOver);
        let count = if is_managed { chance.random_range(1..=3) } else { 1 };
        let names = (0..count).map(|one| {
            let base = format!("r{round}c{one}.test");
            (0..chance.random_range(1..=4))
                .map(|name| match name {
                    1 => format!("*.{base}"),
                    _ => format!("n{name}.{base}"),
                })
                .collect()
        });
        let names = names.collect();
        let authorities = if sort == Sort::FailOver { 2 } else { 1 };
        let second_is_well = chance.random_bool(0.6);
        let faults = (0..authorities).map(|authority| match authority {
            1 if second_is_well => Vec::new(),
            _ => script::draw(chance, over_network, !is_managed),
        });
        let faults = faults.collect();
        Self {
            sort,
            over_network,
            names,
            calls: chance.random_range(1..=4),
            pauses: (0..4).map(|_| Duration::from_secs(chance.random_range(0..20_000))).collect(),
            restarts: chance.random_bool(0.5),
            suggested: chance.random_bool(0.5),
            reuse_orders: chance.random_bool(0.7),
            patient: chance.random_bool(0.5),
            faults,
        }
    }

    fn timeouts(&self) -> Timeouts {
        let seconds = Duration::from_secs;
        let [connect, request, present, ready, poll, cleanup, lease] = match self.over_network {
            true => [1, 1, 2, 2, 3, 2, 4],
            false => [3, 5, 10, 10, 30, 5, 20],
        };
        let mut timeouts = Timeouts::default();
        timeouts.connect = seconds(connect);
        timeouts.request = seconds(request);
        timeouts.present = seconds(present);
        timeouts.ready = seconds(ready);
        timeouts.poll = seconds(poll);
        timeouts.cleanup = seconds(cleanup);
        timeouts.lease = seconds(lease);
        timeouts
    }

    /// What goes wrong, for a report.
    pub(super) fn describe(&self) -> String {
        let names = self.faults.iter().enumerate();
        let names = names.map(|(place, faults)| {
            let names: Vec<&str> = faults.iter().map(|(name, _)| name.as_str()).collect();
            format!("{}: [{}]", IDS[place], names.join(" | "))
        });
        let Self { sort, over_network, names: certificates, calls, restarts, suggested, .. } = self;
        format!(
            "{sort:?} over_network={over_network} certificates={certificates:?} calls={calls} restarts={restarts} \
             suggested={suggested} {}",
            names.collect::<Vec<_>>().join(" ")
        )
    }

    /// The sum of all deadlines of one call: whatever the CA does, it ends within this.
    pub(super) fn limit(&self) -> Duration {
        let timeouts = self.timeouts();
        // Signed anew after each rejected nonce, for four times as long; the last attempt may begin at the very end.
        let post = timeouts.request * 6;
        // Thrice, with two pauses of ten seconds at most.
        let read = post * 3 + Duration::from_secs(20);
        let names = u32::try_from(self.names.iter().map(Vec::len).max().unwrap_or(1)).unwrap_or(u32::MAX);
        let order = post * 5 + read + read * names.div_ceil(8);
        let prove = timeouts.present + timeouts.ready + post * names.div_ceil(4) + timeouts.poll;
        let finalize = (post + Duration::from_secs(1)) * 3 + timeouts.poll * 4 + read;
        let one_order = order + prove + finalize + timeouts.cleanup * 2;
        // Two orders may turn out to be useless; and an account is needed, and the directory, which others may be
        // fetching; the lease; and to ask when to renew takes five seconds at most.
        timeouts.lease * 2 + post * 2 + Duration::from_secs(5) + one_order * 3
    }
}

/// What came of a round.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) counts: Counts,
    pub(super) told: Vec<String>,
    /// Second certificates that a lie about the first explains.
    pub(super) excused: u64,
    /// Second certificates from the other authority, after the first had stopped to make sense.
    pub(super) failed_over: u64,
    /// How often the CA had told the client to wait for more than a month.
    pub(super) held_back: u64,
    /// Calls while the CA was out of order: how many ended well, and how many did not.
    pub(super) well: u64,
    pub(super) badly: u64,
    pub(super) struck: u64,
    pub(super) longest: Duration,
}

impl Verdict {
    fn lost(&mut self, what: String) {
        self.counts.lost += 1;
        self.told.push(format!("lost: {what}"));
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.counts.wrong += 1;
        self.told.push(format!("wrong: {what}"));
    }

    fn late(&mut self, what: String) {
        self.counts.deadline_misses += 1;
        self.told.push(format!("late: {what}"));
    }
}

struct World<'a> {
    plan: &'a Plan,
    cas: Vec<(TestCa, Arc<Witness>)>,
    clock: MovableClock,
    store: Arc<dyn Store>,
    board: Board,
    specs: Vec<CertificateSpec>,
    /// The orders whose certificates were had as wished, by authority and order id.
    kept: BTreeSet<(usize, String)>,
}

const IDS: [&str; 2] = ["first", "second"];

/// Runs a round.
///
/// # Errors
/// If its world cannot be set up: that is nobody's fault who is tried here.
pub(super) async fn run(plan: &Plan) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut world = World::start(plan).await?;
    let renews = plan.sort == Sort::Renewal || (plan.sort == Sort::Manager && plan.suggested);
    if renews {
        world.be_due().await?;
    }
    verdict.counts.certificates = u64::try_from(world.specs.len()).unwrap_or(u64::MAX);
    for ((ca, _), faults) in world.cas.iter().zip(&plan.faults) {
        ca.faults().replace(faults.iter().map(|(_, fault)| fault.clone()));
    }
    match plan.sort {
        Sort::First | Sort::Renewal => world.call(&mut verdict).await?,
        Sort::Manager | Sort::FailOver => world.manage(&mut verdict).await?,
    }
    world.judge(renews, &mut verdict).await?;
    Ok(verdict)
}

impl<'a> World<'a> {
    async fn start(plan: &'a Plan) -> Result<Self> {
        let clock = match plan.over_network {
            true => MovableClock::new(),
            false => MovableClock::paced(UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
        };
        let board = Board::default();
        let mut cas = Vec::new();
        for _ in &plan.faults {
            let (reuse_orders, patient) = (plan.reuse_orders, plan.patient);
            let ca = TestCa::builder().validator(board.clone()).clock(clock.clone()).settings(|settings| {
                settings.reuse_orders = reuse_orders;
                // Answers that the certificate is being made, or waits until it is.
                settings.patience = Duration::from_millis(if patient { 500 } else { 0 });
            });
            let ca = ca.start().await?;
            let witness = Arc::new(Witness::new(ca.in_process(), ca.state().clone()));
            cas.push((ca, witness));
        }
        let specs = plan.names.iter().map(CertificateSpec::new).collect::<Result<_>>()?;
        Ok(Self {
            plan,
            cas,
            clock,
            store: Arc::new(MemoryStore::new()),
            board,
            specs,
            kept: BTreeSet::new(),
        })
    }

    /// A process that has just started: it knows what the store knows.
    fn pipeline(&self) -> Result<Pipeline> {
        let mut authorities = self.cas.iter().zip(IDS).map(|((ca, witness), id)| {
            let authority = Authority::custom(&ca.directory_url())?.with_id(id).agree_to_terms();
            let authority = authority.with_timeouts(self.plan.timeouts());
            match self.plan.over_network {
                true => authority.extra_roots_pem(ca.root_pem()),
                false => Ok(authority.through(Arc::clone(witness) as _)),
            }
        });
        let first = authorities.next().unwrap_or_else(|| Ok(Authority::lets_encrypt_staging()))?;
        let mut builder = Pipeline::builder(first, Arc::clone(&self.store))
            .solver(self.board.clone())
            .clock(Arc::new(self.clock.clone()));
        for other in authorities {
            builder = builder.fall_back_to(other?);
        }
        builder.build()
    }

    /// Time passes: for everybody, or for the clocks alone, where it is the machine's.
    async fn pass(&self, time: Duration) {
        match self.plan.over_network {
            true => self.clock.advance(time),
            false => tokio::time::sleep(time).await,
        }
    }

    /// Has all certificates, and lets them become due.
    async fn be_due(&mut self) -> Result<()> {
        let acme = self.pipeline()?;
        for spec in &self.specs.clone() {
            let issued = acme.obtain(spec).await?;
            self.keep(&issued.bundle.origin().authority, &issued.bundle.origin().order);
            if self.plan.suggested
                && let Some((ca, _)) = self.cas.first()
            {
                let from = self.clock.now() + 10 * DAY;
                ca.set_renewal_window(&issued.bundle.leaf_pem(), RenewalInfo::new(from, from + HOUR))?;
            }
        }
        // What the CA suggests is asked for again within a day; else two thirds of the life have to pass.
        self.clock.advance(if self.plan.suggested { 12 * DAY } else { 63 * DAY });
        Ok(())
    }

    fn keep(&mut self, authority: &str, order: &str) {
        self.kept.insert(place_of(authority, order));
    }

    fn be_well(&self) -> u64 {
        let mut struck = 0;
        for (ca, _) in &self.cas {
            struck += ca.faults().hits().iter().sum::<u64>();
            ca.faults().clear();
        }
        struck
    }

    /// Calls while the CA is out of order, and then until there is a certificate.
    async fn call(&mut self, verdict: &mut Verdict) -> Result<()> {
        let limit = self.plan.limit();
        let mut acme = self.pipeline()?;
        for call in 0..self.plan.calls {
            match self.once(&acme, limit, verdict).await {
                Some(Ok(())) => verdict.well += 1,
                Some(Err(_)) => verdict.badly += 1,
                None => {}
            }
            self.pass(self.plan.pauses.get(call).copied().unwrap_or_default()).await;
            if self.plan.restarts {
                acme = self.pipeline()?;
            }
        }
        verdict.struck = self.be_well();
        let (mut calls, mut waits) = (0, 0);
        let mut last = String::new();
        while calls < CALLS && waits < WAITS {
            match self.once(&acme, limit, verdict).await {
                Some(Ok(())) if self.has_all(&acme).await? => return Ok(()),
                Some(Ok(())) => {
                    // It is for the CA to say that it is due, and it is not asked all the time.
                    last = "it is not renewed".to_owned();
                    waits += 1;
                    self.pass(HOUR).await;
                }
                Some(Err(error)) => {
                    last = error.report();
                    match error.retry() {
                        Retry::After(wait) => {
                            waits += 1;
                            verdict.held_back += u64::from(wait > 30 * DAY);
                            self.pass(wait.min(400 * DAY) + Duration::from_secs(1)).await;
                        }
                        _ => {
                            calls += 1;
                            self.pass(MINUTE).await;
                        }
                    }
                }
                None => calls += 1,
            }
        }
        verdict
            .lost(format!("not there after {calls} calls and {waits} waits for a CA that is well: {last}"));
        Ok(())
    }

    /// Whether each certificate is there, and another one than before.
    async fn has_all(&self, acme: &Pipeline) -> Result<bool> {
        for spec in &self.specs {
            let Some(bundle) = acme.load(spec.id()).await? else { return Ok(false) };
            let origin = bundle.origin();
            if self.kept.contains(&place_of(&origin.authority, &origin.order)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One call for the one certificate; `None` if it had no end.
    async fn once(
        &self,
        acme: &Pipeline,
        limit: Duration,
        verdict: &mut Verdict,
    ) -> Option<std::result::Result<(), Error>> {
        let spec = self.specs.first()?;
        let begun = Instant::now();
        // A little more than it may take, so that what is late is seen to be.
        let done = tokio::time::timeout(limit + Duration::from_secs(5), acme.obtain(spec)).await;
        let took = begun.elapsed();
        verdict.longest = verdict.longest.max(took);
        if took > limit {
            verdict.late(format!("a call took {took:?}; its deadlines are {limit:?} in all"));
        }
        let done = done.ok()?;
        match &done {
            Ok(issued) => {
                if let Err(why) = self.fits(spec, &issued.bundle).await {
                    verdict.wrong(format!("a certificate that does not fit: {why}"));
                }
            }
            Err(error) if error.op().is_empty() => verdict.wrong(format!("an error without a name: {error}")),
            Err(_) => {}
        }
        Some(done.map(drop))
    }

    async fn manager(&self) -> Result<Manager> {
        let manager = Manager::builder(self.pipeline()?).start();
        for spec in &self.specs {
            manager.add(spec.clone()).await?;
        }
        Ok(manager)
    }

    /// A manager while the CAs are out of order, and then until all is there.
    async fn manage(&mut self, verdict: &mut Verdict) -> Result<()> {
        let mut manager = self.manager().await?;
        for pause in self.plan.pauses.iter().take(self.plan.calls) {
            self.pass(*pause).await;
            if self.plan.restarts {
                end(manager, verdict).await;
                manager = self.manager().await?;
            }
        }
        verdict.struck = self.be_well();
        let acme = self.pipeline()?;
        let mut waited = Duration::ZERO;
        let mut forced = Vec::new();
        let undone = loop {
            let status = manager.status().await?;
            let mut undone = Vec::new();
            for one in &status.certificates {
                let due = one.renewal.as_ref().is_none_or(|renewal| renewal.at <= self.clock.now());
                if one.serial.is_some() && one.trouble.is_none() && !due {
                    continue;
                }
                undone.push(format!("{}: {:?}", one.id, one.trouble.as_ref().map(|trouble| &trouble.error)));
                // A person has read what the CA said, and found nothing wrong with the wish.
                let fatal = one.trouble.as_ref().is_some_and(|trouble| trouble.class == Class::Fatal);
                if fatal && !forced.contains(&one.id) {
                    forced.push(one.id.clone());
                    manager.force(&one.id).await?;
                }
            }
            // The CA may not have been asked again yet whether it is due.
            if undone.is_empty() && !self.has_all(&acme).await? {
                undone.push("one is not renewed".to_owned());
            }
            if undone.is_empty() || waited > PATIENCE {
                break undone;
            }
            self.pass(10 * MINUTE).await;
            waited += 10 * MINUTE;
        };
        for one in undone {
            verdict.lost(format!("not there {waited:?} after the CA was well again: {one}"));
        }
        end(manager, verdict).await;
        Ok(())
    }

    /// Whether a certificate is for these names, of its own key, and what the CA has issued, link by link.
    async fn fits(
        &self,
        spec: &CertificateSpec,
        bundle: &acmekit::Bundle,
    ) -> std::result::Result<(), String> {
        bundle.check_against(spec.identifiers(), self.now()).map_err(|error| error.report())?;
        if bundle.key().is_none() {
            return Err("it has no key".to_owned());
        }
        let leaf = bundle.chain_der().first().map(Vec::as_slice).unwrap_or_default();
        for (ca, _) in &self.cas {
            let issued = ca.state().certificate_of_leaf(leaf).await.map_err(|problem| problem.to_string())?;
            if issued.is_some_and(|issued| issued.chains.iter().any(|chain| chain == bundle.chain_der())) {
                return Ok(());
            }
        }
        Err("no CA has issued this chain".to_owned())
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// Counts what is there, what is too much, and what is left.
    async fn judge(&mut self, renews: bool, verdict: &mut Verdict) -> Result<()> {
        let acme = self.pipeline()?;
        for spec in self.specs.clone() {
            let bundle = match acme.load(spec.id()).await {
                Ok(Some(bundle)) => bundle,
                Ok(None) => {
                    if verdict.counts.lost == 0 {
                        verdict.lost(format!("{} is not in the store", spec.id()));
                    }
                    continue;
                }
                Err(error) => {
                    verdict.lost(error.report());
                    continue;
                }
            };
            if let Err(why) = self.fits(&spec, &bundle).await {
                verdict.wrong(format!("what is stored for {} does not fit: {why}", spec.id()));
            }
            let origin = bundle.origin().clone();
            let before = self.kept.len();
            self.keep(&origin.authority, &origin.order);
            if renews && before == self.kept.len() && verdict.counts.lost == 0 {
                verdict.lost(format!("{} was not renewed", spec.id()));
            }
        }
        for (place, (ca, witness)) in self.cas.iter().enumerate() {
            for order in ca.state().orders() {
                let OrderState::Valid(_) = order.state else { continue };
                if self.kept.contains(&(place, order.id.clone())) {
                    continue;
                }
                // A second certificate for a wish. Is there an excuse?
                if witness.lie_about(&order.id).is_some() {
                    verdict.excused += 1;
                } else if self.plan.sort == Sort::FailOver && witness.was_no_use(&order.id) {
                    verdict.failed_over += 1;
                } else {
                    verdict.counts.duplicated += 1;
                    verdict.told.push(format!("duplicated: {:?} by {}", order.identifiers, IDS[place]));
                }
            }
            let accounts = ca.state().accounts().len();
            if accounts > 1 {
                verdict.wrong(format!("{accounts} accounts were made"));
            }
            if witness.was_hammered() {
                verdict.wrong("the CA was asked all the time, without a pause".to_owned());
            }
        }
        let standing = self.board.standing();
        if standing > 0 {
            verdict.counts.leftovers += 1;
            verdict.told.push(format!("left over: {standing} TXT values"));
        }
        let journals = self.store.list(&"journals".parse()?).await?;
        if !journals.is_empty() {
            verdict.counts.leftovers += 1;
            verdict.told.push(format!("left over: {journals:?}"));
        }
        for spec in &self.specs {
            let lease = format!("certificates/{}", spec.id()).parse()?;
            if self.store.lease(&lease, Duration::from_secs(1)).await?.is_none() {
                verdict.counts.leftovers += 1;
                verdict.told.push(format!("left over: a lease on {}", spec.id()));
            }
        }
        Ok(())
    }
}

/// By which of the CAs, and the id of the order.
fn place_of(authority: &str, order: &str) -> (usize, String) {
    let place = IDS.iter().position(|id| *id == authority).unwrap_or_default();
    (place, order.rsplit('/').next().unwrap_or_default().to_owned())
}

/// Ends a manager, which may take its grace.
async fn end(manager: Manager, verdict: &mut Verdict) {
    let begun = Instant::now();
    manager.shutdown().await;
    let took = begun.elapsed();
    if took > END {
        verdict.late(format!("a manager took {took:?} to end"));
    }
}
