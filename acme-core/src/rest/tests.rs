//! On a server whose answers are given byte by byte. What a whole API does is tested with the providers.

mod server;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::server::{HANG_UP, Server, answer, json_answer};
use super::*;

#[test]
fn base_urls_are_https_or_on_this_machine_and_carry_nothing_else() {
    let pool = Pool::new().unwrap();
    for good in [
        "https://api.example.com/v1",
        "https://10.0.0.1",
        "http://127.0.0.1:80/",
        "http://[::1]:8080",
        "http://localhost",
    ] {
        Client::new(good, &pool).unwrap();
    }
    for bad in [
        "",
        "api.example.com/v1",
        "http://api.example.com",
        "http://10.0.0.1",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "https://user:s3cr3t@api.example.com",
        "https://api.example.com/?token=s3cr3t",
        "https://api.example.com/#s3cr3t",
        "ftp://127.0.0.1",
        "data:text/plain,x",
    ] {
        let error = Client::new(bad, &pool).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
        assert!(!format!("{} {error:?}", error.report()).contains("s3cr3t"), "{}", error.report());
    }
}

#[test]
fn credentials_that_no_header_may_have_are_refused_and_never_shown() {
    let client = Client::new("https://api.example.com", &Pool::new().unwrap()).unwrap();
    for bad in ["", "s3cr3t\n", "s3cr3t s3cr3t", "s3cr3t\u{e4}", "s3cr3t\0"] {
        let error = client.clone().with_bearer(&bad.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(!format!("{} {error:?}", error.report()).contains("s3cr3t"), "{}", error.report());
    }
    let client = client.with_bearer(&"s3cr3t".into()).unwrap();
    let request = client.request("test", Method::GET, &["a"]).query("token", "s3cr3t").json("s3cr3t");
    assert!(!format!("{client:?} {request:?}").contains("s3cr3t"), "{client:?} {request:?}");
}

#[tokio::test]
async fn a_request_is_what_was_asked_for_and_no_part_of_its_path_leads_elsewhere() {
    let server = Server::answering([json_answer("200 OK", r#"{"id":"7"}"#)]).await;
    let client = server.client().with_bearer(&"t0ken".into()).unwrap();
    let name = HeaderName::from_static("x-key");
    let client = client.with_header(name, &"k3y".into()).unwrap();
    let sent = client
        .request("test", Method::PUT, &["a/../b", "c?d#e", "%2e%2e"])
        .query("q", "a&b=c")
        .json(&json!([1]));
    let got: Value = sent.send().await.unwrap();
    assert_eq!(got["id"], "7");
    let request = server.requests().remove(0);
    assert!(
        request.starts_with("PUT /v1/a%2F..%2Fb/c%3Fd%23e/%252e%252e?q=a%26b%3Dc HTTP/1.1\r\n"),
        "{request}"
    );
    for line in [
        "authorization: Bearer t0ken",
        "x-key: k3y",
        "content-type: application/json",
        "accept: application/json",
    ] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line} is not in {request}");
    }
    assert!(request.ends_with("\r\n\r\n[1]"), "{request}");
    for step in ["", ".", ".."] {
        let error = client.request("test", Method::GET, &["zones", step]).done().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
    }
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_vendor_has_its_own_scheme_and_a_slash_at_the_end_where_it_wants_them() {
    let refused = r#"{"said":"no t0ken"}"#;
    let server =
        Server::answering([json_answer("200 OK", "[]"), json_answer("403 Forbidden", refused)]).await;
    let client = server.client().with_authorization("Token", &"t0ken".into()).unwrap().with_trailing_slash();
    let client = client
        .with_refusals(|_, body| Some(Refusal::new(String::from_utf8_lossy(body))).filter(|_| body != b"[]"));
    client.request("test", Method::GET, &["a", "@"]).query("q", "1").done().await.unwrap();
    let error = client.request("test", Method::GET, &["a", ""]).done().await.unwrap_err();
    assert_eq!((error.kind(), server.requests().len()), (ErrorKind::Config, 1), "{}", error.report());
    let error = client.request("test", Method::GET, &["a"]).done().await.unwrap_err();
    assert!(error.to_string().contains("no …") && !error.report().contains("t0ken"), "{}", error.report());
    let request = server.requests().remove(0);
    assert!(request.starts_with("GET /v1/a/@/?q=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nauthorization: Token t0ken\r\n"), "{request}");
}

#[tokio::test]
async fn the_status_decides_what_an_answer_is() {
    for (status, kind, retry) in [
        ("400 Bad Request", ErrorKind::Protocol, Retry::Never),
        ("401 Unauthorized", ErrorKind::Auth, Retry::Never),
        ("403 Forbidden", ErrorKind::Auth, Retry::Never),
        ("404 Not Found", ErrorKind::NotFound, Retry::Never),
        ("408 Request Timeout", ErrorKind::Unavailable, Retry::Backoff),
        ("409 Conflict", ErrorKind::Conflict, Retry::Backoff),
        ("429 Too Many Requests", ErrorKind::RateLimited, Retry::Backoff),
        ("500 Internal Server Error", ErrorKind::Unavailable, Retry::Backoff),
        ("503 Service Unavailable", ErrorKind::Unavailable, Retry::Backoff),
        ("302 Found", ErrorKind::Protocol, Retry::Never),
    ] {
        for (form, body) in
            [("application/json", "{}"), ("text/html", "<html>"), ("text/plain", "no"), ("", "")]
        {
            let headers = if form.is_empty() {
                String::new()
            } else {
                format!("content-type: {form}\r\nlocation: /login\r\n")
            };
            let server = Server::answering([answer(status, &headers, body)]).await;
            let error = server.post().await.unwrap_err();
            // A page that is not there says nothing of what the API has.
            let want = match (kind, form) {
                (ErrorKind::NotFound | ErrorKind::Conflict, "text/html") => {
                    (ErrorKind::Protocol, Retry::Never)
                }
                _ => (kind, retry),
            };
            assert_eq!((error.kind(), error.retry()), want, "{status} {form}: {}", error.report());
            assert!(error.to_string().contains(&format!("status={}", &status[..3])), "{error}");
            assert_eq!(server.requests().len(), 1, "{status}: a redirect was followed or a write repeated");
        }
    }
}

#[tokio::test]
async fn a_success_is_json_or_empty() {
    for good in [
        json_answer("200 OK", "[]"),
        answer("200 OK", "content-type: application/vnd.api+json; charset=utf-8\r\n", "{}"),
        answer("201 Created", "", ""),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
    ] {
        Server::answering([good]).await.post().await.unwrap();
    }
    for bad in [answer("200 OK", "content-type: text/html\r\n", "<html>"), answer("200 OK", "", "{}")] {
        let error = Server::answering([bad]).await.post().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{}", error.report());
    }
    // Empty is no value.
    let error = Server::answering([json_answer("200 OK", "")]).await.get().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{}", error.report());
}

#[derive(Debug)]
struct Then;

impl Clock for Then {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(784_111_777)
    }
}

#[tokio::test]
async fn retry_after_is_told_in_seconds_and_by_date() {
    for (text, wait) in [("120", 120), ("Sun, 06 Nov 1994 08:50:37 GMT", 60)] {
        for status in ["429 Too Many Requests", "503 Service Unavailable"] {
            let headers = format!("content-type: text/html\r\nretry-after: {text}\r\n");
            let server = Server::answering([answer(status, &headers, "<html>")]).await;
            let client = server.client().with_clock(Then);
            let error = client.request("test", Method::GET, &["a"]).done().await.unwrap_err();
            assert_eq!(error.retry(), Retry::After(Duration::from_secs(wait)), "{}", error.report());
            // That is longer than the request may take: there is no second one.
            assert_eq!(server.requests().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_read_is_repeated_a_few_times_and_a_write_never() {
    let (down, up) = (json_answer("503 Service Unavailable", "{}"), json_answer("200 OK", "[]"));
    let server = Server::answering([down.clone(), HANG_UP.to_owned(), up.clone()]).await;
    server.get().await.unwrap();
    assert_eq!(server.requests().len(), 3);
    let server = Server::answering([down.clone()]).await;
    assert_eq!(server.get().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(server.requests().len(), 3);
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        for fault in [down.clone(), HANG_UP.to_owned()] {
            let server = Server::answering([fault, up.clone()]).await;
            let error = server.client().request("test", method.clone(), &["a"]).done().await.unwrap_err();
            assert_eq!(
                (error.kind(), server.requests().len()),
                (ErrorKind::Unavailable, 1),
                "{method}: {error}"
            );
        }
    }
    // What will not change by itself is not asked for again.
    let server = Server::answering([json_answer("404 Not Found", "{}")]).await;
    server.get().await.unwrap_err();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn the_earlier_deadline_holds_repeats_included() {
    let silent = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n".to_owned();
    let server = Server::answering([json_answer("500 Oops", "{}"), silent]).await;
    let client = server.client().with_timeout(Duration::from_secs(2));
    let error = client.request("test", Method::GET, &["a"]).done().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    assert!(error.to_string().contains("phase=GET /v1/a, deadline=2s, method=GET, path=/v1/a"), "{error}");
    assert_eq!(server.requests().len(), 2);

    // Longer than any clock can tell.
    let client = server.client().with_timeout(Duration::MAX);
    let deadline = Deadline::after(Duration::from_millis(50));
    let error = client.request("test", Method::POST, &["a"]).deadline(deadline).done().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    assert!(error.to_string().contains("deadline=50ms"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_read() {
    let long = " ".repeat(1024 * 1024 + 1);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    for answer in [json_answer("200 OK", &long), chunked] {
        let error = Server::answering([answer]).await.get().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{}", error.report());
        assert!(error.to_string().contains("longer than 1 MiB"), "{error}");
    }
    let fits = format!("[]{}", " ".repeat(1024 * 1024 - 2));
    Server::answering([json_answer("200 OK", &fits)]).await.get().await.unwrap();
    // What a refusal says is cut off, but it stays a refusal.
    let error = Server::answering([json_answer("403 Forbidden", &long)]).await.get().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth, "{}", error.report());
}

#[tokio::test]
async fn the_vendors_words_are_told_without_the_credential_in_them() {
    let read = |status: StatusCode, body: &[u8]| {
        let said: Value = serde_json::from_slice(body).ok()?;
        let refused = Refusal::new(said["why"].as_str()?).with_code(said["code"].as_str()?);
        let refused = refused.with_kind(ErrorKind::Config).with_hint("do better");
        (status != StatusCode::CREATED).then_some(refused)
    };
    let body = r#"{"why":"no such key: s3cr3t","code":"E-s3cr3t"}"#;
    for (status, kind) in [
        ("400 Bad Request", ErrorKind::Config),
        ("403 Forbidden", ErrorKind::Config),
        ("200 OK", ErrorKind::Config),
        // Of these the status knows more.
        ("429 Too Many Requests", ErrorKind::RateLimited),
        ("500 Oops", ErrorKind::Unavailable),
    ] {
        let server = Server::answering([json_answer(status, body)]).await;
        let client = server.client().with_bearer(&"s3cr3t".into()).unwrap().with_refusals(read);
        let error = client.request("test", Method::POST, &["a"]).done().await.unwrap_err();
        assert_eq!((error.kind(), error.vendor_code()), (kind, Some("E-…")), "{status}: {}", error.report());
        assert_eq!(error.hint(), Some("do better"));
        assert_eq!(error.message(), "the vendor refuses: no such key: …");
        assert!(!format!("{} {error:?}", error.report()).contains("s3cr3t"));
    }
    let server = Server::answering([json_answer("201 Created", body)]).await;
    server.client().with_refusals(read).request("test", Method::POST, &["a"]).done().await.unwrap();
}

#[tokio::test]
async fn clients_of_one_pool_share_connections() {
    let server = Server::answering([json_answer("200 OK", "[]")]).await;
    let pool = Pool::new().unwrap();
    for token in ["one", "two", "three"] {
        let client = Client::new(&server.base(), &pool).unwrap().with_bearer(&token.into()).unwrap();
        let _: Value = client.request("test", Method::GET, &["a"]).send().await.unwrap();
    }
    let seen = server.seen.lock().unwrap();
    assert_eq!((seen.connections, seen.requests.len()), (1, 3));
    assert!(seen.requests[1].contains("Bearer two") && !seen.requests[1].contains("Bearer one"));
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = Client::new(&format!("http://{gone}"), &Pool::new().unwrap()).unwrap();
    let error =
        client.request("test", Method::POST, &["a"]).query("token", "s3cr3t").done().await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Backoff), "{}", error.report());
    assert!(
        error.to_string().contains("refused") && !error.report().contains("s3cr3t"),
        "{}",
        error.report()
    );
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_no_credential() {
    let (server, root) = Server::answering_by_tls(json_answer("200 OK", "[]")).await;
    let base = format!("https://localhost:{}", server.address.port());
    let ask = async |pool: Pool| {
        let client = Client::new(&base, &pool).unwrap().with_bearer(&"t0ken".into()).unwrap();
        client.request("test", Method::GET, &["a"]).done().await
    };
    let error = ask(Pool::new().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(server.requests().is_empty());
    ask(Pool::with_extra_roots_pem(&root).unwrap()).await.unwrap();
    assert!(server.requests()[0].contains("authorization: Bearer t0ken"));
    assert_eq!(Pool::with_extra_roots_pem("no PEM").unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn basic_authentication_is_sent_as_rfc_7617_has_it_and_never_shown() {
    let server = Server::answering([json_answer(
        "403 Forbidden",
        r#"{"why":"who is b\u00f6b:pa:ss w\u00f6rd (YsO2YjpwYTpzcyB3w7ZyZA==)?"}"#,
    )])
    .await;
    let client = server.client().with_basic("böb", &"pa:ss wörd".into()).unwrap().with_refusals(|_, body| {
        let said: Value = serde_json::from_slice(body).ok()?;
        Some(Refusal::new(said["why"].as_str()?))
    });
    let error = client.request("test", Method::POST, &["a"]).done().await.unwrap_err();
    assert!(server.requests()[0].contains("authorization: Basic YsO2YjpwYTpzcyB3w7ZyZA==\r\n"));
    assert_eq!(error.message(), "the vendor refuses: who is böb:… (…)?");
    assert!(!format!("{client:?}").contains("wörd"));
    for (username, password) in
        [("", "s3cr3t"), ("a:b", "s3cr3t"), ("a\n", "s3cr3t"), ("a", ""), ("a", "s3cr3t\n")]
    {
        let error = server.client().with_basic(username, &password.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(!format!("{} {error:?}", error.report()).contains("s3cr3t"), "{}", error.report());
    }
}

#[tokio::test]
async fn no_credential_is_left_where_words_are_cut_or_in_a_content_type() {
    let client = |server: &Server| {
        let client = server.client().with_bearer(&"S3cr3t-t0ken".into()).unwrap().with_text_answers();
        client.with_refusals(|_, body| Some(Refusal::new(String::from_utf8_lossy(body)).cut_after(20)))
    };
    for (form, body) in [
        ("content-type: text/plain\r\n", "0123456789S3cr3t-t0ken said"),
        ("content-type: S3cr3t-t0ken/x\r\n", ""),
    ] {
        let server = Server::answering([answer("400 Bad Request", form, body)]).await;
        let error = client(&server).request("test", Method::POST, &["a"]).done().await.unwrap_err();
        let shown = format!("{} {error:?}", error.report()).to_ascii_lowercase();
        assert!(!shown.contains("s3cr"), "{shown}");
        assert!(shown.contains("0123456789… said") || shown.contains("`…/x`"), "{shown}");
    }
}

#[tokio::test]
async fn text_is_an_answer_only_where_it_is_taken_and_a_page_never_is() {
    let taking = |server: &Server| {
        let client = server.client().with_text_answers();
        client.with_refusals(|status, body| {
            (!status.is_success()).then(|| Refusal::new(String::from_utf8_lossy(body).trim()))
        })
    };
    for form in ["content-type: text/plain; charset=utf-8\r\n", "", "content-type: application/json\r\n"] {
        let server = Server::answering([answer("200 OK", form, "ok")]).await;
        taking(&server).request("test", Method::POST, &["a"]).done().await.unwrap();
        let server = Server::answering([answer("404 Not Found", form, "no such name\n")]).await;
        let error = taking(&server).request("test", Method::POST, &["a"]).done().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::NotFound, "the vendor refuses: no such name")
        );
    }
    for (status, form) in [
        ("200 OK", "content-type: text/html\r\n"),
        ("200 OK", "content-type: image/png\r\n"),
        ("404 Not Found", "content-type: text/html\r\n"),
        ("302 Found", ""),
    ] {
        let server = Server::answering([answer(status, form, "elsewhere")]).await;
        let error = taking(&server).request("test", Method::POST, &["a"]).done().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{}", error.report());
        assert!(error.message().contains("instead of JSON"), "{error}");
    }
}
