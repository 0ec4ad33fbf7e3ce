//! Certificates that are got while the first client waits, and what strangers can do about it: nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acmekit::probe::served_chain;
use acmekit::stores::FileStore;
use acmekit::tls::{Ask, AutoTls, AutoTlsBuilder, OnDemand, Permission, TlsListener};
use acmekit::{Deadline, DnsName, Error, ErrorKind, Result, Store, async_trait};
use acmekit_scenarios::trusted;
use acmekit_server::faults::{Action, Fault};
use acmekit_server::{Endpoint, Problem, ProblemType, TestCa};
use acmekit_testbed::{Port, free_port, wait_for};
use tempfile::TempDir;
use tokio::task::JoinSet;

const LONG: Duration = Duration::from_secs(60);

/// Who is a customer; can be changed, can be down, and counts who asks.
#[derive(Debug, Default)]
struct Customers {
    names: Mutex<BTreeSet<String>>,
    down: AtomicBool,
    asked: AtomicUsize,
}

impl Customers {
    fn new(names: &[&str]) -> Arc<Self> {
        let customers = Self::default();
        customers.names.lock().unwrap().extend(names.iter().map(|name| (*name).to_owned()));
        Arc::new(customers)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Permission for Customers {
    async fn allows(&self, name: &DnsName) -> Result<bool> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match self.down.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Unavailable, "customers", "the database is down")),
            false => Ok(self.names.lock().unwrap().contains(name.as_str())),
        }
    }
}

struct Stage {
    ca: TestCa,
    port: Port,
    folder: TempDir,
}

/// A running service.
struct Service {
    tls: AutoTls,
    _serving: JoinSet<()>,
}

impl Stage {
    async fn set() -> Self {
        let port = free_port().unwrap();
        let ca = TestCa::builder().tls_port(port.number()).start().await.unwrap();
        Self { ca, port, folder: tempfile::tempdir().unwrap() }
    }

    fn builder(&self) -> AutoTlsBuilder {
        let authority = trusted(&self.ca.directory_url(), self.ca.root_pem()).unwrap();
        AutoTls::at(authority, Vec::<String>::new())
            .folder(self.folder.path().join("store"))
            .follow_every(Duration::from_millis(50))
    }

    async fn start(&self, on_demand: OnDemand) -> Service {
        let tls = self.builder().on_demand(on_demand).start().await.unwrap();
        let listener = tls.listen(self.port.addr()).await.unwrap();
        Service { tls, _serving: serve(listener) }
    }

    async fn store(&self) -> FileStore {
        FileStore::open(self.folder.path().join("store")).await.unwrap()
    }

    /// How many names are written down as got on demand.
    async fn noted(&self) -> usize {
        self.store().await.list(&"on-demand".parse().unwrap()).await.unwrap().len()
    }

    async fn sees(&self, name: &str) -> Result<Vec<u8>> {
        seen(self.port.addr(), name).await
    }
}

impl Service {
    async fn stop(self) {
        self.tls.shutdown().await;
    }
}

fn serve(mut listener: TlsListener) -> JoinSet<()> {
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    serving
}

async fn seen(address: SocketAddr, name: &str) -> Result<Vec<u8>> {
    let chain = served_chain(address, &name.parse().unwrap(), Deadline::after(LONG)).await?;
    Ok(chain.first().unwrap().clone())
}

#[tokio::test]
async fn many_handshakes_for_a_new_name_wait_for_one_order() {
    let (stage, customers) = (Stage::set().await, Customers::new(&["shop.example.com"]));
    let service = stage.start(OnDemand::by(Arc::clone(&customers))).await;
    let mut clients = JoinSet::new();
    for _ in 0..50 {
        let address = stage.port.addr();
        clients.spawn(async move { seen(address, "shop.example.com").await.unwrap() });
    }
    let leaves = clients.join_all().await;
    assert!(leaves.windows(2).all(|two| two.first() == two.last()));
    assert_eq!((stage.ca.certificates_issued(), stage.ca.requests(Endpoint::NewOrder)), (1, 1));
    assert_eq!(customers.asked(), 1);
    service.stop().await;
}

#[tokio::test]
async fn a_name_that_is_not_allowed_costs_one_question_and_no_order() {
    let (stage, customers) = (Stage::set().await, Customers::new(&[]));
    let service = stage.start(OnDemand::by(Arc::clone(&customers))).await;
    for _ in 0..5 {
        stage.sees("stranger.example.com").await.unwrap_err();
    }
    assert_eq!((customers.asked(), stage.ca.requests(Endpoint::NewOrder)), (1, 0));
    service.stop().await;
}

