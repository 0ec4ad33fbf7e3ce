use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::{Layer as _, ServiceExt as _};

use super::*;
use crate::ProblemType;

mod script;

type Effects = Arc<AtomicU64>;

/// A server that answers like one and counts the requests that took effect.
fn stand_in() -> (Router, Effects) {
    let effects = Effects::default();
    let router = Router::new().fallback(any(answer)).with_state(effects.clone());
    (router, effects)
}

async fn answer(State(effects): State<Effects>, method: Method, uri: Uri) -> Response<Body> {
    let number = effects.fetch_add(1, Ordering::SeqCst);
    let challenge =
        |kind: &str| json!({ "type": kind, "url": "https://ca/c/1", "token": "t", "status": "valid" });
    let body = match Endpoint::of_path(uri.path()) {
        Some(Endpoint::Directory) => {
            json!({ "newOrder": "https://ca/acme/new-order", "newNonce": "https://ca/n" })
        }
        Some(Endpoint::NewOrder) => json!({ "status": "pending", "authorizations": ["https://ca/a/1"] }),
        Some(Endpoint::Order) if uri.path().ends_with("fresh") => json!({ "status": "ready" }),
        Some(Endpoint::Order | Endpoint::Finalize) => {
            json!({ "status": "valid", "authorizations": ["https://ca/a/1"], "certificate": "https://ca/x" })
        }
        Some(Endpoint::Authorization) => json!({
            "status": "valid", "identifier": { "type": "dns", "value": "a.example" },
            "challenges": [challenge("http-01"), challenge("dns-01")],
        }),
        Some(Endpoint::Challenge) => challenge("http-01"),
        Some(Endpoint::RenewalInfo) => json!({
            "suggestedWindow": { "start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z" },
        }),
        _ => json!({ "status": "valid" }),
    };
    let mut response = match Endpoint::of_path(uri.path()) {
        Some(Endpoint::NewNonce) => Body::empty().into_response(),
        Some(Endpoint::Certificate) => {
            let block =
                |text: &str| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
            (block("TEVBRg==") + &block("TUlERExF")).into_response()
        }
        _ => body.to_string().into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("replay-nonce", HeaderValue::try_from(format!("{method}-{number}")).unwrap());
    headers.insert(LOCATION, HeaderValue::from_static("https://ca/acme/order/1"));
    headers.insert(RETRY_AFTER, HeaderValue::from_static("60"));
    response
}

fn path_of(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Directory => "/directory",
        Endpoint::NewNonce => "/acme/new-nonce",
        Endpoint::NewAccount => "/acme/new-account",
        Endpoint::NewOrder => "/acme/new-order",
        Endpoint::RevokeCert => "/acme/revoke-cert",
        Endpoint::KeyChange => "/acme/key-change",
        Endpoint::RenewalInfo => "/acme/renewal-info/1",
        Endpoint::Account => "/acme/account/1",
        Endpoint::Orders => "/acme/account/1/orders",
        Endpoint::Order => "/acme/order/1",
        Endpoint::Finalize => "/acme/order/1/finalize",
        Endpoint::Authorization => "/acme/authorization/1",
        Endpoint::Challenge => "/acme/challenge/1/http-01",
        Endpoint::Certificate => "/acme/certificate/1",
    }
}

fn post(path: &str, payload: &Value) -> Request<Body> {
    let payload = URL_SAFE_NO_PAD.encode(payload.to_string());
    let jws = json!({ "protected": "", "payload": payload, "signature": "" });
    Request::builder().method(Method::POST).uri(path).body(Body::from(jws.to_string())).unwrap()
}

#[derive(Clone)]
struct Ca {
    faults: Faults,
    service: FaultService<Router>,
    effects: Effects,
}

impl Ca {
    fn new() -> Self {
        let (router, effects) = stand_in();
        let faults = Faults::new();
        Self { service: faults.wrap(router), faults, effects }
    }

    fn with(fault: Fault) -> Self {
        let ca = Self::new();
        ca.faults.add(fault);
        ca
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        self.service.clone().oneshot(request).await
    }

    async fn post(&self, endpoint: Endpoint) -> Response<Body> {
        self.send(post(path_of(endpoint), &json!({}))).await.unwrap()
    }

    async fn status(&self, endpoint: Endpoint) -> u16 {
        self.post(endpoint).await.status().as_u16()
    }

    async fn json(&self, endpoint: Endpoint) -> Value {
        serde_json::from_slice(&body(self.post(endpoint).await).await).unwrap()
    }

