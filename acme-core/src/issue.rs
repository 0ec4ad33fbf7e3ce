//! The main path: one certificate from spec to bundle, read top-down.

mod answer;
pub(crate) mod cleanup;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use self::cleanup::{Which, clean_up_quietly};
use crate::budget::Wish;
use crate::ca::account::Account;
use crate::ca::{NewOrder, Polled};
use crate::connection::Connection;
use crate::effect::effect;
use crate::journal::{Attempt, Journal};
use crate::order::{AuthorizationStatus, OrderSnapshot, Step, next_step};
use crate::{
    Bundle, CertificateSpec, ChallengeKind, Csr, Deadline, Error, ErrorKind, Identifier, Origin, Pipeline,
    PrivateKey, Result, Retry, What,
};

/// How often the CSR of one order is sent in one run.
const FINALIZE_ATTEMPTS: u32 = 3;

/// The shortest pause before the CA is asked again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);

/// How often an order that has become useless is given up for a new one, in one run.
const FRESH_STARTS: usize = 2;

/// When it is tried again after that.
const USELESS: Duration = Duration::from_secs(600);

/// The certificate that a new one replaces (RFC 9773 section 5).
#[derive(Debug, Clone)]
pub(crate) struct Replaced {
    /// Its name in renewal information.
    pub(crate) id: String,
    /// Whether the CA wants it replaced now, and so exempts the order from its limits.
    pub(crate) is_wanted: bool,
}

/// One run for one certificate, alone on it by a lease.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pipeline: &'a Pipeline,
    connection: &'a Connection,
    spec: &'a CertificateSpec,
    account: Arc<Account>,
    pub(crate) journal: Journal<'a>,
    /// The certificate that the new one replaces.
    replaces: Option<Replaced>,
    /// By which challenges names may be proved, where that is known.
    allowed: Allowed,
    /// The authorizations answered in this run.
    answered: BTreeSet<String>,
}

/// The kinds of challenges that may be used, name by name.
pub(crate) type Allowed = BTreeMap<Identifier, BTreeSet<ChallengeKind>>;

/// Gets a certificate: goes on where the journal says, or starts with a new order.
pub(crate) async fn issue(run: &mut Run<'_>) -> Result<Bundle> {
    let mut starts = 0;
    loop {
        let proved = match run.order().await {
            Ok(order) => run.prove(order).await,
            Err(error) => Err(error),
        };
        // Nothing is left behind where the CA looked; unless the order may still go on, and the CA, which was told, may
        // be looking still: then the next run, or a sweep, takes it away.
        let which = if proved.is_err() && run.has_order() { Which::NotNeeded } else { Which::All };
        let cleaned = clean_up_quietly(run.pipeline, &mut run.journal, which).await;
        // A new order may hold the same authorizations, and what answered them is gone.
        run.answered.clear();
        let proved = proved?;
        cleaned?;
        match proved {
            Proved::Authorized(order) => {
                if let Some(bundle) = run.finalize(*order).await? {
                    return Ok(bundle);
                }
            }
            Proved::Useless(why) => tracing::info!(why, "the order is given up"),
        }
        run.abandon_order().await?;
        starts += 1;
        if starts > FRESH_STARTS {
            return Err(Error::new(ErrorKind::Protocol, "issue", "one order after the other became useless")
                .with("orders", starts)
                // By a clock that is far ahead what there is has expired, too, and is no reason to ask each minute.
                .with_retry(Retry::After(USELESS))
                .with_hint("the CA gives orders that expire at once: check this machine's clock"));
        }
    }
}

/// What came of proving control.
enum Proved {
    /// The CA is convinced.
    Authorized(Box<OrderSnapshot>),
    /// The order cannot be gone on with, through nobody's fault.
    Useless(&'static str),
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        pipeline: &'a Pipeline,
        connection: &'a Connection,
        spec: &'a CertificateSpec,
        account: Arc<Account>,
        journal: Journal<'a>,
        replaces: Option<Replaced>,
    ) -> Self {
        let (allowed, answered) = (Allowed::new(), BTreeSet::new());
        Self { pipeline, connection, spec, account, journal, replaces, allowed, answered }
    }

