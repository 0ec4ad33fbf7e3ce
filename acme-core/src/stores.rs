//! The two stores that come with acmekit: [`FileStore`] for real life, [`MemoryStore`] for tests.

mod file;
mod memory;

pub use file::{FileStore, FileStoreBuilder};
pub use memory::MemoryStore;

pub(crate) use file::{decode_entry, encode_entry, lease_record};

use crate::{Error, ErrorKind, Expected, Result, StoreKey, Version};

/// Whether an entry at `current` is as a write expects it.
fn check(op: &'static str, key: &StoreKey, current: Option<Version>, expected: Expected) -> Result<()> {
    let (holds, wanted) = match expected {
        Expected::Any => (true, String::new()),
        Expected::Absent => (current.is_none(), "none".to_owned()),
        Expected::Version(version) => (current == Some(version), version.number().to_string()),
    };
    if holds {
        return Ok(());
    }
    let found = current.map_or_else(|| "none".to_owned(), |version| version.number().to_string());
    Err(Error::new(ErrorKind::Conflict, op, "somebody else changed the entry first")
        .with("key", key)
        .with("expected_version", wanted)
        .with("found_version", found)
        .with_hint("load it again, then decide anew"))
}

/// What a writer is told whose lease somebody else holds by now.
fn lease_lost(op: &'static str, name: &StoreKey, token: u64) -> Error {
    Error::new(ErrorKind::Conflict, op, "lease lost: somebody else has taken it over, nothing was written")
        .with("lease", name)
        .with("token", token)
        .with_hint("the work took longer than the lease: stop, take the lease again, load again")
}
