//! Campaigns: rounds of random misfortune, each repeatable by its seed and number.
//!
//! A round sets up a world of its own, lets something go wrong at random, puts things right, and then counts what no
//! misfortune excuses: certificates that were lost, ordered twice, left behind, or waited for past a deadline. One
//! binary in `src/bin/` is one kind of misfortune; what they share is here.

mod arguments;
pub mod clock;
pub mod crash;
pub mod disk;
pub mod hostile;
pub mod soak;
mod tally;
pub mod world;

pub use arguments::Arguments;
pub use tally::{Counts, Tally};
