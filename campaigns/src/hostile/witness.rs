//! What a CA told its client, and whether it was true.
//!
//! It stands between client and CA, behind the faults: it hears what the client hears, and can look up how things are.
//! A second certificate is excused only by what it heard about the order of the first **after** that was issued:
//!
//! - the order is `invalid`, though it is not; it does not exist, or is not this account's, or there is no such
//!   account; it has expired, though it is valid;
//! - the same of one of its authorizations;
//! - or by what it heard before: that the order is at another URL than it is, where the CA then knows of none;
//! - at its certificate's URL, a sound chain whose first certificate is another one.
//!
//! Whoever believes the CA has to order anew then (`docs/architecture.md`). Where there is another authority to turn to, a
//! first that refuses the order by a problem document, or of which three requests in all have come to nothing, one at least
//! since the issuance, is left for it by design; such second certificates are counted apart. Errors, silence, nonsense, statuses that
//! lead nowhere and chains that cannot be read excuse nothing: the certificate may still be had.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use acmekit::{Bundle, Exchange, Origin, Result, async_trait};
use acmekit_server::{Endpoint, MemoryState, Order, OrderState, State};
use bytes::Bytes;
use http::{Request, Response};
use serde_json::Value;

/// So many requests that come to nothing, and an authority counts as out of order.
const OUT_OF_ORDER: u64 = 3;

/// Far more requests than a round has a use for. Whoever makes them all the time stops time itself, where it is virtual:
/// there is no answer any more then, so that the round has an end.
const MOST: u64 = 20_000;

/// Problems by which a CA says that it will not issue.
const REFUSALS: [&str; 4] = [":rejectedIdentifier", ":badCSR", ":badPublicKey", ":rateLimited"];

/// The way to one CA, and what was heard on it.
#[derive(Debug)]
pub(super) struct Witness {
    way: Arc<dyn Exchange>,
    state: MemoryState,
    heard: Mutex<Heard>,
    requests: AtomicU64,
}

/// By order id.
#[derive(Debug, Default)]
struct Heard {
    lies: BTreeMap<String, &'static str>,
    /// Requests after the issuance that came to nothing, whatever they were for; a refusal is as good as three.
    failed: BTreeMap<String, u64>,
    /// All of them, from the beginning.
    failed_in_all: u64,
}

impl Witness {
    pub(super) fn new(way: Arc<dyn Exchange>, state: MemoryState) -> Self {
        Self { way, state, heard: Mutex::default(), requests: AtomicU64::new(0) }
    }

