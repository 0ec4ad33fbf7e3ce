//! CAs that misbehave at random, and are well again.
//!
//! A round is a CA with a script of one to six random faults, and a client that makes calls while they are on: each
//! may fail, but in time. Then the faults are off, and the certificate has to come. Most rounds take place in the
//! process and in virtual time, so that a hang costs nothing; there the client is also lied to, and a witness hears
//! what it was told. One in ten goes over HTTPS, with the faults of a network: broken, endless, late and missing
//! answers.

mod board;
mod round;
mod script;
mod witness;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::round::{Plan, Verdict};
use crate::{Arguments, Tally};

/// What endless answers may cost: far more than the longest that is taken (1 MiB), far less than was sent (2 GiB).
const MEMORY: u64 = 256 << 20;

/// What the campaign is told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Which rounds.
    pub arguments: Arguments,
    /// How many at once.
    pub concurrency: usize,
}

impl Options {
    /// These rounds, two at once.
    pub fn new(arguments: Arguments) -> Self {
        Self { arguments, concurrency: 2 }
    }
}

#[derive(Debug, Default)]
struct Sums {
    tally: Tally,
    well: u64,
    badly: u64,
    struck: u64,
    excused: u64,
    failed_over: u64,
    held_back: u64,
    longest: Duration,
    memory: u64,
}

/// Runs the campaign, and prints what came of it.
///
/// # Errors
/// If no world can be set up.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    let panics = Arc::new(AtomicU64::new(0));
    let (counting, usual) = (Arc::clone(&panics), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        counting.fetch_add(1, Ordering::SeqCst);
        usual(panic);
    }));
    let next = AtomicU64::new(options.arguments.numbers().start);
    let sums = Mutex::new(Sums { tally: Tally::new("hostile"), ..Sums::default() });
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..options.concurrency.max(1) {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::SeqCst);
                    let stop = failed.lock().unwrap_or_else(PoisonError::into_inner).is_some();
                    if stop || !options.arguments.numbers().contains(&round) {
                        return;
                    }
                    if let Err(error) = one(options, round, &panics, &sums) {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) =
                            Some(format!("round {round}: {error}"));
                    }
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    report(&sums);
    Ok(sums.tally.exit_code())
}

#[expect(clippy::print_stdout, reason = "this is how a campaign answers")]
fn report(sums: &Sums) {
    let Sums { tally, well, badly, struck, excused, failed_over, held_back, longest, memory } = sums;
    println!("{tally}");
    println!("faults struck {struck} times; {well} calls ended well meanwhile, {badly} with an error");
    println!("second certificates after a lie about the first: {excused}");
    println!("second certificates from another authority, after the first made no sense: {failed_over}");
    println!("told by the CA to wait for more than a month: {held_back} times");
    println!("the longest call took {longest:.1?} of its own time; at most {} MiB were in use", memory >> 20);
}

fn one(options: &Options, round: u64, panics: &AtomicU64, sums: &Mutex<Sums>) -> Result<(), String> {
    let plan = Plan::draw(&mut options.arguments.chance(round), round);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(!plan.over_network);
    let runtime = builder.build().map_err(|error| error.to_string())?;
    let before = panics.load(Ordering::SeqCst);
    let held = memory("VmRSS:");
    if plan.over_network {
        forget_peak();
    }
    let done = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(round::run(&plan))));
    // What a manager left running ends here.
    runtime.shutdown_timeout(Duration::from_secs(10));
    let mut verdict = match done {
        Ok(done) => done.map_err(|error| error.report())?,
        // Counted below, with those in tasks.
        Err(_) => Verdict::default(),
    };
    let panicked = panics.load(Ordering::SeqCst) - before;
    if panicked > 0 {
        verdict.wrong(format!("{panicked} panics"));
    }
    let grown = memory("VmHWM:").saturating_sub(held);
    if plan.over_network && grown > MEMORY {
        verdict.wrong(format!("{} MiB more were in use", grown >> 20));
    }
    if !verdict.told.is_empty() {
        say(&format!("round {round}: {}", verdict.told.join("; ")));
        say(&format!("  {}", plan.describe()));
        let seed = options.arguments.seed;
        say(&format!("  to repeat: hostile --seed {seed} --round {round}"));
    }
    let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
    sums.tally.add(round, verdict.counts);
    sums.well += verdict.well;
    sums.badly += verdict.badly;
    sums.struck += verdict.struck;
    sums.excused += verdict.excused;
    sums.failed_over += verdict.failed_over;
    sums.held_back += verdict.held_back;
    sums.longest = sums.longest.max(verdict.longest);
    sums.memory = sums.memory.max(memory("VmHWM:"));
    Ok(())
}

#[expect(clippy::print_stderr, reason = "this is how a campaign tells what is broken")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// What the kernel says of this process's memory, in octets; nothing where it does not.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() << 10
}

/// Has the kernel measure the peak from now on.
fn forget_peak() {
    use std::io::Write;
    if let Ok(mut file) = std::fs::OpenOptions::new().write(true).open("/proc/self/clear_refs") {
        // Where it cannot, the peak is that of all rounds so far: more is found wrong, not less.
        file.write_all(b"5").ok();
    }
}
