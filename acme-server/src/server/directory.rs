//! The directory and newNonce (RFC 8555 sections 7.1.1 and 7.2).

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::request::ByAccount;
use super::{Inner, reply};
use crate::Problem;

pub(super) async fn directory(State(server): State<Arc<Inner>>) -> Response {
    let settings = &server.settings;
    let mut meta = Map::new();
    if let Some(terms) = &settings.terms_of_service {
        meta.insert("termsOfService".to_owned(), json!(terms));
    }
    if let Some(website) = &settings.website {
        meta.insert("website".to_owned(), json!(website));
    }
    if !settings.caa_identities.is_empty() {
        meta.insert("caaIdentities".to_owned(), json!(settings.caa_identities));
    }
    meta.insert("externalAccountRequired".to_owned(), json!(!settings.external_accounts.is_empty()));
    let profiles = server.issuer.profiles();
    if !profiles.is_empty() {
        meta.insert("profiles".to_owned(), json!(profiles));
    }
    let directory = json!({
        "newNonce": server.url("/acme/new-nonce"),
        "newAccount": server.url("/acme/new-account"),
        "newOrder": server.url("/acme/new-order"),
        "revokeCert": server.url("/acme/revoke-cert"),
        "keyChange": server.url("/acme/key-change"),
        "renewalInfo": server.url("/acme/renewal-info"),
        "meta": Value::Object(meta),
    });
    reply::json(StatusCode::OK, &directory)
}

/// Section 6.3: a POST-as-GET is allowed too.
pub(super) async fn directory_for_account(
    server: State<Arc<Inner>>,
    request: ByAccount,
) -> Result<Response, Problem> {
    request.reads()?;
    Ok(directory(server).await)
}

/// Section 6.3: a POST-as-GET is allowed too.
pub(super) async fn new_nonce_for_account(request: ByAccount) -> Result<Response, Problem> {
    request.reads()?;
    Ok(new_nonce(Method::GET).await)
}

/// The nonce itself is in the header every answer has.
pub(super) async fn new_nonce(method: Method) -> Response {
    let status = if method == Method::HEAD { StatusCode::OK } else { StatusCode::NO_CONTENT };
    reply::with(status.into_response(), CACHE_CONTROL, "no-store")
}
