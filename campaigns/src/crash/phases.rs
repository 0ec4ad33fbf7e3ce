//! Where kills fell: the second table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The side effects in the order in which they happen; others come after them.
const ORDER: [&str; 19] = [
    "account.key",
    "account.new",
    "account.url",
    "journal.key",
    "order.new",
    "journal.order",
    "journal.intents",
    "challenge.present",
    "journal.told",
    "challenge.respond",
    "challenge.cleanup",
    "journal.cleaned",
    "order.finalize",
    "certificate.store",
    "journal.close",
    "certificate.deploy",
    "journal.abandon",
    "journal.leftovers",
    "certificate.revoke",
];

/// How many processes were killed, and where.
#[derive(Debug, Clone, Default)]
pub(super) struct Phases {
    /// Before the first side effect.
    before: u64,
    /// By side effect: in it, and between it and the next.
    at: BTreeMap<(usize, String), [u64; 2]>,
    /// The process had ended already.
    too_late: u64,
    /// The longest run that nobody killed.
    longest: Duration,
    runs: u64,
    /// HAProxy had to be started anew by a person.
    restarted: u64,
}

impl Phases {
    /// A process was killed, and this is the last point it noted.
    pub(super) fn killed(&mut self, last: Option<&str>) {
        let Some((effect, at)) = last.and_then(|last| last.rsplit_once(':')) else {
            self.before += 1;
            return;
        };
        let place = ORDER.iter().position(|one| *one == effect).unwrap_or(ORDER.len());
        let counts = self.at.entry((place, effect.to_owned())).or_default();
        counts[usize::from(at != "begin")] += 1;
    }

    /// A process ended before it could be killed.
    pub(super) fn too_late(&mut self) {
        self.too_late += 1;
    }

    /// A run that nobody killed.
    pub(super) fn unhurt(&mut self, took: Duration) {
        self.longest = self.longest.max(took);
        self.runs += 1;
    }

    /// A person did what the error said.
    pub(super) fn restarted(&mut self) {
        self.restarted += 1;
    }

    /// And these.
    pub(super) fn add(&mut self, other: &Self) {
        self.before += other.before;
        self.too_late += other.too_late;
        self.longest = self.longest.max(other.longest);
        self.runs += other.runs;
        self.restarted += other.restarted;
        for (place, counts) in &other.at {
            let sum = self.at.entry(place.clone()).or_default();
            sum[0] += counts[0];
            sum[1] += counts[1];
        }
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kills = self.before + self.at.values().map(|[within, after]| within + after).sum::<u64>();
        writeln!(f, "| killed | during it | after it, before the next |")?;
        writeln!(f, "|---|---|---|")?;
        writeln!(f, "| before any side effect | | {} |", self.before)?;
        for ((_, effect), [within, after]) in &self.at {
            writeln!(f, "| {effect} | {within} | {after} |")?;
        }
        writeln!(f, "| all | | {kills} |")?;
        writeln!(f, "{} processes had ended before they could be killed", self.too_late)?;
        writeln!(f, "{} runs were left unhurt; the longest took {:.1?}", self.runs, self.longest)?;
        write!(
            f,
            "{} times a person had to reload HAProxy: it has no master that could be told to",
            self.restarted
        )
    }
}
