//! What clients get.

use std::sync::Arc;

use acmekit::tls::{AutoTls, Health};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

/// What the pages are made of.
#[derive(Debug, Clone)]
pub(crate) struct Replica {
    pub(crate) name: Arc<str>,
    pub(crate) tls: AutoTls,
}

type Failed = (StatusCode, &'static str);

/// Tells which replica it is, and which certificate it serves.
pub(crate) async fn hello(State(replica): State<Replica>) -> Result<String, Failed> {
    let mut page = format!("This is {}.\n", replica.name);
    for one in replica.tls.health().await.map_err(failed)?.certificates {
        let (names, serial) = (one.names.join(", "), one.serial.unwrap_or_default());
        page.push_str(&format!("{names}: certificate {serial}\n"));
    }
    Ok(page)
}

/// For a load balancer. It shows errors: a real service has it where strangers do not come.
pub(crate) async fn health(State(replica): State<Replica>) -> Result<(StatusCode, Json<Health>), Failed> {
    let health = replica.tls.health().await.map_err(failed)?;
    let status = match health.is_serving() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    Ok((status, Json(health)))
}

/// The log has the details; a client learns no more than it needs.
fn failed(error: acmekit::Error) -> Failed {
    tracing::warn!(%error, "how the certificates stand is not known");
    (StatusCode::SERVICE_UNAVAILABLE, "how the certificates stand is not known\n")
}
