//! What the store says of a certificate, without asking anybody else.

use crate::backoff::Trouble;
use crate::journal;
use crate::manager::wish;
use crate::renewal::Decision;
use crate::renewal::upkeep::Upkeep;
use crate::{Bundle, CertificateSpec, Pipeline, Result};

/// What [`Pipeline::status`] answers.
#[derive(Debug)]
#[non_exhaustive]
pub struct Status {
    /// The stored certificate.
    pub bundle: Option<Bundle>,
    /// When the stored one is to be renewed, and why then: by what its CA suggested when it was last
    /// asked, or by its lifetime.
    pub renewal: Option<Decision>,
    /// Whether the stored one is what the spec wants: its names, its key type, its authority.
    pub fit: bool,
    /// Whether an order is under way that the next [`Pipeline::obtain`] goes on with.
    pub under_way: bool,
    /// What went wrong when a [`Manager`](crate::Manager) last tried, if it has not gone well since.
    pub trouble: Option<Trouble>,
}

impl Pipeline {
    /// Looks what the store holds for a spec. Nothing is written, nobody is asked, no lease is taken:
    /// what another process does meanwhile may be seen or not.
    ///
    /// # Errors
    /// [`Storage`](crate::ErrorKind::Storage) if something is there but cannot be read.
    pub async fn status(&self, spec: &CertificateSpec) -> Result<Status> {
        let under_way = journal::is_under_way(&*self.store, spec.id()).await?;
        let (mut upkeep, _) = Upkeep::load(&*self.store, spec.id()).await?;
        let trouble = upkeep.trouble.take().filter(|_| upkeep.tried == wish(spec));
        let Some((bundle, _)) = self.stored(spec.id()).await? else {
            return Ok(Status { bundle: None, renewal: None, fit: false, under_way, trouble });
        };
        upkeep.has(&bundle);
        let renewal = upkeep.decide(spec.id(), &self.policy);
        Ok(Status { renewal, fit: self.is_fit(spec, &bundle), bundle: Some(bundle), under_way, trouble })
    }
}
