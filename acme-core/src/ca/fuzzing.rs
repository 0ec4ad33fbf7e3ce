//! For the fuzz targets only: what a CA answers, read without the network.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::de::DeserializeOwned;

use super::http::{Reply, retry_after};
use super::{check_profile, text, topped_by, wire};
use crate::backoff::Trouble;
use crate::budget::ledger;
use crate::order::next_step;
use crate::renewal::{Suggestion, Window};
use crate::{Problem, Retry};

const NOW: SystemTime = UNIX_EPOCH;

/// The octets as the body of each answer, and what is done with them up to the next decision.
pub(crate) fn bodies(octets: &[u8]) {
    if let Some(directory) = read::<wire::Directory>(octets) {
        let _ = check_profile(&directory, "classic");
    }
    if let Some(order) = read::<wire::Order>(octets) {
        let mut order = order.into_snapshot("https://ca.test/order".to_owned());
        let _ = next_step(&order, &BTreeSet::new(), NOW);
        if let Some(authorization) = read::<wire::Authorization>(octets)
            && let Ok(authorization) = authorization.into_snapshot("https://ca.test/authz".to_owned())
        {
            order.authorizations.push(authorization);
            let step = next_step(&order, &BTreeSet::new(), NOW);
            let _ = format!("{step:?}");
        }
    }
    if let Some(window) = read::<wire::RenewalInfo>(octets).and_then(wire::RenewalInfo::into_window) {
        suggested(window);
    }
    if let Ok(problem) = serde_json::from_slice::<Problem>(octets) {
        let _ = problem.to_string();
        ledger::fuzzing::page(b"{}", &problem.detail, None);
    }
    for status in [StatusCode::BAD_REQUEST, StatusCode::INTERNAL_SERVER_ERROR] {
        let error = reply(status, HeaderMap::new(), octets).into_error("newOrder", "https://ca.test");
        let shown = error.to_string();
        assert!(!shown.contains(char::is_control), "a CA breaks a line of the log");
        assert!(shown.chars().count() < 10_000, "a CA fills the log");
        let _ = format!("{error:?}");
    }
    if let Ok(chain) = text(&reply(StatusCode::OK, HeaderMap::new(), octets)) {
        topped_by(&chain, "root");
    }
}

/// What is made of a suggested window, by whatever chance, before it, in it and after it.
fn suggested(window: Window) {
    let (start, end) = (window.start, window.end);
    for (share, now) in [(0.0, NOW), (0.5, start), (1.0, end), (1.0, NOW)] {
        let mut suggestion = Suggestion::none("fuzz", now);
        suggestion.told(window.clone(), Some(Duration::MAX), share, now);
        let at = suggestion.at();
        assert!(at.is_some_and(|at| start <= at && at < end), "what is picked is not in the window");
        let again = serde_json::to_vec(&suggestion).ok().and_then(|text| serde_json::from_slice(&text).ok());
        assert!(again == Some(suggestion), "a suggestion does not survive being written");
    }
}

/// The octets as status and headers, one to a line.
pub(crate) fn headers(octets: &[u8]) {
    let mut lines = octets.split(|octet| *octet == b'\n');
    let status = lines.next().and_then(|line| StatusCode::from_bytes(line).ok());
    let mut headers = HeaderMap::new();
    for line in lines.take(100) {
        let Some(colon) = line.iter().position(|octet| *octet == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let reply = reply(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE), headers, b"");
    if let Ok(made) = reply.location("newOrder", "https://ca.test/acme/new-order") {
        assert!(made.starts_with("https://ca.test/"), "what was made is elsewhere: {made}");
    }
    assert!(!reply.links("alternate").iter().any(|url| url.contains('>')), "more than a URL is read");
    let error = reply.into_error("newOrder", "https://ca.test");
    let _ = error.to_string();
    if let Retry::After(wait) = error.retry() {
        // What callers do with it.
        let _ = (wait.min(Duration::from_secs(10)), NOW.checked_add(wait));
        ledger::fuzzing::page(b"{}", "", Some(wait));
    }
    // What is kept of it until the next try.
    let trouble = Trouble::after(None, &error, 1.0, None, NOW);
    let again = serde_json::to_vec(&trouble).ok().and_then(|text| serde_json::from_slice(&text).ok());
    assert!(again == Some(trouble), "what went wrong does not survive being written");
}

fn read<T: DeserializeOwned>(octets: &[u8]) -> Option<T> {
    reply(StatusCode::OK, HeaderMap::new(), octets).json("fuzz", "https://ca.test").ok()
}

fn reply(status: StatusCode, headers: HeaderMap, body: &[u8]) -> Reply {
    let retry_after = retry_after(&headers, NOW);
    Reply { status, headers, body: Bytes::copy_from_slice(body), retry_after }
}
