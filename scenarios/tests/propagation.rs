//! Several name servers, one of which lags and one of which is out of order: the CA is told when those that are in
//! order have the value, and who is not is named.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use acmekit::solvers::Dns01;
use acmekit::stores::MemoryStore;
use acmekit::{
    CertificateSpec, ChallengeKind, DnsName, DnsProvider, ErrorKind, Identifier, Pipeline, ProviderLimits,
    RecordHandle, Result, Timeouts, TxtRecord, Zone,
};
use acmekit_scenarios::{Recorder, resolver, rfc2136, timeouts, trusted};
use acmekit_server::validation::{RealValidator, ValidationConfig};
use acmekit_server::{Problem, TestCa, Validation, Validator};
use acmekit_testbed::{Bind, BindBuilder, wait_for};
use async_trait::async_trait;
use tokio::net::UdpSocket;

const NAME: &str = "www.example.test";
const RECORD: &str = "_acme-challenge.www.example.test";
/// How often the secondary asks for news, at the least.
const REFRESH: Duration = Duration::from_secs(5);

/// `example.test`, whose second name server is `::1` and whose third, where there is one, is at [`third`].
fn zone(refresh: Duration) -> BindBuilder {
    Bind::builder()
        .zone("example.test")
        .refresh(refresh)
        .record("example.test. 1 IN NS ns2.example.test.")
        .record("ns2.example.test. 1 IN AAAA ::1")
}

fn with_third(zone: BindBuilder) -> BindBuilder {
    zone.record("example.test. 1 IN NS ns3.example.test.").record("ns3.example.test. 1 IN A 127.0.0.3")
}

/// Nobody listens there: the port is the first one's alone.
fn third(primary: &Bind) -> SocketAddr {
    ([127, 0, 0, 3], primary.addr().port()).into()
}

/// Whether each of two servers has the value, at one moment.
type Seen = (bool, bool);

#[derive(Debug, Clone)]
struct Both {
    primary: Arc<Bind>,
    secondary: Arc<Bind>,
}

impl Both {
    async fn start(zone: BindBuilder) -> Self {
        let primary = zone.start().await.unwrap();
        let secondary = primary.secondary().start().await.unwrap();
        Self { primary: Arc::new(primary), secondary: Arc::new(secondary) }
    }

    async fn have(&self, name: &str, value: &str) -> Seen {
        let has = |values: Vec<String>| values.iter().any(|found| found == value);
        let (one, two) = tokio::join!(self.primary.query_txt(name), self.secondary.query_txt(name));
        (has(one.unwrap()), has(two.unwrap()))
    }
}

/// Adds a value just after the secondary has asked for news, so that it will lag for sure: BIND asks again after
/// three quarters of the refresh time at the soonest.
#[derive(Debug)]
struct Unlucky {
    inner: acmekit::rfc2136::Rfc2136,
    both: Both,
    when_added: Arc<Mutex<Vec<Seen>>>,
}

#[async_trait]
impl DnsProvider for Unlucky {
    fn id(&self) -> &str {
        self.inner.id()
    }

    fn limits(&self) -> ProviderLimits {
        self.inner.limits()
    }

    async fn zone(&self, name: &DnsName) -> Result<Option<Zone>> {
        self.inner.zone(name).await
    }

    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        let mark = "mark.example.test";
        self.both.primary.add_txt("example.test", mark, "refreshed").await.unwrap();
        wait_for(REFRESH * 4, "the secondary asks for news", || async {
            self.both.have(mark, "refreshed").await.1.then_some(())
        })
        .await
        .unwrap();
        let added = self.inner.add_txt(zone, record).await;
        let seen = self.both.have(record.name.as_str(), &record.value).await;
        self.when_added.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        added
    }

    async fn remove_txt(&self, handle: &RecordHandle) -> Result<()> {
        self.inner.remove_txt(handle).await
    }
}

/// Looks at both servers when the CA is told, and then validates by asking the one that lags.
#[derive(Debug)]
struct Witness {
    both: Both,
    inner: RealValidator,
    when_told: Arc<Mutex<Vec<Seen>>>,
}

#[async_trait]
impl Validator for Witness {
    fn kinds(&self, identifier: &Identifier) -> Vec<ChallengeKind> {
        self.inner.kinds(identifier)
    }

    async fn validate(&self, validation: &Validation) -> std::result::Result<(), Problem> {
        let seen = self.both.have(RECORD, &validation.key_authorization.txt_value()).await;
        self.when_told.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        self.inner.validate(validation).await
    }
}

/// What came of an order, and what was seen on its way.
struct Run {
    when_added: Vec<Seen>,
    when_told: Vec<Seen>,
    events: Vec<String>,
    warnings: String,
}

/// One order while the secondary lags.
async fn order(both: &Both) -> Run {
    let warnings = Warnings::default();
    let _logging = warnings.start();
    let (when_added, when_told) = (Arc::default(), Arc::default());
    let config = ValidationConfig::new().with_dns_servers([both.secondary.addr()]);
    let witness = Witness {
        both: both.clone(),
        inner: RealValidator::new(config).unwrap(),
        when_told: Arc::clone(&when_told),
    };
    let ca = TestCa::builder().validator(witness).start().await.unwrap();
    let provider = Unlucky {
        inner: rfc2136(&both.primary).unwrap(),
        both: both.clone(),
        when_added: Arc::clone(&when_added),
    };
    let solver = Dns01::with_resolver(provider, resolver(&both.primary).unwrap());
    let seen = Recorder::default();
    let mut timeouts = Timeouts::default();
    timeouts.present = REFRESH * 8;
    timeouts.ready = REFRESH * 8;
    let authority = trusted(&ca.directory_url(), ca.root_pem()).unwrap().with_timeouts(timeouts);
    let builder = Pipeline::builder(authority, Arc::new(MemoryStore::new()));
    let acme = builder.solver(solver).observer(seen.observer()).build().unwrap();
    acme.obtain(&CertificateSpec::new([NAME]).unwrap()).await.unwrap();
    ca.shutdown().await;
    let left = both.primary.txt_records("example.test").await.unwrap();
    assert_eq!(left, [("mark.example.test".to_owned(), "refreshed".to_owned())]);
    let taken = |seen: Arc<Mutex<Vec<Seen>>>| seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Run {
        when_added: taken(when_added),
        when_told: taken(when_told),
        events: seen.all(),
        warnings: warnings.text(),
    }
}

