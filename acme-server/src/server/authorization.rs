//! Authorizations and challenges (RFC 8555 section 7.5).

use std::sync::Arc;

use acmekit_core::{ChallengeKind, Identifier, KeyAuthorization};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};

use super::request::{ByAccount, text};
use super::{Inner, new_id, reply, rfc3339};
use crate::model::identifier_json;
use crate::{
    AccountId, Authorization, AuthorizationState, ChallengeState, OfferedChallenge, Problem, Validation,
};

/// Shows or deactivates an authorization (sections 7.5 and 7.5.2).
pub(super) async fn authorization(
    State(server): State<Arc<Inner>>,
    Path(id): Path<String>,
    request: ByAccount,
) -> Result<Response, Problem> {
    let mut authorization = server.authorization(&id, &request).await?;
    if let Some(payload) = request.changes()? {
        if text(&payload, "status")? != Some("deactivated") {
            return Err(Problem::malformed("an authorization can only be made `deactivated`"));
        }
        authorization = server
            .state
            .change_authorization(&id, &mut |authorization| match authorization.state {
                AuthorizationState::Pending | AuthorizationState::Valid => {
                    authorization.state = AuthorizationState::Deactivated;
                    Ok(())
                }
                _ => Err(Problem::malformed("this authorization is neither pending nor valid")),
            })
            .await?;
    }
    let response = reply::json(StatusCode::OK, &server.authorization_json(&authorization));
    Ok(match authorization.state {
        AuthorizationState::Pending => reply::retry_after(response, server.settings.retry_after),
        _ => response,
    })
}

/// Shows a challenge, or takes the client's word that it is met and checks (section 7.5.1).
pub(super) async fn challenge(
    State(server): State<Arc<Inner>>,
    Path((id, kind)): Path<(String, String)>,
    request: ByAccount,
) -> Result<Response, Problem> {
    let kind = ChallengeKind::from(kind);
    let mut authorization = server.authorization(&id, &request).await?;
    server.offered(&authorization, &kind)?;
    if request.changes()?.is_some() {
        let (mut begun, now) = (false, server.now());
        authorization = server
            .state
            .change_authorization(&id, &mut |authorization| {
                begun = false;
                let open = authorization.state == AuthorizationState::Pending && authorization.expires > now;
                let challenge = authorization.challenges.iter_mut().find(|challenge| challenge.kind == kind);
                match challenge {
                    // Told twice is checked once; one that has ended is shown as it is.
                    Some(challenge) if challenge.state == ChallengeState::Pending => {
                        if !open {
                            return Err(Problem::malformed("the authorization is not pending any more"));
                        }
                        challenge.state = ChallengeState::Processing;
                        begun = true;
                    }
                    _ => {}
                }
                Ok(())
            })
            .await?;
        if begun {
            authorization = server.check(authorization, &kind, &request).await?;
        }
    }
    let challenge = server.offered(&authorization, &kind)?;
    let response = reply::json(StatusCode::OK, &server.challenge_json(&authorization, challenge));
    let response = reply::linked(response, &server.authorization_url(&id), "up");
    Ok(match challenge.state {
        ChallengeState::Processing => reply::retry_after(response, server.settings.retry_after),
        _ => response,
    })
}

impl Inner {
    pub(super) fn authorization_url(&self, id: &str) -> String {
        self.url(&format!("/acme/authorization/{id}"))
    }

    async fn authorization(&self, id: &str, request: &ByAccount) -> Result<Authorization, Problem> {
        let authorization = self.state.authorization(id).await?;
        let authorization =
            authorization.ok_or_else(|| Problem::not_found("there is no such authorization"))?;
        request.owns(&authorization.account)?;
        Ok(authorization)
    }

