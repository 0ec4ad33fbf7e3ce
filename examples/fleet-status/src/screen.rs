//! The display that is redrawn in place.

use acmekit::manager::Status;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::tally::Tally;
use crate::view::{self, Counts};

/// How often a second it is drawn at most.
const HERTZ: u8 = 30;
/// The table's head, its rows, and some troubles.
const LINES: usize = 15;

pub(crate) struct Screen {
    all: MultiProgress,
    head: ProgressBar,
    counts: [ProgressBar; 4],
    authorities: [ProgressBar; 2],
    table: Vec<ProgressBar>,
    /// Finished from the beginning: indicatif leaves out drawings that come too soon after another, but never one of a
    /// finished bar. Set last, it brings all others to the screen as they are.
    foot: ProgressBar,
}

impl Screen {
    /// `budgets`: how many orders each authority lets through at once.
    pub(crate) fn new(budgets: [u32; 2]) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(HERTZ));
        let add = |template: &str, length: u64| {
            let bar = all.add(ProgressBar::new(length));
            // The templates are ours: a mistake in one shows the default bar.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        };
        let head = add("{wide_msg}", 0);
        let counts = ["issued", "due within 7 days", "waiting", "in trouble"].map(|what| {
            let bar = add("{prefix:<18} [{bar:40}] {pos:>4} of {len}", 0);
            bar.set_prefix(what);
            bar
        });
        let authorities = budgets.map(|orders| add("{prefix:<18} [{bar:40}] {wide_msg}", u64::from(orders)));
        let table = (0..LINES).map(|_| add("{wide_msg}", 0)).collect();
        let foot = add("{wide_msg}", 0);
        foot.abandon();
        Self { all, head, counts, authorities, table, foot }
    }

    pub(crate) fn draw(&self, head: String, status: &Status, tally: &Tally) {
        self.head.set_message(head);
        let counts = Counts::of(status);
        let numbers = [counts.issued, counts.soon, counts.waiting, counts.troubled];
        for (bar, number) in self.counts.iter().zip(numbers) {
            bar.set_length(counts.all as u64);
            bar.set_position(number as u64);
        }
        for (bar, authority) in self.authorities.iter().zip(&status.authorities) {
            bar.set_prefix(format!("{} budget", authority.id));
            bar.set_position(authority.budget.orders.map_or(0, u64::from));
            bar.set_message(view::authority(authority, status, tally));
        }
        let lines = view::table(status).into_iter().chain(std::iter::repeat(String::new()));
        for (bar, line) in self.table.iter().zip(lines) {
            bar.set_message(line);
        }
        self.foot.set_message(tally.line());
    }

    /// Leaves the terminal to what is printed next.
    pub(crate) fn clear(&self) {
        let bars = self.counts.iter().chain(&self.authorities).chain(&self.table);
        [&self.head, &self.foot].into_iter().chain(bars).for_each(ProgressBar::finish_and_clear);
        // A screen that cannot be cleared stays as it is.
        self.all.clear().ok();
    }
}
