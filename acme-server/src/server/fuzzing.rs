//! For the fuzz targets only: requests whose signature is not looked at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use acmekit_core::{ChallengeKind, Clock, Identifier};
use async_trait::async_trait;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::json;

use super::request::{ByAccount, ByKey, Signed};
use super::{AcmeServer, Inner, account, authorization, certificate, finalize, order};
use crate::{
    Account, AccountId, AccountStatus, Authorization, AuthorizationState, IssueRequest, Issued, Issuer, Jwk,
    Order, OrderState, Problem, RenewalInfo, Validation, Validator,
};

const NAME: &str = "fuzz.example.com";
/// Its private key is nobody's.
const KEY: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

/// Signs nothing, and believes nothing.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Issuer for Nobody {
    fn profiles(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("classic".to_owned(), String::new())])
    }
    async fn issue(&self, request: &IssueRequest) -> Result<Issued, Problem> {
        assert!(request.csr.identifiers().iter().eq(&request.identifiers), "a CSR of other names is signed");
        Err(Problem::unauthorized("nothing is signed here"))
    }
    async fn revoke(&self, _: &[u8], _: Option<u8>) -> Result<(), Problem> {
        Ok(())
    }
    async fn renewal_info(&self, _: &[u8]) -> Result<Option<RenewalInfo>, Problem> {
        Ok(None)
    }
}

#[async_trait]
impl Validator for Nobody {
    fn kinds(&self, _: &Identifier) -> Vec<ChallengeKind> {
        vec![ChallengeKind::Dns01]
    }
    async fn validate(&self, _: &Validation) -> Result<(), Problem> {
        Err(Problem::unauthorized("nothing is proved here"))
    }
}

#[derive(Debug)]
struct Standing;

impl Clock for Standing {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }
}

/// The rest of the octets as the payload at the URL that the first one says.
pub(crate) fn payload(octets: &[u8]) {
    let Some((place, payload)) = octets.split_first() else { return };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
    let answer = runtime.block_on(answer(*place, payload));
    if let Err(problem) = answer {
        assert!(problem.status() < 500, "a request is the server's fault: {problem}");
        assert!(problem.to_json().to_string().len() < 8 * octets.len() + 2000, "a problem fills the log");
    }
}

async fn answer(place: u8, payload: &[u8]) -> Result<Response, Problem> {
    let server = AcmeServer::builder("https://ca.test", Nobody, Nobody).clock(Standing).build();
    let inner = &server.0;
    let account = owner(inner).await?;
    let key = account.key.clone();
    let by_account =
        |url: &str| ByAccount::unchecked(account.clone(), format!("https://ca.test{url}"), payload.to_vec());
    let state = || State(Arc::clone(inner));
    let path = |id: &str| Path(id.to_owned());
    let done = match place % 8 {
        0 => {
            let other = Jwk::from_json(&json!({ "kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43) }))?;
            let request =
                ByKey::unchecked(other, "https://ca.test/acme/new-account".to_owned(), payload.to_vec());
            account::new_account(state(), request).await
        }
        1 => account::account(state(), path("account"), by_account("/acme/account/account")).await,
        2 => account::key_change(state(), by_account("/acme/key-change")).await,
        3 => order::new_order(state(), by_account("/acme/new-order")).await,
        4 => finalize::finalize(state(), path("order"), by_account("/acme/order/order/finalize")).await,
        5 => {
            let url = "/acme/authorization/authorization";
            authorization::authorization(state(), path("authorization"), by_account(url)).await
        }
        6 => certificate::revoke(state(), Signed::unchecked(key, payload.to_vec())).await,
        _ => certificate::renewal_info(state(), Path(String::from_utf8_lossy(payload).into_owned())).await,
    };
    server.close().await;
    done
}

/// An account with an order that is ready.
async fn owner(server: &Inner) -> Result<Account, Problem> {
    let id = AccountId::new("account");
    let (now, soon) = (server.now(), server.after(Duration::from_secs(3600)));
    let account = Account {
        id: id.clone(),
        key: Jwk::from_json(&json!({ "kty": "OKP", "crv": "Ed25519", "x": KEY }))?,
        contacts: Vec::new(),
        status: AccountStatus::Valid,
        terms_agreed: true,
        external_binding: None,
        created: now,
    };
    let identifier: Identifier = NAME.parse().map_err(|_| Problem::internal("this is a name"))?;
    let order = Order {
        id: "order".to_owned(),
        account: id.clone(),
        identifiers: vec![identifier.clone()],
        authorizations: vec!["authorization".to_owned()],
        created: now,
        expires: soon,
        not_before: None,
        not_after: None,
        profile: None,
        replaces: None,
        state: OrderState::Open,
    };
    let authorization = Authorization {
        id: "authorization".to_owned(),
        account: id,
        identifier,
        expires: soon,
        state: AuthorizationState::Valid,
        challenges: Vec::new(),
    };
    let account = server.state.create_account(account).await?;
    server.state.create_order(order, vec![authorization]).await?;
    Ok(account)
}
