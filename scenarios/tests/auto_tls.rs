//! A service whose TLS looks after itself: what its clients see, from the first start to a renewal while the CA is down.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use acmekit::probe::served_chain;
use acmekit::tls::{AutoTls, AutoTlsBuilder, Standing, TlsAcceptor, TlsListener, server_config};
use acmekit::{CertificateSpec, Deadline, ErrorKind, Identifier};
use acmekit_scenarios::trusted;
use acmekit_server::faults::{Action, Fault};
use acmekit_server::{Endpoint, TestCa, TestCaBuilder};
use acmekit_testbed::{Port, free_port, wait_for};
use tempfile::TempDir;
use tokio::task::JoinSet;

const NAME: &str = "www.example.test";
const LONG: Duration = Duration::from_secs(60);

/// A CA, a port that it connects to, and a folder to keep things in.
struct Stage {
    ca: TestCa,
    port: Port,
    folder: TempDir,
}

impl Stage {
    async fn set(build: impl FnOnce(TestCaBuilder) -> TestCaBuilder) -> Self {
        let port = free_port().unwrap();
        let ca = build(TestCa::builder().tls_port(port.number())).start().await.unwrap();
        Self { ca, port, folder: tempfile::tempdir().unwrap() }
    }

    fn tls(&self) -> AutoTlsBuilder {
        self.tls_for(&[NAME])
    }

    fn tls_for(&self, names: &[&str]) -> AutoTlsBuilder {
        let authority = trusted(&self.ca.directory_url(), self.ca.root_pem()).unwrap();
        AutoTls::at(authority, names.iter().copied()).folder(self.folder.path().join("store"))
    }
}

/// Accepts whoever comes until it is dropped.
fn serve(mut listener: TlsListener) -> JoinSet<()> {
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    serving
}

/// The leaf that a client of this name sees.
async fn seen(address: SocketAddr, name: &str) -> acmekit::Result<Vec<u8>> {
    let name: Identifier = name.parse().unwrap();
    let chain = served_chain(address, &name, Deadline::after(LONG)).await?;
    Ok(chain.first().unwrap().clone())
}

fn serial_of(leaf: &[u8]) -> String {
    acmekit_testbed::serial_of(leaf).unwrap()
}

#[tokio::test]
async fn the_first_certificate_is_there_when_it_listens() {
    let stage = Stage::set(|ca| ca).await;
    let tls = stage.tls().start().await.unwrap();
    let _serving = serve(tls.listen(stage.port.addr()).await.unwrap());
    assert_eq!(stage.ca.certificates_issued(), 1);
    let leaf = seen(stage.port.addr(), NAME).await.unwrap();
    let health = tls.health().await.unwrap();
    assert!(health.is_serving() && health.is_well(), "{health:?}");
    let one = health.certificates.first().unwrap();
    let serial = one.serial.as_deref().unwrap().to_ascii_lowercase();
    assert_eq!(serial.trim_start_matches('0'), serial_of(&leaf));
    // A name that nobody asked for gets an alert.
    let error = seen(stage.port.addr(), "other.example.test").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
    tls.shutdown().await;
}

#[tokio::test]
async fn what_is_stored_is_served_at_once_though_the_ca_is_down() {
    let stage = Stage::set(|ca| ca).await;
    let tls = stage.tls().start().await.unwrap();
    let serving = serve(tls.listen(stage.port.addr()).await.unwrap());
    let first = seen(stage.port.addr(), NAME).await.unwrap();
    tls.shutdown().await;
    drop(serving);

    // It accepts connections, and says nothing.
    stage.ca.faults().add(Fault::everywhere(Action::Hang).always());
    let tls = stage.tls().first_within(Duration::ZERO).start().await.unwrap();
    let _serving = serve(tls.listen(stage.port.addr()).await.unwrap());
    assert_eq!(seen(stage.port.addr(), NAME).await.unwrap(), first);
    assert!(tls.health().await.unwrap().is_serving());
}

#[tokio::test]
async fn a_renewal_that_fails_shows_in_its_health_while_the_old_one_is_served() {
    let stage = Stage::set(|ca| ca).await;
    let tls = stage.tls().start().await.unwrap();
    let _serving = serve(tls.listen(stage.port.addr()).await.unwrap());
    let first = seen(stage.port.addr(), NAME).await.unwrap();
    stage.ca.faults().add(Fault::new(Endpoint::NewOrder, Action::Reset).always());
    let id = tls.health().await.unwrap().certificates.first().unwrap().id.clone();
    tls.manager().force(&id).await.unwrap();
    let sick = wait_for(LONG, "the failure shows", || async {
        tls.health().await.ok().filter(|health| !health.is_well())
    });
    let sick = sick.await.unwrap();
    assert!(sick.is_serving(), "{sick:?}");
    assert!(sick.certificates.first().unwrap().trouble.is_some());
    assert_eq!(seen(stage.port.addr(), NAME).await.unwrap(), first);
}

