//! The campaign `disk`: stores and disks that fail, fill up, are slow, and lose what they held.
//!
//! A round gets one to three certificates, over a store that fails at random. Calls may end by errors, never by a panic,
//! and each error has to say what to do; a certificate that is served has to be stored. Then the store works again, what
//! was destroyed is put right as the errors say, and every certificate has to be had, served, and got only once; with no
//! TXT record, journal or temporary file left.
//!
//! # What excuses a second certificate
//! Only that what a disk must not lose was lost, and only once for each loss:
//! - the newest version of the certificate in the store was destroyed;
//! - or the newest version of its journal, or the account's key, was, while the CA had its CSR and the store did not have
//!   its certificate yet. (With the journal goes the key, and without the account the order cannot be asked for.)
//! - Where the store hands out values that it does not know to be altered, against its contract (T8): each such value of a
//!   journal, a certificate, an account or what is known of a renewal excuses one.
//!
//! A record that is left in the zone is excused where the journal that named it was destroyed or altered.

mod failing;
mod folder;
mod round;

pub use failing::{Failing, Ills};
pub use round::{Outcome, run};
