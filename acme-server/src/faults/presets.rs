//! Faults with a name: what has been seen of real servers and proxies, and what an enemy would try.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::service::REPLAY_NONCE;
use super::{Action, Answer, ChainFault, Fault, Only, RetryAfter};
use crate::{Endpoint, Problem, ProblemType};

/// A certificate of nobody's key, for `elsewhere.example`.
pub const FOREIGN_CERTIFICATE: &str = include_str!("foreign.pem");

const ELSEWHERE: &str = "https://elsewhere.invalid/acme/order/1";

/// What a proxy says whose server is down.
pub fn html_502() -> Action {
    const PAGE: &str = "<html><head><title>502 Bad Gateway</title></head>\
        <body><center><h1>502 Bad Gateway</h1></center><hr><center>nginx</center></body></html>\r\n";
    Action::Respond(Answer::new(StatusCode::BAD_GATEWAY).body(HeaderValue::from_static("text/html"), PAGE))
}

/// What a proxy says whose rules do not know the CA's path.
pub fn html_404() -> Action {
    const PAGE: &str = "<html><head><title>404 Not Found</title></head>\
        <body><center><h1>404 Not Found</h1></center><hr><center>nginx</center></body></html>\r\n";
    Action::Respond(Answer::new(StatusCode::NOT_FOUND).body(HeaderValue::from_static("text/html"), PAGE))
}

/// 500 and nothing else.
pub fn empty_500() -> Action {
    Action::Respond(Answer::new(StatusCode::INTERNAL_SERVER_ERROR))
}

/// 500 as the server itself says it.
pub fn problem_500() -> Action {
    Action::problem(&Problem::internal("Error retrieving account"))
}

/// 503 with `Retry-After`, as Boulder says it under load.
pub fn unavailable(retry_after: RetryAfter) -> Action {
    let problem = Problem::new(ProblemType::RateLimited, "Service busy; retry later.").with_status(503);
    Action::Respond(Answer::problem(&problem).retry_after(retry_after))
}

/// 429 `rateLimited` with `Retry-After`, as Boulder says it.
pub fn rate_limited(retry_after: RetryAfter) -> Action {
    const DETAIL: &str = "too many new orders (300) from this account in the last 3h0m0s, \
        retry after {retry-at}: see https://letsencrypt.org/docs/rate-limits/#new-orders-per-account";
    let problem = Problem::new(ProblemType::RateLimited, DETAIL);
    Action::Respond(Answer::problem(&problem).retry_after(retry_after))
}

/// `badNonce` with a fresh nonce, for this share of the POST requests. The same seed throws the same dice.
pub fn bad_nonce(percent: u8, seed: u64) -> Fault {
    let problem =
        Problem::new(ProblemType::BadNonce, "Unable to validate JWS :: JWS has an invalid anti-replay nonce");
    Fault::everywhere(Action::problem(&problem)).only(Only::Posts).percent(percent).seed(seed)
}

/// An order that names a certificate to replace is refused: 409 `alreadyReplaced`, 404 `malformed`, 403
/// `unauthorized`. One that names none is not.
pub fn replaces_refused(kind: ProblemType) -> Fault {
    let (status, detail) = match kind {
        ProblemType::AlreadyReplaced => {
            (409, "cannot indicate an order replaces a certificate which already has a replacement")
        }
        ProblemType::Malformed => (404, "could not find an order for the given certificate"),
        _ => (403, "requester account did not request the certificate being replaced by this order"),
    };
    let problem = Problem::new(kind, detail).with_status(status);
    Fault::new(Endpoint::NewOrder, Action::problem(&problem)).only(Only::Replaces).always()
}

/// A finalized order is `processing` for ever.
pub fn order_stuck_in_processing() -> Fault {
    finalized(json!({ "status": "processing", "certificate": null }))
}

/// An order is `pending` for ever, whatever became of its authorizations.
pub fn order_stuck_in_pending() -> Fault {
    patch(Endpoint::Order, json!({ "status": "pending", "certificate": null }))
}

/// An order is `ready` again each time it has been finalized.
pub fn order_stuck_in_ready() -> Fault {
    finalized(json!({ "status": "ready", "certificate": null }))
}

