//! The order as the CA tells it, and the one decision taken on it: [`next_step`].
//!
//! Everything here is a plain value. The decision reads no clock and does no IO, so it can be
//! tested with any story a CA may tell, and a crash cannot happen inside it.

use std::collections::BTreeSet;
use std::time::SystemTime;

use crate::{ChallengeKind, Error, ErrorKind, Identifier, Problem, Retry};

/// The states of an order (RFC 8555 section 7.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OrderStatus {
    /// Authorizations are outstanding.
    Pending,
    /// All authorizations are valid; the CSR can be sent.
    Ready,
    /// The CA is issuing.
    Processing,
    /// The certificate can be downloaded.
    Valid,
    /// The order has failed.
    Invalid,
    /// A word RFC 8555 does not know.
    Unknown,
}

/// The states of an authorization (RFC 8555 section 7.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthorizationStatus {
    /// A challenge has to be answered.
    Pending,
    /// The CA is convinced.
    Valid,
    /// A challenge failed.
    Invalid,
    /// Deactivated, expired or revoked: of no use any more.
    Gone,
    /// A word RFC 8555 does not know.
    Unknown,
}

/// The states of a challenge (RFC 8555 section 7.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChallengeStatus {
    /// The CA waits to be told that the answer stands.
    Pending,
    /// The CA is looking.
    Processing,
    /// The answer was right.
    Valid,
    /// The answer was wrong.
    Invalid,
    /// A word RFC 8555 does not know.
    Unknown,
}

/// An order at one moment. `authorizations` is filled where the decision needs it: while the order
/// is pending, and when it has become invalid.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OrderSnapshot {
    /// Its URL, which is its identity.
    pub url: String,
    /// Its state.
    pub status: OrderStatus,
    /// When the CA forgets it.
    pub expires: Option<SystemTime>,
    /// What it is for.
    pub identifiers: BTreeSet<Identifier>,
    /// The authorizations it needs.
    pub authorizations: Vec<AuthorizationSnapshot>,
    /// Where the CSR goes.
    pub finalize: String,
    /// Where the certificate is, once there is one.
    pub certificate: Option<String>,
    /// Why it is invalid, if the CA says so.
    pub error: Option<Problem>,
}

impl OrderSnapshot {
    /// An order of which nothing else is known yet: no expiry, names, authorizations or certificate,
    /// for tests and tools that tell [`next_step`] a story of their own and fill in the rest.
    ///
    /// ```
    /// use acmekit_core::order::{OrderSnapshot, OrderStatus, Step, next_step};
    /// use std::time::SystemTime;
    ///
    /// let ready = OrderSnapshot::new("https://ca.test/order/1", OrderStatus::Ready);
    /// let step = next_step(&ready, &Default::default(), SystemTime::UNIX_EPOCH);
    /// assert!(matches!(step, Step::Finalize));
    /// ```
    pub fn new(url: impl Into<String>, status: OrderStatus) -> Self {
        Self {
            url: url.into(),
            status,
            expires: None,
            identifiers: BTreeSet::new(),
            authorizations: Vec::new(),
            finalize: String::new(),
            certificate: None,
            error: None,
        }
    }
}

/// An authorization at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AuthorizationSnapshot {
    /// Its URL.
    pub url: String,
    /// Its state.
    pub status: AuthorizationStatus,
    /// What it is about.
    pub identifier: Identifier,
    /// The challenges of which one has to be answered; those without a URL are left out.
    pub challenges: Vec<ChallengeSnapshot>,
}

impl AuthorizationSnapshot {
    /// An authorization without challenges, to be filled in as in [`OrderSnapshot::new`].
    pub fn new(url: impl Into<String>, status: AuthorizationStatus, identifier: Identifier) -> Self {
        Self { url: url.into(), status, identifier, challenges: Vec::new() }
    }
}

/// A challenge at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ChallengeSnapshot {
    /// Its kind.
    pub kind: ChallengeKind,
    /// Its URL.
    pub url: String,
    /// Its token; kinds that need none may have none.
    pub token: Option<String>,
    /// The names the CA goes by in records of dns-persist-01; other kinds have none.
    pub issuers: Vec<String>,
    /// Its state.
    pub status: ChallengeStatus,
    /// Why it is invalid, if the CA says so.
    pub error: Option<Problem>,
}

impl ChallengeSnapshot {
    /// A challenge without token or error, to be filled in as in [`OrderSnapshot::new`].
    pub fn new(kind: ChallengeKind, url: impl Into<String>, status: ChallengeStatus) -> Self {
        Self { kind, url: url.into(), token: None, issuers: Vec::new(), status, error: None }
    }
}

/// What to do next about an order.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// Prove control for these authorizations (positions in the snapshot): present, wait, respond.
    Prove(Vec<usize>),
    /// Ask again later.
    Wait,
    /// Send the CSR.
    Finalize,
    /// Download the certificate from this URL.
    Download(String),
    /// The order is of no use any more, through nobody's fault: forget it and order anew.
    StartOver(&'static str),
    /// The order has failed, for these reasons.
    Failed(Error),
}

const EXPIRED: &str = "the order has expired";

