use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::*;
use crate::dns::tests::{Fake, alias, name, zone_answer};
use crate::{KeyAuthorization, ProviderLimits};

/// Takes a second for each call, and counts how many are under way.
#[derive(Debug, Clone, Default)]
struct Counting {
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    done: Arc<AtomicUsize>,
}

impl Counting {
    async fn count(&self) {
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        self.done.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl DnsProvider for Counting {
    fn id(&self) -> &str {
        "counting"
    }
    fn limits(&self) -> ProviderLimits {
        ProviderLimits { concurrency: 2, call_timeout: Duration::from_secs(2), ..ProviderLimits::default() }
    }
    async fn zone(&self, _: &DnsName) -> Result<Option<Zone>> {
        self.count().await;
        Ok(None)
    }
    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        self.count().await;
        Ok(RecordHandle::intent("counting", zone.clone(), record.clone()))
    }
    async fn remove_txt(&self, _: &RecordHandle) -> Result<()> {
        self.count().await;
        Ok(())
    }
}

fn presentation() -> Presentation {
    let name = "_acme-challenge.example.test".parse().unwrap();
    let zone = Zone::new("example.test".parse().unwrap());
    let proof = KeyAuthorization::new("token", "thumbprint");
    let challenge = Challenge::new("example.test".try_into().unwrap(), ChallengeKind::Dns01, "token", proof);
    let record = TxtRecord::new(name, challenge.key_authorization.txt_value());
    Presentation::new(challenge).note(HANDLE, &RecordHandle::intent("counting", zone, record)).unwrap()
}

fn solver(provider: &Counting) -> Dns01 {
    let server = std::net::SocketAddr::from(([127, 0, 0, 1], 53));
    Dns01::with_resolver(provider.clone(), Resolver::new([server]).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_provider_is_never_asked_for_more_at_once_than_it_bears() {
    let provider = Counting::default();
    let solver = solver(&provider);
    // Clones, as two pipelines hold them, count together.
    let other = solver.clone();
    let deadline = Deadline::after(Duration::from_secs(60));
    let presentation = presentation();
    let adding = (0..5).map(|_| solver.present(&presentation, deadline));
    let removing = (0..5).map(|_| other.cleanup(&presentation, deadline));
    let (added, removed) = tokio::join!(join_all(adding), join_all(removing));
    // Waiting for one's turn is not part of the call's own two seconds.
    assert!(added.iter().all(Result::is_ok) && removed.iter().all(Result::is_ok), "{added:?} {removed:?}");
    assert_eq!(provider.done.load(Ordering::SeqCst), 10);
    assert_eq!(provider.most.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_turn_ends_at_the_deadline() {
    let provider = Counting::default();
    let solver = solver(&provider);
    let presentation = presentation();
    let deadline = Deadline::after(Duration::from_millis(1500));
    let ended = join_all((0..5).map(|_| solver.present(&presentation, deadline))).await;
    let late: Vec<_> = ended.iter().filter_map(|end| end.as_ref().err()).collect();
    assert_eq!(late.len(), 3, "two had their turn in time: {ended:?}");
    assert!(late.iter().all(|error| error.kind() == ErrorKind::Timeout), "{late:?}");
    assert_eq!(provider.done.load(Ordering::SeqCst), 2);
}

/// Has one zone, by comparing names; a call takes 50 ms.
#[derive(Debug, Clone)]
struct Holding {
    zone: &'static str,
    asked: Arc<AtomicUsize>,
}

impl Holding {
    fn new(zone: &'static str) -> Self {
        Self { zone, asked: Arc::default() }
    }
}

#[async_trait]
impl DnsProvider for Holding {
    fn id(&self) -> &str {
        self.zone
    }
    async fn zone(&self, of: &DnsName) -> Result<Option<Zone>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(of.is_within(&name(self.zone)).then(|| Zone::new(name(self.zone))))
    }
    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        Ok(RecordHandle::intent(self.zone, zone.clone(), record.clone()))
    }
    async fn remove_txt(&self, _: &RecordHandle) -> Result<()> {
        Ok(())
    }
}

fn challenge(of: &str) -> Challenge {
    let proof = KeyAuthorization::new("token", "thumbprint");
    Challenge::new(of.parse().unwrap(), ChallengeKind::Dns01, "token", proof)
        .with_account("https://example.com/acme/acct/ExampleAccount")
}

/// Where the record of a name would go.
async fn planned_by(solver: &Dns01, of: &str) -> RecordHandle {
    let prepared = solver.prepare(&challenge(of), Deadline::after(Duration::from_secs(20))).await.unwrap();
    planned(&prepared).unwrap()
}

#[tokio::test]
async fn a_name_that_is_delegated_goes_to_who_has_the_zone_and_not_to_who_has_the_one_above() {
    let dns = Fake::start(|question, _| {
        let delegated = question.queries[0].name().to_string().starts_with("_acme-challenge.www.");
        let zone = if delegated { "_acme-challenge.www.example.test" } else { "example.test" };
        vec![zone_answer(question, zone, &[])]
    })
    .await;
    let solver = Dns01::with_resolver(Holding::new("example.test"), dns.resolver());
    // With nobody else the one above is tried: a program may know by itself of the zone in between.
    assert_eq!(planned_by(&solver, "www.example.test").await.provider, "example.test");
    let solver = solver.or(Holding::new("_acme-challenge.www.example.test"));
    let handle = planned_by(&solver, "www.example.test").await;
    assert_eq!(handle.provider, "_acme-challenge.www.example.test");
    assert_eq!(handle.zone.name, handle.record.name);
    assert_eq!(planned_by(&solver, "example.test").await.provider, "example.test");
    // Where the DNS is not to be asked, names are all there is.
    let blind = solver.wait_instead_of_asking(Duration::ZERO);
    assert_eq!(planned_by(&blind, "www.example.test").await.provider, "example.test");
}

#[tokio::test]
async fn a_hundred_names_of_one_zone_ask_the_provider_for_it_as_often_as_it_is_asked_at_once() {
    let dns = Fake::with("example.test", Vec::new()).await;
    let provider = Holding::new("example.test");
    let solver = Dns01::with_resolver(provider.clone(), dns.resolver());
    let names: Vec<String> = (0..100).map(|at| format!("www{at}.example.test")).collect();
    join_all(names.iter().map(|name| planned_by(&solver, name))).await;
    assert_eq!(provider.asked.load(Ordering::SeqCst), ProviderLimits::default().concurrency);
}

#[tokio::test]
async fn an_alias_says_where_the_record_goes_and_the_dns_is_asked_for_no_cname() {
    let dns = Fake::with("test", vec![("_acme-challenge.www.example.test", alias("wrong.test"))]).await;
    let solver = Dns01::with_resolver(Holding::new("acme.test"), dns.resolver())
        .or(Holding::new("test"))
        .alias(name("www.example.test"), name("www.acme.test"));
    for identifier in ["www.example.test", "*.www.example.test"] {
        let handle = planned_by(&solver, identifier).await;
        assert_eq!(handle.record.name, name("www.acme.test"), "{identifier}");
    }
    assert_eq!(planned_by(&solver, "other.test").await.record.name, name("_acme-challenge.other.test"));
}

/// The example of draft-ietf-acme-dns-account-label, section 3.2.
#[tokio::test]
async fn for_an_account_the_record_is_below_a_label_of_its_own() {
    let dns = Fake::with("example.org", Vec::new()).await;
    let solver = Dns01::with_resolver(Holding::new("example.org"), dns.resolver()).for_account();
    assert_eq!(solver.kind(), ChallengeKind::DnsAccount01);
    let handle = planned_by(&solver, "www.example.org").await;
    assert_eq!(handle.record.name, name("_ujmmovf2vn55tgye._acme-challenge.www.example.org"));
}
