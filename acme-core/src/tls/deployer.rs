//! A resolver as the place where a pipeline brings its certificates.

use std::sync::Arc;

use async_trait::async_trait;

use super::CertResolver;
use super::certified::Served;
use crate::{Bundle, CertificateId, Deployer, Error, ErrorKind, Outcome, Result};

/// In place as soon as the table has it: what a handshake looks up next is looked up here, too. Where two certificates
/// hold the same name and their keys are of a kind, the newer one is what clients of that name get; the other one
/// counts as served by that.
#[async_trait]
impl Deployer for CertResolver {
    fn id(&self) -> &str {
        "tls"
    }

    async fn deploy(&self, bundle: &Bundle) -> Result<Outcome> {
        if self.verify(bundle).await.is_ok() {
            return Ok(Outcome::AlreadyCurrent);
        }
        self.serve(bundle)?;
        self.verify(bundle).await.map(|()| Outcome::Applied)
    }

    async fn verify(&self, bundle: &Bundle) -> Result<()> {
        let refuse = |served: Option<Arc<Served>>| {
            let serial = served.as_ref().map_or("none", |served| served.serial.as_str());
            Error::new(ErrorKind::Deploy, "tls.verify", "clients of this server do not get the certificate")
                .with("certificate", bundle.id())
                .with("serial", &bundle.facts().serial)
                .with("served", serial)
        };
        let Some(own) = self.of(bundle.id()).filter(|served| served.is_of(bundle)) else {
            return Err(refuse(self.of(bundle.id())));
        };
        let schemes: Vec<_> = own.schemes().collect();
        for name in &bundle.facts().identifiers {
            match self.under(name, &schemes) {
                Some(served) if served.id != own.id || served.is_of(bundle) => {}
                other => return Err(refuse(other).with("name", name)),
            }
        }
        Ok(())
    }

    /// Nothing of it outlives the process, and other processes have tables of their own.
    fn holds(&self, certificate: &CertificateId, sha256: &str) -> Option<bool> {
        Some(self.of(certificate).is_some_and(|served| served.sha256 == sha256))
    }

    async fn remove(&self, id: &CertificateId) -> Result<()> {
        self.withdraw(id);
        Ok(())
    }
}
