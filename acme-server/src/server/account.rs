//! Accounts (RFC 8555 section 7.3).

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::request::{ByAccount, ByKey, member, text};
use super::{Inner, new_id, reply};
use crate::jws::{Jws, Signer};
use crate::{Account, AccountId, AccountStatus, Jwk, Problem, ProblemType};

/// Answers the account of the key, new or not (sections 7.3 and 7.3.1).
pub(super) async fn new_account(
    State(server): State<Arc<Inner>>,
    request: ByKey,
) -> Result<Response, Problem> {
    let payload = request.object()?;
    if let Some(existing) = server.state.account_of_key(&request.key).await? {
        return server.existing(&existing);
    }
    if member(&payload, "onlyReturnExisting") == Some(&Value::Bool(true)) {
        return Err(Problem::new(ProblemType::AccountDoesNotExist, "there is no account with this key"));
    }
    let contacts = contacts(&payload)?.unwrap_or_default();
    let terms_agreed = member(&payload, "termsOfServiceAgreed") == Some(&Value::Bool(true));
    if let Some(terms) = &server.settings.terms_of_service
        && !terms_agreed
    {
        let problem = Problem::new(
            ProblemType::UserActionRequired,
            format!("an account must agree to the terms of service: {terms}"),
        );
        return Ok(reply::linked(problem.into_response(), terms, "terms-of-service"));
    }
    let external_binding = member(&payload, "externalAccountBinding");
    server.check_binding(external_binding, &request)?;
    server.policy.new_account(request.from).await?;
    let id = AccountId::new(new_id());
    let account = server
        .state
        .create_account(Account {
            id: id.clone(),
            key: request.key,
            contacts,
            status: AccountStatus::Valid,
            terms_agreed,
            external_binding: external_binding.cloned(),
            created: server.now(),
        })
        .await?;
    if account.id != id {
        // Another request with the same key was faster.
        return server.existing(&account);
    }
    let response = reply::json(StatusCode::CREATED, &server.account_json(&account));
    Ok(reply::located(response, &server.account_url(&account.id)))
}

/// Shows, updates or deactivates an account (sections 7.3.2 and 7.3.6).
pub(super) async fn account(
    State(server): State<Arc<Inner>>,
    Path(id): Path<String>,
    request: ByAccount,
) -> Result<Response, Problem> {
    request.owns(&AccountId::new(id))?;
    let Some(payload) = request.changes()? else {
        return Ok(reply::json(StatusCode::OK, &server.account_json(&request.account)));
    };
    let contacts = contacts(&payload)?;
    let deactivate = match text(&payload, "status")? {
        None | Some("valid") => false,
        Some("deactivated") => true,
        Some(other) => {
            return Err(Problem::malformed(format!("an account cannot be made `{}`", other.escape_debug())));
        }
    };
    let account = server
        .state
        .change_account(&request.account.id, &mut |account| {
            if let Some(contacts) = &contacts {
                account.contacts.clone_from(contacts);
            }
            if deactivate {
                account.status = AccountStatus::Deactivated;
            }
            Ok(())
        })
        .await?;
    Ok(reply::json(StatusCode::OK, &server.account_json(&account)))
}

/// Gives an account another key (section 7.3.5): the old key signs a JWS by which the new key agrees.
pub(super) async fn key_change(
    State(server): State<Arc<Inner>>,
    request: ByAccount,
) -> Result<Response, Problem> {
    let inner = request.inner()?;
    let Signer::Key(new) = &inner.signer else {
        return Err(Problem::malformed("the inner JWS must be signed with a `jwk`, the new key"));
    };
    inner.verify(new)?;
    if inner.url.as_deref() != Some(&request.url) {
        return Err(Problem::malformed("the inner JWS does not have the `url` of the outer one"));
    }
    if inner.nonce.is_some() {
        return Err(Problem::malformed("the inner JWS must not have a `nonce`"));
    }
    let payload: Map<String, Value> = serde_json::from_slice(&inner.payload)
        .map_err(|_| Problem::malformed("the payload of the inner JWS is not a JSON object"))?;
    if text(&payload, "account")? != Some(&server.account_url(&request.account.id)) {
        return Err(Problem::malformed("`account` is not the account that signed the outer JWS"));
    }
    let old = member(&payload, "oldKey").ok_or_else(|| Problem::malformed("there is no `oldKey`"))?;
    if Jwk::from_json(old)? != request.account.key {
        return Err(Problem::malformed("`oldKey` is not the account's key"));
    }
    let taken = server.state.change_key(&request.account.id, &request.account.key, new).await?;
    if let Some(other) = taken {
        let problem = Problem::malformed("the new key has an account already").with_status(409);
        return Ok(reply::located(problem.into_response(), &server.account_url(&other)));
    }
    Ok(reply::json(StatusCode::OK, &server.account_json(&request.account)))
}

