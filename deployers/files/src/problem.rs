//! The errors of the file work.

use std::io;

use acmekit_core::{Error, ErrorKind, Retry};

/// A step on the file system that did not work. What is in place is untouched.
pub(crate) fn failed(step: &str, e: io::Error) -> Error {
    let hint = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free some space; what is in place is intact, and the next attempt goes on from there")
        }
        io::ErrorKind::FileTooLarge => Some("a file size limit stands in the way (ulimit -f)"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some("run as a user who may write below the root; only root may give files to another owner")
        }
        io::ErrorKind::NotFound => Some("create the folder first"),
        _ => None,
    };
    let error = Error::new(ErrorKind::Deploy, "files.write", format!("could not {step}"))
        .with_retry(Retry::Backoff)
        .with("reason", &e)
        .with_source(e);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Something that is not ours stands in the way; it is never removed.
pub(crate) fn conflict(why: &str) -> Error {
    Error::new(ErrorKind::Conflict, "files.place", why).with_retry(Retry::Never).with_hint(
        "the root folder is this deployer's own: move away what others put there, or choose another root",
    )
}