    fn effects(&self) -> u64 {
        self.effects.load(Ordering::SeqCst)
    }
}

async fn body(response: Response<Body>) -> Vec<u8> {
    to_bytes(response.into_body(), 1 << 22).await.unwrap().to_vec()
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn only_the_requests_counted_off_are_struck() {
    let ca = Ca::with(Fault::new(Endpoint::Finalize, presets::html_502()).skip(1).times(2));
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(ca.status(Endpoint::Finalize).await);
        assert_eq!(ca.status(Endpoint::Order).await, 200);
    }
    assert_eq!(seen, [200, 502, 502, 200]);
    assert_eq!(ca.faults.hits(), [2]);
}

#[tokio::test]
async fn a_second_fault_strikes_when_the_first_is_spent() {
    let ca = Ca::with(Fault::new(Endpoint::NewOrder, presets::html_502()));
    ca.faults.add(Fault::new(Endpoint::NewOrder, presets::empty_500()));
    let seen = [ca.status(Endpoint::NewOrder).await, ca.status(Endpoint::NewOrder).await];
    assert_eq!((seen, ca.status(Endpoint::NewOrder).await), ([502, 500], 200));
}

#[tokio::test]
async fn a_script_changes_while_the_server_runs() {
    let ca = Ca::new();
    assert_eq!(ca.status(Endpoint::NewOrder).await, 200);
    let id = ca.faults.add(Fault::new(Endpoint::NewOrder, presets::empty_500()).always());
    assert_eq!(ca.status(Endpoint::NewOrder).await, 500);
    assert!(ca.faults.remove(id) && !ca.faults.remove(id));
    assert_eq!(ca.status(Endpoint::NewOrder).await, 200);
    ca.faults.replace([Fault::everywhere(presets::html_502()).always()]);
    assert_eq!(ca.status(Endpoint::Order).await, 502);
    ca.faults.clear();
    assert_eq!(ca.status(Endpoint::Order).await, 200);
}

#[tokio::test]
async fn a_test_can_wait_for_a_hit() {
    let ca = Ca::new();
    let id = ca.faults.add(Fault::new(Endpoint::Order, Action::Cut(50)).times(2));
    let (struck, ..) = tokio::join!(
        ca.faults.wait_for(id, 2, Duration::from_secs(10)),
        ca.post(Endpoint::Order),
        ca.post(Endpoint::Order)
    );
    assert!(struck);
    assert!(!ca.faults.wait_for(id, 3, Duration::from_millis(10)).await);
}

#[tokio::test]
async fn an_answer_can_fail_before_or_after_the_effect() {
    let cases =
        [(presets::html_502(), 502, "text/html"), (presets::problem_500(), 500, "application/problem+json")];
    for (action, status, content_type) in cases {
        for after in [false, true] {
            let fault = Fault::new(Endpoint::Finalize, action.clone());
            let ca = Ca::with(if after { fault.after_effect() } else { fault }.at(&[Endpoint::Order]));
            let response = ca.post(Endpoint::Order).await;
            assert_eq!(response.status(), status);
            assert_eq!(header(&response, "content-type"), Some(content_type));
            // A problem costs a request for a nonce, unless the answer that is lost brought one.
            let nonce = header(&response, "replay-nonce").map(ToOwned::to_owned);
            match (status, after) {
                (502, _) => assert_eq!((nonce, ca.effects()), (None, u64::from(after))),
                (_, true) => assert_eq!((nonce.as_deref(), ca.effects()), (Some("POST-0"), 1)),
                _ => assert_eq!((nonce.as_deref(), ca.effects()), (Some("HEAD-0"), 1)),
            }
        }
    }
    let response = Ca::with(Fault::new(Endpoint::Order, presets::empty_500())).post(Endpoint::Order).await;
    assert!(body(response).await.is_empty());
}

