use std::fmt;
use std::process::ExitCode;

/// What one round came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Certificates that the round was to have.
    pub certificates: u64,
    /// Of these, those that were not there, whole and served, when everything was put right again.
    pub lost: u64,
    /// Certificates that the CA issued beyond what was asked for.
    pub duplicated: u64,
    /// What nobody needs any more and is still there: TXT records, open journals, temporary files, processes.
    pub leftovers: u64,
    /// Calls that took longer than their deadline.
    pub deadline_misses: u64,
    /// Whatever else must not be, such as a panic; told below the table.
    pub wrong: u64,
}

impl Counts {
    /// Whether the round ended as every round has to.
    pub fn clean(&self) -> bool {
        *self == Self { certificates: self.certificates, ..Self::default() }
    }
}

/// The sum of all rounds, as a table.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    campaign: &'static str,
    rounds: u64,
    sum: Counts,
    broken: Vec<u64>,
}

impl Tally {
    /// Nothing yet.
    pub fn new(campaign: &'static str) -> Self {
        Self { campaign, ..Self::default() }
    }

    /// One more round.
    pub fn add(&mut self, round: u64, counts: Counts) {
        self.rounds += 1;
        self.sum.certificates += counts.certificates;
        self.sum.lost += counts.lost;
        self.sum.duplicated += counts.duplicated;
        self.sum.leftovers += counts.leftovers;
        self.sum.deadline_misses += counts.deadline_misses;
        self.sum.wrong += counts.wrong;
        if !counts.clean() {
            self.broken.push(round);
        }
    }

    /// Whether there was a round and all were clean: a campaign that did nothing has shown nothing.
    pub fn exit_code(&self) -> ExitCode {
        if self.rounds > 0 && self.sum.certificates > 0 && self.broken.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { certificates, lost, duplicated, leftovers, deadline_misses, wrong } = self.sum;
        writeln!(
            f,
            "| campaign | rounds | certificates | lost | duplicated | leftovers | deadline misses |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        writeln!(
            f,
            "| {} | {} | {certificates} | {lost} | {duplicated} | {leftovers} | {deadline_misses} |",
            self.campaign, self.rounds
        )?;
        if wrong > 0 {
            writeln!(f, "otherwise wrong: {wrong}")?;
        }
        if !self.broken.is_empty() {
            writeln!(f, "rounds to repeat with --round: {:?}", self.broken)?;
        }
        Ok(())
    }
}