impl Inner {
    pub(super) fn account_url(&self, id: &AccountId) -> String {
        self.url(&format!("/acme/account/{id}"))
    }

    fn account_json(&self, account: &Account) -> Value {
        let mut json = json!({
            "status": account.status.as_str(),
            "contact": account.contacts,
            "termsOfServiceAgreed": account.terms_agreed,
            "orders": format!("{}/orders", self.account_url(&account.id)),
        });
        if let Some(binding) = &account.external_binding {
            json["externalAccountBinding"] = binding.clone();
        }
        json
    }

    fn existing(&self, account: &Account) -> Result<Response, Problem> {
        if account.status != AccountStatus::Valid {
            let why = format!("the account of this key is {}", account.status.as_str());
            return Err(Problem::unauthorized(why).with_status(401));
        }
        let response = reply::json(StatusCode::OK, &self.account_json(account));
        Ok(reply::located(response, &self.account_url(&account.id)))
    }

    /// Section 7.3.4: the binding's payload is the account's key, signed with the external account's MAC key.
    fn check_binding(&self, binding: Option<&Value>, request: &ByKey) -> Result<(), Problem> {
        let known = &self.settings.external_accounts;
        let binding = match binding {
            Some(Value::Object(binding)) if !known.is_empty() => Jws::from_object(binding)?,
            // A CA that asks for none ignores one.
            _ if known.is_empty() => return Ok(()),
            Some(_) => return Err(Problem::malformed("`externalAccountBinding` is not a JSON object")),
            None => {
                return Err(Problem::new(
                    ProblemType::ExternalAccountRequired,
                    "this CA wants an account to be bound to an external one",
                ));
            }
        };
        let Signer::Known(kid) = &binding.signer else {
            return Err(Problem::malformed("the external account binding must have a `kid`, not a `jwk`"));
        };
        if binding.nonce.is_some() {
            return Err(Problem::malformed("the external account binding must not have a `nonce`"));
        }
        if binding.url.as_deref() != Some(&request.url) {
            return Err(Problem::malformed(
                "the external account binding does not have the `url` of the request",
            ));
        }
        let key = known.get(kid).ok_or_else(|| {
            Problem::unauthorized(format!(
                "there is no external account {:?}",
                kid.chars().take(200).collect::<String>()
            ))
        })?;
        binding.verify_mac(key.expose())?;
        let bound = serde_json::from_slice(&binding.payload)
            .map_err(|_| Problem::malformed("the payload of the external account binding is not a JWK"))?;
        match Jwk::from_json(&bound)? == request.key {
            true => Ok(()),
            false => Err(Problem::malformed("the external account binding is for another key")),
        }
    }
}

/// The contact URLs: only `mailto:` with one address and nothing more (section 7.3).
fn contacts(payload: &Map<String, Value>) -> Result<Option<Vec<String>>, Problem> {
    let contacts = match member(payload, "contact") {
        None => return Ok(None),
        Some(Value::Array(contacts)) => contacts,
        Some(_) => return Err(Problem::malformed("`contact` is not an array")),
    };
    if contacts.len() > 10 {
        return Err(Problem::malformed("an account may have ten contacts"));
    }
    let url = |contact: &Value| {
        let text = contact.as_str().ok_or_else(|| Problem::malformed("a contact is not text"))?;
        let shown = text.escape_debug().take(200).collect::<String>();
        let Some(address) = text.strip_prefix("mailto:") else {
            let why = format!("the contact `{shown}` is not a `mailto:` URL");
            return Err(Problem::new(ProblemType::UnsupportedContact, why));
        };
        let whole = address.split_once('@').is_some_and(|(local, host)| {
            !local.is_empty() && host.contains('.') && !host.contains('@') && !host.ends_with('.')
        });
        if !whole || address.len() > 254 || address.contains(['?', ',', ' ']) || !address.is_ascii() {
            let why = format!("the contact `{shown}` is not one e-mail address");
            return Err(Problem::new(ProblemType::InvalidContact, why));
        }
        Ok(text.to_owned())
    };
    contacts.iter().map(url).collect::<Result<_, _>>().map(Some)
}