#[tokio::test]
async fn a_renewal_that_is_forced_while_the_first_one_is_being_finished_is_not_put_off() {
    let stage = Stage::set(|ca| ca).await;
    let tls = stage.tls().start().await.unwrap();
    // It listens as soon as the certificate is served; the manager has yet to write down that it is.
    let _serving = serve(tls.listen(stage.port.addr()).await.unwrap());
    for id in tls.resolver().served() {
        assert!(tls.manager().force(&id).await.unwrap());
    }
    let again = wait_for(Duration::from_secs(20), "it is renewed", || async {
        (stage.ca.certificates_issued() == 2).then_some(())
    });
    again.await.unwrap();
}

#[tokio::test]
async fn without_a_certificate_in_time_it_says_what_went_wrong() {
    // The CA connects to a port where nobody is.
    let nobody = free_port().unwrap();
    let stage = Stage::set(|ca| ca.tls_port(nobody.number())).await;
    let tls = stage.tls().first_within(Duration::from_secs(30)).start().await.unwrap();
    let error = tls.listen(stage.port.addr()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let report = error.report();
    assert!(report.contains("could not validate") || report.contains("tls-alpn-01"), "{report}");
}

#[tokio::test]
async fn a_mistake_is_told_soon_and_once_it_is_put_right_the_next_start_does_not_wait() {
    let terms = "https://ca.example.test/terms".to_owned();
    let stage = Stage::set(|ca| ca.settings(|settings| settings.terms_of_service = Some(terms))).await;
    let soon = Duration::from_secs(20);
    let ca = || {
        let ca = acmekit::Authority::custom(&stage.ca.directory_url()).unwrap().with_id("test-ca");
        AutoTls::at(ca.extra_roots_pem(stage.ca.root_pem()).unwrap(), [NAME])
            .folder(stage.folder.path().join("store"))
    };
    let tls = ca().start().await.unwrap();
    let listening = tokio::time::timeout(soon, tls.listen(stage.port.addr()));
    let report = listening.await.unwrap().unwrap_err().report();
    assert!(report.contains("agree_to_terms") && report.contains("failed_at"), "{report}");
    tls.shutdown().await;

    let tls = ca().agree_to_terms().start().await.unwrap();
    let listening = tokio::time::timeout(soon, tls.listen(stage.port.addr()));
    let _serving = serve(listening.await.unwrap().unwrap());
    seen(stage.port.addr(), NAME).await.unwrap();
}

#[tokio::test]
async fn what_failed_before_a_start_is_told_as_that_and_not_tried_before_its_time() {
    let nobody = free_port().unwrap();
    let stage = Stage::set(|ca| ca.tls_port(nobody.number())).await;
    let mut reports = Vec::new();
    for _ in 0..2 {
        let tls = stage.tls().first_within(Duration::from_secs(30)).start().await.unwrap();
        reports.push(tls.listen(stage.port.addr()).await.unwrap_err().report());
        tls.shutdown().await;
    }
    assert_eq!(stage.ca.requests(Endpoint::NewOrder), 1);
    assert!(
        !reports[0].contains("before this start") && reports[1].contains("before this start"),
        "{reports:?}"
    );
}

#[tokio::test]
async fn a_handshake_waits_for_a_certificate_that_is_being_got() {
    let stage = Stage::set(|ca| ca).await;
    let tls = stage.tls().without_waiting().start().await.unwrap();
    let _serving = serve(tls.listen(stage.port.addr()).await.unwrap());
    // Nothing is there yet; ten clients, and each of them gets it.
    let mut clients = JoinSet::new();
    for _ in 0..10 {
        let address = stage.port.addr();
        clients.spawn(async move { seen(address, NAME).await.unwrap() });
    }
    let leaves = clients.join_all().await;
    assert!(leaves.windows(2).all(|two| two.first() == two.last()));
    assert_eq!(stage.ca.certificates_issued(), 1);
}

#[tokio::test]
async fn a_placeholder_is_served_until_there_is_a_certificate() {
    let stage = Stage::set(|ca| ca).await;
    let down = stage.ca.faults().add(Fault::everywhere(Action::Reset).always());
    let tls = stage.tls().placeholder().start().await.unwrap();
    let _serving = serve(tls.listen(stage.port.addr()).await.unwrap());
    let placeholder = seen(stage.port.addr(), NAME).await.unwrap();
    let health = tls.health().await.unwrap();
    assert_eq!(health.certificates.first().unwrap().standing, Standing::Placeholder);
    assert!(!health.is_serving());

    stage.ca.faults().remove(down);
    let id = health.certificates.first().unwrap().id.clone();
    tls.manager().force(&id).await.unwrap();
    tls.ready(LONG).await.unwrap();
    let real = seen(stage.port.addr(), NAME).await.unwrap();
    assert_ne!(real, placeholder);
    assert_eq!(tls.health().await.unwrap().certificates.first().unwrap().standing, Standing::Valid);
}

#[tokio::test]
async fn a_change_of_names_serves_the_old_certificate_until_the_new_one_is_there() {
    let stage = Stage::set(|ca| ca).await;
    let named = |names: &[&str]| CertificateSpec::new(names).unwrap().named("web").unwrap();
    let tls = stage.tls_for(&[]).certificate(named(&[NAME])).start().await.unwrap();
    let serving = serve(tls.listen(stage.port.addr()).await.unwrap());
    let old = seen(stage.port.addr(), NAME).await.unwrap();
    tls.shutdown().await;
    drop(serving);

    let down = stage.ca.faults().add(Fault::everywhere(Action::Reset).always());
    let both = [NAME, "api.example.test"];
    let tls = stage.tls_for(&[]).certificate(named(&both)).without_waiting().start().await.unwrap();
    let _serving = serve(tls.listen(stage.port.addr()).await.unwrap());
    assert_eq!(seen(stage.port.addr(), NAME).await.unwrap(), old);
    assert_eq!(tls.ready(Duration::from_millis(1)).await.unwrap_err().kind(), ErrorKind::Timeout);

    stage.ca.faults().remove(down);
    tls.manager().force(&"web".parse().unwrap()).await.unwrap();
    tls.ready(LONG).await.unwrap();
    let new = seen(stage.port.addr(), "api.example.test").await.unwrap();
    assert_eq!(seen(stage.port.addr(), NAME).await.unwrap(), new);
}

#[tokio::test]
async fn what_the_manager_was_told_to_add_is_served_again_when_it_is_told_so_after_a_restart() {
    let stage = Stage::set(|ca| ca).await;
    let more = CertificateSpec::new(["more.example.test"]).unwrap();
    let mut serials = Vec::new();
    for _ in 0..2 {
        let tls = stage.tls().start().await.unwrap();
        let _serving = serve(tls.listen(stage.port.addr()).await.unwrap());
        tls.manager().add(more.clone()).await.unwrap();
        let leaf = wait_for(LONG, "it is served", || async {
            seen(stage.port.addr(), "more.example.test").await.ok()
        });
        serials.push(serial_of(&leaf.await.unwrap()));
        tls.manager().settled().await.unwrap();
        let status = tls.manager().status().await.unwrap();
        assert!(
            status.certificates.iter().flat_map(|one| one.deployments.values()).all(|there| there.current)
        );
        tls.shutdown().await;
    }
    assert_eq!((stage.ca.certificates_issued(), &serials[0]), (2, &serials[1]));
}

#[tokio::test]
async fn a_listener_keeps_its_renewals_going() {
    let stage = Stage::set(|ca| ca).await;
    let tls = stage.tls().start().await.unwrap();
    let listener = tls.listen(stage.port.addr()).await.unwrap();
    let mut events = tls.manager().events();
    drop(tls);
    // Nobody holds anything but the listener: the manager has not ended.
    let heard =
        tokio::time::timeout(Duration::from_millis(500), async { while events.next().await.is_some() {} });
    assert!(heard.await.is_err(), "the manager has ended");
    drop(listener);
    tokio::time::timeout(LONG, async { while events.next().await.is_some() {} }).await.unwrap();
}

#[tokio::test]
async fn http_01_is_answered_and_everything_else_sent_to_https() {
    let port = free_port().unwrap();
    let stage = Stage::set(|ca| ca.http_port(port.number())).await;
    let tls = stage.tls().by_http().start().await.unwrap();
    let http = tokio::net::TcpListener::bind(port.addr()).await.unwrap();
    let router = tls.http_router();
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(http, router).await });
    let _serving = serve(tls.listen(stage.port.addr()).await.unwrap());
    seen(stage.port.addr(), NAME).await.unwrap();

    let request = format!("GET /cart?id=1 HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\n\r\n");
    let answer = talk(port.addr(), &request).await;
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(answer.contains(&format!("location: https://{NAME}/cart?id=1\r\n")), "{answer}");
}