#[tokio::test]
async fn nobody_is_asked_about_what_is_no_public_name() {
    let (stage, customers) = (Stage::set().await, Customers::new(&["com", "co.uk", "intra.corp"]));
    let service = stage.start(OnDemand::by(Arc::clone(&customers))).await;
    for name in ["com", "co.uk", "intra.corp", "localhost", "www.example.test", "a_b.example.com"] {
        acmekit_testbed::handshake(stage.port.addr(), name).await.unwrap_err();
    }
    assert_eq!((customers.asked(), stage.ca.requests(Endpoint::NewOrder)), (0, 0));
    service.stop().await;

    let service = stage.start(OnDemand::by(Arc::clone(&customers)).any_name()).await;
    stage.sees("intra.corp").await.unwrap();
    service.stop().await;
}

#[tokio::test]
async fn after_a_restart_what_was_got_is_served_also_while_nobody_can_say_who_is_allowed() {
    let (stage, customers) = (Stage::set().await, Customers::new(&["shop.example.com"]));
    let service = stage.start(OnDemand::by(Arc::clone(&customers))).await;
    let first = stage.sees("shop.example.com").await.unwrap();
    service.stop().await;

    customers.down.store(true, Ordering::SeqCst);
    let service = stage.start(OnDemand::by(Arc::clone(&customers))).await;
    assert_eq!(stage.sees("shop.example.com").await.unwrap(), first);
    stage.sees("new.example.com").await.unwrap_err();
    let health = service.tls.health().await.unwrap();
    assert_eq!(health.certificates.len(), 1, "it is renewed as before: {health:?}");
    service.stop().await;
    assert_eq!(stage.ca.certificates_issued(), 1);
}

#[tokio::test]
async fn a_name_that_has_lost_its_permission_is_served_no_longer() {
    let (stage, customers) = (Stage::set().await, Customers::new(&["a.example.com", "b.example.com"]));
    let service =
        stage.start(OnDemand::by(Arc::clone(&customers)).ask_again(Duration::from_millis(100))).await;
    stage.sees("a.example.com").await.unwrap();
    stage.sees("b.example.com").await.unwrap();
    customers.names.lock().unwrap().remove("a.example.com");
    let gone = wait_for(LONG, "it is served no longer", || async {
        stage.sees("a.example.com").await.is_err().then_some(())
    });
    gone.await.unwrap();
    stage.sees("b.example.com").await.unwrap();
    let left = wait_for(LONG, "it is renewed no longer", || async {
        let health = service.tls.health().await.ok()?;
        (health.certificates.len() == 1).then_some(health)
    });
    let left = left.await.unwrap();
    assert_eq!(left.certificates.first().unwrap().names, ["b.example.com"]);
    service.stop().await;
}

#[tokio::test]
async fn there_are_only_so_many_names_and_so_many_orders() {
    let (stage, customers) =
        (Stage::set().await, Customers::new(&["a.example.com", "b.example.com", "c.example.com"]));
    let service = stage.start(OnDemand::by(Arc::clone(&customers)).names_at_most(1)).await;
    stage.sees("a.example.com").await.unwrap();
    stage.sees("b.example.com").await.unwrap_err();
    service.stop().await;
    assert_eq!(stage.ca.requests(Endpoint::NewOrder), 1);

    let hour = Duration::from_secs(3600);
    let service = stage.start(OnDemand::by(Arc::clone(&customers)).orders(1, hour)).await;
    stage.sees("a.example.com").await.unwrap();
    stage.sees("b.example.com").await.unwrap();
    stage.sees("c.example.com").await.unwrap_err();
    service.stop().await;
    assert_eq!(stage.ca.requests(Endpoint::NewOrder), 2);
}

#[tokio::test]
async fn a_permission_that_was_lost_does_not_come_back_while_nobody_can_say() {
    let (stage, customers) = (Stage::set().await, Customers::new(&["shop.example.com"]));
    let often = Duration::from_millis(50);
    let on_demand = || OnDemand::by(Arc::clone(&customers)).ask_again(often).refusals_last(often);
    let service = stage.start(on_demand()).await;
    stage.sees("shop.example.com").await.unwrap();
    customers.names.lock().unwrap().clear();
    let noted = wait_for(LONG, "it is forgotten", || async { (stage.noted().await == 0).then_some(()) });
    noted.await.unwrap();
    customers.down.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        stage.sees("shop.example.com").await.unwrap_err();
        tokio::time::sleep(often).await;
    }
    service.stop().await;
}

