//! Requests without a network.

use std::fmt;
use std::net::SocketAddr;

use acmekit_core::{Error, ErrorKind, Exchange, Result, async_trait};
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use tower::ServiceExt;

use super::serve::Service;

/// More than any client takes: what a flood is for can be seen.
const LONGEST: usize = 8 << 20;

/// A way to a CA in the same process.
pub(super) struct InProcess {
    service: Service,
    /// As whose the requests come.
    from: SocketAddr,
}

impl InProcess {
    pub(super) fn new(service: Service, from: SocketAddr) -> Self {
        Self { service, from }
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess")
    }
}

#[async_trait]
impl Exchange for InProcess {
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>> {
        let broken = |reason: String| {
            Error::new(ErrorKind::Unavailable, "test_ca.exchange", "the CA broke off").with("reason", reason)
        };
        let (mut parts, body) = request.into_parts();
        // As a client sends it: the path in the first line, the server in a header.
        if let Some(authority) = parts.uri.authority()
            && let Ok(host) = authority.as_str().parse()
        {
            parts.headers.insert(axum::http::header::HOST, host);
        }
        if let Some(path) = parts.uri.path_and_query() {
            parts.uri = Uri::from(path.clone());
        }
        parts.extensions.insert(ConnectInfo(self.from));
        let request = Request::from_parts(parts, Body::from(body));
        let answer =
            self.service.clone().oneshot(request).await.map_err(|error| broken(error.to_string()))?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, LONGEST).collect().await.map_err(|error| broken(error.to_string()))?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    }
}
