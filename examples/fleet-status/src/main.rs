//! A fleet of certificates at work: months of it in a minute, on a CA in this process that fails on the way.
//!
//! Everything that is shown comes from `Manager::status` and `Manager::events`: it can be copied into a program that
//! looks after real certificates.

mod display;
mod screen;
mod tally;
mod view;
mod world;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use acmekit::manager::{Events, Heard};
use acmekit::{Clock, Error, ErrorKind, Result};
use acmekit_server::MovableClock;
use clap::Parser;
use tokio::time::Instant;

use display::Display;
use tally::Tally;
use world::World;

const HOUR: Duration = Duration::from_secs(3600);

/// Shows a fleet of certificates being issued, renewed and brought through the troubles of its CA.
///
/// Nothing leaves this process: the CAs are in it, and its time runs fast.
#[derive(Debug, Parser)]
#[command(name = "fleet-status")]
struct Args {
    /// How many certificates
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=5000))]
    certificates: u32,

    /// How many days pass
    #[arg(long, value_name = "D", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,

    /// Print one line a day instead of drawing; so does a standard output that is no terminal
    #[arg(long)]
    plain: bool,
}

fn main() -> ExitCode {
    match watch(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell if this cannot be written.
            writeln!(std::io::stderr(), "fleet-status: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

/// Says whether all went well: no certificate has expired.
fn watch(args: &Args) -> Result<bool> {
    // Paused: time stands still while anything is being done, and jumps when all rest.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().map_err(
            |error| Error::new(ErrorKind::Other, "fleet.runtime", "it cannot start").with("reason", error),
        )?;
    runtime.block_on(run(args))
}

async fn run(args: &Args) -> Result<bool> {
    let clock = MovableClock::paced(world::start());
    let mut world = World::start(&clock, args.certificates, args.days).await?;
    let manager = world.manager()?;
    let mut events = manager.events();
    for certificate in world.fleet()? {
        manager.add(certificate).await?;
    }
    // The first picture shows what the CAs grant at once.
    manager.settled().await?;
    let plain = args.plain || !std::io::stdout().is_terminal();
    let mut display = Display::new(plain, world.budgets());
    let mut tally = Tally::new();
    let begun = Instant::now();
    for hour in 0..=args.days * 24 {
        listen(&mut events, &mut tally, &clock, begun + HOUR * hour).await;
        if let Some(news) = world.act(hour / 24) {
            display.news(hour / 24, news)?;
        }
        let status = manager.status().await?;
        let troubles = tally.look(&status);
        display.show(hour, &status, &tally, &troubles).await?;
    }
    let status = manager.status().await?;
    display.end(&status)?;
    manager.shutdown().await;
    drain(&mut events, &mut tally, &clock).await;
    display::summary(&tally, &status, args.days, &world.issued())?;
    Ok(tally.expired().is_empty())
}

/// Hears what happens until then.
async fn listen(events: &mut Events, tally: &mut Tally, clock: &MovableClock, until: Instant) {
    let rest = tokio::time::sleep_until(until);
    tokio::pin!(rest);
    loop {
        tokio::select! {
            // What has happened before the time is up is heard before.
            biased;
            heard = events.next() => match heard {
                Some(heard) => note(heard, tally, clock),
                // The manager has ended: whoever asks it for its status is told why.
                None => return,
            },
            () = &mut rest => return,
        }
    }
}

/// Hears what is left once the manager has ended.
async fn drain(events: &mut Events, tally: &mut Tally, clock: &MovableClock) {
    while let Some(heard) = events.next().await {
        note(heard, tally, clock);
    }
}

fn note(heard: Heard, tally: &mut Tally, clock: &MovableClock) {
    match heard {
        Heard::Event(event) => tally.note(&event, clock.now()),
        Heard::Missed(count) => tally.missed(count),
        // More may come to be heard.
        _ => {}
    }
}
