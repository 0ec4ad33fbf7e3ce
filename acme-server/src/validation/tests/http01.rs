//! http-01.

use super::fakes::{FakeDns, FakeWeb, Reply, Zone, closed_port};
use super::*;
use hickory_resolver::proto::rr::RecordType;

const NAME: &str = "www.example.org";

fn body(text: impl Into<String>) -> Reply {
    Reply::Body(200, text.into().into_bytes())
}

fn at(web: &FakeWeb) -> ValidationConfig {
    loopback().with_http_port(web.port)
}

async fn answered(reply: Reply) -> Result<(), Problem> {
    let web = FakeWeb::start(move |_| reply.clone()).await;
    outcome(at(&web), &validation(NAME, "http-01")).await
}

#[tokio::test]
async fn the_right_file_is_valid_with_whitespace_at_its_end() {
    let web = FakeWeb::start(|_| body(proof_text() + " \r\n")).await;
    outcome(at(&web), &validation(NAME, "http-01")).await.unwrap();
    let want = (NAME.to_owned(), format!("/.well-known/acme-challenge/{TOKEN}"));
    assert_eq!(*web.seen.lock().unwrap(), [want], "the Host is the name alone, as it would be on port 80");
}

#[tokio::test]
async fn another_text_is_quoted_without_the_proof() {
    assert_refused(answered(body("wrong\u{1}")).await, ProblemType::Unauthorized, r#""wrong\u{1}""#);
    let echoed = answered(body(format!("<p>{}</p>", proof_text()))).await;
    assert_refused(echoed, ProblemType::Unauthorized, "<p>[key authorization]</p>");
    assert_refused(
        answered(body(format!(" {}", proof_text()))).await,
        ProblemType::Unauthorized,
        "did not match",
    );
    assert_refused(answered(body("")).await, ProblemType::Unauthorized, "did not match");
}

#[tokio::test]
async fn a_status_other_than_200_is_unauthorized() {
    for status in [201, 204, 304, 403, 404, 500] {
        let done = answered(Reply::Body(status, Vec::new())).await;
        assert_refused(done, ProblemType::Unauthorized, &format!("/{TOKEN}: {status}"));
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_not_read_whole() {
    let long = proof_text() + &" ".repeat(1024 * 1024);
    assert_refused(answered(body(long)).await, ProblemType::Unauthorized, "more than 4096 octets");
}

#[tokio::test]
async fn nobody_there_is_a_connection_problem() {
    let config = loopback().with_http_port(closed_port().await);
    let done = outcome(config, &validation(NAME, "http-01")).await;
    assert_refused(done, ProblemType::Connection, "refused");
    assert_refused(answered(Reply::Close).await, ProblemType::Connection, "Fetching http://www.example.org/");
}

#[tokio::test]
async fn a_server_that_hangs_is_a_connection_problem() {
    let web = FakeWeb::start(|_| Reply::Hang).await;
    let config = at(&web).with_timeout(Duration::from_millis(300));
    assert_refused(outcome(config, &validation(NAME, "http-01")).await, ProblemType::Connection, "Timeout");
}

#[tokio::test]
async fn redirects_are_followed_and_a_missing_port_is_the_configured_one() {
    let web = FakeWeb::start(|path| match path {
        "/third" => body(proof_text()),
        "/second" => Reply::Redirect("/third".to_owned()),
        _ => Reply::Redirect("http://Other.example.org/second".to_owned()),
    })
    .await;
    outcome(at(&web), &validation(NAME, "http-01")).await.unwrap();
    assert_eq!(web.hosts(), [NAME, "other.example.org", "other.example.org"]);
}

#[tokio::test]
async fn a_redirect_to_https_takes_any_certificate() {
    let tls = super::tls_alpn01::acceptor(&["someone.else"], None, &[]);
    let secure = FakeWeb::start_at("127.0.0.1", Some(tls), |_| body(proof_text())).await;
    let web = FakeWeb::start(|path| Reply::Redirect(format!("https://{NAME}{path}"))).await;
    let config = at(&web).with_tls_port(secure.port);
    outcome(config, &validation(NAME, "http-01")).await.unwrap();
    assert_eq!(secure.hosts(), [NAME]);
}

#[tokio::test]
async fn redirects_end() {
    let web = FakeWeb::start(|path| Reply::Redirect(path.to_owned())).await;
    let done = outcome(at(&web), &validation(NAME, "http-01")).await;
    assert_refused(done, ProblemType::Connection, "Redirect loop");
    let web = FakeWeb::start(|path| Reply::Redirect(format!("{path}x"))).await;
    let done = outcome(at(&web), &validation(NAME, "http-01")).await;
    assert_refused(done, ProblemType::Connection, "Too many redirects");
    assert_eq!(web.hosts().len(), 11);
}

#[tokio::test]
async fn redirects_to_other_ports_and_schemes_are_refused() {
    let other = FakeWeb::start(|_| body(proof_text())).await;
    for (target, why) in [
        (format!("http://{NAME}:{}/", other.port), "Invalid port"),
        ("ftp://www.example.org/".to_owned(), "only http and https"),
        ("http://[".to_owned(), "no URL"),
        (format!("/{}", "x".repeat(3000)), "too long"),
        (format!("http://{NAME}:1/{}", proof_text()), "[key authorization]"),
    ] {
        assert_refused(answered(Reply::Redirect(target)).await, ProblemType::Connection, why);
    }
    assert_eq!(other.hosts().len(), 0);
}

#[tokio::test]
async fn addresses_are_connected_to_as_they_are() {
    for (ip, host) in [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")] {
        let web = FakeWeb::start_at(ip, None, |_| body(proof_text())).await;
        let config = ValidationConfig::new().with_http_port(web.port);
        outcome(config, &validation(ip, "http-01")).await.unwrap();
        assert_eq!(web.hosts(), [host]);
    }
}

#[tokio::test]
async fn ipv4_is_tried_when_ipv6_fails() {
    let web = FakeWeb::start(|_| body(proof_text())).await;
    let dns = FakeDns::start(Zone::default().address(NAME, "::1").address(NAME, "127.0.0.1")).await;
    let config = by_dns(dns.address).with_http_port(web.port);
    outcome(config, &validation(NAME, "http-01")).await.unwrap();
}

#[tokio::test]
async fn names_without_an_address_are_a_dns_problem_unless_all_lead_somewhere() {
    let web = FakeWeb::start(|_| body(proof_text())).await;
    let dns = FakeDns::start(
        Zone::default()
            .fails("broken.example.org", RecordType::A)
            .fails("broken.example.org", RecordType::AAAA),
    )
    .await;
    let config = by_dns(dns.address).with_http_port(web.port);
    let done = outcome(config.clone(), &validation(NAME, "http-01")).await;
    assert_refused(done, ProblemType::Dns, "no A or AAAA records found for www.example.org");
    let done = outcome(config.clone(), &validation("broken.example.org", "http-01")).await;
    assert_refused(done, ProblemType::Dns, "SERVFAIL looking up A for broken.example.org");
    let config = config.with_resolve_all_to(Ipv4Addr::LOCALHOST);
    outcome(config, &validation(NAME, "http-01")).await.unwrap();
}

#[tokio::test]
async fn one_validator_checks_many_at_once() {
    let web = FakeWeb::start(|_| body(proof_text())).await;
    let validator = RealValidator::new(at(&web)).unwrap();
    let checks = (0..100).map(|number| {
        let validation = validation(&format!("{number}.example.org"), "http-01");
        let validator = &validator;
        async move { validator.validate(&validation).await }
    });
    for done in futures_util::future::join_all(checks).await {
        done.unwrap();
    }
}
