//! One run for one certificate: what stands around the issue path.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::{Deployment, Issuance, LEASE, Pipeline, certificate_key};
use crate::ca::account::Account;
use crate::connection::Connection;
use crate::dns::{CaaRequest, check_caa};
use crate::effect::effect;
use crate::issue::cleanup::{self, Which};
use crate::issue::{Allowed, Replaced, Run};
use crate::journal::Journal;
use crate::key::key_type;
use crate::renewal::upkeep::{Current, Upkeep};
use crate::renewal::{Input, Suggestion, chance};
use crate::{
    Bundle, CertificateId, CertificateSpec, Condition, Deadline, Deployer, ErrorKind, Expected, Lease,
    Outcome, Result, Retry, Version, What, issue, lease, metrics,
};

/// How long the CA may take to say when to renew: what it says is welcome, not needed.
const ASK: Duration = Duration::from_secs(5);

/// How a certificate is to be had.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    /// From whom.
    pub(crate) connection: &'a Connection,
    /// Also if the stored one is not due.
    pub(crate) force: bool,
    /// Only once the authority's staging directory, if it has one, has granted the same.
    pub(crate) rehearse: bool,
    /// Whether it waits for another process that is working on it.
    pub(crate) waits: bool,
    /// The ids of the deployers it is brought to; all, if nobody says.
    pub(crate) deployers: Option<&'a [String]>,
}

impl<'a> Order<'a> {
    pub(crate) fn of(connection: &'a Connection) -> Self {
        Self { connection, force: false, rehearse: false, waits: true, deployers: None }
    }

    /// See [`span`].
    pub(crate) fn span(&self, certificate: &CertificateId) -> tracing::Span {
        span(certificate, Some(self.connection.id()))
    }
}

/// The span in which everything is done for a certificate. Whoever begins something for one enters it, once; costs
/// nothing where nobody wants it.
pub(crate) fn span(certificate: &CertificateId, authority: Option<&str>) -> tracing::Span {
    tracing::info_span!("certificate", id = %certificate, authority)
}

impl Pipeline {
    pub(crate) async fn run(&self, spec: &CertificateSpec, order: &Order<'_>) -> Result<Issuance> {
        let done = self.run_under_lease(spec, order).await;
        if let Err(error) = &done {
            metrics::failed(order.connection.id(), error);
        }
        done
    }

    async fn run_under_lease(&self, spec: &CertificateSpec, order: &Order<'_>) -> Result<Issuance> {
        let seen = self.stored(spec.id()).await?.map(|(_, version)| version);
        let key = certificate_key(spec.id())?;
        let patience = if order.waits { order.connection.timeouts().lease } else { Duration::ZERO };
        let lease = lease::take(&*self.store, &key, LEASE, patience).await?;
        let work = self.run_alone(spec, order, seen, &lease).boxed();
        lease::holding(&*self.store, &lease, work).await
    }

    async fn run_alone(
        &self,
        spec: &CertificateSpec,
        order: &Order<'_>,
        seen: Option<Version>,
        lease: &Lease,
    ) -> Result<Issuance> {
        let stored = self.stored(spec.id()).await?;
        let mut upkeep = self.upkeep(spec, stored.as_ref(), order.force, lease).await;
        let decision = upkeep.decide(spec.id(), &self.policy);
        let now = self.now();
        let due = decision.is_none_or(|decision| decision.at <= now && upkeep.rests_until(now).is_none());
        let mut journal = Journal::open(&*self.store, lease, spec.id()).await?;
        // An order whose certificate is stored already has come to its end: the crash fell between storing the bundle
        // and closing the journal. It is closed now, or the same certificate would be downloaded again for a renewal.
        let ended = matches!((&stored, &journal.record.attempt), (Some((bundle, _)), Some(attempt))
            if attempt.order.as_deref() == Some(bundle.origin().order.as_str()));
        if ended {
            cleanup::clean_up_quietly(self, &mut journal, Which::All).await?;
            journal.close().await?;
        }
        let done = stored.as_ref().filter(|(bundle, version)| {
            // What was begun for another wish is no reason to order what there is.
            let attempt = journal.record.attempt.as_ref();
            let underway = attempt.is_some_and(|attempt| attempt.is_for(spec, order.connection.id()));
            let renewed_meanwhile = Some(*version) != seen;
            let wanted = order.force && !renewed_meanwhile && !ended;
            !underway && !wanted && !due && self.is_fit(spec, bundle)
        });
        let (bundle, fresh) = match done {
            Some((bundle, _)) => {
                cleanup::clean_up_quietly(self, &mut journal, Which::All).await?;
                journal.close().await?;
                (bundle.clone(), false)
            }
            None => {
                let replaces = stored.as_ref().and_then(|(bundle, _)| {
                    self.replaced(spec, bundle, order.connection, upkeep.suggestion.as_ref())
                });
                let bundle = self.have_issued(spec, order, journal, stored, replaces, lease).await?;
                (bundle, true)
            }
        };
        upkeep.has(&bundle);
        if fresh {
            upkeep.is_new(self.now());
        }
        upkeep.fits = crate::manager::wish(spec);
        upkeep.trouble = None;
        let deployments = self.deploy(&bundle, order.deployers, &mut upkeep, lease).await?;
        self.keep(spec.id(), &upkeep, lease).await;
        let renew_at = match decision {
            Some(decision) if !fresh => decision.at,
            // Of a new one the CA is asked next time.
            _ => self.policy.decide(&Input::of(bundle.id(), bundle.facts())).at,
        };
        self.tell(spec.id(), What::RenewalScheduled { at: renew_at });
        Ok(Issuance { bundle, fresh, deployments, renew_at })
    }