#[tokio::test]
async fn a_reset_says_so_before_and_after_the_effect() {
    for (fault, effects) in [
        (Fault::new(Endpoint::NewOrder, Action::Reset), 0),
        (Fault::new(Endpoint::NewOrder, Action::Reset).after_effect(), 1),
    ] {
        let ca = Ca::with(fault);
        let error = ca.send(post("/acme/new-order", &json!({}))).await.unwrap_err();
        assert!(is_reset(&*error));
        assert_eq!(ca.effects(), effects);
    }
    assert!(!is_reset(&std::io::Error::other("something else")));
    assert!(is_reset(&std::io::Error::other(Box::new(ConnectionReset) as BoxError)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_can_be_late_or_never_come() {
    let ca = Ca::with(Fault::new(Endpoint::NewOrder, Action::Delay(Duration::from_secs(30))));
    let start = tokio::time::Instant::now();
    assert_eq!(ca.status(Endpoint::NewOrder).await, 200);
    assert_eq!(start.elapsed().as_secs(), 30);

    for (fault, effects) in [
        (Fault::new(Endpoint::NewOrder, Action::Hang), 0),
        (Fault::new(Endpoint::NewOrder, Action::Hang).after_effect(), 1),
    ] {
        let ca = Ca::with(fault);
        let year = Duration::from_secs(365 * 86_400);
        assert!(tokio::time::timeout(year, ca.post(Endpoint::NewOrder)).await.is_err());
        assert_eq!(ca.effects(), effects);
    }
}

#[tokio::test]
async fn a_flood_is_made_up_while_it_is_read() {
    let ca = Ca::with(Fault::new(Endpoint::Order, Action::Flood(1 << 30)));
    let response = ca.post(Endpoint::Order).await;
    assert_eq!(header(&response, "content-type"), Some("application/json"));
    assert_eq!(header(&response, "content-length"), None);
    let mut pieces = response.into_body().into_data_stream();
    let (mut total, mut largest) = (0u64, 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.unwrap();
        largest = largest.max(piece.len());
        total += piece.len() as u64;
    }
    assert!(total >= 1 << 30 && largest <= 64 * 1024, "{total} {largest}");

    let ca = Ca::with(Fault::new(Endpoint::Order, Action::Flood(100_000)));
    assert!(ca.json(Endpoint::Order).await["padding"].is_string());
}

#[tokio::test]
async fn json_can_be_cut() {
    let ca = Ca::with(Fault::new(Endpoint::Order, Action::Cut(50)));
    let cut = body(ca.post(Endpoint::Order).await).await;
    let whole = body(ca.post(Endpoint::Order).await).await;
    assert_eq!(cut, whole[..whole.len() / 2]);
}

#[tokio::test]
async fn bad_nonces_strike_at_their_rate_and_bring_a_fresh_one() {
    let run = async |seed| {
        let ca = Ca::with(presets::bad_nonce(30, seed));
        let mut struck = Vec::new();
        for _ in 0..200 {
            let response = ca.post(Endpoint::NewOrder).await;
            struck.push(response.status() == 400);
            if response.status() == 400 {
                assert!(header(&response, "replay-nonce").unwrap().starts_with("HEAD-"));
                let problem: Value = serde_json::from_slice(&body(response).await).unwrap();
                assert_eq!(problem["type"], "urn:ietf:params:acme:error:badNonce");
            }
        }
        let request = Request::builder().uri("/directory").body(Body::empty()).unwrap();
        assert_eq!(ca.send(request).await.unwrap().status(), 200);
        struck
    };
    let first = run(1).await;
    let share = first.iter().filter(|struck| **struck).count();
    assert!((40..=80).contains(&share), "{share}");
    assert_eq!(first, run(1).await);
    assert_ne!(first, run(2).await);
}

#[derive(Debug)]
struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000_000)
    }
}

#[tokio::test]
async fn retry_after_comes_as_seconds_and_as_a_date() {
    let wait = Duration::from_secs(120);
    for (retry_after, expected) in
        [(RetryAfter::Seconds(120), "120"), (RetryAfter::Date(wait), "Sun, 09 Sep 2001 01:48:40 GMT")]
    {
        let faults = Faults::with_clock(Arc::new(Fixed));
        faults.add(Fault::new(Endpoint::NewOrder, presets::rate_limited(retry_after.clone())));
        faults.add(Fault::new(Endpoint::NewOrder, presets::unavailable(retry_after)));
        let service = faults.layer().layer(stand_in().0);
        let limited = service.clone().oneshot(post("/acme/new-order", &json!({}))).await.unwrap();
        assert_eq!(
            (limited.status(), header(&limited, "retry-after")),
            (StatusCode::TOO_MANY_REQUESTS, Some(expected))
        );
        let problem: Value = serde_json::from_slice(&body(limited).await).unwrap();
        assert_eq!(problem["type"], "urn:ietf:params:acme:error:rateLimited");
        assert!(problem["detail"].as_str().unwrap().contains("retry after 2001-09-09 01:48:40 UTC: see"));
        let busy = service.oneshot(post("/acme/new-order", &json!({}))).await.unwrap();
        assert_eq!(
            (busy.status(), header(&busy, "retry-after")),
            (StatusCode::SERVICE_UNAVAILABLE, Some(expected))
        );
    }
}

