//! Finalizing an order (RFC 8555 section 7.4).

use std::sync::Arc;

use acmekit_core::{Csr, Identifier};
use axum::extract::{Path, State};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;

use super::order::Status;
use super::request::{ByAccount, text};
use super::{Inner, new_id};
use crate::certificate::facts;
use crate::{Certificate, IssueRequest, Jwk, Order, OrderState, Problem, ProblemType};

pub(super) async fn finalize(
    State(server): State<Arc<Inner>>,
    Path(id): Path<String>,
    request: ByAccount,
) -> Result<Response, Problem> {
    let order = server.order(&id, &request).await?;
    let payload = request.object()?;
    match server.status(&order).await? {
        Status::Ready => {}
        // The answer was lost: what was begun is what was asked for.
        Status::Processing | Status::Valid => return server.order_reply(&order).await,
        status => {
            let why = format!("the order is not ready, it is {status:?}").to_ascii_lowercase();
            return Err(Problem::new(ProblemType::OrderNotReady, why));
        }
    }
    let csr = text(&payload, "csr")?.ok_or_else(|| Problem::malformed("there is no `csr`"))?;
    let csr = BASE64.decode(csr).map_err(|_| bad("it is not base64url without padding"))?;
    let csr = Csr::from_der(csr).map_err(|error| bad(error.message()))?;
    let wanted: Vec<&Identifier> = csr.identifiers().iter().collect();
    if wanted != order.identifiers.iter().collect::<Vec<_>>() {
        return Err(bad("its names are not the order's"));
    }
    let key = Jwk::from_public_key_info(csr.public_key_info());
    let key = key.and_then(|key| Jwk::from_json(&key.to_json()).ok());
    match key {
        None => return Err(bad("its key is of a kind or strength that is not certified")),
        // Section 11.1: who has the one key must not have the other.
        Some(key) if key == request.account.key => return Err(bad("its key is the account's")),
        Some(_) => {}
    }
    let mut begun = false;
    let order = server
        .state
        .change_order(&id, &mut |order| {
            begun = order.state == OrderState::Open;
            if begun {
                order.state = OrderState::Processing;
            }
            Ok(())
        })
        .await?;
    if !begun {
        return server.order_reply(&order).await;
    }
    let order = server.issue(order, csr).await?;
    server.order_reply(&order).await
}

impl Inner {
    /// Has the certificate issued in a task of its own, and waits a little for its end.
    async fn issue(self: &Arc<Self>, order: Order, csr: Csr) -> Result<Order, Problem> {
        let id = order.id.clone();
        let server = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            let id = order.id.clone();
            let state = match server.issued(order, csr).await {
                Ok(certificate) => OrderState::Valid(certificate),
                Err(problem) => OrderState::Invalid(problem),
            };
            let mut end = |order: &mut Order| {
                order.state = state.clone();
                Ok(())
            };
            if let Err(problem) = server.state.change_order(&id, &mut end).await {
                tracing::error!(order = id, %problem, "the end of an order could not be kept");
            }
        });
        // Not the task's end but its time is what this is about: it goes on without us.
        tokio::time::timeout(self.settings.patience, task).await.ok();
        let order = self.state.order(&id).await?;
        order.ok_or_else(|| Problem::not_found("there is no such order"))
    }

    async fn issued(&self, order: Order, csr: Csr) -> Result<String, Problem> {
        let request = IssueRequest {
            csr,
            identifiers: order.identifiers.clone(),
            profile: order.profile.clone(),
            not_before: order.not_before,
            not_after: order.not_after,
        };
        let issued = self.issuer.issue(&request).await?;
        let leaf = issued.chains.first().and_then(|chain| chain.first());
        let facts = leaf.and_then(|leaf| facts(leaf));
        let facts = facts.ok_or_else(|| Problem::internal("the issuer answered no certificate"))?;
        let id = new_id();
        self.state
            .create_certificate(Certificate {
                id: id.clone(),
                account: order.account.clone(),
                identifiers: order.identifiers.clone(),
                chains: issued.chains,
                renewal_id: facts.renewal_id,
                not_after: facts.not_after,
                revoked: false,
                replaced_by: None,
            })
            .await?;
        self.policy.issued(&order.account, &order.identifiers).await;
        Ok(id)
    }
}

fn bad(why: &str) -> Problem {
    Problem::new(ProblemType::BadCsr, format!("the CSR is refused: {why}"))
}