/// A finalized order is `invalid`, and says why.
pub fn order_invalid() -> Fault {
    finalized(json!({ "status": "invalid", "certificate": null, "error": failure("one.example") }))
}

/// An authorization is `pending` for ever, as are its challenges.
pub fn authorization_stuck_in_pending() -> Fault {
    let action = Action::rewrite(|answer| {
        answer["status"] = json!("pending");
        each_challenge(answer, |challenge| {
            challenge["status"] = json!("pending");
            remove(challenge, "validated");
        });
    });
    Fault::new(Endpoint::Authorization, action).also(Endpoint::Challenge).always()
}

/// What has been validated is `invalid` after all, and says why in a problem with subproblems.
pub fn authorization_invalid() -> Fault {
    Fault::new(Endpoint::Authorization, invalid())
        .also(Endpoint::Challenge)
        .only(Only::StatusIn(vec!["valid".to_owned(), "invalid".to_owned()]))
        .always()
}

/// A challenge is `invalid` as soon as the client says it is ready.
pub fn challenge_invalid() -> Fault {
    Fault::new(Endpoint::Challenge, invalid()).only(Only::Posts).always()
}

/// A challenge of a type nobody knows comes first.
pub fn unknown_challenge_first() -> Fault {
    let unknown = json!({
        "type": "carrier-pigeon-01", "status": "pending",
        "url": "https://elsewhere.invalid/acme/challenge/1/pigeon",
        "pigeons": ["white", 2, null],
    });
    rewrite(Endpoint::Authorization, move |answer| {
        if let Some(challenges) = answer.get_mut("challenges").and_then(Value::as_array_mut) {
            challenges.insert(0, unknown.clone());
        }
    })
}

/// Challenges have no token.
pub fn challenges_without_token() -> Fault {
    rewrite(Endpoint::Authorization, |answer| each_challenge(answer, |challenge| remove(challenge, "token")))
        .also(Endpoint::Challenge)
}

/// Fields nobody knows, of every JSON type. A client must ignore them (RFC 8555 section 7.1).
pub fn unknown_fields() -> Fault {
    let fault = rewrite(Endpoint::Directory, |answer| {
        let odd = json!({
            "": "", "null": null, "number": -0.0, "huge": u64::MAX, "float": 1e300,
            "list": [[], {}, null, [[[1]]]],
            "object": { "": { "status": 1 } }, "text\u{0}": "\u{0}\u{202e}\u{1f512}",
            "__proto__": { "a": true },
        });
        if let (Some(answer), Value::Object(odd)) = (answer.as_object_mut(), odd) {
            answer.extend(odd);
        }
    });
    let all: Vec<Endpoint> = Endpoint::ALL.into_iter().filter(|at| *at != Endpoint::Certificate).collect();
    fault.at(&all)
}

/// Serves this PEM instead of the chain, which does not fit the key.
pub fn foreign_certificate(pem: impl Into<String>) -> Fault {
    Fault::new(Endpoint::Certificate, Action::certificate(pem)).always()
}

/// A window of renewal: both times are written as they are.
pub fn renewal_window(start: &str, end: &str) -> Fault {
    patch(Endpoint::RenewalInfo, json!({ "suggestedWindow": { "start": start, "end": end } }))
}

/// `count` headers of `bytes` bytes each.
pub fn huge_headers(count: u16, bytes: usize) -> Fault {
    Fault::new(Endpoint::Order, Action::HugeHeaders { count, bytes }).always()
}

pub(super) fn all() -> Vec<(&'static str, Fault)> {
    let mut all = transport();
    all.extend(messages());
    all.extend(resources());
    all
}

