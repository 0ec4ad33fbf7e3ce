//! A CA that is broken, slow, endless or evasive costs one clear error, in time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "the test measures by the wall")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use acmekit::stores::MemoryStore;
use acmekit::{Authority, CertificateSpec, Error, ErrorKind, Pipeline, Retry};
use acmekit_scenarios::{NoProof, Recorder, timeouts, trusted};
use acmekit_server::faults::{Action, Fault};
use acmekit_server::{Endpoint, TestCa};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// What is sent after any request; then the connection is held open, or more of the same follows.
#[derive(Clone, Copy)]
enum Then {
    Close,
    Hold,
    RepeatForEver,
}

/// Serves these bytes over TLS to whoever asks anything.
struct Fake {
    address: SocketAddr,
    root_pem: String,
    _running: JoinSet<()>,
}

#[cfg(feature = "aws-lc-rs")]
use tokio_rustls::rustls::crypto::aws_lc_rs as provider;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use tokio_rustls::rustls::crypto::ring as provider;

impl Fake {
    async fn start(answer: String, then: Then) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut clients = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                clients.spawn(async move {
                    // A client that hangs up is what the test is after.
                    serve(acceptor, stream, &answer, then).await.ok();
                });
            }
        });
        Self { address, root_pem: certificate.pem(), _running: running }
    }

    async fn obtain(&self) -> (Error, Duration) {
        let authority = Authority::custom(&format!("https://{}/directory", self.address))
            .unwrap()
            .extra_roots_pem(&self.root_pem)
            .unwrap()
            .agree_to_terms()
            .with_timeouts(timeouts());
        let acme = Pipeline::builder(authority, Arc::new(MemoryStore::new()))
            .solver(NoProof::default())
            .build()
            .unwrap();
        let started = Instant::now();
        let error = acme.obtain(&CertificateSpec::new(["example.test"]).unwrap()).await.unwrap_err();
        (error, started.elapsed())
    }
}