#[tokio::test]
async fn a_name_that_has_become_one_of_the_programs_own_is_left_alone() {
    let (stage, customers) = (Stage::set().await, Customers::new(&["shop.example.com"]));
    let on_demand = || OnDemand::by(Arc::clone(&customers)).ask_again(Duration::from_millis(50));
    let service = stage.start(on_demand()).await;
    let first = stage.sees("shop.example.com").await.unwrap();
    service.stop().await;

    customers.names.lock().unwrap().clear();
    let own = acmekit::CertificateSpec::new(["shop.example.com"]).unwrap();
    let tls = stage.builder().certificate(own).on_demand(on_demand()).start().await.unwrap();
    let asked = customers.asked();
    let _serving = serve(tls.listen(stage.port.addr()).await.unwrap());
    assert_eq!(stage.noted().await, 0);
    // Some looks later it is as before, and nobody was asked about it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(stage.sees("shop.example.com").await.unwrap(), first);
    assert_eq!((customers.asked(), stage.ca.certificates_issued()), (asked, 1));
    tls.shutdown().await;
}

#[tokio::test]
async fn what_there_is_keeps_no_service_from_starting() {
    let names = ["a.example.com", "b.example.com", "c.example.com"];
    let (stage, customers) = (Stage::set().await, Customers::new(&names));
    let service = stage.start(OnDemand::by(Arc::clone(&customers))).await;
    for name in names {
        stage.sees(name).await.unwrap();
    }
    service.stop().await;
    // A certificate is damaged behind its back, and there may be fewer names than there are.
    let damaged = acmekit::CertificateSpec::new(["c.example.com"]).unwrap();
    let store = stage.store().await;
    let key = format!("certificates/{}", damaged.id()).parse().unwrap();
    let nonsense = acmekit::Secret::new(b"nonsense".to_vec());
    store.save(&key, &nonsense, &acmekit::Condition::ANY).await.unwrap();
    let service = stage.start(OnDemand::by(Arc::clone(&customers)).names_at_most(1)).await;
    stage.sees("a.example.com").await.unwrap();
    stage.sees("b.example.com").await.unwrap();
    service.stop().await;
}

#[tokio::test]
async fn a_customer_whose_domain_leads_elsewhere_makes_the_service_no_less_healthy() {
    let (stage, customers) = (Stage::set().await, Customers::new(&["shop.example.com"]));
    stage.ca.faults().add(Fault::new(Endpoint::NewOrder, Action::Reset).always());
    let service = stage.start(OnDemand::by(Arc::clone(&customers))).await;
    stage.sees("shop.example.com").await.unwrap_err();
    let health = service.tls.health().await.unwrap();
    assert!(health.certificates.iter().any(|one| one.on_demand), "{health:?}");
    assert!(health.is_serving() && !health.is_well(), "{health:?}");
    service.stop().await;
}

#[tokio::test]
async fn two_processes_on_one_store_get_one_certificate_and_both_their_clients_are_served() {
    let (stage, customers) = (Stage::set().await, Customers::new(&["shop.example.com"]));
    let slow = Duration::from_secs(2);
    stage.ca.faults().add(Fault::new(Endpoint::NewOrder, Action::Delay(slow)).times(1));
    let one = stage.start(OnDemand::by(Arc::clone(&customers))).await;
    let other = stage.builder().on_demand(OnDemand::by(Arc::clone(&customers))).start().await.unwrap();
    let listener = other.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _serving = serve(listener);
    let (first, second) = tokio::join!(stage.sees("shop.example.com"), seen(address, "shop.example.com"));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!((stage.ca.requests(Endpoint::NewOrder), stage.ca.certificates_issued()), (1, 1));
    one.stop().await;
}

#[tokio::test]
async fn what_the_ca_will_not_grant_is_refused_at_once_from_then_on() {
    let (stage, customers) = (Stage::set().await, Customers::new(&["shop.example.com"]));
    let refusal = Action::problem(&Problem::new(ProblemType::RejectedIdentifier, "not by us"));
    stage.ca.faults().add(Fault::new(Endpoint::NewOrder, refusal).after_effect().always());
    for _ in 0..2 {
        let service = stage.start(OnDemand::by(Arc::clone(&customers)).wait(Duration::from_secs(3600))).await;
        for _ in 0..3 {
            let soon = Duration::from_secs(20);
            tokio::time::timeout(soon, stage.sees("shop.example.com")).await.unwrap().unwrap_err();
        }
        service.stop().await;
    }
    assert_eq!(stage.ca.requests(Endpoint::NewOrder), 1);
}

#[tokio::test]
async fn a_handshake_ends_at_its_deadline_with_an_alert_and_the_order_goes_on() {
    let (stage, customers) = (Stage::set().await, Customers::new(&["shop.example.com"]));
    let slow = Duration::from_secs(3);
    stage.ca.faults().add(Fault::new(Endpoint::NewOrder, Action::Delay(slow)).times(1));
    let wait = Duration::from_millis(500);
    let service = stage.start(OnDemand::by(Arc::clone(&customers)).wait(wait)).await;
    let error = stage.sees("shop.example.com").await.unwrap_err();
    assert!(error.report().contains("alert"), "{}", error.report());
    let served = wait_for(LONG, "it is served", || async { stage.sees("shop.example.com").await.ok() });
    served.await.unwrap();
    assert_eq!(stage.ca.certificates_issued(), 1);
    service.stop().await;
}

