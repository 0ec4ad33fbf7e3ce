//! Stores and disks that fail, fill up, are slow, and lose what they held: `disk --rounds 1000 --seed 1`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use acmekit_campaigns::world::{Dice, Panics, Ran, in_paused_time, say};
use acmekit_campaigns::{Arguments, Counts, Tally, disk};
use clap::Parser;

#[derive(Debug, clap::Parser)]
#[command(about = "Stores and disks that fail, fill up, are slow, and lose what they held")]
struct Options {
    #[command(flatten)]
    arguments: Arguments,
}

#[derive(Default)]
struct Sums {
    settings: BTreeMap<String, u64>,
    excused: u64,
    excused_records: u64,
    failed_calls: u64,
    failed_runs: u64,
    destroyed: u64,
    notes: BTreeSet<String>,
}

fn main() -> ExitCode {
    let arguments = Options::parse().arguments;
    let panics = Panics::watch();
    let (mut tally, mut sums) = (Tally::new("disk"), Sums::default());
    for round in arguments.numbers() {
        let before = panics.count();
        let (mut counts, mut wrong) = play(&arguments, round, &mut sums);
        let panicked = panics.count() - before;
        if panicked > 0 {
            counts.wrong += panicked;
            wrong.push(format!("{panicked} panics"));
        }
        if !counts.clean() {
            let what = wrong.join("; ").replace('\n', " ");
            say(format_args!(
                "round {round} of seed {}: {what}; repeat it with --round {round}",
                arguments.seed
            ));
        }
        tally.add(round, counts);
    }
    say(&tally);
    let settings: Vec<String> = sums.settings.iter().map(|(name, count)| format!("{name} {count}")).collect();
    say(format_args!("rounds: {}", settings.join(", ")));
    say(format_args!(
        "{} calls of a store failed, {} files were destroyed, {} runs ended by an error",
        sums.failed_calls, sums.destroyed, sums.failed_runs
    ));
    say(format_args!(
        "excused by what was lost: {} further certificates, {} records",
        sums.excused, sums.excused_records
    ));
    for note in &sums.notes {
        say(format_args!("note: {note}"));
    }
    tally.exit_code()
}

fn play(arguments: &Arguments, round: u64, sums: &mut Sums) -> (Counts, Vec<String>) {
    let mut broken = Counts::default();
    broken.wrong = 1;
    let Ok(folder) = tempfile::tempdir() else {
        return (broken, vec!["there is no room for temporary files".to_owned()]);
    };
    let (dice, scratch) = (Dice::new(arguments.chance(round)), folder.path().to_owned());
    match in_paused_time(move || disk::run(dice, scratch)) {
        Ran::Well(outcome) => {
            *sums.settings.entry(outcome.setting).or_default() += 1;
            sums.excused += outcome.excused;
            sums.excused_records += outcome.excused_records;
            sums.failed_calls += outcome.failed_calls;
            sums.failed_runs += outcome.failed_runs;
            sums.destroyed += outcome.destroyed;
            sums.notes.extend(outcome.note);
            (outcome.counts, outcome.wrong)
        }
        Ran::Impossible(why) => (broken, vec![format!("it could not be played: {why}")]),
        Ran::Panicked => (broken, vec!["it panicked".to_owned()]),
        Ran::Hanging => {
            broken.deadline_misses = 1;
            (broken, vec!["it has no end".to_owned()])
        }
    }
}
