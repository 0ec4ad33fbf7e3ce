//! HAProxy: the keys are those of [`acmekit_haproxy::Config`].

use std::path::Path;
use std::sync::Arc;

use acmekit_core::{Bundle, CertificateId, Deployer, Outcome, Result, async_trait};
use acmekit_haproxy::{Config, HaProxy};

use super::{DeployerPlugin, Ending, Flaw};

impl DeployerPlugin for Config {
    fn build(&self, id: &str, base: &Path) -> Result<Arc<dyn Ending>, Flaw> {
        let mut config = self.clone();
        for instance in &mut config.instances {
            if !instance.file.as_os_str().is_empty() {
                instance.file = base.join(&instance.file);
            }
            if let Some(file) = instance.crt_list.as_mut().and_then(|list| list.file.as_mut()) {
                *file = base.join(&*file);
            }
        }
        Ok(Arc::new(Named { id: id.to_owned(), inner: HaProxy::new(config)? }))
    }
}

/// Gives it an id of its own, so that there can be several.
#[derive(Debug)]
struct Named {
    id: String,
    inner: HaProxy,
}

#[async_trait]
impl Deployer for Named {
    fn id(&self) -> &str {
        &self.id
    }

    async fn deploy(&self, bundle: &Bundle) -> Result<Outcome> {
        self.inner.deploy(bundle).await
    }

    async fn verify(&self, bundle: &Bundle) -> Result<()> {
        self.inner.verify(bundle).await
    }

    async fn remove(&self, id: &CertificateId) -> Result<()> {
        self.inner.remove(id).await
    }
}

#[async_trait]
impl Ending for Named {
    async fn end(&self) {
        self.inner.close().await;
    }
}