    /// The same, by these challenges only.
    pub(crate) fn allowing(mut self, allowed: Allowed) -> Self {
        self.allowed = allowed;
        self
    }

    /// The order of this attempt: the journal's, or a new one.
    async fn order(&mut self) -> Result<OrderSnapshot> {
        self.prepare_attempt().await?;
        match self.resume_order().await? {
            Some(order) => Ok(order),
            None => self.create_order().await,
        }
    }

    fn has_order(&self) -> bool {
        self.journal.record.attempt.as_ref().is_some_and(|attempt| attempt.order.is_some())
    }

    /// Key and CSR are on the disk before there is an order they could be needed for.
    async fn prepare_attempt(&mut self) -> Result<()> {
        let authority = self.connection.ca.authority.id();
        if let Some(attempt) = &self.journal.record.attempt
            && attempt.is_for(self.spec, authority)
        {
            return Ok(());
        }
        // What an attempt for another wish has put up goes away before the journal forgets it.
        clean_up_quietly(self.pipeline, &mut self.journal, Which::All).await?;
        let (key, csr) = match self.spec.csr() {
            Some(csr) if self.pipeline.is_blocked(csr.public_key_info()).await? => {
                return Err(Error::new(ErrorKind::Config, "issue.csr", "the key of this CSR is compromised")
                    .with("certificate", self.spec.id())
                    .with_hint("bring a CSR with a new key"));
            }
            Some(csr) => (None, csr.clone()),
            None => {
                let key = PrivateKey::generate(self.spec.wanted_key_type()).await?;
                let csr = Csr::generate(&key, self.spec.identifiers())?;
                (Some(key), csr)
            }
        };
        self.journal.record.attempt =
            Some(Attempt { spec: self.spec.clone(), authority: authority.to_owned(), key, csr, order: None });
        self.journal.write("journal.key").await
    }

    /// The order of the journal, if the CA still knows it.
    async fn resume_order(&mut self) -> Result<Option<OrderSnapshot>> {
        let Some(url) = self.attempt()?.order.clone() else { return Ok(None) };
        match self.connection.ca.order(&self.account, &url).await? {
            Some(order) => {
                self.tell(What::OrderResumed { order: url });
                Ok(Some(order))
            }
            None => {
                self.abandon_order().await?;
                Ok(None)
            }
        }
    }

    /// Orders, and writes down the order's URL before anything else happens.
    async fn create_order(&mut self) -> Result<OrderSnapshot> {
        let mut registered = false;
        let made = loop {
            match self.order_once().await {
                Err(error) if has_lost_account(&error) && !registered => {
                    registered = true;
                    self.account =
                        self.pipeline.account_again(self.connection, self.spec.id(), &self.account).await?;
                }
                // A renewal that comes counts for more than one that is exempt from limits.
                Err(error) if self.replaces.is_some() && minds_replacement(&error) => {
                    tracing::info!(%error, "ordering without naming the certificate that is replaced");
                    self.replaces = None;
                }
                done => break done?,
            }
        };
        self.attempt_mut()?.order = Some(made.url.clone());
        self.journal.write("journal.order").await?;
        self.tell(What::OrderCreated { order: made.url.clone() });
        self.connection.ca.opened(&self.account, made).await
    }

    /// Orders what the budget allows.
    async fn order_once(&self) -> Result<NewOrder> {
        let (ca, budget) = (&self.connection.ca, &self.connection.budget);
        let wish = self.wish();
        budget.charge_order(&wish, self.pipeline.now()).await?;
        let replaces = self.replaces.as_ref().map(|replaced| replaced.id.as_str());
        let order =
            ca.new_order(&self.account, self.spec.identifiers(), self.spec.wanted_profile(), replaces);
        let made = effect("order.new", order).await;
        if let Err(error) = &made
            && let Err(second) = budget.order_refused(&wish, error, self.pipeline.now()).await
        {
            tracing::warn!(error = %second, "what the CA said of its limits could not be kept");
        }
        made
    }

