//! The way to a CA, as a seam.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};

use crate::Result;

/// How a request reaches the CA, where that is not HTTPS from this process; see
/// [`Authority::through`](crate::Authority::through).
///
/// Two uses: a CA in the same process, and a program that has no way to the CA and hands its requests to one that has.
/// ACME signs what it sends (RFC 8555 section 6.1), but answers are believed: whoever forwards them must be trusted.
#[async_trait]
pub trait Exchange: fmt::Debug + Send + Sync {
    /// Brings one request to the CA, and its whole answer back, whatever its status. Nothing is repeated and no redirect
    /// followed.
    ///
    /// It is dropped at the deadline ([`Timeouts::request`](crate::Timeouts::request)). An answer longer than 1 MiB is
    /// refused by the caller, and had better not be read whole.
    ///
    /// # Errors
    /// `Unavailable` if there is no way, or it broke off.
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>>;
}
