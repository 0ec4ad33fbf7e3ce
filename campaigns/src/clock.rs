//! The campaign `clock`: the machine's clock is ahead, behind, or stands still, by seconds to decades, and is put right
//! again; between runs, during them, and under a manager.
//!
//! A round looks after two to five certificates over two lifetimes of the longest. The CA's clock is right all the time.
//! Each time the client's is wrong, that is for a twelfth of the shortest lifetime at most, often with a CA that is out of
//! order or a process that hangs on a lease. What has to hold:
//!
//! - No certificate that is served expires, at any time: what could not be renewed while the clock was wrong is renewed
//!   once it is right again, however far ahead it was when something was put off.
//! - Nothing is issued in a circle. Of one certificate no more than one for each time it is due by the right clock, and
//!   for each time the clock is wrong two, and one for each hour and each twentieth of a lifetime that it stays so. Where
//!   it is ahead by nearly the lifetime, so that what is issued expires at once, that is one for each ten minutes; and
//!   where each run is a program of its own, and the clock so far ahead that what is issued has expired by it already, one
//!   for each run.
//! - Every run ends by its deadlines, and a manager has nothing to do any more an hour after the clock is right for good.

mod round;
mod skewed;

pub use round::{Outcome, run};
pub use skewed::{Skewed, Wrong};
