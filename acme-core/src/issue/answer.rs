//! Present all, wait once for all, answer all.

use std::sync::Arc;

use futures_util::future::try_join_all;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::Run;
use super::cleanup::take_away_all;
use crate::effect::effect;
use crate::journal::Presented;
use crate::order::{AuthorizationSnapshot, ChallengeSnapshot, ChallengeStatus, OrderSnapshot};
use crate::{
    Challenge, ChallengeKind, ChallengeSolver, Deadline, Error, ErrorKind, Identifier, KeyAuthorization,
    Presentation, Result, What, metrics,
};

/// How many challenges are presented at once: all that an order can have (at Let's Encrypt 100). What a vendor bears is known
/// to dns-01, which keeps to it.
const PRESENTED_AT_ONCE: usize = 128;

/// How many challenges the CA is told of at once.
const TOLD_AT_ONCE: usize = 4;

impl Run<'_> {
    /// Answers these authorizations of the order.
    pub(super) async fn answer(&mut self, order: &OrderSnapshot, which: &[usize]) -> Result<()> {
        let timeouts = *self.connection.ca.authority.timeouts();
        let authorizations: Vec<&AuthorizationSnapshot> =
            which.iter().filter_map(|position| order.authorizations.get(*position)).collect();

        // Decide what to put up, and write it down.
        let deadline = Deadline::after(timeouts.present);
        let plans: Vec<_> = authorizations.iter().map(|authz| self.plan(authz, deadline).boxed()).collect();
        let plans = try_join_all(plans).await?;
        self.supersede(&plans).await;
        for plan in &plans {
            let presented = &mut self.journal.record.presented;
            if !presented.iter().any(|old| plan.is_of(old)) {
                presented.push(Presented::new(plan.authorization.clone(), plan.presentation.clone()));
            }
        }
        self.journal.write("journal.intents").await?;

        // Put it up.
        let up: Vec<_> = plans.iter().map(|plan| plan.present(deadline).boxed()).collect();
        // One that fails ends no other: what is dropped midway could still come into being, after the clean-up has found
        // nothing to take away.
        let up: Vec<Result<Presentation>> = stream::iter(up).buffered(PRESENTED_AT_ONCE).collect().await;
        let now = self.pipeline.now();
        let mut failed = None;
        for (plan, presentation) in plans.iter().zip(up) {
            let presentation = match presentation {
                Ok(presentation) => presentation,
                Err(error) => {
                    // It may have been on its way: a clean-up at once could come before it.
                    for presented in &mut self.journal.record.presented {
                        if is_unsettled(&error) && plan.is_of(presented) {
                            presented.told_at = Some(now);
                        }
                    }
                    failed = failed.or(Some(error));
                    continue;
                }
            };
            let identifier = presentation.challenge().identifier.clone();
            self.tell(What::ChallengePresented { identifier, kind: plan.solver.kind() });
            for presented in &mut self.journal.record.presented {
                if plan.is_of(presented) {
                    presented.presentation = presentation.clone();
                }
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }

        // Wait once for all.
        let started = Deadline::after(timeouts.ready);
        let mut ready = Vec::new();
        for presented in &self.journal.record.presented {
            if let Some(plan) = plans.iter().find(|plan| plan.is_of(presented)) {
                let seen = plan.solver.ready(&presented.presentation, started);
                let seen = started.run("solver.ready", "propagation", seen);
                ready.push(metrics::solving(plan.solver.kind(), "ready", seen).boxed());
            }
        }
        try_join_all(ready).await?;
        self.tell(What::ChallengesReady { after: timeouts.ready.saturating_sub(started.remaining()) });

        // Write down by what it can be taken away, and that the CA hears of it now; then tell.
        let now = self.pipeline.now();
        for presented in &mut self.journal.record.presented {
            if plans.iter().any(|plan| plan.is_of(presented)) {
                presented.told_at = Some(now);
            }
        }
        self.journal.write("journal.told").await?;
        let mut told = Vec::new();
        for plan in plans.iter().filter(|plan| plan.untold) {
            let told_one = self.connection.ca.respond(&self.account, &plan.challenge);
            told.push(effect("challenge.respond", told_one).boxed());
        }
        stream::iter(told).buffer_unordered(TOLD_AT_ONCE).try_collect::<Vec<()>>().await?;
        self.answered.extend(plans.into_iter().map(|plan| plan.authorization));
        Ok(())
    }

    /// Chooses how to answer one authorization: as the journal says, or by the first solver that
    /// fits one of the challenges offered and knows the name.
    async fn plan(&self, authz: &AuthorizationSnapshot, deadline: Deadline) -> Result<Plan> {
        if !self.spec.identifiers().iter().any(|ordered| is_for(&authz.identifier, ordered)) {
            return Err(Error::new(
                ErrorKind::Protocol,
                "issue.challenge",
                "the CA wants control proved of a name that was not ordered",
            )
            .with("identifier", &authz.identifier)
            .with("authorization", &authz.url));
        }
        let mut refused = None;
        let (allowed, wanted) = (self.allowed.get(&authz.identifier), self.spec.wanted_challenge());
        for solver in &self.pipeline.solvers {
            let kind = solver.kind();
            if allowed.is_some_and(|kinds| !kinds.contains(&kind))
                || wanted.is_some_and(|wanted| *wanted != kind)
            {
                continue;
            }
            let Some(offered) = authz.challenges.iter().find(|offered| offered.kind == kind) else {
                continue;
            };
            let challenge = self.challenge(authz, offered)?;
            let journaled = self.journal.record.presented.iter().find(|presented| {
                presented.authorization == authz.url && *presented.presentation.challenge() == challenge
            });
            let presentation = match journaled {
                Some(presented) => presented.presentation.clone(),
                None => match prepare(&**solver, &challenge, deadline).await {
                    Ok(presentation) => presentation,
                    // Another solver may know the name, or need no record that stands.
                    Err(error) if matches!(error.kind(), ErrorKind::ZoneNotFound | ErrorKind::NotFound) => {
                        refused = refused.or(Some(error));
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            return Ok(Plan {
                solver: Arc::clone(solver),
                authorization: authz.url.clone(),
                challenge: offered.url.clone(),
                untold: offered.status == ChallengeStatus::Pending,
                presentation,
            });
        }
        Err(refused.unwrap_or_else(|| {
            let offered: Vec<&str> = authz.challenges.iter().map(|offered| offered.kind.as_str()).collect();
            let error = Error::new(
                ErrorKind::Config,
                "issue.challenge",
                "no solver of this pipeline fits a challenge the CA offers",
            )
            .with("identifier", &authz.identifier)
            .with("offered", offered.join(" "));
            match wanted {
                Some(wanted) => error.with("wanted", wanted),
                None => error,
            }
            .with_hint("wildcards need dns-01; addresses need http-01 or tls-alpn-01")
        }))
    }

    /// What the CA offers, with the account's proof.
    fn challenge(&self, authz: &AuthorizationSnapshot, offered: &ChallengeSnapshot) -> Result<Challenge> {
        let token = offered.token.as_deref().unwrap_or_default();
        let in_base64url = token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        // A record that stays has no token.
        if !in_base64url || (token.is_empty() && offered.kind != ChallengeKind::DnsPersist01) {
            return Err(Error::new(
                ErrorKind::Protocol,
                "issue.challenge",
                "the CA's token is not base64url (RFC 8555 section 8)",
            )
            .with("identifier", &authz.identifier)
            .with("kind", &offered.kind));
        }
        let proof = KeyAuthorization::new(token, &self.account.thumbprint);
        Ok(Challenge::new(authz.identifier.clone(), offered.kind.clone(), token, proof)
            .with_account(&self.account.url)
            .with_issuers(&offered.issuers))
    }

    /// Takes away what an earlier run put up for the same authorizations by other challenges: with other solvers, or
    /// another account key. What cannot be taken away stays in the journal, beside what is put up now.
    async fn supersede(&mut self, plans: &[Plan]) {
        let (old, kept) = std::mem::take(&mut self.journal.record.presented).into_iter().partition(|old| {
            plans.iter().any(|plan| plan.authorization == old.authorization && !plan.is_of(old))
        });
        self.journal.record.presented = kept;
        let left = take_away_all(self.pipeline, &mut self.journal, old).await;
        if let Some(error) = left {
            tracing::warn!(%error, "what an earlier run put up is left for a later clean-up");
        }
    }
}

/// How one authorization is answered.
struct Plan {
    solver: Arc<dyn ChallengeSolver>,
    authorization: String,
    challenge: String,
    /// The CA still waits to be told.
    untold: bool,
    presentation: Presentation,
}

impl Plan {
    /// Whether the journal's entry is what this plan puts up.
    fn is_of(&self, presented: &Presented) -> bool {
        self.authorization == presented.authorization
            && self.presentation.challenge() == presented.presentation.challenge()
    }

    async fn present(&self, deadline: Deadline) -> Result<Presentation> {
        let work =
            deadline.run("solver.present", "present", self.solver.present(&self.presentation, deadline));
        effect("challenge.present", metrics::solving(self.solver.kind(), "present", work)).await
    }
}

async fn prepare(
    solver: &dyn ChallengeSolver,
    challenge: &Challenge,
    deadline: Deadline,
) -> Result<Presentation> {
    let work = deadline.run("solver.prepare", "prepare", solver.prepare(challenge, deadline));
    metrics::solving(solver.kind(), "prepare", work).await
}

/// Whether control of the one is control of the other: of itself, or of a domain above it (RFC 9444).
fn is_for(proved: &Identifier, ordered: &Identifier) -> bool {
    let above =
        || ordered.domain().zip(proved.domain()).is_some_and(|(ordered, proved)| ordered.is_within(proved));
    proved == ordered || above()
}

/// Whether what failed may have been done, or be done yet.
fn is_unsettled(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable)
}
