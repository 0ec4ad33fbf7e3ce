//! The machine's clock is ahead, behind, or stands still, and is put right again: `clock --rounds 300 --seed 1`.

use std::process::ExitCode;
use std::time::Duration;

use acmekit_campaigns::world::{Dice, Panics, Ran, in_paused_time, say};
use acmekit_campaigns::{Arguments, Counts, Tally, clock};
use clap::Parser;

#[derive(Debug, clap::Parser)]
#[command(about = "The machine's clock is ahead, behind, or stands still, and is put right again")]
struct Options {
    #[command(flatten)]
    arguments: Arguments,
}

#[derive(Default)]
struct Sums {
    issued: u64,
    jumps: u64,
    restarts: u64,
    passed: Duration,
}

fn main() -> ExitCode {
    let arguments = Options::parse().arguments;
    let panics = Panics::watch();
    let (mut tally, mut sums) = (Tally::new("clock"), Sums::default());
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
    say(format_args!(
        "the clock was wrong {} times in {} days; {} certificates were issued, over {} starts",
        sums.jumps,
        sums.passed.as_secs() / 86_400,
        sums.issued,
        sums.restarts
    ));
    tally.exit_code()
}

fn play(arguments: &Arguments, round: u64, sums: &mut Sums) -> (Counts, Vec<String>) {
    let mut broken = Counts::default();
    broken.wrong = 1;
    let Ok(folder) = tempfile::tempdir() else {
        return (broken, vec!["there is no room for temporary files".to_owned()]);
    };
    let (dice, scratch) = (Dice::new(arguments.chance(round)), folder.path().to_owned());
    match in_paused_time(move || clock::run(dice, scratch)) {
        Ran::Well(outcome) => {
            sums.issued += outcome.issued;
            sums.jumps += outcome.jumps;
            sums.restarts += outcome.restarts;
            sums.passed += outcome.passed;
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
