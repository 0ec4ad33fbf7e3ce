use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;
use crate::KeyAuthorization;

fn challenge(token: &str) -> Challenge {
    challenge_for("example.com", token)
}

fn challenge_for(name: &str, token: &str) -> Challenge {
    let proof = KeyAuthorization::new(token, "thumbprint");
    Challenge::new(name.parse().unwrap(), ChallengeKind::Http01, token, proof)
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

async fn present(solver: &dyn ChallengeSolver, token: &str) -> Presentation {
    let prepared = solver.prepare(&challenge(token), soon()).await.unwrap();
    solver.present(&prepared, soon()).await.unwrap()
}

/// Sends these bytes and reads until the other side closes.
async fn talk(to: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn ask(to: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let answer = talk(to, &format!("{method} {path} HTTP/1.1\r\nHost: example.com\r\n\r\n")).await;
    let status = answer.get(9..12).unwrap_or_else(|| panic!("no answer: {answer:?}")).parse().unwrap();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}

fn path(token: &str) -> String {
    format!("/.well-known/acme-challenge/{token}")
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

#[tokio::test]
async fn a_responder_answers_exactly_what_is_presented() {
    let responder = Http01Responder::default();
    let solver = Http01::new(responder.clone());
    let presented = present(&solver, "tok-en_1").await;
    solver.present(&presented, soon()).await.unwrap();
    solver.ready(&presented, soon()).await.unwrap();

    let answer = responder.answer(&Method::GET, &path("tok-en_1"));
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
    assert_eq!(&answer.body()[..], b"tok-en_1.thumbprint");
    let head = responder.answer(&Method::HEAD, &path("tok-en_1"));
    assert_eq!((head.status(), head.body().len()), (StatusCode::OK, 0));
    assert_eq!(head.headers()["content-length"], "19");
    let post = responder.answer(&Method::POST, &path("tok-en_1"));
    assert_eq!(
        (post.status(), post.headers()["allow"].to_str().unwrap()),
        (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD")
    );
    for other in [
        "/",
        "",
        "/.well-known/acme-challenge/",
        "/.well-known/acme-challenge",
        "tok-en_1",
        &path("other"),
        &path("tok-en_1/"),
        &path("../acme-challenge/tok-en_1"),
        &path("tok%2Den_1"),
    ] {
        let answer = responder.answer(&Method::GET, other);
        assert_eq!((answer.status(), answer.body().len()), (StatusCode::NOT_FOUND, 0), "{other}");
    }

    solver.cleanup(&presented, soon()).await.unwrap();
    solver.cleanup(&presented, soon()).await.unwrap();
    assert_eq!(responder.answer(&Method::GET, &path("tok-en_1")).status(), StatusCode::NOT_FOUND);
    assert_eq!(solver.ready(&presented, soon()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_http01_cannot_prove_is_refused_before_anything_happens() {
    let folder = tempfile::tempdir().unwrap();
    let solvers: [Box<dyn ChallengeSolver>; 3] = [
        Box::new(Http01::default()),
        Box::new(Http01::standalone(loopback())),
        Box::new(Http01::webroot(folder.path())),
    ];
    let mut dns = challenge("a");
    dns.kind = ChallengeKind::Dns01;
    let long = "a".repeat(129);
    for solver in &solvers {
        assert_eq!(solver.kind(), ChallengeKind::Http01);
        let refused = async |challenge: &Challenge| {
            let error = solver.prepare(challenge, soon()).await.unwrap_err();
            let presentation = Presentation::new(challenge.clone());
            assert_eq!(solver.present(&presentation, soon()).await.unwrap_err().kind(), error.kind());
            solver.cleanup(&presentation, soon()).await.unwrap();
            error.kind()
        };
        assert_eq!(refused(&dns).await, ErrorKind::Unsupported);
        assert_eq!(refused(&challenge_for("*.example.com", "a")).await, ErrorKind::Unsupported);
        for token in ["", "../../etc/passwd", "a/b", "a.b", "..", "a%2f", "a\0", "ä", "a=", long.as_str()] {
            assert_eq!(refused(&challenge(token)).await, ErrorKind::Protocol, "{token:?}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something was written");
}

#[tokio::test]
async fn a_standalone_server_lives_from_the_first_challenge_to_the_last() {
    let solver = Http01::standalone(loopback());
    let prepared = solver.prepare(&challenge("never"), soon()).await.unwrap();
    assert_eq!(solver.local_addr().await, None, "prepare has no side effect");
    solver.cleanup(&prepared, soon()).await.unwrap();

    let tokens: Vec<String> = (0..10).map(|number| format!("token{number}")).collect();
    let mut presented = Vec::new();
    for token in &tokens {
        presented.push(present(&solver, token).await);
    }
    let address = solver.local_addr().await.unwrap();
    let mut asking = JoinSet::new();
    for token in tokens.clone() {
        asking
            .spawn(async move { (ask(address, "GET", &path(&token)).await, format!("{token}.thumbprint")) });
    }
    for (found, wanted) in asking.join_all().await {
        assert_eq!(found, (200, wanted));
    }
    for one in &presented {
        solver.ready(one, soon()).await.unwrap();
    }
    assert_eq!(ask(address, "HEAD", &path("token1")).await, (200, String::new()));
    assert_eq!(ask(address, "POST", &path("token1")).await.0, 405);
    assert_eq!(ask(address, "GET", &path("unknown?<b>")).await, (400, String::new()));
    assert_eq!(ask(address, "GET", &path("unknown?b=1")).await, (404, String::new()));
    assert_eq!(ask(address, "GET", "/").await, (404, String::new()));

    let (last, others) = presented.split_last().unwrap();
    for one in others {
        solver.cleanup(one, soon()).await.unwrap();
    }
    assert_eq!(ask(address, "GET", &path("token9")).await.0, 200, "stopped too early");
    solver.cleanup(last, soon()).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "still listening");
    assert_eq!(solver.ready(last, soon()).await.unwrap_err().kind(), ErrorKind::NotFound);

    // The same value again, as after a restart.
    solver.present(last, soon()).await.unwrap();
    solver.ready(last, soon()).await.unwrap();
    let address = solver.local_addr().await.unwrap();
    drop(solver);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(TcpStream::connect(address).await.is_err(), "dropped, and still listening");
}

#[tokio::test]
async fn standalone_serves_over_ipv6() {
    let solver = Http01::standalone("[::]:0".parse::<SocketAddr>().unwrap());
    let presented = present(&solver, "six").await;
    solver.ready(&presented, soon()).await.unwrap();
    let port = solver.local_addr().await.unwrap().port();
    for ip in ["[::1]", "127.0.0.1"] {
        let address: SocketAddr = format!("{ip}:{port}").parse().unwrap();
        assert_eq!(ask(address, "GET", &path("six")).await, (200, "six.thumbprint".to_owned()));
    }
    solver.cleanup(&presented, soon()).await.unwrap();
}

#[tokio::test]
async fn idle_clients_shut_nobody_out() {
    let solver = Http01::standalone(loopback());
    let presented = present(&solver, "busy").await;
    let address = solver.local_addr().await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /.well-known/acme-chal").await.unwrap();
        idle.push(stream);
    }
    for _ in 0..5 {
        let answer = tokio::time::timeout(Duration::from_secs(2), ask(address, "GET", &path("busy"))).await;
        assert_eq!(answer.expect("shut out"), (200, "busy.thumbprint".to_owned()));
    }
    // The oldest were closed to make room; the newest are closed for not saying what they want.
    let closed = async |stream: &mut TcpStream| stream.read_to_end(&mut Vec::new()).await;
    let first = tokio::time::timeout(Duration::from_secs(2), closed(&mut idle[0])).await;
    assert!(first.is_ok(), "more connections than allowed are open");
    let last = tokio::time::timeout(Duration::from_secs(9), closed(&mut idle[299])).await;
    assert!(last.is_ok(), "an idle client is still connected");
    solver.cleanup(&presented, soon()).await.unwrap();
}

#[tokio::test]
async fn an_idle_client_does_not_hold_up_the_stop() {
    let solver = Http01::standalone(loopback());
    let presented = present(&solver, "a").await;
    let address = solver.local_addr().await.unwrap();
    let _idle = TcpStream::connect(address).await.unwrap();
    ask(address, "GET", "/").await;
    let stopped = solver.cleanup(&presented, soon());
    tokio::time::timeout(Duration::from_secs(3), stopped).await.expect("held up").unwrap();
}

#[tokio::test]
async fn an_address_in_use_is_named_with_a_way_out() {
    let taken = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let address = taken.local_addr().unwrap();
    let solver = Http01::standalone(address);
    let prepared = solver.prepare(&challenge("a"), soon()).await.unwrap();
    let error = solver.present(&prepared, soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(error.hint().unwrap().contains("webroot"), "{error:?}");
    solver.cleanup(&prepared, soon()).await.unwrap();
    drop(taken);
    let presented = solver.present(&prepared, soon()).await.unwrap();
    solver.ready(&presented, soon()).await.unwrap();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_webroot_gets_the_file_and_is_left_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let solver = Http01::webroot(root.path());
    let prepared = solver.prepare(&challenge("tok"), soon()).await.unwrap();
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "prepare has no side effect");
    assert_eq!(solver.ready(&prepared, soon()).await.unwrap_err().kind(), ErrorKind::Storage);
    let presented = solver.present(&prepared, soon()).await.unwrap();
    solver.present(&presented, soon()).await.unwrap();
    solver.ready(&presented, soon()).await.unwrap();
    let folder = root.path().join(WELL_KNOWN);
    assert_eq!(std::fs::read(folder.join("tok")).unwrap(), b"tok.thumbprint");
    assert_eq!((mode(&folder.join("tok")), mode(&folder)), (0o644, 0o755));

    // Another process cleans up, after a crash amid writing.
    std::fs::copy(folder.join("tok"), folder.join(".tok.0123456789abcdef.tmp")).unwrap();
    let journaled = serde_json::to_string(&prepared).unwrap();
    let read: Presentation = serde_json::from_str(&journaled).unwrap();
    let other = Http01::webroot(root.path());
    other.cleanup(&read, soon()).await.unwrap();
    other.cleanup(&read, soon()).await.unwrap();
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "something is left");
}

#[tokio::test]
async fn clean_up_of_a_webroot_spares_what_is_not_its_own() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join(".well-known")).unwrap();
    let solver = Http01::webroot(root.path());
    let mut presented = Vec::new();
    for number in 0..10 {
        presented.push(present(&solver, &format!("t{number}")).await);
    }
    let answers = root.path().join(WELL_KNOWN);
    let foreign = answers.join("foreign");
    std::fs::copy(answers.join("t1"), &foreign).unwrap();
    for one in &presented {
        solver.cleanup(one, soon()).await.unwrap();
    }
    let left: Vec<_> = std::fs::read_dir(&answers).unwrap().map(|item| item.unwrap().path()).collect();
    assert_eq!(left, std::slice::from_ref(&foreign));
    std::fs::remove_file(foreign).unwrap();
    solver.cleanup(&presented[0], soon()).await.unwrap();
    assert!(!answers.exists(), "a folder made here is left");
    assert!(root.path().join(".well-known").exists(), "a folder that was there before is gone");
}

#[tokio::test]
async fn ten_webroot_challenges_may_come_and_go_at_once() {
    let root = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..10 {
        let solver = Http01::webroot(root.path());
        tasks.spawn(async move {
            for round in 0..10 {
                let presented = present(&solver, &format!("t{number}-{round}")).await;
                solver.ready(&presented, soon()).await.unwrap();
                solver.cleanup(&presented, soon()).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let answers = root.path().join(WELL_KNOWN);
    assert!(!answers.exists() || std::fs::read_dir(answers).unwrap().count() == 0);
}

#[tokio::test]
async fn a_webroot_fetches_the_answer_from_the_web_server() {
    // The standalone server plays the web server: it has one token, the webroot writes two.
    let server = Http01::standalone(loopback());
    let served = present(&server, "served").await;
    let base = format!("http://{}/", server.local_addr().await.unwrap());
    let root = tempfile::tempdir().unwrap();
    let solver = Http01::webroot(root.path()).base_url(&base);
    solver.ready(&present(&solver, "served").await, soon()).await.unwrap();

    let missing = present(&solver, "missing").await;
    let error = solver.ready(&missing, Deadline::after(Duration::from_millis(900))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.report().contains("the answer is status 404"), "{}", error.report());

    let mut other = challenge("served");
    other.key_authorization = KeyAuthorization::new("served", "another-key");
    let prepared = solver.prepare(&other, soon()).await.unwrap();
    let error = solver.ready(&prepared, Deadline::after(Duration::from_millis(900))).await.unwrap_err();
    let report = error.report();
    assert!(report.contains("another text"), "{report}");
    assert!(!report.contains("another-key") && !report.contains("thumbprint"), "{report}");
    server.cleanup(&served, soon()).await.unwrap();
}

#[tokio::test]
async fn a_root_that_is_no_folder_is_refused() {
    let solver = Http01::webroot("/proc/self/comm");
    let error = solver.prepare(&challenge("a"), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("/proc/self/comm"), "{error}");
}

#[tokio::test]
async fn debug_and_presentations_show_no_key_authorization() {
    let responder = Http01Responder::default();
    let solver = Http01::new(responder.clone());
    let presented = present(&solver, "tok").await;
    let body = tower_service::Service::call(
        &mut responder.clone(),
        http::Request::get(path("tok")).body(()).unwrap(),
    )
    .await;
    let shown = format!("{solver:?} {responder:?} {presented:?} {body:?}");
    assert!(!shown.contains("thumbprint"), "{shown}");
}
