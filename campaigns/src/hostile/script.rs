//! Random faults.

use std::time::Duration;

use acmekit_server::faults::{Action, Answer, ChainFault, Fault, Only, RetryAfter, presets};
use acmekit_server::{Endpoint, Problem, ProblemType};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::json;

/// Where an order and a renewal come by.
const ENDPOINTS: [Endpoint; 10] = [
    Endpoint::Directory,
    Endpoint::NewNonce,
    Endpoint::NewAccount,
    Endpoint::NewOrder,
    Endpoint::Authorization,
    Endpoint::Challenge,
    Endpoint::Order,
    Endpoint::Finalize,
    Endpoint::Certificate,
    Endpoint::RenewalInfo,
];

/// Problems a CA may answer anywhere.
const PROBLEMS: [ProblemType; 16] = [
    ProblemType::AccountDoesNotExist,
    ProblemType::BadCsr,
    ProblemType::BadNonce,
    ProblemType::Caa,
    ProblemType::Connection,
    ProblemType::Dns,
    ProblemType::ExternalAccountRequired,
    ProblemType::IncorrectResponse,
    ProblemType::Malformed,
    ProblemType::OrderNotReady,
    ProblemType::RateLimited,
    ProblemType::RejectedIdentifier,
    ProblemType::ServerInternal,
    ProblemType::Unauthorized,
    ProblemType::UserActionRequired,
    ProblemType::Compound,
];

/// What an order or an authorization may be said to be.
const STATUSES: [&str; 11] = [
    "pending",
    "ready",
    "processing",
    "valid",
    "invalid",
    "deactivated",
    "expired",
    "revoked",
    "",
    "pondering",
    "Valid",
];

/// One to six faults, each with what it is called in a report.
/// `for_ever` are times to wait that nobody waits for: they are believed for a year.
pub(super) fn draw(chance: &mut StdRng, over_network: bool, for_ever: bool) -> Vec<(String, Fault)> {
    (0..chance.random_range(1..=6)).map(|_| one(chance, over_network, for_ever)).collect()
}

fn one(chance: &mut StdRng, over_network: bool, for_ever: bool) -> (String, Fault) {
    if !over_network && chance.random_bool(0.4) {
        let named = Fault::all_named();
        if let Some((name, fault)) = named.choose(chance) {
            // As it is, or for a while only.
            return match chance.random_range(0..3) {
                0 => {
                    let (skip, times) = (chance.random_range(0..3), chance.random_range(1..4));
                    (format!("{name} skip {skip} times {times}"), fault.clone().skip(skip).times(times))
                }
                1 => {
                    let (percent, seed) = (chance.random_range(10..90), chance.random());
                    (format!("{name} {percent} % seed {seed}"), fault.clone().percent(percent).seed(seed))
                }
                _ => ((*name).to_owned(), fault.clone()),
            };
        }
    }
    let action = if over_network { transport(chance, true, for_ever) } else { any(chance, for_ever) };
    let mut fault = if chance.random_bool(0.1) {
        Fault::everywhere(action)
    } else {
        let count = chance.random_range(1..=3);
        let places: Vec<Endpoint> = ENDPOINTS.choose_multiple(chance, count).copied().collect();
        Fault::everywhere(action).at(&places)
    };
    if chance.random_bool(0.4) {
        fault = fault.after_effect();
    }
    if chance.random_bool(0.15) {
        fault = fault.only(Only::Posts);
    }
    if chance.random_bool(0.4) {
        fault = fault.skip(chance.random_range(0..5));
    }
    fault = match chance.random_range(0..4) {
        0 => fault.always(),
        1 => fault.percent(chance.random_range(5..95)).seed(chance.random()),
        _ => fault.times(chance.random_range(1..=5)),
    };
    // A body may be a megabyte.
    (format!("{fault:?}").chars().take(600).collect(), fault)
}