#[tokio::test]
async fn replaces_is_refused_only_when_named() {
    for (kind, status) in
        [(ProblemType::AlreadyReplaced, 409), (ProblemType::Malformed, 404), (ProblemType::Unauthorized, 403)]
    {
        let ca = Ca::with(presets::replaces_refused(kind));
        for payload in [json!({}), json!({ "replaces": "" }), json!({ "replaces": null }), json!(1)] {
            assert_eq!(ca.send(post("/acme/new-order", &payload)).await.unwrap().status(), 200);
        }
        let named = post("/acme/new-order", &json!({ "replaces": "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE" }));
        let response = ca.send(named).await.unwrap();
        assert_eq!(response.status(), status);
        let problem: Value = serde_json::from_slice(&body(response).await).unwrap();
        assert_eq!(problem["type"], format!("urn:ietf:params:acme:error:{}", kind.as_str()));
        assert_eq!(ca.faults.hits(), [1]);
    }
}

#[tokio::test]
async fn an_order_is_stuck_only_once_it_is_finalized() {
    for (preset, status) in [
        ("order-stuck-in-processing", "processing"),
        ("order-stuck-in-ready", "ready"),
        ("order-invalid", "invalid"),
    ] {
        let ca = Ca::with(Fault::preset(preset).unwrap());
        let fresh = ca.send(post("/acme/order/fresh", &json!({}))).await.unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&body(fresh).await).unwrap(),
            json!({ "status": "ready" })
        );
        assert_eq!(ca.faults.hits(), [0]);
        for endpoint in [Endpoint::Finalize, Endpoint::Order] {
            let order = ca.json(endpoint).await;
            assert_eq!((&order["status"], order.get("certificate")), (&json!(status), None));
        }
        assert_eq!(ca.faults.hits(), [2]);
    }
    let order = Ca::with(presets::order_invalid()).json(Endpoint::Order).await;
    assert_eq!(order["error"]["subproblems"][0]["type"], "urn:ietf:params:acme:error:dns");
    assert_eq!(Ca::with(presets::order_stuck_in_pending()).json(Endpoint::Order).await["status"], "pending");
}

#[tokio::test]
async fn authorizations_and_challenges_fail_as_told() {
    let of = async |name: &str, at| Ca::with(Fault::preset(name).unwrap()).json(at).await;
    let authorization = Endpoint::Authorization;

    let pending = of("authorization-stuck-in-pending", authorization).await;
    assert_eq!(
        (&pending["status"], &pending["challenges"][1]["status"]),
        (&json!("pending"), &json!("pending"))
    );
    let invalid = of("authorization-invalid", authorization).await;
    assert_eq!(invalid["challenges"][0]["error"]["subproblems"][0]["identifier"]["value"], "a.example");
    assert_eq!(of("challenge-invalid", Endpoint::Challenge).await["status"], "invalid");
    let strange = of("unknown-challenge-first", authorization).await;
    assert_eq!(
        (&strange["challenges"][0]["type"], &strange["challenges"][1]["type"]),
        (&json!("carrier-pigeon-01"), &json!("http-01"))
    );
    let tokenless = of("challenges-without-token", authorization).await;
    assert!(tokenless["challenges"].as_array().unwrap().iter().all(|one| one.get("token").is_none()));
    assert_eq!(of("unknown-authorization-status", authorization).await["status"], "pondering");
}

#[tokio::test]
async fn orders_and_directories_come_odd_as_told() {
    let of = async |name: &str, at| Ca::with(Fault::preset(name).unwrap()).json(at).await;
    assert_eq!(of("authorizations-null", Endpoint::NewOrder).await.get("authorizations"), Some(&Value::Null));
    assert_eq!(of("replaces-empty", Endpoint::NewOrder).await["replaces"], "");
    assert_eq!(of("unknown-order-status", Endpoint::Finalize).await["status"], "pondering");
    let directory = of("directory-without-new-order", Endpoint::Directory).await;
    assert!(directory.get("newOrder").is_none() && directory.get("newNonce").is_some());
    let directory = of("unknown-fields", Endpoint::Directory).await;
    assert!(directory["null"].is_null() && directory["newOrder"].is_string());
}