#[tokio::test]
async fn after_a_failure_handshakes_are_refused_at_once_until_it_is_tried_again() {
    let (stage, customers) = (Stage::set().await, Customers::new(&["shop.example.com"]));
    stage.ca.faults().add(Fault::new(Endpoint::NewOrder, Action::Reset).always());
    let service = stage.start(OnDemand::by(Arc::clone(&customers)).wait(Duration::from_secs(3600))).await;
    // The first waits until it is known that there will be none, the others do not wait; or the test takes an hour.
    for _ in 0..3 {
        let soon = Duration::from_secs(20);
        tokio::time::timeout(soon, stage.sees("shop.example.com")).await.unwrap().unwrap_err();
    }
    assert_eq!(customers.asked(), 1);
    service.stop().await;
}

#[tokio::test]
async fn a_server_is_asked_by_http_and_its_status_is_the_answer() {
    use axum::extract::Query;
    use axum::http::StatusCode;
    #[derive(serde::Deserialize)]
    struct Question {
        domain: String,
        token: String,
    }
    let allowed = axum::routing::get(async |Query(question): Query<Question>| {
        assert_eq!(question.token, "t0ken");
        match question.domain.split_once('.').unwrap().0 {
            "yes" => StatusCode::OK,
            "no" => StatusCode::FORBIDDEN,
            "unknown" => StatusCode::NOT_FOUND,
            "busy" => StatusCode::TOO_MANY_REQUESTS,
            "elsewhere" => StatusCode::FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    });
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/allowed?token=t0ken", tcp.local_addr().unwrap());
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(tcp, axum::Router::new().route("/allowed", allowed)).await });
    let ask = Ask::new(&url).unwrap();
    let says = async |name: &str| ask.allows(&format!("{name}.example.com").parse().unwrap()).await;
    assert!(says("yes").await.unwrap());
    assert!(!says("no").await.unwrap());
    assert!(!says("unknown").await.unwrap());
    for (name, kind) in [
        ("busy", ErrorKind::Unavailable),
        ("elsewhere", ErrorKind::Protocol),
        ("broken", ErrorKind::Protocol),
    ] {
        let error = says(name).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{name}");
        assert!(!error.report().contains("t0ken"), "{}", error.report());
    }
    assert!(!format!("{ask:?}").contains("t0ken"));
    serving.shutdown().await;
    let error = says("yes").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!error.report().contains("t0ken"), "{}", error.report());
    let error = Ask::new("http://ask.example.com/?token=t0ken").unwrap_err();
    assert!(!error.report().contains("t0ken"), "{}", error.report());
}

/// How much memory this process has now, in bytes.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_handshakes_with_random_names_spend_nothing_and_keep_no_customer_waiting() {
    let (stage, customers) = (Stage::set().await, Customers::new(&["old.example.com", "new.example.com"]));
    let service = stage.start(OnDemand::by(Arc::clone(&customers))).await;
    let address = stage.port.addr();
    stage.sees("old.example.com").await.unwrap();
    let before = memory();

    let served = Arc::new(AtomicUsize::new(0));
    let mut attack = JoinSet::new();
    for attacker in 0..50u32 {
        attack.spawn(async move {
            for n in 0..200u32 {
                seen(address, &format!("r{attacker}-{n}.example.com")).await.unwrap_err();
            }
        });
    }
    // A customer of old, and one whose first handshake falls into the attack.
    let mut clients = JoinSet::new();
    for name in ["old.example.com", "new.example.com"] {
        let served = Arc::clone(&served);
        clients.spawn(async move {
            loop {
                seen(address, name).await.unwrap();
                served.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    attack.join_all().await;
    assert!(clients.try_join_next().is_none(), "a customer was turned away");
    clients.shutdown().await;
    let grown = memory().saturating_sub(before);
    println!(
        "{} handshakes of customers meanwhile; {} kB more memory",
        served.load(Ordering::SeqCst),
        grown / 1024
    );
    assert!(served.load(Ordering::SeqCst) > 100, "customers were kept waiting");
    // Both ends of all connections live in this process.
    assert!(grown < 64 << 20, "{grown} bytes more than before");
    assert_eq!((stage.ca.requests(Endpoint::NewOrder), stage.ca.certificates_issued()), (2, 2));
    service.stop().await;
}
