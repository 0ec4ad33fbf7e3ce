//! For the fuzz targets only: what a CA answers, read without the network.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::de::DeserializeOwned;

use super::http::{Reply, retry_after};
use super::{check_profile, text, topped_by, wire};
use crate::order::next_step;
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
    if let Ok(problem) = serde_json::from_slice::<Problem>(octets) {
        let _ = problem.to_string();
    }
    for status in [StatusCode::BAD_REQUEST, StatusCode::INTERNAL_SERVER_ERROR] {
        let error = reply(status, HeaderMap::new(), octets).into_error("newOrder", "https://ca.test");
        let _ = format!("{error} {error:?}");
    }
    if let Ok(chain) = text(&reply(StatusCode::OK, HeaderMap::new(), octets)) {
        topped_by(&chain, "root");
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
    let _ = reply.location("newOrder", "https://ca.test/acme/new-order");
    reply.links("alternate");
    let error = reply.into_error("newOrder", "https://ca.test");
    let _ = error.to_string();
    if let Retry::After(wait) = error.retry() {
        // What callers do with it.
        let _ = (wait.min(Duration::from_secs(10)), NOW.checked_add(wait));
    }
}

fn read<T: DeserializeOwned>(octets: &[u8]) -> Option<T> {
    reply(StatusCode::OK, HeaderMap::new(), octets).json("fuzz", "https://ca.test").ok()
}

fn reply(status: StatusCode, headers: HeaderMap, body: &[u8]) -> Reply {
    let retry_after = retry_after(&headers, NOW);
    Reply { status, headers, body: Bytes::copy_from_slice(body), retry_after }
}
