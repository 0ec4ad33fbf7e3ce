//! Processes that are killed with SIGKILL at random, and started again.
//!
//! A round is one store, one CA, one or two places to deploy to, and one to three certificates. Processes that work on
//! them are killed one to five times in a row, anywhere; then one is left to its end, and everything is counted. What
//! is allowed (see "What survives a crash" in `docs/architecture.md`): an order that was made and not written down is
//! made again. Never a certificate. And a HAProxy that its client leaves amid a commit has to be reloaded before it may
//! be asked about that certificate again (see the deployer's own words): where there is a master, the deployer does that
//! itself; else its error says so, and a round does what a person would. How often is told.

mod child;
mod judge;
mod phases;
mod plan;
mod process;
mod world;

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use acmekit_testbed::{Bind, HaProxy};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use self::child::{pipeline, specs};
use self::judge::{Verdict, judge};
use self::phases::Phases;
use self::plan::{Plan, Sort};
use self::process::{Ended, Measured, run as start};
use self::world::{SetUp, World, ZONE};
use crate::{Arguments, Tally};

/// Two thirds of ninety days, and a window of two.
const LATER: Duration = Duration::from_secs(63 * 24 * 3600);

/// What the campaign is told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Which rounds.
    pub arguments: Arguments,
    /// How many at once.
    pub concurrency: usize,
    /// Whether the folders of broken rounds stay, to be looked at.
    pub keep: bool,
}

impl Options {
    /// These rounds, two at once.
    pub fn new(arguments: Arguments) -> Self {
        Self { arguments, concurrency: 2, keep: false }
    }
}

/// What all rounds share.
struct Campaign {
    options: Options,
    dns: Bind,
    next: AtomicU64,
    /// What an unhurt run takes, by its sort.
    measured: Mutex<HashMap<Sort, Measured>>,
    sums: Mutex<(Tally, Phases)>,
}

/// Does the task in this file: for the process that is killed.
pub async fn child(task: &Path) -> ExitCode {
    match child::run(task).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.report());
            ExitCode::FAILURE
        }
    }
}

/// Runs the campaign, and prints what came of it.
///
/// # Errors
/// If no world can be set up.
pub async fn run(options: Options) -> Result<ExitCode, String> {
    let dns = Bind::builder().zone(ZONE).start().await.map_err(|error| error.to_string())?;
    let campaign = Arc::new(Campaign {
        next: AtomicU64::new(options.arguments.numbers().start),
        dns,
        measured: Mutex::default(),
        sums: Mutex::new((Tally::new("crash"), Phases::default())),
        options,
    });
    let mut lanes = JoinSet::new();
    for _ in 0..campaign.options.concurrency.max(1) {
        let campaign = Arc::clone(&campaign);
        lanes.spawn(async move { campaign.lane().await });
    }
    while let Some(ended) = lanes.join_next().await {
        ended.map_err(|error| error.to_string())??;
    }
    let sums = campaign.sums.lock().await;
    print(&format!("{}\n{}\n", sums.0, sums.1));
    Ok(sums.0.exit_code())
}

#[expect(clippy::print_stdout, reason = "this is how a campaign answers")]
fn print(text: &str) {
    print!("{text}");
}

#[expect(clippy::print_stderr, reason = "this is how a campaign tells what is broken")]
fn say(text: &str) {
    eprintln!("{text}");
}

impl Campaign {
    /// One round after the other, with a HAProxy of its own.
    async fn lane(&self) -> Result<(), String> {
        // One with a master, and one without.
        let mut haproxies: [Option<HaProxy>; 2] = [None, None];
        loop {
            let round = self.next.fetch_add(1, Ordering::SeqCst);
            if !self.options.arguments.numbers().contains(&round) {
                return Ok(());
            }
            let mut chance = self.options.arguments.chance(round);
            let plan = Plan::draw(&mut chance, self.options.arguments.seed, round);
            let haproxy = &mut haproxies[usize::from(plan.sort.master)];
            if haproxy.is_none() && plan.sort.haproxy {
                let started = HaProxy::builder().master_worker(plan.sort.master).start().await;
                *haproxy = Some(started.map_err(|error| error.to_string())?);
            }
            let (verdict, phases) = match self.round(round, &plan, haproxy.as_ref()).await {
                Ok(done) => done,
                // A world that cannot be set up, or a run that fails before anything was done to it.
                Err(why) => {
                    let mut verdict = Verdict::default();
                    verdict.wrong(why);
                    (verdict, Phases::default())
                }
            };
            if !verdict.told.is_empty() {
                // What is broken in it is this round's, and not the next one's.
                *haproxy = None;
                say(&format!("round {round}: {}", verdict.told.join("; ")));
                say(&format!("  {plan:?}"));
                let seed = self.options.arguments.seed;
                say(&format!("  to repeat: crash --seed {seed} --round {round} --keep"));
            }
            let mut sums = self.sums.lock().await;
            sums.0.add(round, verdict.counts);
            sums.1.add(&phases);
        }
    }

