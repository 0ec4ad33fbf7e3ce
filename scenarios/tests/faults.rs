//! Every fault a CA can show, in every phase of an order: a certificate or a clear error in time, and nothing that
//! the next run does not finish.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use acmekit::stores::MemoryStore;
use acmekit::{
    CertificateSpec, Challenge, ChallengeKind, ChallengeSolver, Clock, Deadline, ErrorKind, Issuance,
    Pipeline, Presentation, Result, Retry, Store, Timeouts, async_trait,
};
use acmekit_scenarios::trusted;
use acmekit_server::Endpoint::{
    Authorization, Certificate, Challenge as Answer, Directory, Finalize, NewAccount, NewNonce, NewOrder,
    Order,
};
use acmekit_server::faults::{Action, Fault, RetryAfter, presets};
use acmekit_server::limits::{Limit, Limits};
use acmekit_server::{Endpoint, OrderState, RenewalInfo, TestCa};
use futures_util::{StreamExt, stream};

/// The phases: every endpoint an order touches.
const PHASES: [Endpoint; 9] =
    [Directory, NewNonce, NewAccount, NewOrder, Authorization, Answer, Order, Finalize, Certificate];

/// No run may take longer, whatever the CA does.
const LIMIT: Duration = Duration::from_secs(20);

/// TXT values that stand, as a solver that keeps them here.
#[derive(Debug, Clone, Default)]
struct Ledger(Arc<Mutex<BTreeSet<String>>>);

