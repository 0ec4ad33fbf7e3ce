//! What can go wrong while a server is started or asked.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a server could not be started, or what it did wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestbedError {
    /// The server's program is not on this machine.
    #[error("`{program}` was not found: run `dev/setup`, which installs it (Debian package `{package}`)")]
    #[non_exhaustive]
    MissingBinary {
        /// The program looked for.
        program: String,
        /// The Debian package it comes in.
        package: &'static str,
    },
    /// The server ended before it answered.
    #[error("{program} ended with {status} before it answered; its log:\n{log}")]
    #[non_exhaustive]
    Exited {
        /// The program that ended.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// Everything it wrote.
        log: String,
    },
    /// A program that was to do one thing ended without it.
    #[error("{program} ended with {status}; it wrote:\n{output}")]
    #[non_exhaustive]
    Failed {
        /// The program that ended.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// Everything it wrote.
        output: String,
    },
    /// A program is there, but this machine does not let it run as a test needs it.
    #[error("{program} cannot be run here: {reason}")]
    #[non_exhaustive]
    Unavailable {
        /// The program.
        program: &'static str,
        /// Why not.
        reason: String,
    },
    /// A condition did not come true in time.
    #[error("{what}: not so after {waited:?}{}", log_suffix(.log))]
    #[non_exhaustive]
    NotReady {
        /// The condition waited for.
        what: String,
        /// How long it was waited for.
        waited: Duration,
        /// The server's log, where a server was waited for.
        log: String,
    },
    /// The machine refused something: a file, a socket, a signal.
    #[error("{what}: {source}")]
    #[non_exhaustive]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A helper program (`dig`, `nsupdate`, …) failed, or a server answered something unexpected.
    #[error("{what}: {answer}")]
    #[non_exhaustive]
    Unexpected {
        /// What was asked.
        what: String,
        /// What came back.
        answer: String,
    },
    /// A key or certificate could not be made or read.
    #[error("certificate: {0}")]
    Certificate(String),
}

impl TestbedError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn unexpected(what: impl Into<String>, answer: impl Into<String>) -> Self {
        Self::Unexpected { what: what.into(), answer: answer.into() }
    }

    /// Whether another program took one of the ports first: then new ports help.
    pub(crate) fn is_port_conflict(&self) -> bool {
        let (Self::Exited { log, .. } | Self::NotReady { log, .. }) = self else { return false };
        let log = log.to_ascii_lowercase();
        ["address already in use", "address in use", "cannot bind socket"]
            .iter()
            .any(|hint| log.contains(hint))
    }
}

impl From<rcgen::Error> for TestbedError {
    fn from(error: rcgen::Error) -> Self {
        Self::Certificate(error.to_string())
    }
}

fn log_suffix(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("; the server's log:\n{log}") }
}
