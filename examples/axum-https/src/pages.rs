//! What clients get.

use acmekit::tls::{AutoTls, Health};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Html;

type Failed = (StatusCode, &'static str);

/// A page that tells which certificate it is served with.
pub(crate) async fn hello(State(tls): State<AutoTls>) -> Result<Html<String>, Failed> {
    let mut page = "<!doctype html>\n<title>axum-https</title>\n<h1>Hello over TLS</h1>\n".to_owned();
    for one in tls.health().await.map_err(failed)?.certificates {
        // Names and serial numbers have no characters that mean something in HTML.
        let (names, serial) = (one.names.join(", "), one.serial.unwrap_or_default());
        page.push_str(&format!("<p>{names}: certificate {serial}</p>\n"));
    }
    Ok(Html(page))
}

/// For a load balancer, and for whoever is on call. It shows errors: a real service has it where strangers do not come.
pub(crate) async fn health(State(tls): State<AutoTls>) -> Result<(StatusCode, Json<Health>), Failed> {
    let health = tls.health().await.map_err(failed)?;
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