#[tokio::test]
async fn certificates_come_wrong_as_told() {
    let of = async |name: &str| {
        let ca = Ca::with(Fault::preset(name).unwrap());
        String::from_utf8(body(ca.post(Endpoint::Certificate).await).await).unwrap()
    };
    let turned = of("intermediate-first").await;
    assert!(turned.find("TUlERExF").unwrap() < turned.find("TEVBRg==").unwrap());
    let headless = of("leaf-missing").await;
    assert!(headless.contains("TUlERExF") && !headless.contains("TEVBRg=="));
    assert_eq!(of("certificate-empty").await, "");
    assert!(pem::parse_many(of("certificate-garbage").await).unwrap().is_empty());
    assert_eq!(of("foreign-certificate").await, presets::FOREIGN_CERTIFICATE);
    let foreign = pem::parse(presets::FOREIGN_CERTIFICATE).unwrap();
    assert!(x509_parser::parse_x509_certificate(foreign.contents()).is_ok());
}

#[tokio::test]
async fn renewal_information_comes_wrong_as_told() {
    let of = async |name: &str| Ca::with(Fault::preset(name).unwrap()).json(Endpoint::RenewalInfo).await;
    assert_eq!(of("renewal-in-the-past").await["suggestedWindow"]["end"], "2020-01-02T00:00:00Z");
    let window = &of("renewal-ends-before-start").await["suggestedWindow"];
    assert!(window["end"].as_str() < window["start"].as_str());
    assert_eq!(of("renewal-no-date").await["suggestedWindow"]["start"], "tomorrow");
    assert_eq!(of("renewal-without-window").await, json!({}));
    let ca = Ca::with(Fault::preset("renewal-without-retry-after").unwrap());
    assert_eq!(header(&ca.post(Endpoint::RenewalInfo).await, "retry-after"), None);
}

#[tokio::test]
async fn headers_and_bodies_come_wrong_as_told() {
    let of = async |name: &str, at| Ca::with(Fault::preset(name).unwrap()).post(at).await;
    let (order, new_order) = (Endpoint::Order, Endpoint::NewOrder);
    assert_eq!(header(&of("missing-nonce", new_order).await, "replay-nonce"), None);
    assert!(header(&of("missing-nonce", Endpoint::NewNonce).await, "replay-nonce").is_some());
    assert_eq!(header(&of("no-nonce-at-all", Endpoint::NewNonce).await, "replay-nonce"), None);
    assert_eq!(header(&of("order-without-location", new_order).await, "location"), None);
    assert_eq!(header(&of("account-without-location", Endpoint::NewAccount).await, "location"), None);
    assert!(
        header(&of("order-elsewhere", new_order).await, "location").unwrap().contains("elsewhere.invalid")
    );
    let moved = of("redirect-elsewhere", new_order).await;
    assert_eq!(
        (moved.status(), header(&moved, "location").unwrap().contains("elsewhere.invalid")),
        (StatusCode::FOUND, true)
    );
    assert_eq!(header(&of("wrong-content-type", order).await, "content-type"), Some("text/html"));
    assert_eq!(
        header(&of("directory-as-html", Endpoint::Directory).await, "content-type"),
        Some("text/html")
    );
    assert_eq!(header(&of("huge-header", order).await, "x-padding-0").unwrap().len(), 1 << 20);
    assert!(of("many-headers", order).await.headers().len() > 500);
    assert!(String::from_utf8(body(of("non-utf8-body", order).await).await).is_err());
}

#[tokio::test]
async fn a_changed_body_has_no_stale_length() {
    for preset in ["cut-json", "unknown-order-status", "deep-json"] {
        let response = Ca::with(Fault::preset(preset).unwrap()).post(Endpoint::Order).await;
        let claimed = header(&response, "content-length").map(|length| length.parse::<usize>().unwrap());
        let length = body(response).await.len();
        assert!(claimed.is_none_or(|claimed| claimed == length), "{preset}: {claimed:?} {length}");
    }
}

#[tokio::test]
async fn contents_of_error_answers_are_left_alone() {
    let ca = Ca::with(Fault::new(Endpoint::Order, presets::problem_500()).after_effect());
    let patch = ca.faults.add(Fault::new(Endpoint::Order, Action::Patch(json!({ "status": "pending" }))));
    assert_eq!(ca.json(Endpoint::Order).await["status"], 500);
    assert_eq!(ca.faults.hits_of(patch), 0);
    assert_eq!(ca.json(Endpoint::Order).await["status"], "pending");
    assert_eq!(ca.faults.hits_of(patch), 1);
}

