//! The certificates, several at once; what befalls one is its own affair.

use std::sync::Arc;
use std::time::Duration;

use acmekit::config::{Setup, Wanted};
use acmekit::renewal::Reason;
use acmekit::{Bundle, Clock, Deadline, Deployer, Error, ErrorKind, Pipeline, Result, Status, SystemClock};
use futures_util::{StreamExt, stream};
use tokio::signal::unix::{SignalKind, signal};

use crate::progress::Progress;
use crate::report::{Failure, Place, Report, Row, State, rfc3339};

/// How long a deployer may take to say what is served, in a dry run.
const LOOK: Duration = Duration::from_secs(60);

/// What is done for each certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Order it if need be, and have it served.
    Obtain,
    /// Order it in any case, and have it served.
    Renew,
    /// Say what [`Task::Obtain`] would do.
    DryRun,
    /// Say what is in the store.
    Status,
}

/// Does it for all, in any order; the report is in theirs. A signal ends it: what is under way is in
/// the journal, and the next run goes on with it.
pub(crate) async fn all(
    setup: &Setup,
    certificates: &[&Wanted],
    task: Task,
    jobs: usize,
    progress: &Progress,
) -> Report {
    let mut errors = Vec::new();
    let mut rows: Vec<Option<Row>> = certificates.iter().map(|_| None).collect();
    let work = async {
        if matches!(task, Task::Obtain | Task::Renew)
            && let Some(first) = certificates.first()
            && let Err(error) = sweep(setup, first).await
        {
            errors.push(Failure::from(&error));
        }
        progress.begin(certificates.len());
        let each = certificates.iter().enumerate().map(|(at, wanted)| async move {
            let row = one(setup, wanted, task).await;
            progress.ended(&row);
            (at, row)
        });
        let mut done = stream::iter(each).buffer_unordered(jobs);
        while let Some((at, row)) = done.next().await {
            if let Some(place) = rows.get_mut(at) {
                *place = Some(row);
            }
        }
    };
    let interrupted = tokio::select! {
        () = work => false,
        () = told_to_end() => true,
    };
    if interrupted {
        let error = Error::new(ErrorKind::Cancelled, "from-config", "a signal has ended this run")
            .with_hint("run it again: it goes on where it was");
        errors.push(Failure::from(&error));
    }
    setup.close().await;
    let row =
        |(wanted, row): (&&Wanted, Option<Row>)| row.unwrap_or_else(|| Row::new(wanted, State::Interrupted));
    Report { certificates: certificates.iter().zip(rows).map(row).collect(), errors }
}

/// What crashes have left behind. One pipeline can take it away for all.
async fn sweep(setup: &Setup, first: &Wanted) -> Result<()> {
    setup.pipeline(first)?.sweep().await.map(drop)
}

async fn told_to_end() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn one(setup: &Setup, wanted: &Wanted, task: Task) -> Row {
    let done = async {
        let pipeline = setup.pipeline(wanted)?;
        match task {
            Task::Obtain | Task::Renew => obtain(&pipeline, wanted, task == Task::Renew).await,
            Task::DryRun => dry_run(setup, &pipeline, wanted).await,
            Task::Status => status(&pipeline, wanted).await,
        }
    };
    match done.await {
        Ok(row) => row,
        Err(error) => Row::failed(wanted, &error),
    }
}

async fn obtain(pipeline: &Pipeline, wanted: &Wanted, force: bool) -> Result<Row> {
    let obtained = match force {
        true => pipeline.renew(&wanted.spec).await,
        false => pipeline.obtain(&wanted.spec).await,
    };
    let issuance = match obtained {
        Ok(issuance) => issuance,
        Err(error) => {
            // The stored one, if there is one, goes on being served: until when is what matters now.
            let mut row = Row::failed(wanted, &error);
            if let Ok(Some(bundle)) = pipeline.load(wanted.spec.id()).await {
                tell(&mut row, &bundle);
            }
            return Ok(row);
        }
    };
    let mut row = Row::new(wanted, if issuance.fresh { State::Issued } else { State::Valid });
    tell(&mut row, &issuance.bundle);
    row.renew_at = rfc3339(issuance.renew_at);
    row.deployments = issuance.deployments.iter().map(Place::from).collect();
    Ok(row)
}

async fn status(pipeline: &Pipeline, wanted: &Wanted) -> Result<Row> {
    Ok(row_of(wanted, &pipeline.status(&wanted.spec).await?))
}

async fn dry_run(setup: &Setup, pipeline: &Pipeline, wanted: &Wanted) -> Result<Row> {
    let status = pipeline.status(&wanted.spec).await?;
    let mut row = row_of(wanted, &status);
    let order = row.state != State::Valid || status.under_way;
    let why = match row.state {
        _ if status.under_way => "would go on with the order that is under way",
        State::Missing => "would order it: there is none",
        State::Expired => "would order it: the stored one has expired",
        State::Unfit => {
            "would order it: the stored one has other names, another key type or another authority"
        }
        State::Due => "would renew it: it is due",
        _ => "would order nothing",
    };
    row.note = Some(why.to_owned());
    for deployer in setup.deployers() {
        if wanted.deployers.iter().any(|id| id == deployer.id()) {
            row.deployments.push(looked(&deployer, status.bundle.as_ref().filter(|_| !order)).await);
        }
    }
    Ok(row)
}

/// Whether the deployer would have something to do. That it is not served yet is no failure here.
async fn looked(deployer: &Arc<dyn Deployer>, bundle: Option<&Bundle>) -> Place {
    let place = |state| Place { deployer: deployer.id().to_owned(), state, error: None };
    let Some(bundle) = bundle else { return place("would-deploy") };
    let look = deployer.verify(bundle);
    match Deadline::after(LOOK).run("from-config.verify", deployer.id(), look).await {
        Ok(()) => place("current"),
        Err(error) if error.kind() == ErrorKind::Deploy => place("would-deploy"),
        Err(error) => Place { error: Some(Failure::from(&error)), ..place("would-deploy") },
    }
}

fn row_of(wanted: &Wanted, status: &Status) -> Row {
    let now = SystemClock::default().now();
    let Some(bundle) = &status.bundle else {
        let mut row = Row::new(wanted, State::Missing);
        row.note = status.under_way.then(|| "an order is under way".to_owned());
        return row;
    };
    let state = match status.renewal {
        _ if bundle.facts().not_after <= now => State::Expired,
        _ if !status.fit => State::Unfit,
        Some(decision) if decision.at <= now => State::Due,
        _ => State::Valid,
    };
    let mut row = Row::new(wanted, state);
    tell(&mut row, bundle);
    if let Some(decision) = status.renewal {
        row.renew_at = rfc3339(decision.at);
        row.note = match decision.reason {
            Reason::Suggested => Some("to be renewed when the CA suggests".to_owned()),
            _ => None,
        };
    }
    row
}

fn tell(row: &mut Row, bundle: &Bundle) {
    row.serial = Some(bundle.facts().serial.clone());
    row.valid_until = rfc3339(bundle.facts().not_after);
}