    /// What this certificate needs of the budget.
    fn wish(&self) -> Wish {
        let exempt = self.replaces.as_ref().is_some_and(|replaced| replaced.is_wanted);
        Wish::new(self.spec.identifiers()).exempt(exempt)
    }

    async fn abandon_order(&mut self) -> Result<()> {
        self.attempt_mut()?.order = None;
        self.journal.write("journal.abandon").await
    }

    /// The order has failed: it is given up, and why it failed is what counts.
    async fn failed(&mut self, order: &OrderSnapshot, error: Error) -> Error {
        let failed = order.authorizations.iter().filter(|authz| authz.status == AuthorizationStatus::Invalid);
        let failed: Vec<_> = failed.map(|authz| authz.identifier.clone()).collect();
        if let Err(second) = self.connection.budget.charge_failures(&failed, self.pipeline.now()).await {
            tracing::warn!(error = %second, "that a validation has failed could not be charged");
        }
        if let Err(second) = self.abandon_order().await {
            tracing::warn!(error = %second, "that the order has failed could not be written down");
        }
        error
    }

    /// Present all, wait once for all, answer all; until the CA is convinced or has refused.
    async fn prove(&mut self, mut order: OrderSnapshot) -> Result<Proved> {
        loop {
            match next_step(&order, &self.answered, self.pipeline.now()) {
                Step::Prove(which) => self.answer(&order, &which).await?,
                Step::Wait if !is_pending(&order) => return Ok(Proved::Authorized(Box::new(order))),
                Step::Wait => {}
                Step::Finalize | Step::Download(_) => {
                    self.tell(What::Authorized);
                    return Ok(Proved::Authorized(Box::new(order)));
                }
                Step::StartOver(why) => return Ok(Proved::Useless(why)),
                Step::Failed(error) => return Err(self.failed(&order, error).await),
            }
            order = self.poll("validation", &order, None).await?;
        }
    }

    /// Sends the CSR, waits for the certificate, downloads and checks it. `None` if the order is of
    /// no use any more.
    async fn finalize(&mut self, mut order: OrderSnapshot) -> Result<Option<Bundle>> {
        let attempt = self.attempt()?.clone();
        let (mut wait, mut sent) = (None, 0);
        loop {
            match next_step(&order, &self.answered, self.pipeline.now()) {
                // A CA that has taken the CSR and is ready again may have lost it. But not for ever.
                Step::Finalize if sent == FINALIZE_ATTEMPTS => {
                    return Err(Error::new(
                        ErrorKind::Protocol,
                        "issue.finalize",
                        "the order is ready again each time its CSR has been sent",
                    )
                    .with("order", &order.url)
                    .with("sent", sent)
                    .with_retry(Retry::Backoff));
                }
                Step::Finalize => {
                    let now = self.pipeline.now();
                    self.connection.budget.charge_issuance(&self.wish(), &order.url, now).await?;
                    tokio::time::sleep(Duration::from_millis(250) * sent).await;
                    let finalize = self.connection.ca.finalize(&self.account, &order, &attempt.csr);
                    let polled = effect("order.finalize", finalize).await?;
                    (order, wait) = (polled.order, polled.retry_after);
                    sent += 1;
                    continue;
                }
                Step::Download(url) => {
                    let chain =
                        self.connection.ca.certificate(&self.account, &url, self.spec.wanted_chain()).await?;
                    let origin = Origin::new(attempt.authority, &order.url);
                    let bundle = Bundle::new(self.spec.id().clone(), &chain, None, origin)?;
                    return match self.check(&bundle, &attempt.csr) {
                        Ok(()) => self.issued(bundle, attempt.key).map(Some),
                        // A CA gives one account the same open order again: somebody else may have sent a CSR, or this
                        // run comes when the certificate is no good any more. What came of our own CSR is told.
                        Err(error) if sent == 0 => {
                            tracing::info!(%error, "the order's certificate is not ours");
                            Ok(None)
                        }
                        Err(error) => Err(error),
                    };
                }
                Step::Wait => {}
                Step::StartOver(why) => {
                    tracing::info!(why, "the order is given up");
                    return Ok(None);
                }
                Step::Prove(_) => {
                    return Err(Error::new(
                        ErrorKind::Protocol,
                        "issue.finalize",
                        "an authorized order became pending again",
                    )
                    .with("order", &order.url));
                }
                Step::Failed(error) => return Err(self.failed(&order, error).await),
            }
            order = self.poll("issuance", &order, wait.take()).await?;
        }
    }

