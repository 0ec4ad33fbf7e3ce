//! The server: RFC 8555 and RFC 9773 over [`Issuer`], [`Validator`], [`Policy`] and [`State`].

mod account;
mod authorization;
mod certificate;
mod directory;
mod finalize;
pub(crate) mod fuzzing;
mod order;
mod reply;
mod request;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use acmekit_core::{Clock, Secret, SystemClock};
use axum::Router;
use axum::routing::{get, post};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use tokio_util::task::TaskTracker;

use crate::{Issuer, MemoryState, Policy, Problem, State, Validator};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a server says of itself, and how long things last in it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The terms of service. If there are any, an account must agree to them.
    pub terms_of_service: Option<String>,
    /// The CA's website.
    pub website: Option<String>,
    /// The CA's names in CAA records (RFC 8659), also in dns-persist-01.
    pub caa_identities: Vec<String>,
    /// The MAC keys of external accounts by their id (RFC 8555 section 7.3.4). If there are any, an account must be
    /// bound to one.
    pub external_accounts: BTreeMap<String, Secret<Vec<u8>>>,
    /// How long an order can be finalized (default 7 days).
    pub order_lifetime: Duration,
    /// How long an authorization can become valid (default 7 days).
    pub pending_authorization_lifetime: Duration,
    /// How long a valid authorization stays so (default 30 days).
    pub authorization_lifetime: Duration,
    /// Whether a valid authorization serves for later orders of the account (default yes).
    pub reuse_authorizations: bool,
    /// Whether the same account asking again for the same names gets the order it still has open, as Boulder does
    /// (default yes).
    pub reuse_orders: bool,
    /// How many names one order may have (default 100).
    pub max_names: usize,
    /// What `Retry-After` says of an order or authorization that is under way (default 1 s).
    pub retry_after: Duration,
    /// How long an answer waits for a validation or issuance to end, so that the client need not poll (default
    /// 500 ms).
    pub patience: Duration,
    /// How often clients are to ask for renewal information (default 6 h).
    pub renewal_info_retry_after: Duration,
    /// How many orders one page of an account's list has (default 50).
    pub orders_per_page: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            terms_of_service: None,
            website: None,
            caa_identities: Vec::new(),
            external_accounts: BTreeMap::new(),
            order_lifetime: 7 * DAY,
            pending_authorization_lifetime: 7 * DAY,
            authorization_lifetime: 30 * DAY,
            reuse_authorizations: true,
            reuse_orders: true,
            max_names: 100,
            retry_after: Duration::from_secs(1),
            patience: Duration::from_millis(500),
            renewal_info_retry_after: Duration::from_secs(6 * 60 * 60),
            orders_per_page: 50,
        }
    }
}

/// An ACME server.
///
/// [`router`](Self::router) is the service; serve it as you like, by HTTPS (RFC 8555 section 6.1). Insert
/// [`axum::extract::ConnectInfo`] of the client's address into each request for limits by address.
#[derive(Debug, Clone)]
pub struct AcmeServer(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    base: String,
    settings: Settings,
    issuer: Arc<dyn Issuer>,
    validator: Arc<dyn Validator>,
    policy: Arc<dyn Policy>,
    state: Arc<dyn State>,
    clock: Arc<dyn Clock>,
    /// Validations and issuances outlive the request that began them; [`AcmeServer::close`] awaits them.
    tasks: TaskTracker,
}

/// What a server is made of.
#[derive(Debug)]
#[must_use]
pub struct ServerBuilder(Inner);

impl ServerBuilder {
    /// Who may have what (default: everybody everything).
    pub fn policy(mut self, policy: impl Policy + 'static) -> Self {
        self.0.policy = Arc::new(policy);
        self
    }

    /// Where accounts and orders are kept (default: in memory).
    pub fn state(mut self, state: impl State + 'static) -> Self {
        self.0.state = Arc::new(state);
        self
    }

    /// What the server says of itself, and how long things last.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.0.settings = settings;
        self
    }

    /// The clock (default: the system's).
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.0.clock = Arc::new(clock);
        self
    }

    /// The server.
    pub fn build(self) -> AcmeServer {
        AcmeServer(Arc::new(self.0))
    }
}

impl AcmeServer {
    /// A server whose URLs begin with `base`, such as `https://ca.example`: the part before `/directory`.
    pub fn builder(
        base: impl Into<String>,
        issuer: impl Issuer + 'static,
        validator: impl Validator + 'static,
    ) -> ServerBuilder {
        ServerBuilder(Inner {
            base: base.into().trim_end_matches('/').to_owned(),
            settings: Settings::default(),
            issuer: Arc::new(issuer),
            validator: Arc::new(validator),
            policy: Arc::new(()),
            state: Arc::new(MemoryState::new()),
            clock: Arc::new(SystemClock::default()),
            tasks: TaskTracker::new(),
        })
    }

    /// The URL a client is given.
    pub fn directory_url(&self) -> String {
        self.0.url("/directory")
    }

    /// The service.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/directory", get(directory::directory).post(directory::directory_for_account))
            .route("/acme/new-nonce", get(directory::new_nonce).post(directory::new_nonce_for_account))
            .route("/acme/new-account", post(account::new_account))
            .route("/acme/account/{id}", post(account::account))
            .route("/acme/account/{id}/orders", post(order::orders))
            .route("/acme/key-change", post(account::key_change))
            .route("/acme/new-order", post(order::new_order))
            .route("/acme/order/{id}", post(order::order))
            .route("/acme/order/{id}/finalize", post(finalize::finalize))
            .route("/acme/authorization/{id}", post(authorization::authorization))
            .route("/acme/challenge/{id}/{kind}", post(authorization::challenge))
            .route("/acme/certificate/{id}", post(certificate::certificate))
            .route("/acme/certificate/{id}/{alternate}", post(certificate::alternate))
            .route("/acme/revoke-cert", post(certificate::revoke))
            .route("/acme/renewal-info/{id}", get(certificate::renewal_info))
            .fallback(async || Problem::not_found("there is nothing at this URL"))
            .method_not_allowed_fallback(async || {
                Problem::malformed("this method is not for this URL").with_status(405)
            })
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&self.0), reply::complete))
            .with_state(Arc::clone(&self.0))
    }

    /// Takes nothing more on, and waits until what was begun has ended. Each of it has a deadline of its own.
    pub async fn close(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Inner {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }

    fn after(&self, time: Duration) -> SystemTime {
        let now = self.now();
        now.checked_add(time).unwrap_or(now)
    }
}

/// An id nobody can guess, fit for a URL.
fn new_id() -> String {
    BASE64.encode(rand::random::<[u8; 16]>())
}

/// `SystemTime` as RFC 3339 text, in whole seconds as CAs write it.
fn rfc3339(time: SystemTime) -> String {
    let stamp = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let whole = jiff::Timestamp::from_second(stamp.as_second()).unwrap_or(stamp);
    whole.to_string()
}