    /// What the CA said of an order that had been issued, and that it was not so.
    pub(super) fn lie_about(&self, order: &str) -> Option<&'static str> {
        self.open().lies.get(order).copied()
    }

    /// Whether the client asked without a pause.
    pub(super) fn was_hammered(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > MOST
    }

    /// Whether a CA was of so little use since an order was issued that another may be turned to.
    pub(super) fn was_no_use(&self, order: &str) -> bool {
        let heard = self.open();
        heard.failed_in_all >= OUT_OF_ORDER && heard.failed.get(order).is_some_and(|failed| *failed > 0)
    }

    fn open(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, weight: u64) {
        self.open().failed_in_all += weight;
        for order in self.state.orders().into_iter().filter(is_issued) {
            *self.open().failed.entry(order.id).or_default() += weight;
        }
    }

    async fn hear(&self, path: &str, answer: &Response<Bytes>) {
        let body: Option<Value> = serde_json::from_slice(answer.body()).ok();
        let text = |name: &str| body.as_ref()?.get(name)?.as_str();
        if !answer.status().is_success() {
            let kind = text("type").unwrap_or_default();
            let refuses = REFUSALS.iter().any(|refusal| kind.ends_with(refusal));
            self.failed(if refuses { OUT_OF_ORDER } else { 1 });
        }
        if Endpoint::of_path(path) == Some(Endpoint::NewOrder) && answer.status().is_success() {
            let last = |url: &str, place| url.split('/').nth_back(place).unwrap_or_default().to_owned();
            let told = answer.headers().get("location").and_then(|told| told.to_str().ok());
            // `…/acme/order/<id>/finalize` is true; `Location` should be the same order.
            let real = text("finalize").map(|url| last(url, 1)).unwrap_or_default();
            let is_true = told.is_some_and(|told| last(told, 0) == real);
            if is_true {
                // Told again, and the truth this time.
                self.open().lies.remove(&real);
            } else if self.state.orders().iter().any(|order| order.id == real) {
                self.open().lies.insert(real, "it is elsewhere");
            }
        }
        let (endpoint, id) = (Endpoint::of_path(path), path.trim_start_matches('/').split('/').nth(2));
        for order in self.state.orders().into_iter().filter(is_issued) {
            if let Some(lie) = self.lie(&order, path, answer).await {
                self.open().lies.entry(order.id.clone()).or_insert(lie);
            }
            let of_it = id == Some(order.id.as_str());
            let useless = match endpoint {
                _ if !answer.status().is_success() => false,
                Some(Endpoint::Directory) => text("newOrder").is_none(),
                Some(Endpoint::NewNonce) => !answer.headers().contains_key("replay-nonce"),
                // Kept waiting although it is there.
                Some(Endpoint::Order | Endpoint::Finalize) if of_it => text("status") != Some("valid"),
                Some(Endpoint::Certificate) => !answer.body().starts_with(b"-----BEGIN CERTIFICATE-----"),
                _ => false,
            };
            if useless {
                self.open().failed_in_all += 1;
                *self.open().failed.entry(order.id).or_default() += 1;
            }
        }
    }

    async fn lie(&self, order: &Order, path: &str, answer: &Response<Bytes>) -> Option<&'static str> {
        let endpoint = Endpoint::of_path(path)?;
        let id = path.trim_start_matches('/').split('/').nth(2)?;
        let of_order = matches!(endpoint, Endpoint::Order | Endpoint::Finalize) && id == order.id;
        let of_authorization =
            endpoint == Endpoint::Authorization && order.authorizations.iter().any(|one| one == id);
        let body: Option<Value> = serde_json::from_slice(answer.body()).ok();
        let text = |name: &str| body.as_ref()?.get(name)?.as_str();
        if of_order || of_authorization {
            let status = answer.status().as_u16();
            let kind = text("type").unwrap_or_default();
            let is_the_cas = !kind.is_empty() || answer.headers().contains_key("replay-nonce");
            if kind.ends_with(":accountDoesNotExist") {
                return Some("there is no such account");
            }
            if status == 404 && is_the_cas {
                return Some("it does not exist");
            }
            let forbids = kind.ends_with(":unauthorized") || matches!(status, 401 | 403);
            if !answer.status().is_success() && forbids && !kind.is_empty() {
                return Some("it is not this account's");
            }
        }
        if !answer.status().is_success() {
            return None;
        }
        if of_order {
            let expired = text("expires").is_some_and(|at| at < "2026") && text("status") != Some("valid");
            return match text("status") {
                Some("invalid") => Some("it is invalid"),
                _ if expired => Some("it has expired"),
                _ => None,
            };
        }
        if of_authorization {
            return match text("status") {
                Some("invalid" | "deactivated" | "expired" | "revoked") => Some("it is not authorized"),
                _ => None,
            };
        }
        match &order.state {
            OrderState::Valid(certificate) if endpoint == Endpoint::Certificate && certificate == id => {
                let real = self.state.certificate(id).await.ok()??;
                let shown = String::from_utf8(answer.body().to_vec()).ok()?;
                let shown = Bundle::new("shown".parse().ok()?, &shown, None, Origin::default()).ok()?;
                let leaf = shown.chain_der().first()?;
                (leaf.as_slice() != real.leaf_der()).then_some("its certificate is another one")
            }
            _ => None,
        }
    }
}

fn is_issued(order: &Order) -> bool {
    matches!(order.state, OrderState::Valid(_) | OrderState::Processing)
}

/// Counts a request that was given up while it was under way.
struct Pending<'a>(Option<&'a Witness>);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(witness) = self.0 {
            witness.failed(1);
        }
    }
}

#[async_trait]
impl Exchange for Witness {
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>> {
        let path = request.uri().path().to_owned();
        let mut pending = Pending(Some(self));
        if self.requests.fetch_add(1, Ordering::Relaxed) >= MOST {
            std::future::pending::<()>().await;
        }
        let answer = self.way.exchange(request).await?;
        pending.0 = None;
        self.hear(&path, &answer).await;
        Ok(answer)
    }
}