    async fn round(&self, round: u64, plan: &Plan, haproxy: Option<&HaProxy>) -> SetUp<(Verdict, Phases)> {
        let measured = self
            .measured(plan.sort, haproxy)
            .await
            .map_err(|why| format!("an unhurt run of the sort of round {round} does not end well: {why}"))?;
        let world = World::start(plan.sort, &plan.certificates, &self.dns, haproxy).await?;
        let before = due(&world, plan.sort).await?;
        let (mut verdict, mut phases) = (Verdict::default(), Phases::default());
        for (number, kills) in plan.kills.iter().enumerate() {
            let names = [format!("{number}a"), format!("{number}b")];
            let one = start(&world, &names[0], Some((kills[0], measured)));
            let other = async {
                match plan.two {
                    true => start(&world, &names[1], Some((kills[1], measured))).await.map(Some),
                    false => Ok(None),
                }
            };
            let (one, other) = tokio::try_join!(one, other)?;
            let mut done = false;
            for run in [Some(one), other].into_iter().flatten() {
                match run.ended {
                    Ended::Killed => phases.killed(run.points.last().map(String::as_str)),
                    Ended::Well => {
                        phases.too_late();
                        done = true;
                    }
                    Ended::Badly(why) if wants_reload(plan, &why) => {}
                    Ended::Badly(why) => verdict.wrong(format!("run {number} failed unhurt: {why}")),
                    Ended::Late => verdict.late(&format!("run {number} did not end")),
                }
            }
            if done {
                break;
            }
        }
        // A manager that finds another process at work comes again half a minute later: one is left.
        let both = plan.two && !plan.sort.manager;
        let last = start(&world, "last", None);
        let other = async { if both { start(&world, "other", None).await.map(Some) } else { Ok(None) } };
        let (mut last, mut other) = tokio::try_join!(last, other)?;
        if let Ended::Badly(why) = &last.ended
            && wants_reload(plan, why)
            && let Some(haproxy) = haproxy
        {
            phases.restarted();
            haproxy.restart().await.map_err(|error| error.to_string())?;
            (last, other) = (start(&world, "reloaded", None).await?, None);
        }
        for run in [Some(last), other].into_iter().flatten() {
            phases.unhurt(run.took);
            match run.ended {
                Ended::Well => {}
                Ended::Late => verdict.late("the unhurt run is past all its deadlines"),
                Ended::Killed => verdict.wrong("the unhurt run was killed".to_owned()),
                Ended::Badly(why) => verdict.wrong(format!("the unhurt run failed: {why}")),
            }
        }
        judge(&world, plan, &self.dns, haproxy, &before, &mut verdict).await?;
        if self.options.keep && !verdict.told.is_empty() {
            say(&format!("round {round} is kept in {}", world.folder.keep().display()));
        }
        Ok((verdict, phases))
    }

    /// How long an unhurt run of this sort takes, and how many points it passes; tried once.
    async fn measured(&self, sort: Sort, haproxy: Option<&HaProxy>) -> SetUp<Measured> {
        if let Some(measured) = self.measured.lock().await.get(&sort) {
            return Ok(*measured);
        }
        let certificates: Vec<_> =
            (0..sort.certificates).map(|one| vec![format!("c{one}.measured.{ZONE}")]).collect();
        let world = World::start(sort, &certificates, &self.dns, haproxy).await?;
        due(&world, sort).await?;
        let run = start(&world, "measured", None).await?;
        match run.ended {
            Ended::Well => {}
            other => return Err(format!("{other:?}")),
        }
        let points = u64::try_from(run.points.len()).unwrap_or(u64::MAX);
        let measured = Measured { took: run.took, points };
        self.measured.lock().await.insert(sort, measured);
        Ok(measured)
    }
}

/// Whether a process without a master says that HAProxy has to be reloaded.
fn wants_reload(plan: &Plan, why: &str) -> bool {
    let unanswered = why.contains("haproxy.commit") && why.contains("did not answer the commit");
    plan.sort.haproxy && !plan.sort.master && unanswered
}

/// For a renewal: has the certificates that are to be renewed, and lets them become due. Answers their serial numbers.
async fn due(world: &World, sort: Sort) -> SetUp<Vec<String>> {
    if !sort.renewal {
        return Ok(Vec::new());
    }
    let first = start(world, "first", None).await?;
    if !matches!(first.ended, Ended::Well) {
        return Err(format!("the first certificates could not be had: {:?}", first.ended));
    }
    let text = |error: acmekit::Error| error.report();
    let acme = pipeline(&world.task).await.map_err(text)?;
    let mut serials = Vec::new();
    for spec in specs(&world.task.certificates).map_err(text)? {
        let bundle = acme.load(spec.id()).await.map_err(text)?.ok_or("a first certificate is not there")?;
        serials.push(bundle.facts().serial.clone());
    }
    world.advance(LATER)?;
    Ok(serials)
}