    /// A new certificate, stored.
    async fn have_issued(
        &self,
        spec: &CertificateSpec,
        order: &Order<'_>,
        mut journal: Journal<'_>,
        stored: Option<(Bundle, Version)>,
        replaces: Option<Replaced>,
        lease: &Lease,
    ) -> Result<Bundle> {
        let ready = async {
            let resumes = journal.record.attempt.as_ref().is_some_and(|attempt| attempt.order.is_some());
            if let (Some(staging), true) = (&order.connection.staging, order.rehearse && !resumes) {
                match self.rehearse(spec, staging).await {
                    // A record that stands names the account of one directory, and staging has another.
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        tracing::info!(%error, "this certificate cannot be tried at staging");
                    }
                    done => done?,
                }
            }
            let account = self.account(order.connection, spec.id()).await?;
            let allowed =
                if resumes { Allowed::new() } else { self.ask_caa(spec, order.connection, &account).await? };
            Ok((account, allowed))
        };
        let (account, allowed) = match ready.await {
            Ok(ready) => ready,
            Err(error) => {
                let cleaned = cleanup::clean_up_quietly(self, &mut journal, Which::NotNeeded).await;
                if let Err(second) = cleaned {
                    tracing::warn!(error = %second, "what is gone could not be written down");
                }
                return Err(error);
            }
        };
        let mut run = Run::new(self, order.connection, spec, account, journal, replaces).allowing(allowed);
        let bundle = issue::issue(&mut run).await?;
        self.save(&bundle, stored.map(|(_, version)| version), lease).await?;
        run.journal.close().await?;
        Ok(bundle)
    }

    /// By which challenges each name may be proved, as its CAA records say; nothing of those not looked up.
    async fn ask_caa(
        &self,
        spec: &CertificateSpec,
        connection: &Connection,
        account: &Account,
    ) -> Result<Allowed> {
        let Some(resolver) = &self.caa else { return Ok(Allowed::new()) };
        let wanted = spec.wanted_challenge();
        let kinds = self.solvers.iter().map(|solver| solver.kind());
        let kinds = kinds.filter(|kind| wanted.is_none_or(|wanted| wanted == kind));
        let issuers = connection.ca.caa_identities().await?;
        let request = CaaRequest::new(issuers.iter().cloned(), kinds).with_account(&account.url);
        let deadline = Deadline::after(connection.timeouts().request);
        match check_caa(resolver, spec.identifiers(), &request, deadline).await {
            Err(error) if error.kind() == ErrorKind::Rejected => {
                Err(error.with("authority", connection.id()))
            }
            Err(error) => {
                tracing::warn!(%error, "the CAA records cannot be looked up: the CA will decide");
                Ok(Allowed::new())
            }
            allowed => allowed,
        }
    }

    /// The same certificate from the staging directory, to be thrown away: a failure there costs nothing.
    async fn rehearse(&self, spec: &CertificateSpec, staging: &Connection) -> Result<()> {
        let digest = crate::bundle::hex(&<sha2::Sha256 as sha2::Digest>::digest(spec.id().as_str()));
        let id = format!("rehearsal-{}", digest.get(..24).unwrap_or_default());
        let trial = spec.clone().named(&id)?;
        let key = certificate_key(trial.id())?;
        let lease = lease::take(&*self.store, &key, LEASE, staging.timeouts().lease).await?;
        let work = async {
            let journal = Journal::open(&*self.store, &lease, trial.id()).await?;
            let account = self.account(staging, trial.id()).await?;
            let mut run = Run::new(self, staging, &trial, account, journal, None);
            issue::issue(&mut run).await?;
            run.journal.close().await
        };
        let done = lease::holding(&*self.store, &lease, work.boxed()).await;
        let error = done.as_ref().err().map(ToString::to_string);
        self.tell(spec.id(), What::Rehearsed { authority: staging.id().to_owned(), error });
        done.map_err(|error| error.with("tried_at", staging.id()))
    }

    /// Brings what is stored to those deployers again, unless somebody else is at it. `None` if nothing is stored.
    pub(crate) async fn deploy_again(
        &self,
        spec: &CertificateSpec,
        deployers: &[String],
    ) -> Result<Option<Vec<Deployment>>> {
        let key = certificate_key(spec.id())?;
        let lease = lease::take(&*self.store, &key, LEASE, Duration::ZERO).await?;
        let work = async {
            let mut upkeep = Upkeep::known(&*self.store, spec.id()).await.0;
            let Some((bundle, _)) = self.stored(spec.id()).await? else {
                // Somebody has deleted it: it is to be had anew.
                upkeep.current = None;
                self.keep(spec.id(), &upkeep, &lease).await;
                return Ok(None);
            };
            upkeep.has(&bundle);
            let deployments = self.deploy(&bundle, Some(deployers), &mut upkeep, &lease).await?;
            self.keep(spec.id(), &upkeep, &lease).await;
            Ok(Some(deployments))
        };
        lease::holding(&*self.store, &lease, work.boxed()).await
    }

    /// What is known of the certificate, with what the CA suggests now. One that is down keeps nobody from using the
    /// certificate there is.
    async fn upkeep(
        &self,
        spec: &CertificateSpec,
        stored: Option<&(Bundle, Version)>,
        ask_anew: bool,
        lease: &Lease,
    ) -> Upkeep {
        let mut upkeep = Upkeep::known(&*self.store, spec.id()).await.0;
        match stored {
            None => upkeep.current = None,
            Some((bundle, _)) => upkeep.has(bundle),
        }
        if self.ask(spec.id(), &mut upkeep, ask_anew).await {
            self.keep(spec.id(), &upkeep, lease).await;
        }
        upkeep
    }

    /// Keeps what is known. A store that cannot, has kept what counts: the certificate.
    async fn keep(&self, id: &CertificateId, upkeep: &Upkeep, lease: &Lease) {
        if let Err(error) = upkeep.save(&*self.store, id, Expected::Any, Some(lease)).await {
            tracing::warn!(%error, "what is known of the certificate could not be kept");
        }
    }

    /// Asks the CA of the certificate when to renew it, if it is time to ask, or in any case. Says whether it was asked.
    pub(crate) async fn ask(&self, id: &CertificateId, upkeep: &mut Upkeep, anew: bool) -> bool {
        let Some(Current { authority, ari_id: Some(ari_id), .. }) = &upkeep.current else { return false };
        let connection = self.connections.iter().find(|one| one.id() == authority);
        let Some(connection) = connection.filter(|_| self.policy.follow_suggestions) else { return false };
        let now = self.now();
        let known = upkeep.suggestion.take().filter(|known| known.is_of(ari_id));
        let mut known = known.unwrap_or_else(|| Suggestion::none(ari_id, now));
        let stale = anew || known.is_stale(now);
        if stale {
            let patience = connection.timeouts().request.min(ASK);
            let asked = connection.ca.renewal_info(ari_id);
            match Deadline::after(patience).run("ca.renewal_info", "renewalInfo", asked).await {
                Ok(Some((window, retry_after))) => {
                    if known.told(window.clone(), retry_after, chance(id, window.start), now)
                        && let Some(at) = known.at()
                    {
                        self.tell(id, What::RenewalSuggested { at, explanation_url: window.explanation_url });
                    }
                }
                // This CA has no renewal information. Perhaps it will.
                Ok(None) => known.untold(None, now),
                Err(error) => {
                    tracing::info!(%error, "the CA does not say when to renew");
                    let after = match error.retry() {
                        Retry::After(pause) => Some(pause),
                        _ => None,
                    };
                    known.untold(after, now);
                }
            }
        }
        upkeep.suggestion = Some(known);
        stale
    }

    /// Whether a stored certificate is what the spec wants.
    pub(crate) fn is_fit(&self, spec: &CertificateSpec, bundle: &Bundle) -> bool {
        let key_fits = match spec.csr() {
            Some(csr) => bundle.public_key_info() == csr.public_key_info(),
            None => {
                bundle.key().is_some() && key_type(bundle.public_key_info()) == Some(spec.wanted_key_type())
            }
        };
        let authority = &bundle.origin().authority;
        let from_one_of_ours = match spec.wanted_authority() {
            Some(wanted) => wanted == authority,
            None => self.connections.iter().any(|one| one.id() == authority),
        };
        key_fits && bundle.facts().identifiers.is_superset(spec.identifiers()) && from_one_of_ours
    }

    /// What a renewal of `bundle` tells the CA to replace (RFC 9773 section 5): a certificate of its own, with a name
    /// in common.
    fn replaced(
        &self,
        spec: &CertificateSpec,
        bundle: &Bundle,
        connection: &Connection,
        suggestion: Option<&Suggestion>,
    ) -> Option<Replaced> {
        let facts = bundle.facts();
        let is_its_own = bundle.origin().authority == connection.id();
        let in_common = !facts.identifiers.is_disjoint(spec.identifiers());
        let id = facts.ari_id.clone().filter(|_| is_its_own && in_common)?;
        let window = suggestion.and_then(Suggestion::picked);
        let is_wanted = window.is_some_and(|(window, _)| window.contains(self.now()));
        Some(Replaced { id, is_wanted })
    }

    pub(crate) async fn stored(&self, id: &CertificateId) -> Result<Option<(Bundle, Version)>> {
        let Some(entry) = self.store.load(&certificate_key(id)?).await? else { return Ok(None) };
        Ok(Some((Bundle::from_stored(entry.value.expose())?, entry.version)))
    }

    async fn save(&self, bundle: &Bundle, replaces: Option<Version>, lease: &Lease) -> Result<()> {
        let value = bundle.to_stored()?;
        let expected = replaces.map_or(Expected::Absent, Expected::Version);
        let condition = Condition::expecting(expected).under(lease);
        let key = certificate_key(bundle.id())?;
        effect("certificate.store", self.store.save(&key, &value, &condition)).await?;
        metrics::issued(&bundle.origin().authority);
        self.tell(bundle.id(), What::CertificateStored { serial: bundle.facts().serial.clone() });
        Ok(())
    }

    /// Brings the bundle to these deployers; one that fails does not keep the others from theirs.
    async fn deploy(
        &self,
        bundle: &Bundle,
        ids: Option<&[String]>,
        upkeep: &mut Upkeep,
        lease: &Lease,
    ) -> Result<Vec<Deployment>> {
        let mut deployments = Vec::new();
        let wanted = |id: &str| ids.is_none_or(|ids| ids.iter().any(|wanted| wanted == id));
        for deployer in &self.deployers {
            if !wanted(deployer.id()) {
                continue;
            }
            // Whoever was stopped for longer than the lease lasts must not put an old certificate over a newer one.
            self.store.renew(lease).await?;
            let result = self.deploy_to(&**deployer, bundle).await;
            metrics::deployed(deployer.id(), &result);
            let id = deployer.id().to_owned();
            upkeep.deployed(&id, bundle, result.as_ref().err(), self.now());
            let what = match &result {
                Ok(outcome) => What::Deployed { deployer: id.clone(), outcome: *outcome },
                Err(error) => What::DeployFailed { deployer: id.clone(), error: error.to_string() },
            };
            self.tell(bundle.id(), what);
            deployments.push(Deployment { deployer: id, result });
        }
        Ok(deployments)
    }

    async fn deploy_to(&self, deployer: &dyn Deployer, bundle: &Bundle) -> Result<Outcome> {
        let deadline = Deadline::after(self.timeouts().deploy);
        let work = async {
            let outcome = deployer.deploy(bundle).await?;
            deployer.verify(bundle).await?;
            Ok(outcome)
        };
        let result = effect("certificate.deploy", deadline.run("pipeline.deploy", deployer.id(), work)).await;
        // It was dropped wherever it stood: neither served nor rolled back is known.
        result.map_err(|error| match error.op() {
            "pipeline.deploy" => error.with_hint(
                "what is served now is not known; the next run deploys again, or look for yourself",
            ),
            _ => error,
        })
    }

    /// The account, loaded or made once per pipeline.
    pub(crate) async fn account(
        &self,
        connection: &Connection,
        certificate: &CertificateId,
    ) -> Result<Arc<Account>> {
        let found = connection.account().await?;
        Ok(self.announce(connection, certificate, found))
    }

    /// The CA does not know the account any more: registers the same key again.
    pub(crate) async fn account_again(
        &self,
        connection: &Connection,
        certificate: &CertificateId,
        lost: &Account,
    ) -> Result<Arc<Account>> {
        let found = connection.account_again(lost).await?;
        Ok(self.announce(connection, certificate, found))
    }

    fn announce(
        &self,
        connection: &Connection,
        certificate: &CertificateId,
        (account, is_new): (Arc<Account>, bool),
    ) -> Arc<Account> {
        if is_new {
            let authority = connection.id().to_owned();
            self.tell(certificate, What::AccountReady { authority, created: account.created });
        }
        account
    }
}
