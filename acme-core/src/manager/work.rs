//! What is done for one certificate in one go, as a task of its own.

use std::sync::Arc;
use std::time::SystemTime;

use tracing::Instrument;

use super::status::Task;
use crate::backoff::Trouble;
use crate::connection::Connection;
use crate::pipeline::{Order, span};
use crate::renewal::chance;
use crate::renewal::upkeep::Upkeep;
use crate::{CertificateSpec, Error, ErrorKind, Expected, Pipeline, Result, What, journal};

/// One thing to do.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) spec: Arc<CertificateSpec>,
    pub(super) wish: String,
    pub(super) task: Task,
    /// The authority's position in the pipeline.
    pub(super) connection: usize,
    pub(super) force: bool,
    /// The deployers to go to.
    pub(super) deployers: Vec<String>,
    /// What is known, and what the store holds of it: may have been overtaken.
    pub(super) known: (Upkeep, Expected),
}

/// How it went.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) upkeep: Upkeep,
    pub(super) expected: Expected,
    /// It was to be had whether it is due or not.
    pub(super) forced: bool,
    /// The authority that has an order which may be gone on with.
    pub(super) ordered_from: Option<String>,
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
    /// Does it.
    pub(super) async fn run(self, pipeline: Arc<Pipeline>) -> Done {
        let orders = matches!(self.task, Task::Issue | Task::Rotate);
        let connection = pipeline.connections.get(self.connection).filter(|_| orders);
        let span = span(self.spec.id(), connection.map(Connection::id));
        self.work(&pipeline).instrument(span).await
    }

    async fn work(&self, pipeline: &Pipeline) -> Done {
        let result = match self.task {
            Task::Ask => match self.ask(pipeline).await {
                Ok((upkeep, expected)) => {
                    return Done {
                        upkeep,
                        expected,
                        forced: self.force,
                        ordered_from: None,
                        ended: Ended::Well,
                    };
                }
                Err(error) => Err(error),
            },
            Task::Deploy => self.deploy(pipeline).await,
            Task::Issue | Task::Rotate => self.issue(pipeline).await,
        };
        let (mut upkeep, mut expected) = Upkeep::known(&*pipeline.store, self.spec.id()).await;
        let ended = match result {
            Ok(()) => Ended::Well,
            Err(error) if error.op() == "lease.take" => Ended::Busy,
            Err(error) => match crate::budget::spent_until(&error, pipeline.now()) {
                Some(until) => {
                    pipeline.tell(self.spec.id(), What::BudgetSpent { until });
                    Ended::Spent(until)
                }
                None => {
                    if matches!(self.task, Task::Issue | Task::Rotate) {
                        expected = self.note(pipeline, &mut upkeep, expected, &error).await;
                    }
                    Ended::Badly(error)
                }
            },
        };
        let ordered_from = match &ended {
            Ended::Badly(_) => journal::ordered_from(&*pipeline.store, self.spec.id()).await.ok().flatten(),
            _ => None,
        };
        Done { upkeep, expected, forced: self.force, ordered_from, ended }
    }

    /// Writes down that it failed, and when to try again.
    async fn note(
        &self,
        pipeline: &Pipeline,
        upkeep: &mut Upkeep,
        expected: Expected,
        error: &Error,
    ) -> Expected {
        let (id, now) = (self.spec.id(), pipeline.now());
        let left = upkeep.current.as_ref();
        let left = left.map(|current| current.not_after.duration_since(now).unwrap_or_default());
        let before = upkeep.trouble.as_ref().filter(|_| upkeep.tried == self.wish);
        let trouble = Trouble::after(before, error, chance(id, now), left, now);
        tracing::warn!(%error, certificate = %id, failures = trouble.failures, "it could not be had");
        pipeline.tell(id, What::Failed { trouble: trouble.clone() });
        upkeep.trouble = Some(trouble);
        upkeep.tried.clone_from(&self.wish);
        match upkeep.save(&*pipeline.store, id, expected, None).await {
            Ok(version) => Expected::Version(version),
            Err(second) => {
                // Who was quicker knows better.
                if second.kind() != ErrorKind::Conflict {
                    tracing::warn!(error = %second, certificate = %id, "what went wrong could not be kept");
                }
                expected
            }
        }
    }

    async fn issue(&self, pipeline: &Pipeline) -> Result<()> {
        let Some(connection) = pipeline.connections.get(self.connection) else { return Ok(()) };
        let (upkeep, expected) = Upkeep::known(&*pipeline.store, self.spec.id()).await;
        let trouble = upkeep.trouble.filter(|_| upkeep.tried == self.wish);
        // Another process has tried meanwhile, and failed: its pause is this one's, too.
        let is_news = expected != self.known.1 && !self.force && self.task == Task::Issue;
        if is_news && trouble.as_ref().is_some_and(|trouble| trouble.holds(pipeline.now())) {
            let why = "another process has failed with this certificate a moment ago";
            return Err(Error::new(ErrorKind::Conflict, "lease.take", why));
        }
        let failed = trouble.filter(|trouble| trouble.validation);
        let order = Order {
            force: self.force,
            rehearse: failed.is_some(),
            waits: false,
            deployers: Some(&self.deployers),
            ..Order::of(connection)
        };
        match self.task {
            Task::Rotate => pipeline.rotate(&self.spec, &order).await.map(drop),
            _ => pipeline.run(&self.spec, &order).await.map(drop),
        }
    }

    async fn deploy(&self, pipeline: &Pipeline) -> Result<()> {
        // What failed is in the upkeep, deployer by deployer.
        pipeline.deploy_again(&self.spec, &self.deployers).await.map(drop)
    }

    async fn ask(&self, pipeline: &Pipeline) -> Result<(Upkeep, Expected)> {
        let id = self.spec.id();
        let (mut upkeep, expected) = self.known.clone();
        if !pipeline.ask(id, &mut upkeep, false).await {
            return Ok((upkeep, expected));
        }
        match upkeep.save(&*pipeline.store, id, expected, None).await {
            Ok(version) => Ok((upkeep, Expected::Version(version))),
            // Somebody else has learned something meanwhile: that is looked at next.
            Err(error) if error.kind() == ErrorKind::Conflict => Upkeep::load(&*pipeline.store, id).await,
            Err(error) => Err(error),
        }
    }
}