/// Silence, noise and broken messages: nothing that could be believed.
fn transport(chance: &mut StdRng, real_time: bool, for_ever: bool) -> Action {
    let retry_after = match chance.random_range(0..5) {
        0 => RetryAfter::Seconds(0),
        1 => RetryAfter::Seconds(chance.random_range(1..600)),
        2 => RetryAfter::Seconds(chance.random_range(600..200_000)),
        3 if for_ever => RetryAfter::Seconds(u64::MAX),
        _ => RetryAfter::Date(Duration::from_secs(chance.random_range(1..5000))),
    };
    let delay = Duration::from_millis(chance.random_range(1..if real_time { 1500 } else { 20_000 }));
    match chance.random_range(0..17) {
        0 => presets::html_502(),
        1 => presets::html_404(),
        2 => presets::empty_500(),
        3 => presets::problem_500(),
        4 => presets::unavailable(retry_after),
        5 => presets::rate_limited(retry_after),
        6 => Action::Delay(delay),
        7 => Action::Hang,
        8 => Action::Reset,
        9 | 10 => Action::Flood(if real_time { 1 << 31 } else { 2 << 20 }),
        11 => Action::Cut(chance.random_range(0..100)),
        12 => Action::Abort,
        13 => {
            Action::HugeHeaders { count: chance.random_range(1..600), bytes: chance.random_range(1..20_000) }
        }
        14 => Action::Body(Bytes::from(garbage(chance))),
        15 => Action::RemoveHeader(HeaderName::from_static("replay-nonce")),
        _ => Action::SetHeader(CONTENT_TYPE, HeaderValue::from_static("text/html")),
    }
}

/// Also what could be believed.
fn any(chance: &mut StdRng, for_ever: bool) -> Action {
    let status = *STATUSES.choose(chance).unwrap_or(&"pending");
    match chance.random_range(0..20) {
        0..=8 => transport(chance, false, for_ever),
        9 | 10 => {
            let kind = *PROBLEMS.choose(chance).unwrap_or(&ProblemType::Malformed);
            let mut problem = Problem::new(kind, "No.");
            if chance.random_bool(0.3) {
                problem = problem
                    .with_status(*[400, 401, 403, 404, 409, 429, 500, 503].choose(chance).unwrap_or(&400));
            }
            Action::problem(&problem)
        }
        11..=13 => Action::Patch(json!({ "status": status })),
        14 => Action::Patch(json!({ "status": status, "certificate": null })),
        15 => match chance.random_range(0..6) {
            0 => Action::Patch(json!({ "expires": "2020-01-01T00:00:00Z" })),
            1 => Action::Patch(json!({ "authorizations": [] })),
            2 => Action::Patch(json!({ "authorizations": null, "challenges": null })),
            3 => Action::Patch(json!({ "finalize": "https://elsewhere.invalid/acme/finalize" })),
            4 => Action::Patch(json!({ "challenges": [], "identifiers": [] })),
            _ => Action::Patch(
                json!({ "identifier": { "type": "dns", "value": "other.test" }, "wildcard": true }),
            ),
        },
        16 => match chance.random_range(0..4) {
            0 => Action::Chain(ChainFault::IntermediateFirst),
            1 => Action::Chain(ChainFault::LeafMissing),
            2 => Action::certificate(presets::FOREIGN_CERTIFICATE),
            _ => Action::certificate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        },
        17 => {
            let far = if for_ever { "99999999999" } else { "172800" };
            let values = ["0", "1", "30", "86400", far, "-1", "soon", "Thu, 01 Jan 1970 00:00:00 GMT"];
            let value = *values.choose(chance).unwrap_or(&"0");
            Action::SetHeader(RETRY_AFTER, HeaderValue::from_static(value))
        }
        18 => match chance.random_range(0..3) {
            0 => Action::RemoveHeader(LOCATION),
            1 => Action::SetHeader(
                LOCATION,
                HeaderValue::from_static("https://elsewhere.invalid/acme/order/1"),
            ),
            _ => Action::SetHeader(LOCATION, HeaderValue::from_static("/acme/order/none")),
        },
        _ => {
            let codes = [200, 201, 204, 301, 400, 401, 403, 404, 405, 409, 418, 429, 500, 501, 504];
            let code = StatusCode::from_u16(*codes.choose(chance).unwrap_or(&200)).unwrap_or(StatusCode::OK);
            let answer =
                Answer::new(code).body(HeaderValue::from_static("application/json"), garbage(chance));
            Action::Respond(if chance.random_bool(0.5) { answer.with_nonce() } else { answer })
        }
    }
}

fn garbage(chance: &mut StdRng) -> String {
    let texts = [
        "",
        "{}",
        "[]",
        "null",
        "\"\"",
        "{\"status\":7}",
        "{\"status\":\"valid\"}",
        "{\"type\":\"urn:ietf:params:acme:error:nobodyKnows\"}",
        "\u{0}\u{1}\u{202e}",
        "<html>",
    ];
    match chance.random_range(0..12) {
        0 => "[".repeat(200_000),
        1 => format!("{{\"{}\":1}}", "x".repeat(900_000)),
        place => texts[place % texts.len()].to_owned(),
    }
}
