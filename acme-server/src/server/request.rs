//! Requests: signed, by whom, and checked to the letter (RFC 8555 sections 6.2 to 6.5).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};

use super::Inner;
use crate::jws::{ALGORITHMS, Jws, Signer};
use crate::{Account, AccountId, AccountStatus, Jwk, Problem, ProblemType};

/// The largest request taken. An order of 100 names and its CSR stay below 32 KiB.
const MAX_BODY: usize = 128 * 1024;

/// How long a client may take to send it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A request whose signature is right, by an account or by a key.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) by: By,
    pub(super) url: String,
    pub(super) from: Option<IpAddr>,
    pub(super) payload: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum By {
    Key(Jwk),
    Account(Account),
}

/// A request signed by an account.
#[derive(Debug)]
pub(super) struct ByAccount {
    pub(super) account: Account,
    pub(super) url: String,
    payload: Vec<u8>,
}

/// A request signed by a key that need not have an account.
#[derive(Debug)]
pub(super) struct ByKey {
    pub(super) key: Jwk,
    pub(super) url: String,
    pub(super) from: Option<IpAddr>,
    payload: Vec<u8>,
}

impl FromRequest<Arc<Inner>> for Signed {
    type Rejection = Problem;

    async fn from_request(request: Request, server: &Arc<Inner>) -> Result<Self, Problem> {
        let media =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !media.trim().eq_ignore_ascii_case("application/jose+json") {
            return Err(
                Problem::malformed("the content type is not `application/jose+json`").with_status(415)
            );
        }
        let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        let path = request.uri().path_and_query().map_or_else(|| request.uri().path(), |path| path.as_str());
        let url = server.url(path);
        let jws = Jws::from_json(&body(request).await?)?;

        if !ALGORITHMS.contains(&jws.algorithm.as_str()) {
            return Err(crate::jws::bad_algorithm(&jws.algorithm));
        }
        let by = match &jws.signer {
            Signer::Key(key) => {
                jws.verify(key)?;
                By::Key(key.clone())
            }
            Signer::Known(kid) => {
                let account = server.account_of_url(kid).await?;
                jws.verify(&account.key)?;
                By::Account(account)
            }
        };
        match &jws.url {
            Some(signed) if *signed == url => {}
            // Section 6.4: a request signed for one URL must not be taken for another.
            Some(_) => {
                return Err(Problem::unauthorized(format!("the JWS is not signed for this URL, {url}")));
            }
            None => return Err(Problem::malformed("the header of the JWS has no `url`")),
        }
        let nonce =
            jws.nonce.as_deref().ok_or_else(|| Problem::malformed("the header of the JWS has no `nonce`"))?;
        if !server.state.spend_nonce(nonce).await? {
            return Err(Problem::new(
                ProblemType::BadNonce,
                "the nonce was not issued here, has been used, or is too old",
            ));
        }
        if let By::Account(account) = &by
            && account.status != AccountStatus::Valid
        {
            let why = format!("the account is {}", account.status.as_str());
            return Err(Problem::unauthorized(why).with_status(401));
        }
        Ok(Self { by, url, from, payload: jws.payload })
    }
}

impl FromRequest<Arc<Inner>> for ByAccount {
    type Rejection = Problem;

    async fn from_request(request: Request, server: &Arc<Inner>) -> Result<Self, Problem> {
        let Signed { by, url, payload, .. } = Signed::from_request(request, server).await?;
        match by {
            By::Account(account) => Ok(Self { account, url, payload }),
            By::Key(_) => {
                Err(Problem::malformed("this request must be signed with a `kid`, not with a `jwk`"))
            }
        }
    }
}

impl FromRequest<Arc<Inner>> for ByKey {
    type Rejection = Problem;

    async fn from_request(request: Request, server: &Arc<Inner>) -> Result<Self, Problem> {
        let Signed { by, url, payload, from } = Signed::from_request(request, server).await?;
        match by {
            By::Key(key) => Ok(Self { key, url, payload, from }),
            By::Account(_) => {
                Err(Problem::malformed("this request must be signed with a `jwk`, not with a `kid`"))
            }
        }
    }
}

impl ByAccount {
    /// A POST-as-GET (section 6.3) has no payload at all.
    pub(super) fn reads(&self) -> Result<(), Problem> {
        match self.payload.is_empty() {
            true => Ok(()),
            false => Err(Problem::malformed("this URL is only read: POST-as-GET has an empty payload")),
        }
    }

    /// The payload of a POST, `None` of a POST-as-GET.
    pub(super) fn changes(&self) -> Result<Option<Map<String, Value>>, Problem> {
        match self.payload.is_empty() {
            true => Ok(None),
            false => object(&self.payload).map(Some),
        }
    }

    pub(super) fn object(&self) -> Result<Map<String, Value>, Problem> {
        object(&self.payload)
    }

    /// The payload where it is a JWS itself.
    pub(super) fn inner(&self) -> Result<Jws, Problem> {
        Jws::from_json(&self.payload)
    }

    /// Nobody may see what is another's.
    pub(super) fn owns(&self, owner: &AccountId) -> Result<(), Problem> {
        match self.account.id == *owner {
            true => Ok(()),
            false => Err(Problem::unauthorized("this belongs to another account")),
        }
    }
}

impl ByKey {
    pub(super) fn object(&self) -> Result<Map<String, Value>, Problem> {
        object(&self.payload)
    }
}

impl Signed {
    pub(super) fn object(&self) -> Result<Map<String, Value>, Problem> {
        object(&self.payload)
    }
}

impl Inner {
    /// The account a `kid` names.
    pub(super) async fn account_of_url(&self, url: &str) -> Result<Account, Problem> {
        let id = url.strip_prefix(&self.url("/acme/account/")).map(AccountId::new);
        let account = match id {
            Some(id) => self.state.account(&id).await?,
            None => None,
        };
        account.ok_or_else(|| {
            Problem::new(
                ProblemType::AccountDoesNotExist,
                format!("there is no account {:?} here", url.chars().take(200).collect::<String>()),
            )
        })
    }
}

/// Requests whose signature is not looked at: for the fuzz targets only.
impl ByAccount {
    pub(super) fn unchecked(account: Account, url: String, payload: Vec<u8>) -> Self {
        Self { account, url, payload }
    }
}

impl ByKey {
    pub(super) fn unchecked(key: Jwk, url: String, payload: Vec<u8>) -> Self {
        Self { key, url, from: None, payload }
    }
}

impl Signed {
    pub(super) fn unchecked(key: Jwk, payload: Vec<u8>) -> Self {
        Self { by: By::Key(key), url: "https://ca.test/acme/revoke-cert".to_owned(), from: None, payload }
    }
}

fn object(payload: &[u8]) -> Result<Map<String, Value>, Problem> {
    serde_json::from_slice(payload).map_err(|_| Problem::malformed("the payload is not a JSON object"))
}

/// A member of a payload; `null` is taken for absent.
pub(super) fn member<'a>(payload: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    payload.get(name).filter(|value| !value.is_null())
}

/// A member that is text.
pub(super) fn text<'a>(payload: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Problem> {
    match member(payload, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::malformed(format!("`{name}` is not text"))),
    }
}

async fn body(request: Request) -> Result<Vec<u8>, Problem> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    let body = tokio::time::timeout(BODY_TIMEOUT, body)
        .await
        .map_err(|_| Problem::malformed("the request body did not come in time").with_status(408))?;
    match body {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Problem::malformed(format!("the request is larger than {MAX_BODY} octets")).with_status(413))
        }
        Err(_) => Err(Problem::malformed("the request body could not be read")),
    }
}