/// Decides what to do next about an order.
///
/// `answered` holds the URLs of the authorizations whose challenge the CA has been told to check in
/// this run, so that the answer still stands. After a crash it is empty: presenting again does no
/// harm, while waiting for a CA that was never told would be for ever.
pub fn next_step(order: &OrderSnapshot, answered: &BTreeSet<String>, now: SystemTime) -> Step {
    // RFC 8555 section 7.1.3: past `expires` the server may have forgotten the order. A valid one
    // still has its certificate.
    let expired = order.expires.is_some_and(|at| at <= now);
    match order.status {
        OrderStatus::Valid => match &order.certificate {
            Some(url) => Step::Download(url.clone()),
            // Section 7.4: "certificate" is there once the order is valid; some CAs are slow.
            None => Step::Wait,
        },
        // One that nobody went on with in time has not been refused.
        OrderStatus::Invalid if expired && !has_reason(order) => Step::StartOver(EXPIRED),
        OrderStatus::Invalid => Step::Failed(failure(order)),
        _ if expired => Step::StartOver(EXPIRED),
        OrderStatus::Ready => Step::Finalize,
        OrderStatus::Processing | OrderStatus::Unknown => Step::Wait,
        OrderStatus::Pending => pending(order, answered),
    }
}

fn pending(order: &OrderSnapshot, answered: &BTreeSet<String>) -> Step {
    // Section 7.1.6: one authorization that fails makes the order invalid; do not wait for it.
    if order.authorizations.iter().any(|authz| authz.status == AuthorizationStatus::Invalid) {
        return Step::Failed(failure(order));
    }
    if order.authorizations.iter().any(|authz| authz.status == AuthorizationStatus::Gone) {
        return Step::StartOver("an authorization of the order was deactivated, revoked or has expired");
    }
    let unproved: Vec<usize> = order
        .authorizations
        .iter()
        .enumerate()
        .filter(|(_, authz)| authz.status == AuthorizationStatus::Pending && !answered.contains(&authz.url))
        .map(|(position, _)| position)
        .collect();
    if unproved.is_empty() { Step::Wait } else { Step::Prove(unproved) }
}

/// Whether the CA says anywhere why the order is invalid.
fn has_reason(order: &OrderSnapshot) -> bool {
    let challenges = order.authorizations.iter().flat_map(|authz| &authz.challenges);
    order.error.is_some() || challenges.into_iter().any(|challenge| challenge.error.is_some())
}

/// The reasons of a failed order, from wherever the CA put them: the order itself often carries
/// none, and then they are in the challenges of its authorizations.
fn failure(order: &OrderSnapshot) -> Error {
    let mut problem = order.error.clone().unwrap_or_default();
    for authz in &order.authorizations {
        for challenge in &authz.challenges {
            if let Some(reason) = &challenge.error {
                let mut reason = reason.clone();
                reason.identifier = Some(format!("{} by {}", authz.identifier, challenge.kind));
                problem.subproblems.push(reason);
            }
        }
    }
    if problem.detail.is_empty() {
        problem.detail = match problem.subproblems.len() {
            0 => "the CA gives no reason".to_owned(),
            1 => "one identifier failed".to_owned(),
            many => format!("{many} challenges failed"),
        };
    }
    let hint = problem.subproblems.iter().chain([&problem]).find_map(|problem| hint(problem.acme_type()));
    let error = Error::new(ErrorKind::Validation, "order", "the CA has refused the order")
        .with("order", &order.url)
        .with_retry(Retry::Backoff)
        .with_problem(problem);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// What a person can do about an ACME error type (RFC 8555 section 6.7).
pub(crate) fn hint(acme_type: &str) -> Option<&'static str> {
    Some(match acme_type {
        "accountDoesNotExist" => {
            "the CA does not know this account; acmekit registers the same key again on the next run"
        }
        "alreadyReplaced" => "this certificate was renewed already; the next order goes without `replaces`",
        "badCSR" => "the CA does not like the CSR: compare its key type and names with what the CA allows",
        "badPublicKey" => "the CA does not accept this kind of key; choose another key type",
        "caa" => {
            "a CAA record of the domain forbids this CA: add one that allows it, or remove the one that does not"
        }
        "connection" => {
            "the CA could not connect: open port 80 (http-01) or 443 (tls-alpn-01) to the internet, also over IPv6 if there is an AAAA record"
        }
        "dns" => {
            "the CA could not look the name up: check its A/AAAA/TXT records and DNSSEC with an outside resolver"
        }
        "externalAccountRequired" => {
            "this CA wants an external account binding: get a key id and HMAC key from its web site"
        }
        "incorrectResponse" => {
            "the CA found something else than the answer: check that the record or file is the one of this order, on every server"
        }
        "invalidContact" | "unsupportedContact" => {
            "give one e-mail address as `mailto:you@example.com`, with a domain that exists"
        }
        "invalidProfile" => "the CA does not offer this profile: its directory lists those it does",
        "orderNotReady" => "try again; the CA is still working",
        "rateLimited" => "wait as long as the CA says; ordering more often only prolongs it",
        "rejectedIdentifier" => "the CA will not issue for this name by its policy",
        "serverInternal" => "the CA has a fault of its own; its status page may say more",
        "tls" => "the CA reached the server but not the right certificate: check who answers on port 443",
        "unauthorized" => "the CA looked and did not find the proof, or this account may not do that",
        "userActionRequired" => "the CA asks for something on its web site, often new terms of service",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
