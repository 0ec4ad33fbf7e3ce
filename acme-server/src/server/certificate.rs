//! Certificates: download (RFC 8555 section 7.4.2), revocation (section 7.6), renewal information (RFC 9773).

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde_json::json;

use super::request::{By, ByAccount, Signed, member, text};
use super::{Inner, reply, rfc3339};
use crate::certificate::facts;
use crate::{Account, Certificate, Jwk, Problem, ProblemType};

pub(super) async fn certificate(
    State(server): State<Arc<Inner>>,
    Path(id): Path<String>,
    request: ByAccount,
) -> Result<Response, Problem> {
    server.chain(&id, 0, &request).await
}

pub(super) async fn alternate(
    State(server): State<Arc<Inner>>,
    Path((id, alternate)): Path<(String, String)>,
    request: ByAccount,
) -> Result<Response, Problem> {
    let number = alternate.parse().map_err(|_| Problem::not_found("there is no such chain"))?;
    server.chain(&id, number, &request).await
}

/// By the account that has it, by one that has proved control of all its names, or by its own key.
pub(super) async fn revoke(State(server): State<Arc<Inner>>, request: Signed) -> Result<Response, Problem> {
    let payload = request.object()?;
    let leaf =
        text(&payload, "certificate")?.ok_or_else(|| Problem::malformed("there is no `certificate`"))?;
    let leaf = BASE64
        .decode(leaf)
        .map_err(|_| Problem::malformed("`certificate` is not base64url without padding"))?;
    let reason = match member(&payload, "reason") {
        None => None,
        Some(reason) => Some(
            reason
                .as_u64()
                .and_then(|reason| u8::try_from(reason).ok())
                .filter(|reason| *reason <= 10 && *reason != 7)
                .ok_or_else(|| {
                    Problem::new(
                        ProblemType::BadRevocationReason,
                        format!("{reason} is not a reason of RFC 5280 section 5.3.1"),
                    )
                })?,
        ),
    };
    let known =
        facts(&leaf).ok_or_else(|| Problem::malformed("`certificate` is not a certificate in DER"))?;
    let certificate = server.state.certificate_of_leaf(&leaf).await?;
    let certificate = certificate.ok_or_else(|| Problem::not_found("this certificate is not from here"))?;
    let allowed = match &request.by {
        By::Key(key) => Jwk::from_public_key_info(&known.public_key_info).as_ref() == Some(key),
        By::Account(account) => server.controls(account, &certificate).await?,
    };
    if !allowed {
        return Err(Problem::unauthorized(
            "neither the certificate's account, nor its key, nor one with authorizations for all its names",
        ));
    }
    if certificate.revoked {
        return Err(already_revoked());
    }
    server.issuer.revoke(&leaf, reason).await?;
    server
        .state
        .change_certificate(&certificate.id, &mut |certificate| match certificate.revoked {
            true => Err(already_revoked()),
            false => {
                certificate.revoked = true;
                Ok(())
            }
        })
        .await?;
    Ok(StatusCode::OK.into_response())
}

/// The only resource that is not signed for (RFC 9773 section 4.1).
pub(super) async fn renewal_info(
    State(server): State<Arc<Inner>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let parts: Vec<_> = id.split('.').map(|part| BASE64.decode(part)).collect();
    if !matches!(parts.as_slice(), [Ok(key), Ok(serial)] if !key.is_empty() && !serial.is_empty()) {
        return Err(Problem::malformed("this is not `base64url(key identifier).base64url(serial)`"));
    }
    let certificate = server.state.certificate_of_renewal_id(&id).await?;
    let certificate = certificate.ok_or_else(|| Problem::not_found("this certificate is not from here"))?;
    let window = server.issuer.renewal_info(certificate.leaf_der()).await?;
    let window = window.ok_or_else(|| Problem::not_found("nothing is known about this certificate"))?;
    let mut json = json!({
        "suggestedWindow": { "start": rfc3339(window.start), "end": rfc3339(window.end) },
    });
    if let Some(url) = &window.explanation_url {
        json["explanationURL"] = json!(url);
    }
    Ok(reply::retry_after(reply::json(StatusCode::OK, &json), server.settings.renewal_info_retry_after))
}

impl Inner {
    pub(super) fn certificate_url(&self, id: &str) -> String {
        self.url(&format!("/acme/certificate/{id}"))
    }

    async fn chain(&self, id: &str, number: usize, request: &ByAccount) -> Result<Response, Problem> {
        request.reads()?;
        let certificate = self.state.certificate(id).await?;
        let certificate = certificate.ok_or_else(|| Problem::not_found("there is no such certificate"))?;
        request.owns(&certificate.account)?;
        let chain = certificate.chains.get(number);
        let chain = chain.ok_or_else(|| Problem::not_found("there is no such chain"))?;
        let text: String =
            chain.iter().map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.clone()))).collect();
        // RFC 8555 section 9.1 wants line feeds alone.
        let mut response = (StatusCode::OK, text.replace("\r\n", "\n")).into_response();
        let media = HeaderValue::from_static("application/pem-certificate-chain");
        response.headers_mut().insert(CONTENT_TYPE, media);
        for other in (0..certificate.chains.len()).filter(|other| *other != number) {
            let url = match other {
                0 => self.certificate_url(id),
                other => format!("{}/{other}", self.certificate_url(id)),
            };
            response = reply::linked(response, &url, "alternate");
        }
        Ok(response)
    }

    /// Whether the account has the certificate, or has now proved control of all its names.
    async fn controls(&self, account: &Account, certificate: &Certificate) -> Result<bool, Problem> {
        if certificate.account == account.id {
            return Ok(true);
        }
        for identifier in &certificate.identifiers {
            let newest = self.state.authorization_for(&account.id, identifier).await?;
            let valid = newest.is_some_and(|newest| {
                newest.state == crate::AuthorizationState::Valid && newest.expires > self.now()
            });
            if !valid {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn already_revoked() -> Problem {
    Problem::new(ProblemType::AlreadyRevoked, "the certificate has been revoked already")
}
