//! What one contender is told, and what it answers: each runs in a process of its own, so that memory and processor
//! time are its own, too.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Who gets the certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Contender {
    /// acmekit with everything on that keeps certificates from being lost.
    Acmekit,
    /// instant-acme as it comes: its own HTTP client, its own pauses.
    Default,
    /// Its own HTTP client, asked again at once.
    DefaultEager,
    /// A reqwest client without Nagle's algorithm, its own pauses.
    Nodelay,
    /// A reqwest client without Nagle's algorithm, asked again at once: the least that the protocol costs.
    NodelayEager,
}

impl Contender {
    pub(crate) const ALL: [Self; 5] =
        [Self::Acmekit, Self::NodelayEager, Self::Nodelay, Self::DefaultEager, Self::Default];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Acmekit => "acmekit",
            Self::Default => "instant-acme",
            Self::DefaultEager => "instant-acme, no pause",
            Self::Nodelay => "nodelay",
            Self::NodelayEager => "nodelay, no pause",
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) contender: Contender,
    pub(crate) directory: String,
    pub(crate) root: PathBuf,
    /// Where TXT values are told, in the way of pebble-challtestsrv; nowhere if the CA does not look.
    pub(crate) txt_api: Option<String>,
    /// A folder for a store.
    pub(crate) folder: PathBuf,
    pub(crate) count: usize,
    pub(crate) concurrency: usize,
    /// Names in each certificate.
    pub(crate) names: usize,
    /// What all names have in common, and no other run has.
    pub(crate) prefix: String,
    /// After how many certificates it is noted how long they took, and how much memory there is.
    pub(crate) block: usize,
    /// Whether it is noted where the time goes.
    pub(crate) dissect: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    /// Of each certificate, in milliseconds, sorted.
    pub(crate) latencies: Vec<f64>,
    /// Before the first certificate that counts, and the most there was.
    pub(crate) first_kib: u64,
    pub(crate) peak_kib: u64,
    pub(crate) blocks: Vec<Block>,
    pub(crate) parts: Vec<Part>,
}

/// What had come together after so many certificates.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Block {
    pub(crate) certificates: usize,
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) kib: u64,
}

/// Where time went: how often, and how long in all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) times: u64,
    pub(crate) milliseconds: f64,
}
