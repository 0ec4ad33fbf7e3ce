//! What is done for one certificate in one go, as a task of its own.

use std::sync::Arc;
use std::time::SystemTime;

use super::status::Task;
use crate::backoff::Trouble;
use crate::pipeline::Order;
use crate::renewal::chance;
use crate::renewal::upkeep::Upkeep;
use crate::{CertificateSpec, Error, ErrorKind, Expected, Pipeline, Result};

/// One thing to do.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) spec: Arc<CertificateSpec>,
    pub(super) wish: String,
    pub(super) task: Task,
    /// The authority's position in the pipeline.
    pub(super) connection: usize,
    pub(super) force: bool,
    /// The deployers to go to again.
    pub(super) deployers: Vec<String>,
}

/// How it went.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) upkeep: Upkeep,
    pub(super) ended: Ended,
}

#[derive(Debug)]
pub(super) enum Ended {
    Well,
    /// Somebody else is at it.
    Busy,
    /// The account has no order left until then.
    Spent(SystemTime),
    /// What went wrong is in the upkeep.
    Badly(Error),
}

impl Job {
    /// Does it. `refused_elsewhere` says of an error whether it is to be tried at another authority rather than held
    /// against the certificate.
    pub(super) async fn run(self, pipeline: Arc<Pipeline>) -> Done {
        let result = match self.task {
            Task::Ask => self.ask(&pipeline).await,
            Task::Deploy => self.deploy(&pipeline).await,
            Task::Issue => self.issue(&pipeline).await,
        };
        let id = self.spec.id();
        let known = Upkeep::load(&*pipeline.store, id).await;
        let (mut upkeep, expected) = known.unwrap_or_else(|error| {
            tracing::warn!(%error, certificate = %id, "what is known of it cannot be read");
            (Upkeep::default(), Expected::Any)
        });
        let error = match result {
            Ok(()) => return Done { upkeep, ended: Ended::Well },
            Err(error) => error,
        };
        if error.op() == "lease.take" {
            return Done { upkeep, ended: Ended::Busy };
        }
        let now = pipeline.now();
        if let Some(until) = crate::budget::spent_until(&error, now) {
            return Done { upkeep, ended: Ended::Spent(until) };
        }
        if self.task == Task::Issue {
            let left = upkeep.current.as_ref();
            let left = left.map(|current| current.not_after.duration_since(now).unwrap_or_default());
            let before = upkeep.trouble.as_ref().filter(|_| upkeep.tried == self.wish);
            let trouble = Trouble::after(before, &error, chance(id, now), left, now);
            tracing::warn!(%error, certificate = %id, failures = trouble.failures, "it could not be had");
            upkeep.trouble = Some(trouble);
            upkeep.tried.clone_from(&self.wish);
            // Who was quicker knows better.
            if let Err(second) = upkeep.save(&*pipeline.store, id, expected, None).await
                && second.kind() != ErrorKind::Conflict
            {
                tracing::warn!(error = %second, certificate = %id, "what went wrong could not be kept");
            }
        }
        Done { upkeep, ended: Ended::Badly(error) }
    }

    async fn issue(&self, pipeline: &Pipeline) -> Result<()> {
        let Some(connection) = pipeline.connections.get(self.connection) else { return Ok(()) };
        let (upkeep, _) = Upkeep::load(&*pipeline.store, self.spec.id()).await?;
        let failed = upkeep.trouble.filter(|trouble| trouble.validation && upkeep.tried == self.wish);
        let order =
            Order { force: self.force, rehearse: failed.is_some(), waits: false, ..Order::of(connection) };
        pipeline.run(&self.spec, &order).await.map(drop)
    }

    async fn deploy(&self, pipeline: &Pipeline) -> Result<()> {
        let which = |id: &str| self.deployers.iter().any(|wanted| wanted == id);
        // What failed is in the upkeep, deployer by deployer.
        pipeline.deploy_again(&self.spec, which).await.map(drop)
    }

    async fn ask(&self, pipeline: &Pipeline) -> Result<()> {
        let id = self.spec.id();
        let (mut upkeep, expected) = Upkeep::load(&*pipeline.store, id).await?;
        if !pipeline.ask(id, &mut upkeep, false).await {
            return Ok(());
        }
        match upkeep.save(&*pipeline.store, id, expected, None).await {
            // Somebody else has learned something meanwhile: that is looked at next.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            saved => saved.map(drop),
        }
    }
}
