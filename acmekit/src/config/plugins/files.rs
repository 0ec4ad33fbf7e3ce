//! PEM files: the keys are those of [`acmekit_files::Config`].

use std::path::Path;
use std::sync::Arc;

use acmekit_files::{Config, Files};

use super::{DeployerPlugin, Ending, Flaw};

impl DeployerPlugin for Config {
    fn build(&self, id: &str, base: &Path) -> Result<Arc<dyn Ending>, Flaw> {
        let mut config = self.clone();
        id.clone_into(&mut config.id);
        // An empty one is for the deployer to refuse.
        if !config.root.as_os_str().is_empty() {
            config.root = base.join(&config.root);
        }
        Ok(Arc::new(Files::new(config)?))
    }
}

impl Ending for Files {}
