//! The built-in ways to answer a challenge.

mod dns01;
pub(crate) mod dns_persist01;
mod http01;
pub(crate) mod shared;
#[cfg(feature = "rustls")]
mod tls_alpn01;

pub use dns_persist01::{DnsPersist01, StandingRecord};
pub use dns01::Dns01;
pub use http01::{Http01, Http01Body, Http01Redirect, Http01Responder, Http01Standalone, Http01Webroot};
#[cfg(feature = "rustls")]
pub use tls_alpn01::TlsAlpn01;
