//! What a program that embeds acmekit can see: metrics, in any recorder, and the span around all work for a certificate.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use acmekit::dns::Resolver;
use acmekit::limits::{Limit, Limits};
use acmekit::metrics::{
    BUDGET_BLOCKED_UNTIL, BUDGET_LEFT, CA_REQUEST_DURATION, CERTIFICATE_NOT_AFTER, CHALLENGE_DURATION,
    DEPLOYMENTS, DNS_PROVIDER_CALL_DURATION, RENEWALS,
};
use acmekit::solvers::Dns01;
use acmekit::stores::MemoryStore;
use acmekit::{
    Authority, Bundle, CertificateId, CertificateSpec, Challenge, ChallengeKind, ChallengeSolver, Clock,
    Deadline, Deployer, DnsName, DnsProvider, Error, ErrorKind, Manager, Outcome, Pipeline, PipelineBuilder,
    Presentation, RecordHandle, Result, Store, TxtRecord, Zone, async_trait,
};
use acmekit_scenarios::NoProof;
use acmekit_server::faults::{Action, Answer, Fault, RetryAfter};
use acmekit_server::{Endpoint, MovableClock, Problem, ProblemType, TestCa};
use metrics::set_default_local_recorder;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tokio::net::UdpSocket;
use tracing_subscriber::util::SubscriberInitExt;

const HOUR: Duration = Duration::from_secs(3600);

/// How long the answer to a challenge takes to be put up.
const WORK: Duration = Duration::from_secs(3);

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// A CA in paused time.
async fn paused_ca() -> TestCa {
    TestCa::builder().always_valid().clock(MovableClock::paced(start())).start().await.unwrap()
}

fn limits() -> Limits {
    Limits::none().with_orders_per_account(Limit::new(10, HOUR))
}

