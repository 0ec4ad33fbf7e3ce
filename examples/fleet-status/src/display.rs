//! What is shown: bars and a table on a terminal, one line a day everywhere else; a table and the sums at the end.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use acmekit::backoff::Trouble;
use acmekit::manager::Status;
use acmekit::{Error, ErrorKind, Result};

use crate::screen::Screen;
use crate::tally::Tally;
use crate::view::{self, Counts};

/// How many hours pass from one drawing to the next, and how long one can be looked at.
const HOURS: u32 = 6;
const PACE: Duration = Duration::from_millis(60);

pub(crate) struct Display {
    /// None where lines are printed.
    screen: Option<Screen>,
    /// What the world did last, and when.
    news: String,
}

impl Display {
    pub(crate) fn new(plain: bool, budgets: [u32; 2]) -> Self {
        Self { screen: (!plain).then(|| Screen::new(budgets)), news: String::new() }
    }

    /// Something has happened that the manager knows nothing of.
    pub(crate) fn news(&mut self, day: u32, news: &str) -> Result<()> {
        self.news = format!("(day {day}: {news})");
        match self.screen {
            Some(_) => Ok(()),
            None => print(&format!("--- {news}")),
        }
    }

    /// How things stand after so many hours; `troubles` are of a kind not seen before.
    pub(crate) async fn show(
        &self,
        hour: u32,
        status: &Status,
        tally: &Tally,
        troubles: &[(String, &Trouble)],
    ) -> Result<()> {
        let day = hour / 24;
        match &self.screen {
            Some(screen) if hour.is_multiple_of(HOURS) => {
                let head = format!("day {day}, {}   {}", view::moment(status.at), self.news);
                screen.draw(head, status, tally);
                pause().await;
                Ok(())
            }
            Some(_) => Ok(()),
            None => {
                for (name, trouble) in troubles {
                    print(&format!("!!! {name}: {}", view::words(trouble)))?;
                }
                if hour.is_multiple_of(24) { print(&day_line(day, status, tally)) } else { Ok(()) }
            }
        }
    }

    /// The table at the end.
    pub(crate) fn end(&self, status: &Status) -> Result<()> {
        if let Some(screen) = &self.screen {
            screen.clear();
        }
        print(&format!("\n{}", view::table(status).join("\n")))
    }
}

/// The sums; `issued` as the CAs have counted.
pub(crate) fn summary(tally: &Tally, status: &Status, days: u32, issued: &[(&str, u64)]) -> Result<()> {
    let (first, renewals) = tally.issued();
    let counts = Counts::of(status);
    let by: Vec<String> = issued.iter().map(|(id, count)| format!("{id} {count}")).collect();
    let mut text =
        format!("\nAfter {days} days: {} of {} certificates are there.\n", counts.issued, counts.all);
    let mut add = |what: &str, value: String| writeln!(text, "{what:<15} {value}").ok();
    add("issued", format!("{}: {first} first ones, {renewals} renewals", first + renewals));
    add("by authority", by.join(", "));
    for ((class, hint), count) in tally.troubles() {
        add("trouble seen", format!("{class}: {hint} (certificates: {count})"));
    }
    add("events missed", tally.events_missed().to_string());
    let expired: Vec<&str> = tally.expired().iter().map(|id| id.as_str()).collect();
    add("expired", if expired.is_empty() { "none".to_owned() } else { expired.join(" ") });
    print(text.trim_end())
}

fn day_line(day: u32, status: &Status, tally: &Tally) -> String {
    let Counts { all, issued, soon, waiting, troubled } = Counts::of(status);
    let authorities: Vec<String> = status
        .authorities
        .iter()
        .map(|one| format!("{}: {}", one.id, view::authority(one, status, tally)))
        .collect();
    format!(
        "day {day:>3}  issued {issued}/{all}  due in 7 d {soon:>3}  waiting {waiting:>3}  in trouble {troubled:>2}  {}",
        authorities.join("; ")
    )
}

/// Lets a person look. Paused time does not go on while a thread is at work.
async fn pause() {
    // It only sleeps: there is no way for it to fail.
    tokio::task::spawn_blocking(|| std::thread::sleep(PACE)).await.ok();
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| {
        Error::new(ErrorKind::Other, "fleet.print", "standard output cannot be written").with("reason", error)
    })
}