async fn talk(address: SocketAddr, request: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_client_that_names_nothing_gets_the_certificate_of_the_address_it_connected_to() {
    let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv4Addr::new(127, 0, 0, 2))];
    let resolver = acmekit::tls::CertResolver::new();
    let mut leaves = Vec::new();
    for address in addresses {
        let bundle = acmekit_conformance::test_bundle(&[&address.to_string()]).unwrap();
        resolver.serve(&bundle).unwrap();
        leaves.push(bundle.chain_der().first().unwrap().clone());
    }
    let tcp = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::new(&resolver, server_config(&resolver).unwrap());
    let _serving = serve(TlsListener::new(tcp, acceptor));
    for (address, leaf) in addresses.into_iter().zip(leaves) {
        assert_eq!(seen((address, port).into(), &address.to_string()).await.unwrap(), leaf);
    }
}

#[tokio::test]
async fn what_cannot_be_is_said_at_the_start() {
    let stage = Stage::set(|ca| ca).await;
    let authority = || trusted(&stage.ca.directory_url(), stage.ca.root_pem()).unwrap();
    for (builder, wanted) in [
        (AutoTls::at(authority(), ["a b"]).folder(stage.folder.path().join("x")), "a b"),
        (AutoTls::at(authority(), Vec::<String>::new()).folder(stage.folder.path().join("x")), "no name"),
        (AutoTls::at(authority(), [NAME]), "where certificates are kept"),
    ] {
        let error = builder.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(wanted) && error.hint().is_some(), "{}", error.report());
    }
}