fn transport() -> Vec<(&'static str, Fault)> {
    use Endpoint::{Finalize, NewNonce, NewOrder, Order};
    let soon = Duration::from_secs(2);
    let nonces = Endpoint::ALL.into_iter().filter(|at| *at != NewNonce).collect::<Vec<_>>();
    vec![
        ("html-502", Fault::new(NewOrder, html_502())),
        ("html-502-after-effect", Fault::new(Finalize, html_502()).after_effect()),
        ("empty-500", Fault::new(NewOrder, empty_500())),
        ("empty-500-after-effect", Fault::new(Finalize, empty_500()).after_effect()),
        ("problem-500", Fault::new(NewOrder, problem_500())),
        ("problem-500-after-effect", Fault::new(Finalize, problem_500()).after_effect()),
        ("unavailable", Fault::new(NewOrder, unavailable(RetryAfter::Seconds(2)))),
        ("unavailable-until-date", Fault::new(NewOrder, unavailable(RetryAfter::Date(soon)))),
        ("rate-limited", Fault::new(NewOrder, rate_limited(RetryAfter::Seconds(2)))),
        ("rate-limited-until-date", Fault::new(NewOrder, rate_limited(RetryAfter::Date(soon)))),
        ("delay", Fault::new(NewOrder, Action::Delay(soon))),
        ("hang", Fault::new(NewOrder, Action::Hang)),
        ("hang-after-effect", Fault::new(Finalize, Action::Hang).after_effect()),
        ("reset", Fault::new(NewOrder, Action::Reset)),
        ("reset-after-effect", Fault::new(Finalize, Action::Reset).after_effect()),
        ("abort-body", Fault::new(Order, Action::Abort)),
        ("flood", Fault::new(Order, Action::Flood(1 << 30))),
        ("redirect-elsewhere", Fault::new(NewOrder, Action::redirect(HeaderValue::from_static(ELSEWHERE)))),
        ("bad-nonce", bad_nonce(30, 0)),
        ("missing-nonce", Fault::new(NewOrder, Action::RemoveHeader(REPLAY_NONCE)).at(&nonces).always()),
        ("no-nonce-at-all", Fault::everywhere(Action::RemoveHeader(REPLAY_NONCE)).always()),
        ("huge-header", huge_headers(1, 1 << 20)),
        ("many-headers", huge_headers(500, 100)),
    ]
}

fn messages() -> Vec<(&'static str, Fault)> {
    use Endpoint::{Certificate, Directory, Finalize, NewAccount, NewOrder, Order};
    let html = HeaderValue::from_static("text/html");
    let page = "<html><body>Under maintenance</body></html>";
    let front = Action::Respond(Answer::new(StatusCode::OK).body(html.clone(), page));
    vec![
        ("cut-json", Fault::new(Order, Action::Cut(50))),
        ("non-utf8-body", Fault::new(Order, Action::Body(Bytes::from_static(b"{\"status\":\"\xff\xfe\"}")))),
        ("deep-json", Fault::new(Order, Action::Body(Bytes::from("[".repeat(100_000))))),
        ("empty-body", Fault::new(Order, Action::Body(Bytes::new()))),
        ("wrong-content-type", Fault::new(Order, Action::SetHeader(CONTENT_TYPE, html.clone())).always()),
        ("certificate-as-html", Fault::new(Certificate, Action::SetHeader(CONTENT_TYPE, html)).always()),
        ("order-without-location", Fault::new(NewOrder, Action::RemoveHeader(LOCATION)).always()),
        ("account-without-location", Fault::new(NewAccount, Action::RemoveHeader(LOCATION)).always()),
        ("order-elsewhere", location(NewOrder)),
        ("account-elsewhere", location(NewAccount)),
        ("directory-as-html", Fault::new(Directory, front).always()),
        ("directory-without-new-order", patch(Directory, json!({ "newOrder": null }))),
        ("unknown-fields", unknown_fields()),
        ("unknown-order-status", patch(Order, json!({ "status": "pondering" })).also(Finalize)),
        ("unknown-authorization-status", patch(Endpoint::Authorization, json!({ "status": "pondering" }))),
        ("replaces-already-replaced", replaces_refused(ProblemType::AlreadyReplaced)),
        ("replaces-not-found", replaces_refused(ProblemType::Malformed)),
        ("replaces-unauthorized", replaces_refused(ProblemType::Unauthorized)),
        ("replaces-empty", patch(NewOrder, json!({ "replaces": "" })).also(Order).also(Finalize)),
    ]
}

