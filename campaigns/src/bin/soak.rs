//! Weeks of many short-lived certificates in virtual time: `soak --hours 500 --certificates 100 --seed 1`.

use std::process::ExitCode;

use acmekit_campaigns::soak::{self, Task};
use acmekit_campaigns::world::{Dice, Panics, Ran, in_paused_time_within, say};
use acmekit_campaigns::{Arguments, Counts, Tally};
use clap::Parser;

#[derive(Debug, clap::Parser)]
#[command(about = "Weeks of many short-lived certificates in virtual time; a round is a day")]
struct Options {
    /// How much time passes.
    #[arg(long, default_value_t = 240)]
    hours: u64,
    /// How many certificates there are.
    #[arg(long, default_value_t = 100)]
    certificates: u64,
    /// Keeps what is stored in files rather than in memory.
    #[arg(long)]
    files: bool,
    /// What all chance in the campaign comes from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let panics = Panics::watch();
    let mut tally = Tally::new("soak");
    let mut broken = Counts::default();
    broken.wrong = 1;
    let (hours, seed) = (options.hours, options.seed);
    let repeat =
        format!("repeat it with --seed {seed} --hours {hours} --certificates {}", options.certificates);
    let folder = tempfile::tempdir();
    let mut task = Task::new(hours, options.certificates);
    if options.files {
        task.folder = folder.as_ref().ok().map(|folder| folder.path().join("store"));
    }
    let dice = Dice::new(Arguments::chance_of(seed, 0));
    // A second for each hour is more than it ever takes.
    match in_paused_time_within(std::time::Duration::from_secs(300 + 4 * hours), move || {
        soak::run(dice, task)
    }) {
        Ran::Well(outcome) => {
            for (day, mut found) in (0..).zip(outcome.days.iter().cloned()) {
                if day == 0 && panics.count() > 0 {
                    found.counts.wrong += panics.count();
                    found.wrong.push(format!("{} panics", panics.count()));
                }
                if !found.counts.clean() {
                    let what = found.wrong.join("; ").replace('\n', " ");
                    say(format_args!("day {day} of seed {seed}: {what}; {repeat}"));
                }
                tally.add(day, found.counts);
            }
            say(&tally);
            let memory: Vec<String> =
                outcome.days.iter().map(|day| format!("{}", day.memory >> 20)).collect();
            let issued = outcome.days.last().map(|day| day.issued).unwrap_or_default();
            say(format_args!(
                "{hours} hours: {issued} certificates issued, {} starts, {} outages, {} wanted back early",
                outcome.restarts + 1,
                outcome.outages,
                outcome.wanted_back
            ));
            say(format_args!(
                "the store held {} entries of {} octets in all",
                outcome.stored.0, outcome.stored.1
            ));
            say(format_args!("MiB of memory day by day: {}", memory.join(" ")));
        }
        Ran::Impossible(why) => {
            say(format_args!("it could not be played: {why}; {repeat}"));
            tally.add(0, broken);
            say(&tally);
        }
        Ran::Panicked => {
            say(format_args!("it panicked; {repeat}"));
            tally.add(0, broken);
            say(&tally);
        }
        Ran::Hanging => {
            say(format_args!("it has no end; {repeat}"));
            broken.deadline_misses = 1;
            tally.add(0, broken);
            say(&tally);
        }
    }
    tally.exit_code()
}
