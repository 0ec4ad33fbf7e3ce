//! The file store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use acmekit_core::stores::FileStore;
use acmekit_core::{Store, async_trait, duration};
use serde::Deserialize;

use super::{Flaw, StorePlugin};

/// `kind = "files"`: a store in a folder of this machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    /// The folder; created, 0700, if it is not there.
    path: PathBuf,
    /// How many older versions of each entry are kept. Default: 3, at least 1.
    #[serde(default)]
    keep_versions: Option<usize>,
    /// How long a write waits for other processes. Default: 10 s.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    lock_timeout: Option<Duration>,
}

#[async_trait]
impl StorePlugin for Keys {
    async fn build(&self, base: &Path) -> Result<Arc<dyn Store>, Flaw> {
        let mut builder = FileStore::builder(base.join(&self.path));
        if let Some(count) = self.keep_versions {
            builder = builder.keep_versions(count);
        }
        if let Some(time) = self.lock_timeout {
            builder = builder.lock_timeout(time);
        }
        Ok(Arc::new(builder.open().await.map_err(Flaw::at("path"))?))
    }
}