    fn offered<'a>(
        &self,
        authorization: &'a Authorization,
        kind: &ChallengeKind,
    ) -> Result<&'a OfferedChallenge, Problem> {
        let challenge = authorization.challenges.iter().find(|challenge| challenge.kind == *kind);
        challenge.ok_or_else(|| Problem::not_found("there is no such challenge"))
    }

    /// A new authorization with all the ways its identifier can be proved.
    pub(super) fn offer(
        &self,
        account: &AccountId,
        identifier: &Identifier,
    ) -> Result<Authorization, Problem> {
        let challenges: Vec<OfferedChallenge> = self
            .validator
            .kinds(identifier)
            .into_iter()
            .map(|kind| OfferedChallenge {
                kind,
                // Section 8.3: at least 128 bits nobody can guess.
                token: BASE64.encode(rand::random::<[u8; 24]>()),
                state: ChallengeState::Pending,
            })
            .collect();
        if challenges.is_empty() {
            return Err(Problem::new(
                crate::ProblemType::RejectedIdentifier,
                format!("this CA has no way to check control of `{identifier}`"),
            )
            .with_identifier(identifier.clone()));
        }
        Ok(Authorization {
            id: new_id(),
            account: account.clone(),
            identifier: identifier.clone(),
            expires: self.after(self.settings.pending_authorization_lifetime),
            state: AuthorizationState::Pending,
            challenges,
        })
    }

    /// A valid authorization of the account that may serve again.
    pub(super) async fn valid_authorization(
        &self,
        account: &AccountId,
        identifier: &Identifier,
    ) -> Result<Option<Authorization>, Problem> {
        if !self.settings.reuse_authorizations {
            return Ok(None);
        }
        let newest = self.state.authorization_for(account, identifier).await?;
        Ok(newest.filter(|newest| newest.state == AuthorizationState::Valid && newest.expires > self.now()))
    }

    pub(super) fn authorization_json(&self, authorization: &Authorization) -> Value {
        let status = match authorization.state {
            AuthorizationState::Pending | AuthorizationState::Valid
                if authorization.expires <= self.now() =>
            {
                "expired"
            }
            AuthorizationState::Pending => "pending",
            AuthorizationState::Valid => "valid",
            AuthorizationState::Invalid => "invalid",
            AuthorizationState::Deactivated => "deactivated",
        };
        // Section 7.1.4: once it has ended, only the challenge that ended it.
        let ended = |challenge: &&OfferedChallenge| match authorization.state {
            AuthorizationState::Valid => matches!(challenge.state, ChallengeState::Valid(_)),
            AuthorizationState::Invalid => matches!(challenge.state, ChallengeState::Invalid(_)),
            _ => true,
        };
        let challenges: Vec<Value> = authorization
            .challenges
            .iter()
            .filter(ended)
            .map(|challenge| self.challenge_json(authorization, challenge))
            .collect();
        let domain = match &authorization.identifier {
            Identifier::Wildcard(domain) => Identifier::Dns(domain.clone()),
            other => other.clone(),
        };
        let mut json = json!({
            "identifier": identifier_json(&domain),
            "status": status,
            "expires": rfc3339(authorization.expires),
            "challenges": challenges,
        });
        if authorization.identifier.is_wildcard() {
            json["wildcard"] = json!(true);
        }
        json
    }

    fn challenge_json(&self, authorization: &Authorization, challenge: &OfferedChallenge) -> Value {
        let mut json = json!({
            "type": challenge.kind.as_str(),
            "url": self.url(&format!("/acme/challenge/{}/{}", authorization.id, challenge.kind)),
        });
        if challenge.kind == ChallengeKind::DnsPersist01 {
            // draft-ietf-acme-dns-persist: a lasting record has no token.
            json["accounturi"] = json!(self.account_url(&authorization.account));
            json["issuer-domain-names"] = json!(self.settings.caa_identities);
        } else {
            json["token"] = json!(challenge.token);
        }
        let status = match &challenge.state {
            ChallengeState::Pending => "pending",
            ChallengeState::Processing => "processing",
            ChallengeState::Valid(at) => {
                json["validated"] = json!(rfc3339(*at));
                "valid"
            }
            ChallengeState::Invalid(problem) => {
                json["error"] = problem.to_json();
                "invalid"
            }
        };
        json["status"] = json!(status);
        json
    }

    /// Checks a challenge in a task of its own, and waits a little for its end.
    async fn check(
        self: &Arc<Self>,
        authorization: Authorization,
        kind: &ChallengeKind,
        request: &ByAccount,
    ) -> Result<Authorization, Problem> {
        let challenge = self.offered(&authorization, kind)?;
        let proof = KeyAuthorization::new(&challenge.token, &request.account.key.thumbprint());
        let validation = Validation::new(
            authorization.identifier.clone(),
            kind.clone(),
            &challenge.token,
            proof,
            self.account_url(&request.account.id),
        )
        .with_issuer_domains(self.settings.caa_identities.iter());
        let (server, id, kind) = (Arc::clone(self), authorization.id.clone(), kind.clone());
        let task = self.tasks.spawn(async move {
            let result = server.validator.validate(&validation).await;
            if let Err(problem) = server.checked(&id, &kind, result).await {
                tracing::error!(authorization = id, %problem, "the end of a validation could not be kept");
            }
        });
        // Not the task's end but its time is what this is about: it goes on without us.
        tokio::time::timeout(self.settings.patience, task).await.ok();
        let now = self.state.authorization(&authorization.id).await?;
        Ok(now.unwrap_or(authorization))
    }

    async fn checked(
        &self,
        id: &str,
        kind: &ChallengeKind,
        result: Result<(), Problem>,
    ) -> Result<(), Problem> {
        let (now, valid_until) = (self.now(), self.after(self.settings.authorization_lifetime));
        let failed = result.err().map(|problem| problem.with_status(403));
        let authorization = self
            .state
            .change_authorization(id, &mut |authorization| {
                let Some(challenge) =
                    authorization.challenges.iter_mut().find(|offered| offered.kind == *kind)
                else {
                    return Ok(());
                };
                challenge.state = match &failed {
                    None => ChallengeState::Valid(now),
                    Some(problem) => ChallengeState::Invalid(problem.clone()),
                };
                // Deactivated meanwhile, or decided by another challenge: that stands.
                if authorization.state == AuthorizationState::Pending {
                    (authorization.state, authorization.expires) = match &failed {
                        None => (AuthorizationState::Valid, valid_until),
                        Some(_) => (AuthorizationState::Invalid, authorization.expires),
                    };
                }
                Ok(())
            })
            .await?;
        match failed {
            None => self.policy.validation_succeeded(&authorization.account, &authorization.identifier).await,
            Some(_) => self.policy.validation_failed(&authorization.account, &authorization.identifier).await,
        }
        Ok(())
    }
}