fn resources() -> Vec<(&'static str, Fault)> {
    use Endpoint::{Certificate, NewOrder, Order, RenewalInfo};
    let null = |answer: &mut Value| answer["authorizations"] = Value::Null;
    vec![
        ("order-stuck-in-processing", order_stuck_in_processing()),
        ("order-stuck-in-pending", order_stuck_in_pending()),
        ("order-stuck-in-ready", order_stuck_in_ready()),
        ("order-invalid", order_invalid()),
        ("authorizations-null", rewrite(NewOrder, null).also(Order)),
        ("authorization-stuck-in-pending", authorization_stuck_in_pending()),
        ("authorization-invalid", authorization_invalid()),
        ("challenge-invalid", challenge_invalid()),
        ("unknown-challenge-first", unknown_challenge_first()),
        ("challenges-without-token", challenges_without_token()),
        ("foreign-certificate", foreign_certificate(FOREIGN_CERTIFICATE)),
        (
            "intermediate-first",
            Fault::new(Certificate, Action::Chain(ChainFault::IntermediateFirst)).always(),
        ),
        ("leaf-missing", Fault::new(Certificate, Action::Chain(ChainFault::LeafMissing)).always()),
        ("certificate-garbage", Fault::new(Certificate, Action::certificate("not a certificate\n")).always()),
        ("certificate-empty", Fault::new(Certificate, Action::certificate("")).always()),
        ("renewal-in-the-past", renewal_window("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z")),
        ("renewal-ends-before-start", renewal_window("2099-01-02T00:00:00Z", "2099-01-01T00:00:00Z")),
        ("renewal-no-date", renewal_window("tomorrow", "the day after")),
        ("renewal-without-window", patch(RenewalInfo, json!({ "suggestedWindow": null }))),
        ("renewal-without-retry-after", Fault::new(RenewalInfo, Action::RemoveHeader(RETRY_AFTER)).always()),
    ]
}

fn patch(endpoint: Endpoint, patch: Value) -> Fault {
    Fault::new(endpoint, Action::Patch(patch)).always()
}

fn rewrite(endpoint: Endpoint, change: impl Fn(&mut Value) + Send + Sync + 'static) -> Fault {
    Fault::new(endpoint, Action::rewrite(change)).always()
}

fn location(endpoint: Endpoint) -> Fault {
    Fault::new(endpoint, Action::SetHeader(LOCATION, HeaderValue::from_static(ELSEWHERE))).always()
}

/// A finalized order looks so. Before, it looks as it is, or no client would come this far.
fn finalized(patched: Value) -> Fault {
    patch(Endpoint::Order, patched)
        .also(Endpoint::Finalize)
        .only(Only::StatusIn(vec!["processing".to_owned(), "valid".to_owned()]))
}

fn invalid() -> Action {
    Action::rewrite(|answer| {
        let name =
            answer.pointer("/identifier/value").and_then(Value::as_str).unwrap_or("one.example").to_owned();
        answer["status"] = json!("invalid");
        each_challenge(answer, |challenge| {
            challenge["status"] = json!("invalid");
            challenge["error"] = failure(&name);
            remove(challenge, "validated");
        });
    })
}

/// A problem with subproblems (RFC 8555 section 6.7.1).
fn failure(name: &str) -> Value {
    let part = |kind: &str, detail: &str, name: &str| {
        json!({
            "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail,
            "identifier": { "type": "dns", "value": name },
        })
    };
    json!({
        "type": "urn:ietf:params:acme:error:compound", "status": 403, "detail": "Errors during validation",
        "subproblems": [
            part("dns", "DNS problem: SERVFAIL looking up A", name),
            part("caa", "CAA record for other.example prevents issuance", "other.example"),
        ],
    })
}

/// The challenges of an authorization, or the challenge the answer is itself.
fn each_challenge(answer: &mut Value, mut change: impl FnMut(&mut Value)) {
    match answer.get_mut("challenges") {
        Some(Value::Array(challenges)) => {
            challenges.iter_mut().filter(|one| one.is_object()).for_each(change)
        }
        Some(_) => {}
        None => change(answer),
    }
}

fn remove(object: &mut Value, name: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(name);
    }
}
