//! What is done for the certificates; what befalls one is its own affair.

use std::sync::Arc;
use std::time::Duration;

use acmekit::backoff::{Class, Trouble};
use acmekit::config::{Setup, Wanted};
use acmekit::manager::{AuthorityStatus, CertificateStatus, Managed, State as Doing, Status as Overview};
use acmekit::renewal::Reason;
use acmekit::{
    Bundle, Clock, Deadline, Deployer, Error, ErrorKind, Manager, Pipeline, Result, Status, SystemClock,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::progress::Progress;
use crate::report::{Failure, Place, Report, Row, State, rfc3339};
use crate::seen::Seen;

/// How long a deployer may take to say what is served, in a dry run.
const LOOK: Duration = Duration::from_secs(60);
/// How long what is under way may take to end after a signal. The rest is gone on with by the next run.
const GRACE: Duration = Duration::from_secs(5);

/// Orders what is missing or due, or what is forced, and has all of it served. A signal ends it: what is under way is in
/// the journal, and the next run goes on with it.
pub(crate) async fn keep_up(
    setup: &Setup,
    certificates: &[&Wanted],
    force: bool,
    jobs: usize,
    (progress, seen): (&Progress, &Seen),
) -> Result<Report> {
    let pipeline = setup.pipeline()?;
    let mut errors = Vec::new();
    // What crashes have left behind.
    let mut interrupted = tokio::select! {
        swept = pipeline.sweep() => {
            errors.extend(swept.err().as_ref().map(Failure::from));
            false
        }
        () = told_to_end() => true,
    };
    progress.begin(certificates.len());
    let manager = Manager::builder(pipeline).concurrency(jobs).grace(GRACE).deploy_when_added().start();
    if !interrupted {
        let work = async {
            for wanted in certificates {
                let managed = Managed::from(*wanted);
                manager.add(if force { managed.at_once() } else { managed }).await?;
            }
            manager.settled().await
        };
        interrupted = tokio::select! {
            done = work => done.map(|()| false),
            () = told_to_end() => Ok(true),
        }?;
    }
    if interrupted {
        let error = Error::new(ErrorKind::Cancelled, "from-config", "a signal has ended this run")
            .with_hint("run it again: it goes on where it was");
        errors.push(Failure::from(&error));
    }
    let overview = manager.status().await?;
    manager.shutdown().await;
    setup.close().await;
    let row = |wanted: &&Wanted| done(wanted, &overview, seen, interrupted);
    Ok(Report { certificates: certificates.iter().map(row).collect(), errors })
}

/// What became of one certificate.
fn done(wanted: &Wanted, overview: &Overview, seen: &Seen, interrupted: bool) -> Row {
    let id = wanted.spec.id();
    let Some(one) = overview.certificates.iter().find(|one| one.id == *id) else {
        return Row::new(wanted, State::Interrupted);
    };
    let done = seen.of(id);
    let rests = matches!(one.state, Doing::Resting)
        && one.not_after.is_some()
        && one.next.is_none_or(|next| next.at > overview.at);
    let mut row = Row::new(
        wanted,
        match &one.trouble {
            Some(_) => State::Failed,
            None if !rests && interrupted => State::Interrupted,
            None if !rests => State::Waiting,
            None if done.issued => State::Issued,
            None => State::Valid,
        },
    );
    // The stored one, if there is one, goes on being served: until when is what matters where something has failed.
    row.serial.clone_from(&one.serial);
    row.valid_until = one.not_after.and_then(rfc3339);
    row.renew_at = one.renewal.and_then(|decision| rfc3339(decision.at));
    if row.state == State::Waiting {
        row.note = Some(waits_for(one, overview));
        row.error = overview.authorities.iter().find_map(is_down).filter(|_| one.state != Doing::Waiting);
    }
    if let Some(trouble) = &one.trouble {
        row.note = Some(next_try(trouble));
        row.error = Some(Failure::from(trouble));
    }
    for id in wanted.deployers.iter().filter(|_| one.not_after.is_some()) {
        let Some(there) = one.deployments.get(id) else { continue };
        let state = match &there.trouble {
            Some(_) => "failed",
            None if !there.current => "waiting",
            None if done.applied.contains(id) => "applied",
            None => "current",
        };
        let error = there.trouble.as_ref().map(Failure::from);
        row.deployments.push(Place { deployer: id.clone(), state, error });
    }
    row
}

fn waits_for(one: &CertificateStatus, overview: &Overview) -> String {
    if one.state == Doing::Waiting {
        return "waits for the limits of the CA: `--plan` says until when; a later run orders it".to_owned();
    }
    match overview.authorities.iter().find_map(is_down) {
        Some(_) => "a later run orders it".to_owned(),
        None => "another process is working on it".to_owned(),
    }
}

fn is_down(authority: &AuthorityStatus) -> Option<Failure> {
    let until = rfc3339(authority.down_until?)?;
    Some(Failure {
        class: Class::Transient,
        message: format!("{} does not answer, and is left alone until {until}", authority.id),
        hint: Some("add another authority to fall back to".to_owned()),
    })
}

fn next_try(trouble: &Trouble) -> String {
    let failed = format!(
        "failed {} in a row, last at {}",
        if trouble.failures == 1 { "once".to_owned() } else { format!("{} times", trouble.failures) },
        rfc3339(trouble.at).unwrap_or_default()
    );
    match trouble.class {
        Class::Fatal => format!("{failed}; not tried again until what is wanted changes, or by `--force ID`"),
        _ => format!(
            "{failed}; a run after {} tries again, or `--force ID` at once",
            rfc3339(trouble.retry_at).unwrap_or_default()
        ),
    }
}

/// Says of each what the store says; in a dry run, also what would be done about it.
pub(crate) async fn look(setup: &Setup, certificates: &[&Wanted], dry_run: bool) -> Result<Report> {
    let pipeline = setup.pipeline()?;
    let mut rows = Vec::new();
    for wanted in certificates {
        let row = match dry_run {
            true => would_do(setup, &pipeline, wanted).await,
            false => pipeline.status(&wanted.spec).await.map(|status| row_of(wanted, &status)),
        };
        rows.push(row.unwrap_or_else(|error| Row::failed(wanted, &error)));
    }
    setup.close().await;
    Ok(Report { certificates: rows, errors: Vec::new() })
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

async fn would_do(setup: &Setup, pipeline: &Pipeline, wanted: &Wanted) -> Result<Row> {
    let status = pipeline.status(&wanted.spec).await?;
    let mut row = row_of(wanted, &status);
    let order = row.state != State::Valid || status.under_way;
    let held = status.trouble.as_ref().filter(|trouble| order && trouble.holds(SystemClock::default().now()));
    let why = match row.state {
        _ if held.is_some() => "would order it, but it is too early to try again",
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
    let state = match (&status.bundle, status.renewal) {
        (None, _) => State::Missing,
        (Some(bundle), _) if bundle.facts().not_after <= now => State::Expired,
        _ if !status.fit => State::Unfit,
        (_, Some(decision)) if decision.at <= now => State::Due,
        _ => State::Valid,
    };
    let mut row = Row::new(wanted, state);
    if let Some(bundle) = &status.bundle {
        row.serial = Some(bundle.facts().serial.clone());
        row.valid_until = rfc3339(bundle.facts().not_after);
    }
    row.renew_at = status.renewal.and_then(|decision| rfc3339(decision.at));
    row.note = match &status.trouble {
        Some(trouble) => Some(next_try(trouble)),
        None if status.under_way => Some("an order is under way".to_owned()),
        None if status.renewal.is_some_and(|decision| decision.reason == Reason::Suggested) => {
            Some("to be renewed when the CA suggests".to_owned())
        }
        None => None,
    };
    row.error = status.trouble.as_ref().map(Failure::from);
    row
}