async fn serve(
    acceptor: TlsAcceptor,
    stream: tokio::net::TcpStream,
    answer: &str,
    then: Then,
) -> std::io::Result<()> {
    let mut tls = acceptor.accept(stream).await?;
    let mut request = [0; 4096];
    while tls.read(&mut request).await? > 0 {
        tls.write_all(answer.as_bytes()).await?;
        tls.flush().await?;
        match then {
            Then::Close => return tls.shutdown().await,
            Then::Hold => std::future::pending().await,
            Then::RepeatForEver => loop {
                tls.write_all(answer.as_bytes()).await?;
            },
        }
    }
    Ok(())
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn broken_answers_are_told_as_what_they_are() {
    let html = "<html><body>Bad Gateway</body></html>";
    for (answer, kind, words) in [
        (response("502 Bad Gateway", "", html), ErrorKind::Unavailable, "502"),
        (response("500 Internal Server Error", "", ""), ErrorKind::Unavailable, "500"),
        (response("302 Found", "Location: https://elsewhere.example/\r\n", ""), ErrorKind::Protocol, "302"),
        (response("404 Not Found", "", "nothing here"), ErrorKind::NotFound, "404"),
        (response("200 OK", "", html), ErrorKind::Protocol, "not JSON"),
        (response("200 OK", "", r#"{"newNonce":"https://ca/"#), ErrorKind::Protocol, "ends too early"),
        (response("200 OK", "", r#"{"newNonce":7}"#), ErrorKind::Protocol, "of another type"),
        ("this is not HTTP\r\n\r\n".to_owned(), ErrorKind::Unavailable, "broke off"),
        (String::new(), ErrorKind::Unavailable, "broke off"),
    ] {
        let fake = Fake::start(answer.clone(), Then::Close).await;
        let (error, _) = fake.obtain().await;
        assert_eq!(error.kind(), kind, "{answer}: {}", error.report());
        let told = error.to_string();
        assert!(told.contains("directory") && told.contains(words), "{answer}: {told}");
        assert!(!told.contains('<') && !told.contains('\n'), "{told}");
    }
}

#[tokio::test]
async fn a_retry_after_is_kept_for_whoever_tries_again() {
    let answer = response("503 Service Unavailable", "Retry-After: 120\r\n", "");
    let (error, _) = Fake::start(answer, Then::Close).await.obtain().await;
    assert_eq!(error.retry(), Retry::After(Duration::from_secs(120)));
}

#[tokio::test]
async fn an_endless_answer_is_cut_at_one_mebibyte() {
    let line = "x".repeat(65_536);
    let endless = format!("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n{line}");
    let (error, took) = Fake::start(endless, Then::RepeatForEver).await.obtain().await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{}", error.report());
    assert!(error.to_string().contains("longer than 1 MiB"), "{error}");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_meets_the_deadline() {
    for answer in
        ["", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"newNonce\""]
    {
        let (error, took) = Fake::start(answer.to_owned(), Then::Hold).await.obtain().await;
        assert_eq!(error.kind(), ErrorKind::Timeout, "{answer}: {}", error.report());
        assert!(
            error.to_string().contains("phase=directory") && error.to_string().contains("deadline=3s"),
            "{error}"
        );
        assert!(took < Duration::from_secs(6), "{took:?}");
    }
}

#[tokio::test]
async fn a_directory_that_leads_away_from_https_is_not_followed() {
    let leads = r#"{"newNonce":"http://127.0.0.1:1/n","newAccount":"http://127.0.0.1:1/a","newOrder":"http://127.0.0.1:1/o"}"#;
    let (error, _) = Fake::start(response("200 OK", "", leads), Then::Close).await.obtain().await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{}", error.report());
    assert!(error.hint().unwrap().contains("https"), "{}", error.report());
}

/// A `TestCa` that believes everything, with this fault, and a pipeline at it that notes which names it is asked to prove.
async fn obtain_from(fault: Fault) -> (Error, Vec<String>, TestCa) {
    let ca = TestCa::builder().always_valid().start().await.unwrap();
    ca.faults().add(fault);
    let seen = Recorder::default();
    let authority = trusted(&ca.directory_url(), ca.root_pem()).unwrap().with_timeouts(timeouts());
    let acme = Pipeline::builder(authority, Arc::new(MemoryStore::new()))
        .solver(NoProof::default())
        .observer(seen.observer())
        .build()
        .unwrap();
    let spec = CertificateSpec::new(["example.test"]).unwrap();
    let obtained = acme.obtain(&spec);
    let error = tokio::time::timeout(Duration::from_secs(60), obtained).await.unwrap().unwrap_err();
    let presented = seen.all().into_iter().filter(|event| event.contains("challenge-presented")).collect();
    (error, presented, ca)
}

#[tokio::test]
async fn an_order_with_twenty_thousand_authorizations_is_refused_unread() {
    let endless: Vec<String> =
        (0..20_000).map(|n| format!("https://127.0.0.1:1/authorization/{n}")).collect();
    let fault = Fault::new(Endpoint::NewOrder, Action::Patch(json!({ "authorizations": endless }))).always();
    let (error, presented, ca) = obtain_from(fault).await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("too many authorizations"), "{error}");
    assert_eq!((presented.len(), ca.requests(Endpoint::Authorization)), (0, 0));
}

#[tokio::test]
async fn control_of_a_name_that_was_not_ordered_is_not_proved() {
    let other = json!({ "identifier": { "type": "dns", "value": "other.test" } });
    let fault = Fault::new(Endpoint::Authorization, Action::Patch(other)).always();
    let (error, presented, ca) = obtain_from(fault).await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("not ordered"), "{error}");
    assert!(error.context().any(|(_, value)| value == "other.test"), "{error}");
    assert_eq!(presented, Vec::<String>::new(), "something was put up");
    assert_eq!((ca.requests(Endpoint::Challenge), ca.certificates_issued()), (0, 0));
}
