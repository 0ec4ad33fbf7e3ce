//! Takes away what was put up, as the journal names it.

use futures_util::FutureExt;
use futures_util::future::join_all;

use crate::effect::effect;
use crate::journal::{Journal, Presented};
use crate::{Deadline, Error, ErrorKind, Pipeline, Result, What, metrics};

/// What a clean-up takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Everything the journal names.
    All,
    /// Everything but what a CA that was told a short while ago may still be looking at.
    NotNeeded,
}

/// Takes away what the journal names, and writes down what is gone. What cannot be taken away stays in the journal, and
/// the first reason is answered.
///
/// # Errors
/// Only if the journal cannot be written.
pub(crate) async fn clean_up(
    pipeline: &Pipeline,
    journal: &mut Journal<'_>,
    which: Which,
) -> Result<Option<Error>> {
    let (now, patience) = (pipeline.now(), pipeline.timeouts().poll);
    let (kept, presented): (Vec<_>, Vec<_>) = std::mem::take(&mut journal.record.presented)
        .into_iter()
        .partition(|presented| which == Which::NotNeeded && presented.may_be_needed(now, patience));
    journal.record.presented = kept;
    if presented.is_empty() {
        return Ok(None);
    }
    let left = take_away_all(pipeline, journal, presented).await;
    journal.write("journal.cleaned").await?;
    Ok(left)
}

/// Takes these away; what cannot be goes back into the journal's record, and the first reason is answered.
pub(super) async fn take_away_all(
    pipeline: &Pipeline,
    journal: &mut Journal<'_>,
    presented: Vec<Presented>,
) -> Option<Error> {
    let deadline = Deadline::after(pipeline.timeouts().cleanup);
    let work: Vec<_> =
        presented.iter().map(|presented| take_away(pipeline, presented, deadline).boxed()).collect();
    let work = join_all(work).await;
    let mut left = None;
    for (presented, gone) in presented.into_iter().zip(work) {
        let identifier = presented.presentation.challenge().identifier.clone();
        match gone {
            Ok(()) => pipeline.tell(&journal.record.certificate, What::ChallengeCleaned { identifier }),
            Err(error) => {
                let told = What::CleanupFailed { identifier, error: error.to_string() };
                pipeline.tell(&journal.record.certificate, told);
                journal.record.presented.push(presented);
                left = left.or(Some(error));
            }
        }
    }
    left
}

/// As [`clean_up`], where what stays behind must not stand in the certificate's way: it has been
/// told as an event and is in the journal.
pub(crate) async fn clean_up_quietly(
    pipeline: &Pipeline,
    journal: &mut Journal<'_>,
    which: Which,
) -> Result<()> {
    clean_up(pipeline, journal, which).await.map(drop)
}

async fn take_away(pipeline: &Pipeline, presented: &Presented, deadline: Deadline) -> Result<()> {
    let kind = &presented.presentation.challenge().kind;
    let Some(solver) = pipeline.solvers.iter().find(|solver| solver.kind() == *kind) else {
        return Err(Error::new(
            ErrorKind::Config,
            "issue.cleanup",
            "no solver of this pipeline can take this away",
        )
        .with("kind", kind)
        .with_hint("run once with the solver that presented it"));
    };
    let work = deadline.run("solver.cleanup", "cleanup", solver.cleanup(&presented.presentation, deadline));
    effect("challenge.cleanup", metrics::solving(solver.kind(), "cleanup", work)).await
}
