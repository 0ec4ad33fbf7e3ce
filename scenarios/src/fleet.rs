//! A process with a manager, that looks after a fleet until it is killed.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use acmekit::stores::FileStore;
use acmekit::{Authority, CertificateSpec, Clock, Manager, Pipeline, Result, SystemClock};
use serde::{Deserialize, Serialize};

use crate::NoProof;

/// What the process is to look after.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Fleet {
    /// The CA's directory URL; it takes every challenge for fulfilled.
    pub directory: String,
    /// The root to trust for it.
    pub root_pem: String,
    /// The store's folder.
    pub store: PathBuf,
    /// A file that holds how many seconds the clock is ahead.
    pub ahead: PathBuf,
    /// How many certificates.
    pub count: usize,
}

impl Fleet {
    /// A fleet of so many at this CA.
    pub fn new(directory: String, root_pem: String, folder: &std::path::Path, count: usize) -> Self {
        Self { directory, root_pem, store: folder.join("store"), ahead: folder.join("ahead"), count }
    }

    /// The certificates.
    ///
    /// # Errors
    /// Never.
    pub fn specs(&self) -> Result<Vec<CertificateSpec>> {
        (0..self.count).map(|n| CertificateSpec::new([format!("n{n}.example")])).collect()
    }
}

/// The machine's clock, moved ahead by whoever writes the file.
#[derive(Debug)]
struct FileClock(PathBuf);

impl Clock for FileClock {
    fn now(&self) -> SystemTime {
        let ahead = std::fs::read_to_string(&self.0).ok().and_then(|text| text.trim().parse().ok());
        SystemClock::default().now() + Duration::from_secs(ahead.unwrap_or(0))
    }
}

/// Looks after it.
///
/// # Errors
/// What the store, the authority or the pipeline refuse.
pub async fn run(fleet: &Fleet) -> Result<Infallible> {
    let authority = Authority::custom(&fleet.directory)?
        .with_id("test-ca")
        .extra_roots_pem(&fleet.root_pem)?
        .agree_to_terms();
    let store = Arc::new(FileStore::open(&fleet.store).await?);
    let pipeline = Pipeline::builder(authority, store)
        .solver(NoProof::default())
        .clock(Arc::new(FileClock(fleet.ahead.clone())))
        .build()?;
    let manager = Manager::builder(pipeline).start();
    for spec in fleet.specs()? {
        manager.add(spec).await?;
    }
    std::future::pending().await
}
