//! What Pebble's log tells that its management interface does not.

use super::Pebble;

impl Pebble {
    /// Everything it wrote, over all its starts.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// How many certificates it issued, over all its starts.
    pub fn issued_certificates(&self) -> usize {
        self.issued_serials().len()
    }

    /// The serial numbers of the certificates it issued, oldest first, as [`serial_of`](crate::serial_of) writes
    /// them.
    pub fn issued_serials(&self) -> Vec<String> {
        after(&self.log(), "Issued certificate serial ")
            .map(|rest| rest.split(' ').next().unwrap_or_default().trim_start_matches('0').to_owned())
            .collect()
    }

    /// How many accounts were created, over all its starts; finding an existing account does not count.
    pub fn accounts(&self) -> usize {
        after(&self.log(), "There are now ").filter(|rest| rest.ends_with(" accounts in memory")).count()
    }

    /// How many orders were created, over all its starts.
    pub fn orders(&self) -> usize {
        after(&self.log(), "Added order ").count()
    }

    /// How many requests came for this resource, over all its starts: `/sign-me-up`, `/order-plz`, …; one with a
    /// parameter is counted under its prefix, such as `/finalize-order/`.
    pub fn requests(&self, path: &str) -> usize {
        let mark = format!(" {path} -> calling handler");
        self.log().lines().filter(|line| line.contains(&mark)).count()
    }
}

/// What follows `mark` on each line that has it.
fn after<'a>(log: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    log.lines().filter_map(move |line| line.split_once(mark).map(|(_, rest)| rest))
}