    /// Whether a certificate is what was asked for.
    fn check(&self, bundle: &Bundle, csr: &Csr) -> Result<()> {
        bundle.check_against(self.spec.identifiers(), self.pipeline.now())?;
        if bundle.public_key_info() != csr.public_key_info() {
            return Err(Error::new(
                ErrorKind::Protocol,
                "issue.check",
                "the certificate is for another key than the CSR's",
            )
            .with("order", &bundle.origin().order));
        }
        Ok(())
    }

    fn issued(&self, bundle: Bundle, key: Option<PrivateKey>) -> Result<Bundle> {
        let bundle = match key {
            Some(key) => bundle.with_key(key)?,
            None => bundle,
        };
        let facts = bundle.facts();
        self.tell(What::CertificateIssued { serial: facts.serial.clone(), not_after: facts.not_after });
        Ok(bundle)
    }

    /// Asks until the order's next step is not to wait, or the deadline has passed. The CA's
    /// `Retry-After` is obeyed, but for less than a fifth of a second; without one the pauses grow from there to five.
    async fn poll(
        &self,
        phase: &'static str,
        order: &OrderSnapshot,
        mut wait: Option<Duration>,
    ) -> Result<OrderSnapshot> {
        let deadline = Deadline::after(self.connection.ca.authority.timeouts().poll);
        let mut pause = SHORTEST_PAUSE;
        loop {
            if let Some(wait) = wait.take() {
                if wait > deadline.remaining() {
                    // Waiting for the deadline would only be late: the order goes on in the next run.
                    let why = format!(
                        "{phase}: not done yet, and the CA is to be asked again later than this run waits"
                    );
                    return Err(Error::new(ErrorKind::Timeout, "issue.poll", why)
                        .with("phase", phase)
                        .with("deadline", format!("{:?}", deadline.budget()))
                        .with("order", &order.url)
                        .with_retry(Retry::After(wait))
                        .with_hint("the next run goes on with the same order"));
                }
                deadline.sleep(wait).await;
            }
            let asked = self.connection.ca.poll(phase, &self.account, &order.url);
            let Polled { order, retry_after } = deadline.run("issue.poll", phase, asked).await?;
            if !matches!(next_step(&order, &self.answered, self.pipeline.now()), Step::Wait) {
                return Ok(order);
            }
            wait = Some(retry_after.unwrap_or(pause).max(SHORTEST_PAUSE));
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    fn attempt(&self) -> Result<&Attempt> {
        self.journal.record.attempt.as_ref().ok_or_else(no_attempt)
    }

    fn attempt_mut(&mut self) -> Result<&mut Attempt> {
        self.journal.record.attempt.as_mut().ok_or_else(no_attempt)
    }

    fn tell(&self, what: What) {
        self.pipeline.tell(self.spec.id(), what);
    }
}

fn is_pending(order: &OrderSnapshot) -> bool {
    order.status == crate::order::OrderStatus::Pending
}

/// Whether a refused order may be granted without `replaces`: whatever the CA says in ACME's own words, but what has to
/// do with something else. Pebble has an internal error for a certificate it cannot find yet.
fn minds_replacement(error: &Error) -> bool {
    const ELSE: [&str; 7] = [
        "accountDoesNotExist",
        "badNonce",
        "caa",
        "invalidProfile",
        "rateLimited",
        "rejectedIdentifier",
        "userActionRequired",
    ];
    let said = error.problem().map(|problem| problem.acme_type());
    said.is_some_and(|said| !said.is_empty() && !ELSE.contains(&said))
}

fn has_lost_account(error: &Error) -> bool {
    error.problem().is_some_and(|problem| problem.acme_type() == "accountDoesNotExist")
}

fn no_attempt() -> Error {
    Error::new(ErrorKind::Other, "issue", "the journal has no attempt; this is a bug in acmekit")
}