impl Ledger {
    fn change(&self, change: impl FnOnce(&mut BTreeSet<String>)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn standing(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[async_trait]
impl ChallengeSolver for Ledger {
    fn kind(&self) -> ChallengeKind {
        ChallengeKind::Dns01
    }
    async fn prepare(&self, challenge: &Challenge, _: Deadline) -> Result<Presentation> {
        Ok(Presentation::new(challenge.clone()))
    }
    async fn present(&self, presentation: &Presentation, _: Deadline) -> Result<Presentation> {
        let value = presentation.challenge().key_authorization.txt_value();
        self.change(|standing| {
            standing.insert(value);
        });
        Ok(presentation.clone())
    }
    async fn ready(&self, _: &Presentation, _: Deadline) -> Result<()> {
        Ok(())
    }
    async fn cleanup(&self, presentation: &Presentation, _: Deadline) -> Result<()> {
        let value = presentation.challenge().key_authorization.txt_value();
        self.change(|standing| {
            standing.remove(&value);
        });
        Ok(())
    }
}

fn timeouts() -> Timeouts {
    let mut timeouts = Timeouts::default();
    timeouts.connect = Duration::from_secs(2);
    timeouts.request = Duration::from_secs(3);
    timeouts.poll = Duration::from_secs(4);
    timeouts.cleanup = Duration::from_secs(4);
    timeouts
}

/// What must hold of a fault beside the rules for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// A certificate or an error.
    Either,
    /// A certificate at once: a client must bear this.
    Certificate,
    /// An error: this cannot be borne.
    Error,
}

struct Case {
    name: String,
    fault: Fault,
    expect: Expect,
}

/// One fault, then a CA that is well again. What went wrong is told as text.
#[expect(clippy::print_stderr, reason = "what each fault ends with is worth reading")]
async fn run(case: Case) -> Result<(), String> {
    let ca = TestCa::builder()
        .always_valid()
        .settings(|settings| settings.terms_of_service = Some("https://ca.example.test/terms".to_owned()))
        .start()
        .await
        .unwrap();
    let struck = ca.faults().add(case.fault);
    let ledger = Ledger::default();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let pipeline = || {
        let authority = trusted(&ca.directory_url(), ca.root_pem())?.with_timeouts(timeouts());
        Pipeline::builder(authority, Arc::clone(&store)).solver(ledger.clone()).build()
    };
    let spec = CertificateSpec::new(["example.test", "*.example.test"]).unwrap();
    let failed = |what: &str| Err(format!("{}: {what}", case.name));

    let Ok(first) = tokio::time::timeout(LIMIT, pipeline().unwrap().obtain(&spec)).await else {
        return failed("no end");
    };
    if ca.faults().hits_of(struck) == 0 {
        return failed("the fault never struck");
    }
    match (&first, case.expect) {
        (Err(error), Expect::Certificate) => return failed(&format!("an error: {}", error.report())),
        (Ok(_), Expect::Error) => return failed("a certificate, in spite of it"),
        (Err(error), _) if error.kind() == ErrorKind::Other || error.op().is_empty() => {
            return failed(&format!("not a clear error: {}", error.report()));
        }
        _ => {}
    }
    if let Ok(issued) = &first
        && issued.bundle.facts().identifiers != *spec.identifiers()
    {
        return failed("a certificate for other names");
    }

    ca.faults().clear();
    // A new process: nothing is remembered but what the store holds.
    let next = pipeline().unwrap();
    let finished = tokio::time::timeout(LIMIT, async {
        next.sweep().await?;
        loop {
            match next.obtain(&spec).await {
                Err(error) if matches!(error.retry(), Retry::After(_)) => {
                    let Retry::After(pause) = error.retry() else { continue };
                    tokio::time::sleep(pause).await;
                }
                other => return other,
            }
        }
    });
    match finished.await {
        Err(_) => return failed("the next run has no end"),
        Ok(Err(error)) => return failed(&format!("the next run fails: {}", error.report())),
        Ok(Ok(_)) => {}
    }
    if ledger.standing() > 0 {
        return failed("a TXT value is left");
    }
    let journals = store.list(&"journals".parse().unwrap()).await.unwrap();
    if !journals.is_empty() {
        return failed(&format!("a journal is left: {journals:?}"));
    }
    let open =
        |order: &&acmekit_server::Order| matches!(order.state, OrderState::Open | OrderState::Processing);
    let orders = ca.state().orders();
    if let Some(left) = orders.iter().find(open) {
        return failed(&format!("of {} orders one is left open: {left:?}", orders.len()));
    }
    if ca.state().accounts().len() != 1 {
        return failed("there is more than one account");
    }
    // A CA that says the order came to nothing is believed: only then there is a second one.
    let most = if case.name == "order-invalid" { 2 } else { 1 };
    if ca.certificates_issued() > most {
        return failed(&format!("{} certificates were issued", ca.certificates_issued()));
    }
    eprintln!(
        "{}: {}; {} issued",
        case.name,
        first.map_or_else(|error| error.to_string(), |_| "a certificate".to_owned()),
        ca.certificates_issued()
    );
    Ok(())
}

async fn all(cases: Vec<Case>) {
    let count = cases.len();
    let wrong: Vec<String> =
        stream::iter(cases).map(run).buffer_unordered(24).filter_map(async |end| end.err()).collect().await;
    assert!(wrong.is_empty(), "{} of {count} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// What can go wrong with any request.
fn anywhere() -> Vec<(&'static str, Action)> {
    let soon = Duration::from_secs(1);
    vec![
        ("502 in HTML", presets::html_502()),
        ("an empty 500", presets::empty_500()),
        ("a problem with status 500", presets::problem_500()),
        ("503 for a second", presets::unavailable(RetryAfter::Seconds(1))),
        ("503 until a date", presets::unavailable(RetryAfter::Date(soon))),
        ("429 for a second", presets::rate_limited(RetryAfter::Seconds(1))),
        ("429 until a date", presets::rate_limited(RetryAfter::Date(soon))),
        ("a delay", Action::Delay(soon)),
        ("a hang", Action::Hang),
        ("a reset", Action::Reset),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failure_in_any_phase() {
    let mut cases = Vec::new();
    for phase in PHASES {
        for (name, action) in anywhere() {
            let fault = Fault::new(phase, action);
            cases.push(Case {
                name: format!("{name} at {phase}"),
                fault: fault.clone(),
                expect: Expect::Either,
            });
            let fault = fault.after_effect();
            cases.push(Case { name: format!("{name} after {phase}"), fault, expect: Expect::Either });
        }
    }
    all(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_for_good_in_any_phase() {
    let mut cases = Vec::new();
    for phase in PHASES {
        for (name, action) in anywhere() {
            // An error of newNonce may bring a nonce, too, and that is all it is asked for.
            let borne = name == "a delay" || phase == NewNonce;
            let expect = if borne { Expect::Either } else { Expect::Error };
            let fault = Fault::new(phase, action).always();
            cases.push(Case { name: format!("always {name} at {phase}"), fault, expect });
        }
    }
    all(cases).await;
}

/// Presets a client need not see through to be served: it gets its certificate at once.
const BORNE: [&str; 7] = [
    "delay",
    "bad-nonce",
    "missing-nonce",
    "wrong-content-type",
    "certificate-as-html",
    "unknown-fields",
    "unknown-challenge-first",
];

/// Presets about renewals: nothing would strike a first certificate. `replaces-…` is below, renewal information in
/// `renewal.rs`.
const NOT_ASKED: [&str; 2] = ["renewal-", "replaces-"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_named_fault() {
    let cases = Fault::all_named()
        .into_iter()
        .filter(|(name, _)| !NOT_ASKED.iter().any(|prefix| name.starts_with(prefix)))
        .map(|(name, fault)| {
            let expect = if BORNE.contains(&name) { Expect::Certificate } else { Expect::Either };
            Case { name: name.to_owned(), fault, expect }
        });
    all(cases.collect()).await;
}

/// What can be wrong with an answer as such: for good, so that no second try gets a sound one.
const ANSWERS: [&str; 12] = [
    "abort-body",
    "flood",
    "redirect-elsewhere",
    "huge-header",
    "many-headers",
    "cut-json",
    "non-utf8-body",
    "deep-json",
    "empty-body",
    "wrong-content-type",
    "unknown-fields",
    "missing-nonce",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unsound_answer_in_any_phase() {
    let mut cases = Vec::new();
    for phase in PHASES {
        for name in ANSWERS {
            let fault = Fault::preset(name).unwrap().at(&[phase]).always();
            // newNonce is asked by HEAD: it has no body that could be wrong.
            let bodiless =
                !matches!(name, "redirect-elsewhere" | "huge-header" | "many-headers" | "missing-nonce");
            let without_object = phase == Certificate && name == "unknown-fields";
            let without_nonce = phase == Directory && name == "missing-nonce";
            if phase == NewNonce && bodiless || without_object || without_nonce {
                continue;
            }
            cases.push(Case { name: format!("{name} at {phase}"), fault, expect: Expect::Either });
        }
    }
    all(cases).await;
}

/// A CA, and a certificate from it that can be renewed.
async fn renewable(limits: Limits) -> (TestCa, Pipeline, CertificateSpec, Issuance) {
    let ca = TestCa::builder().always_valid().limits(limits).start().await.unwrap();
    let authority = trusted(&ca.directory_url(), ca.root_pem()).unwrap().with_timeouts(timeouts());
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let pipeline = Pipeline::builder(authority, store).solver(Ledger::default()).build().unwrap();
    let spec = CertificateSpec::new(["example.test", "*.example.test"]).unwrap();
    let first = pipeline.obtain(&spec).await.unwrap();
    (ca, pipeline, spec, first)
}

#[tokio::test]
async fn a_renewal_says_what_it_replaces_and_comes_also_where_the_ca_minds() {
    for name in ["replaces-already-replaced", "replaces-not-found", "replaces-unauthorized", "replaces-empty"]
    {
        let (ca, pipeline, spec, first) = renewable(Limits::none()).await;
        let second = pipeline.renew(&spec).await.unwrap();
        let named = ca.state().orders().into_iter().filter_map(|order| order.replaces).collect::<Vec<_>>();
        assert_eq!(named, [first.bundle.facts().ari_id.clone().unwrap()]);

        let struck = ca.faults().add(Fault::preset(name).unwrap());
        let third = pipeline.renew(&spec).await.unwrap_or_else(|error| panic!("{name}: {}", error.report()));
        assert!(ca.faults().hits_of(struck) > 0, "{name} never struck");
        assert_ne!(third.bundle.facts().serial, second.bundle.facts().serial, "{name}");
        assert_eq!(ca.certificates_issued(), 3, "{name}");
    }
}

#[tokio::test]
async fn a_renewal_in_its_window_is_exempt_from_limits_and_one_beside_it_is_told_so() {
    let mut limits = Limits::none();
    limits.certificates_per_set = Some(Limit::new(1, Duration::from_secs(7 * 24 * 3600)));
    let (ca, pipeline, spec, first) = renewable(limits).await;
    let error = pipeline.renew(&spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited, "{}", error.report());
    let now = ca.clock().now();
    let window = RenewalInfo::new(now - Duration::from_secs(60), now + Duration::from_secs(3600));
    ca.set_renewal_window(&first.bundle.leaf_pem(), window).unwrap();
    let renewed = pipeline.renew(&spec).await.unwrap();
    assert_ne!(renewed.bundle.facts().serial, first.bundle.facts().serial);
}

#[tokio::test]
async fn a_ca_without_renewal_information_is_not_told_what_is_replaced() {
    let (ca, pipeline, spec, _) = renewable(Limits::none()).await;
    ca.faults()
        .add(Fault::new(Directory, Action::Patch(serde_json::json!({ "renewalInfo": null }))).always());
    // The directory is read once by each pipeline: this one knows the CA as it was.
    pipeline.renew(&spec).await.unwrap();
    let authority = trusted(&ca.directory_url(), ca.root_pem()).unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let other = Pipeline::builder(authority, store).solver(Ledger::default()).build().unwrap();
    other.obtain(&spec).await.unwrap();
    other.renew(&spec).await.unwrap();
    let named = ca.state().orders().into_iter().filter(|order| order.replaces.is_some()).count();
    assert_eq!((named, ca.certificates_issued()), (1, 4));
}
