//! What one round is like: drawn from its chance alone, so that it is the same each time.

use rand::Rng;
use rand::rngs::StdRng;

/// Everything that chance decides before the round begins.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The certificates, each by its names.
    pub(super) certificates: Vec<Vec<String>>,
    /// What sort of round it is.
    pub(super) sort: Sort,
    /// Two processes work on the store at the same time.
    pub(super) two: bool,
    /// The runs that are killed, one after the other, before the one that is not.
    pub(super) kills: Vec<[Kill; 2]>,
}

/// What a run's length depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sort {
    /// By TXT records in a real DNS server rather than by files of a web server.
    pub(super) dns: bool,
    /// To a real HAProxy.
    pub(super) haproxy: bool,
    /// By its master, which may be told to reload.
    pub(super) master: bool,
    /// To a folder, with a reload command.
    pub(super) files: bool,
    /// By a manager rather than one call for each.
    pub(super) manager: bool,
    /// The renewal of certificates that are due, rather than the first ones.
    pub(super) renewal: bool,
    /// How many certificates.
    pub(super) certificates: usize,
}

/// How a run dies.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kill {
    /// From outside, after this share of the time that an unhurt run takes.
    After(f64),
    /// By itself, at the point after this share of all that an unhurt run passes.
    At(f64),
}

impl Plan {
    /// What this round is.
    pub(super) fn draw(chance: &mut StdRng, seed: u64, round: u64) -> Self {
        let dns = chance.random_bool(0.7);
        let haproxy = chance.random_bool(0.35);
        let files = !haproxy || chance.random_bool(0.4);
        let manager = chance.random_bool(0.4);
        let renewal = chance.random_bool(0.3);
        let two = chance.random_bool(0.2);
        // The file of a HAProxy is one certificate's.
        let count = if haproxy { 1 } else { [1, 1, 1, 2, 3][chance.random_range(0..5)] };
        let certificates = (0..count)
            .map(|certificate| {
                let base = format!("s{seed}r{round}c{certificate}");
                let mut names: Vec<String> = (0..chance.random_range(1..=4))
                    .map(|name| format!("n{name}.{base}.example.test"))
                    .collect();
                if dns && chance.random_bool(0.4) {
                    // A wildcard beside the name it covers none of: two values at one place, at times.
                    let wildcard = format!("*.{}", names[0]);
                    match names.len() {
                        4 => names[3] = wildcard,
                        _ => names.push(wildcard),
                    }
                }
                names
            })
            .collect();
        let more = [0, 0, 1, 1, 2, 3, 4][chance.random_range(0..7)];
        let kills = (0..=more).map(|_| [Kill::draw(chance), Kill::draw(chance)]).collect();
        let master = haproxy && chance.random_bool(0.6);
        let sort = Sort { dns, haproxy, master, files, manager, renewal, certificates: count };
        Self { certificates, sort, two, kills }
    }
}

impl Kill {
    fn draw(chance: &mut StdRng) -> Self {
        match chance.random_bool(0.5) {
            // A little beyond the end: what happens to a process that is about to end is of interest, too.
            true => Self::After(chance.random_range(0.0..1.05)),
            false => Self::At(chance.random_range(0.0..1.0)),
        }
    }
}