#[tokio::test(start_paused = true)]
async fn every_preset_strikes_at_each_of_its_endpoints() {
    let mut names = Vec::new();
    for (name, fault) in Fault::all_named() {
        assert!(!names.contains(&name), "{name} twice");
        names.push(name);
        for endpoint in fault.endpoints().to_vec() {
            let ca = Ca::with(fault.clone().percent(100));
            let payload = json!({ "replaces": "a.b" });
            let request = ca.send(post(path_of(endpoint), &payload));
            let ended = tokio::time::timeout(Duration::from_secs(3600), request).await;
            assert_eq!(ended.is_err(), name.starts_with("hang"), "{name}");
            // What has no JSON cannot be patched: the stand-in's newNonce.
            let hits = u64::from(!(endpoint == Endpoint::NewNonce && name == "unknown-fields"));
            assert_eq!(ca.faults.hits(), [hits], "{name} at {endpoint}");
        }
    }
}

#[test]
fn merge_patches_work_as_in_rfc_7396() {
    for (target, patch, expected) in [
        (json!({ "a": "b" }), json!({ "a": "c" }), json!({ "a": "c" })),
        (json!({ "a": "b" }), json!({ "b": "c" }), json!({ "a": "b", "b": "c" })),
        (json!({ "a": "b", "b": "c" }), json!({ "a": null }), json!({ "b": "c" })),
        (json!({ "a": ["b"] }), json!({ "a": "c" }), json!({ "a": "c" })),
        (json!({ "a": { "b": "c" } }), json!({ "a": { "b": "d", "c": null } }), json!({ "a": { "b": "d" } })),
        (json!({ "a": [{ "b": "c" }] }), json!({ "a": [1] }), json!({ "a": [1] })),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({ "e": null }), json!({ "a": 1 }), json!({ "e": null, "a": 1 })),
        (json!([1, 2]), json!({ "a": "b", "c": null }), json!({ "a": "b" })),
        (json!({}), json!({ "a": { "bb": { "ccc": null } } }), json!({ "a": { "bb": {} } })),
    ] {
        let mut patched = target.clone();
        action::merge_patch(&mut patched, &patch);
        assert_eq!(patched, expected, "{target} {patch}");
    }
}

/// Serves one connection by hyper, and gives back what the client read and how the connection ended.
async fn over_tcp(fault: Fault) -> (Result<Vec<u8>, std::io::Error>, Result<(), hyper::Error>) {
    let service = Ca::with(fault).service;
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        let serve = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
            service.clone().oneshot(request.map(|body| Body::new(body.map_err(axum::Error::new))))
        });
        let stream = hyper_util::rt::TokioIo::new(stream);
        hyper::server::conn::http1::Builder::new().serve_connection(stream, serve).await
    };
    let client = async {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request =
            "POST /acme/order/1 HTTP/1.1\r\nHost: ca\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.map(|_| read)
    };
    let both = async { tokio::join!(client, server) };
    tokio::time::timeout(Duration::from_secs(30), both).await.unwrap()
}

#[tokio::test]
async fn the_accept_loop_is_told_of_a_reset() {
    let (read, ended) = over_tcp(Fault::new(Endpoint::Order, Action::Reset).after_effect()).await;
    assert!(is_reset(&ended.unwrap_err()));
    assert!(read.unwrap().is_empty());
}

#[tokio::test]
async fn an_aborted_body_ends_half_way_on_the_wire() {
    let (read, ended) = over_tcp(Fault::new(Endpoint::Order, Action::Abort)).await;
    assert!(!is_reset(&ended.unwrap_err()));
    let read = String::from_utf8(read.unwrap()).unwrap();
    let (head, body) = read.split_once("\r\n\r\n").unwrap();
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    assert_eq!(length.unwrap().parse::<usize>().unwrap() / 2, body.len());
    assert!(!body.is_empty());
}

#[tokio::test]
async fn a_flood_ends_with_the_connection_and_is_chunked() {
    let (read, ended) = over_tcp(Fault::new(Endpoint::Order, Action::Flood(200_000))).await;
    ended.unwrap();
    let read = String::from_utf8(read.unwrap()).unwrap().to_lowercase();
    assert!(read.contains("transfer-encoding: chunked") && read.ends_with("0\r\n\r\n"));
}