fn parts(ca: &TestCa, store: &Arc<dyn Store>) -> PipelineBuilder {
    let authority = Authority::custom(&ca.directory_url()).unwrap().with_id("first").agree_to_terms();
    let authority = authority.with_limits(limits()).through(ca.in_process());
    Pipeline::builder(authority, Arc::clone(store)).clock(Arc::new(ca.clock().clone()))
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

fn spec(name: &str) -> CertificateSpec {
    CertificateSpec::new([name]).unwrap()
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Everything a recorder was told, by name and labels: `name{label=value,…}`, the labels sorted.
struct Seen(BTreeMap<String, DebugValue>);

impl Seen {
    /// Takes it out of the recorder, which is as new then. What holds for all metrics is checked on the way.
    fn take(recorder: &DebuggingRecorder) -> Self {
        let all = [
            BUDGET_BLOCKED_UNTIL,
            BUDGET_LEFT,
            CA_REQUEST_DURATION,
            CERTIFICATE_NOT_AFTER,
            CHALLENGE_DURATION,
            DEPLOYMENTS,
            DNS_PROVIDER_CALL_DURATION,
            RENEWALS,
        ];
        let mut seen = BTreeMap::new();
        for (key, unit, description, value) in recorder.snapshotter().snapshot().into_vec() {
            let name = key.key().name();
            assert!(all.contains(&name) && description.is_some() && unit.is_some(), "{key:?}");
            let mut labels = Vec::new();
            for label in key.key().labels() {
                let word = label.value();
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
                assert!(word.len() <= 32 && word.chars().all(plain), "a label is a word: {word:?}");
                labels.push(format!("{}={word}", label.key()));
            }
            labels.sort();
            seen.insert(format!("{name}{{{}}}", labels.join(",")), value);
        }
        Self(seen)
    }

    fn get(&self, name: &str, labels: &str) -> Option<&DebugValue> {
        self.0.get(&format!("{name}{{{labels}}}"))
    }

    fn count(&self, name: &str, labels: &str) -> u64 {
        match self.get(name, labels) {
            Some(DebugValue::Counter(count)) => *count,
            other => panic!("{name} {labels}: {other:?} in {:#?}", self.0),
        }
    }

    fn gauge(&self, name: &str, labels: &str) -> f64 {
        match self.get(name, labels) {
            Some(DebugValue::Gauge(value)) => value.into_inner(),
            other => panic!("{name} {labels}: {other:?} in {:#?}", self.0),
        }
    }

    fn times(&self, name: &str, labels: &str) -> Vec<f64> {
        match self.get(name, labels) {
            Some(DebugValue::Histogram(values)) => values.iter().map(|value| value.into_inner()).collect(),
            other => panic!("{name} {labels}: {other:?} in {:#?}", self.0),
        }
    }

    /// The series of a metric.
    fn series(&self, name: &str) -> Vec<&str> {
        let of = |key: &&String| key.split('{').next() == Some(name);
        self.0.keys().filter(of).map(String::as_str).collect()
    }
}

/// Takes its time, and has no credential for one name.
#[derive(Debug)]
struct Slow;

#[async_trait]
impl ChallengeSolver for Slow {
    fn kind(&self) -> ChallengeKind {
        ChallengeKind::Dns01
    }
    async fn prepare(&self, challenge: &Challenge, _: Deadline) -> Result<Presentation> {
        match challenge.identifier.to_string().as_str() {
            "bad.example" => Err(Error::new(ErrorKind::Auth, "slow.prepare", "the token s3cr3t/== is wrong")),
            _ => Ok(Presentation::new(challenge.clone())),
        }
    }
    async fn present(&self, presentation: &Presentation, _: Deadline) -> Result<Presentation> {
        tokio::time::sleep(WORK).await;
        Ok(presentation.clone())
    }
    async fn ready(&self, _: &Presentation, _: Deadline) -> Result<()> {
        Ok(())
    }
    async fn cleanup(&self, _: &Presentation, _: Deadline) -> Result<()> {
        Ok(())
    }
}

/// A server, in order or not.
#[derive(Debug, Clone)]
struct Server(&'static str, Arc<AtomicBool>);

impl Server {
    fn new(id: &'static str, in_order: bool) -> Self {
        Self(id, Arc::new(AtomicBool::new(in_order)))
    }
}

#[async_trait]
impl Deployer for Server {
    fn id(&self) -> &str {
        self.0
    }
    async fn deploy(&self, _: &Bundle) -> Result<Outcome> {
        tracing::info!("a deployer is at work");
        match self.1.load(Ordering::SeqCst) {
            true => Ok(Outcome::Applied),
            false => {
                Err(Error::new(ErrorKind::Deploy, "server.deploy", "https://edge.example is out of order"))
            }
        }
    }
    async fn verify(&self, _: &Bundle) -> Result<()> {
        Ok(())
    }
    async fn remove(&self, _: &CertificateId) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_fleet_shows_what_is_valid_what_failed_how_long_it_took_and_what_is_left() {
    let recorder = DebuggingRecorder::new();
    let guard = set_default_local_recorder(&recorder);
    let (ca, store) = (paused_ca().await, memory());
    let build = || {
        let parts = parts(&ca, &store).solver(Slow);
        parts.deployer(Server::new("web", true)).deployer(Server::new("edge", false)).build().unwrap()
    };
    let manager = Manager::builder(build()).start();
    let good: Vec<CertificateSpec> = (0..5).map(|n| spec(&format!("n{n}.example"))).collect();
    for one in good.iter().chain([&spec("bad.example")]) {
        manager.add(one.clone()).await.unwrap();
    }
    manager.settled().await.unwrap();
    let status = manager.status().await.unwrap();
    manager.shutdown().await;
    let seen = Seen::take(&recorder);

    assert_eq!(seen.count(RENEWALS, "authority=first,result=issued"), 5);
    assert_eq!(seen.count(RENEWALS, "authority=first,result=auth"), 1);
    assert_eq!(seen.count(DEPLOYMENTS, "deployer=web,result=applied"), 5);
    assert_eq!(seen.count(DEPLOYMENTS, "deployer=edge,result=deploy"), 5);

    for one in &good {
        let bundle = build().load(one.id()).await.unwrap().unwrap();
        let shown = seen.gauge(CERTIFICATE_NOT_AFTER, &format!("certificate={}", one.id()));
        assert!((shown - seconds(bundle.facts().not_after)).abs() < 1e-3, "{shown}");
    }
    assert_eq!(seen.series(CERTIFICATE_NOT_AFTER).len(), 5, "there is none for the name that failed");

    for (request, count) in [("directory", 1), ("newAccount", 1), ("newOrder", 6), ("finalize", 5)] {
        let labels = format!("authority=first,request={request},result=2xx");
        assert_eq!(seen.times(CA_REQUEST_DURATION, &labels).len(), count, "{request}");
    }
    assert_eq!(seen.times(CHALLENGE_DURATION, "kind=dns-01,phase=prepare,result=auth").len(), 1);
    for (phase, each) in [("prepare", 0.0), ("present", WORK.as_secs_f64()), ("ready", 0.0), ("cleanup", 0.0)]
    {
        let times = seen.times(CHALLENGE_DURATION, &format!("kind=dns-01,phase={phase},result=ok"));
        assert_eq!(times.len(), 5, "{phase}");
        assert!(times.iter().all(|time| (time - each).abs() < 0.1), "{phase}: {times:?}");
    }

    let left = status.authorities[0].budget.orders.unwrap();
    assert!((4..10).contains(&left), "six of ten are spent, and none or few are back: {left}");
    assert_eq!(seen.gauge(BUDGET_LEFT, "authority=first,limit=orders_per_account"), f64::from(left));
    assert_eq!(seen.gauge(BUDGET_BLOCKED_UNTIL, "authority=first"), 0.0);

    // Another process, with another recorder, starts with what is in the store.
    drop(guard);
    let recorder = DebuggingRecorder::new();
    let _guard = set_default_local_recorder(&recorder);
    let manager = Manager::builder(build()).start();
    for one in &good {
        manager.add(one.clone()).await.unwrap();
    }
    manager.remove(good[0].id()).await.unwrap();
    let seen = Seen::take(&recorder);
    assert!(seen.gauge(CERTIFICATE_NOT_AFTER, &format!("certificate={}", good[0].id())).is_nan());
    for one in &good[1..] {
        assert!(seen.gauge(CERTIFICATE_NOT_AFTER, &format!("certificate={}", one.id())) > seconds(start()));
    }
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_held_back_for_its_budget_is_told_from_one_the_ca_refused() {
    let recorder = DebuggingRecorder::new();
    let _guard = set_default_local_recorder(&recorder);
    let ca = paused_ca().await;
    let pipeline = parts(&ca, &memory()).solver(NoProof::default()).build().unwrap();
    let names = |n: usize| spec(&format!("n{n}.example"));
    for n in 0..10 {
        pipeline.obtain(&names(n)).await.unwrap();
    }
    assert_eq!(pipeline.obtain(&names(10)).await.unwrap_err().kind(), ErrorKind::RateLimited);
    let seen = Seen::take(&recorder);
    assert_eq!(seen.count(RENEWALS, "authority=first,result=issued"), 10);
    assert_eq!(seen.count(RENEWALS, "authority=first,result=budget-spent"), 1);
    assert_eq!(seen.gauge(BUDGET_LEFT, "authority=first,limit=orders_per_account"), 0.0);

    // The CA wants no order at all, for half an hour.
    tokio::time::sleep(HOUR).await;
    let busy = Problem::new(ProblemType::RateLimited, "come again");
    let refusal = Action::Respond(Answer::problem(&busy).retry_after(RetryAfter::Seconds(1800)));
    ca.faults().add(Fault::new(Endpoint::NewOrder, refusal));
    assert_eq!(pipeline.obtain(&names(11)).await.unwrap_err().kind(), ErrorKind::RateLimited);
    let seen = Seen::take(&recorder);
    assert_eq!(seen.count(RENEWALS, "authority=first,result=rate-limited"), 1);
    assert_eq!(seen.times(CA_REQUEST_DURATION, "authority=first,request=newOrder,result=4xx").len(), 1);
    let blocked = seen.gauge(BUDGET_BLOCKED_UNTIL, "authority=first") - seconds(ca.clock().now());
    assert!((1799.0..=1800.0).contains(&blocked), "{blocked}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_waits_for_any_more_counts_too() {
    let recorder = DebuggingRecorder::new();
    let _guard = set_default_local_recorder(&recorder);
    let ca = paused_ca().await;
    let pipeline = parts(&ca, &memory()).solver(NoProof::default()).build().unwrap();
    let first = pipeline.obtain(&spec("www.example")).await.unwrap();
    ca.faults().add(Fault::new(Endpoint::RenewalInfo, Action::Hang).always());
    assert!(!pipeline.obtain(&spec("www.example")).await.unwrap().fresh && first.fresh);
    let seen = Seen::take(&recorder);
    let times = seen.times(CA_REQUEST_DURATION, "authority=first,request=renewalInfo,result=dropped");
    assert!(matches!(times.as_slice(), [time] if (time - 5.0).abs() < 0.1), "{times:?}");
    assert_eq!(
        seen.count(RENEWALS, "authority=first,result=issued"),
        1,
        "nothing was ordered the second time"
    );
}

/// A vendor with one zone, whose API takes no record for one name.
#[derive(Debug)]
struct Vendor;

#[async_trait]
impl DnsProvider for Vendor {
    fn id(&self) -> &str {
        "vendor"
    }
    async fn zone(&self, _: &DnsName) -> Result<Option<Zone>> {
        Ok(Some(Zone::new("example".parse()?)))
    }
    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        match record.name.as_str().contains("bad") {
            true => Err(Error::new(ErrorKind::Auth, "vendor.add", "not for this name")),
            false => Ok(RecordHandle::intent("vendor", zone.clone(), record.clone())),
        }
    }
    async fn remove_txt(&self, _: &RecordHandle) -> Result<()> {
        Ok(())
    }
}

/// A resolver that knows no name at all.
async fn answer_nxdomain(socket: UdpSocket) {
    let mut packet = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut packet).await {
        // The question back, as an answer (QR, RD, RA) with the code NXDOMAIN; the OPT record of the question is cut off.
        let name = packet[12..length].iter().position(|octet| *octet == 0).unwrap();
        let end = 12 + name + 5;
        packet[2..12].copy_from_slice(&[0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]);
        socket.send_to(&packet[..end], from).await.unwrap();
    }
}

#[tokio::test]
async fn calls_of_a_dns_provider_are_told_by_provider_and_operation() {
    let recorder = DebuggingRecorder::new();
    let _guard = set_default_local_recorder(&recorder);
    let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let resolver = Resolver::new([socket.local_addr().unwrap()]).unwrap();
    let ca = TestCa::builder().always_valid().start().await.unwrap();
    let solver = Dns01::with_resolver(Vendor, resolver).wait_instead_of_asking(Duration::ZERO);
    let pipeline = parts(&ca, &memory()).solver(solver).build().unwrap();
    let work = async {
        pipeline.obtain(&spec("www.example")).await.unwrap();
        assert_eq!(pipeline.obtain(&spec("bad.example")).await.unwrap_err().kind(), ErrorKind::Auth);
    };
    tokio::select! {
        () = work => {}
        () = answer_nxdomain(socket) => panic!("the resolver has ended"),
    }
    let seen = Seen::take(&recorder);
    for (op, result, count) in [
        ("dns01.zone", "ok", 2),
        ("dns01.present", "ok", 1),
        ("dns01.present", "auth", 1),
        ("dns01.cleanup", "ok", 2),
    ] {
        let times =
            seen.times(DNS_PROVIDER_CALL_DURATION, &format!("op={op},provider=vendor,result={result}"));
        assert_eq!(times.len(), count, "{op} {result}");
    }
}

/// What is logged, a line each.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines_with(&self, text: &str) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = String::from_utf8_lossy(&all);
        all.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_done_for_a_certificate_is_logged_in_one_span() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = subscriber.set_default();
    let ca = paused_ca().await;
    let edge = Server::new("edge", false);
    let build = || parts(&ca, &memory()).solver(NoProof::default()).deployer(edge.clone()).build().unwrap();

    build().obtain(&spec("www.example")).await.unwrap();
    let alone = log.lines_with("a deployer is at work");
    assert_eq!(alone.len(), 1);
    let manager = Manager::builder(build()).start();
    manager.add(spec("www.example")).await.unwrap();
    manager.settled().await.unwrap();
    edge.1.store(true, Ordering::SeqCst);
    tokio::time::sleep(HOUR).await;
    manager.shutdown().await;

    let (deployed, asked) = (log.lines_with("a deployer is at work"), log.lines_with("RenewalSuggested"));
    assert!(deployed.len() == 3 && asked.len() == 1, "{deployed:#?} {asked:#?}");
    for line in deployed.iter().chain(&asked) {
        let spans = line.matches("certificate{id=www.example").count();
        assert_eq!(spans, 1, "{line}");
    }
    let ordered = |line: &String| line.contains("authority=\"first\"");
    let ordered: Vec<bool> = deployed.iter().chain(&asked).map(ordered).collect();
    assert_eq!(ordered, [true, true, false, false], "{deployed:#?} {asked:#?}");
}
