//! An own authoritative DNS server in this program.

use std::sync::Arc;

use acmekit_core::{Result, Store, async_trait};
use acmekit_responder::{Config, Responder};

use super::{Flaw, ProviderPlugin, Server, ServerPlugin};

/// The key an error is about, where it names one.
fn flaw(error: acmekit_core::Error) -> Flaw {
    let field = error.context().find(|(name, _)| *name == "field");
    let key = field.map(|(_, field)| field.to_owned()).unwrap_or_default();
    Flaw { key, error }
}

#[async_trait]
impl ProviderPlugin for Config {
    fn check(&self) -> Result<(), Flaw> {
        Self::check(self).map_err(flaw)
    }

    fn server(&self) -> Option<&dyn ServerPlugin> {
        Some(self)
    }
}

impl ServerPlugin for Config {
    fn build(&self, store: &Arc<dyn Store>) -> Result<Arc<dyn Server>, Flaw> {
        Ok(Arc::new(Responder::new(self.clone(), Arc::clone(store)).map_err(flaw)?))
    }
}

#[async_trait]
impl Server for Responder {
    fn listen(&self) -> Result<()> {
        Self::listen(self)
    }

    async fn end(&self) {
        self.shutdown().await;
    }
}
