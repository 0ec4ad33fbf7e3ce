//! What the tests log, kept at level trace, so that all of it can be searched for secrets afterwards.
//!
//! With `ACMEKIT_TEST_LOGS` set to a folder, a process that starts any server of this crate appends its whole log
//! to `<program>-<pid>.log` there, and the secrets the servers were given to `<program>-<pid>.secrets`.
//! `dev/search-logs` searches the former for the latter. Without the variable nothing happens.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;

use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, fmt};

const FOLDER: &str = "ACMEKIT_TEST_LOGS";

/// Writes this process's log, for tests that install a subscriber of their own; `None` when nobody asked for logs.
pub fn log_layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> Option<impl Layer<S>> {
    open("log").map(|file| fmt::layer().with_ansi(false).with_writer(Mutex::new(file)))
}

/// Keeps the log of this process from now on, unless it has a subscriber already.
pub(crate) fn keep() {
    if std::env::var_os(FOLDER).is_some() {
        // A second server of the same process, or a test that looks at its log itself.
        tracing_subscriber::registry().with(log_layer()).try_init().ok();
    }
}

/// Notes what no log may hold.
pub(crate) fn note_secret(secret: &str) {
    if let Some(mut file) = open("secrets") {
        writeln!(file, "{secret}").ok();
    }
}

fn open(kind: &str) -> Option<File> {
    let folder = PathBuf::from(std::env::var_os(FOLDER)?);
    let program = std::env::current_exe().ok()?;
    let name = format!("{}-{}.{kind}", program.file_stem()?.to_string_lossy(), std::process::id());
    OpenOptions::new().create(true).append(true).open(folder.join(name)).ok()
}