impl Run {
    /// The value was first on the primary alone; when the CA was told, it was on both.
    #[track_caller]
    fn waited_for_the_secondary(&self) {
        assert_eq!(self.when_added, [(true, false)], "the secondary does not lag");
        assert_eq!(self.when_told, [(true, true)], "the CA was told too early, or twice");
        let at = |name: &str| {
            let mark = format!("\"event\":\"{name}\"");
            let at: Vec<usize> =
                (0..self.events.len()).filter(|&at| self.events[at].contains(&mark)).collect();
            assert_eq!(at.len(), 1, "{name}: {:#?}", self.events);
            at[0]
        };
        let order = ["challenge-presented", "challenges-ready", "authorized", "certificate-stored"].map(at);
        assert!(order.is_sorted(), "{:#?}", self.events);
    }
}

/// What a person sees who logs warnings and errors only.
#[derive(Debug, Clone, Default)]
struct Warnings(Arc<Mutex<Vec<u8>>>);

impl Warnings {
    fn start(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// One line of it says all of this.
    #[track_caller]
    fn told(text: &str, words: &[&str]) {
        let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "no line says {words:?}:\n{text}");
    }
}

impl std::io::Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_ca_is_told_only_when_a_lagging_secondary_has_the_value_too() {
    let both = Both::start(zone(REFRESH)).await;
    let run = order(&both).await;
    run.waited_for_the_secondary();
    assert!(!both.secondary.log().contains("received notify"), "it was not to be notified");
    assert_eq!(run.warnings, "", "all servers are in order");
}

#[tokio::test]
async fn a_third_server_that_refuses_connections_is_named_and_the_order_goes_on() {
    let both = Both::start(with_third(zone(REFRESH))).await;
    let run = order(&both).await;
    run.waited_for_the_secondary();
    let third = third(&both.primary).to_string();
    let words = ["WARN", "ns3.example.test", &third, "does not answer", "refused", RECORD];
    Warnings::told(&run.warnings, &words);
    assert!(!run.warnings.contains("ns2.example.test"), "{}", run.warnings);
}

#[tokio::test]
async fn a_third_server_that_is_silent_is_named_and_the_order_goes_on() {
    let both = Both::start(with_third(zone(REFRESH))).await;
    let third = third(&both.primary);
    let silent = UdpSocket::bind(third).await.unwrap();
    let run = order(&both).await;
    run.waited_for_the_secondary();
    Warnings::told(
        &run.warnings,
        &["WARN", "ns3.example.test", &third.to_string(), "does not answer", RECORD],
    );
    assert!(silent.try_recv(&mut [0; 512]).is_ok(), "it was asked");
}

#[tokio::test]
async fn a_server_that_does_not_serve_the_zone_is_named_and_the_order_goes_on() {
    let primary = zone(REFRESH).start().await.unwrap();
    let lame = primary.beside().zone("elsewhere.test").authoritative_only().start().await.unwrap();
    let ca = TestCa::builder().dns_server(primary.addr()).start().await.unwrap();
    let warnings = Warnings::default();
    let _logging = warnings.start();
    let authority = trusted(&ca.directory_url(), ca.root_pem()).unwrap().with_timeouts(timeouts());
    let solver = Dns01::with_resolver(rfc2136(&primary).unwrap(), resolver(&primary).unwrap());
    let acme = Pipeline::builder(authority, Arc::new(MemoryStore::new())).solver(solver).build().unwrap();
    acme.obtain(&CertificateSpec::new([NAME]).unwrap()).await.unwrap();
    let address = lame.addr().to_string();
    Warnings::told(
        &warnings.text(),
        &["WARN", "ns2.example.test", &address, "does not serve the zone", "Refused"],
    );
    assert_eq!(primary.txt_records("example.test").await.unwrap(), []);
    ca.shutdown().await;
}

#[tokio::test]
async fn a_secondary_that_never_has_it_is_an_error_that_names_each_server() {
    let both = Both::start(with_third(zone(Duration::from_secs(3600)))).await;
    let ca = TestCa::builder().dns_server(both.primary.addr()).start().await.unwrap();
    let mut short = timeouts();
    short.ready = Duration::from_secs(4);
    let authority = trusted(&ca.directory_url(), ca.root_pem()).unwrap().with_timeouts(short);
    let solver = Dns01::with_resolver(rfc2136(&both.primary).unwrap(), resolver(&both.primary).unwrap());
    let acme = Pipeline::builder(authority, Arc::new(MemoryStore::new())).solver(solver).build().unwrap();
    let error = acme.obtain(&CertificateSpec::new([NAME]).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    for told in [
        format!("ns1.example.test at {} has it", both.primary.addr()),
        format!("ns2.example.test at {} does not know the name yet", both.secondary.addr()),
        format!("ns3.example.test at {} does not answer", third(&both.primary)),
    ] {
        assert!(error.to_string().contains(&told), "`{told}` is not in: {error}");
    }
    assert!(error.hint().is_some(), "{error}");
    assert_eq!(both.primary.txt_records("example.test").await.unwrap(), []);
    ca.shutdown().await;
}
