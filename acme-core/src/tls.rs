//! TLS servers in this program, whose certificates are swapped while handshakes go on. Behind the feature `rustls`.
//!
//! | You have | Use |
//! |---|---|
//! | a service with names | [`AutoTls`]: it gets, serves and renews, and its [listener](AutoTls::listen) is for any protocol |
//! | names that are not known beforehand | [`AutoTlsBuilder::on_demand`] |
//! | axum | the listener, by `axum::serve` (feature `axum`) |
//! | hyper, or streams of another kind | [`TlsAcceptor`] |
//! | a server that takes a [`ServerConfig`], such as axum-server | [`server_config`], with [`AutoTls::resolver`] |
//! | a [`Pipeline`](crate::Pipeline) of your own | [`CertResolver`]: a place to deploy to, and with [`TlsAlpn01`](crate::solvers::TlsAlpn01) a way to prove names |
//!
//! ```
//! use std::sync::Arc;
//! use acmekit_core::tls::{CertResolver, server_config};
//!
//! # fn example(bundle: &acmekit_core::Bundle) -> acmekit_core::Result<()> {
//! let resolver = CertResolver::new();
//! resolver.serve(bundle)?;
//! // For tokio-rustls, hyper, axum, …: whatever takes rustls' configuration.
//! let config = server_config(&resolver)?;
//! // A renewal: all handshakes that begin after this get the new certificate.
//! resolver.serve(bundle)?;
//! # Ok(()) }
//! ```

mod acceptor;
mod auto;
mod certified;
mod deployer;
mod listener;
mod on_demand;
mod resolver;
mod table;
mod waiting;

use std::sync::Arc;

use rustls::ServerConfig;

pub use self::acceptor::TlsAcceptor;
pub use self::auto::{AutoTls, AutoTlsBuilder, CertificateHealth, Health, Standing};
pub use self::listener::TlsListener;
pub use self::on_demand::{Ask, OnDemand, Permission};
pub use self::resolver::CertResolver;
use crate::probe::crypto_provider;
use crate::{Error, ErrorKind, Result};

/// The protocol of tls-alpn-01 challenges (RFC 8737 section 6.2).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// What a server over TLS 1.2 and 1.3 needs: certificates by the resolver, HTTP/2 and HTTP/1.1 by ALPN, tls-alpn-01, and
/// session tickets under keys that change every six hours.
///
/// A protocol that is not HTTP puts its own names into `alpn_protocols`, and leaves [`ACME_TLS`] there if names are
/// proved by tls-alpn-01.
///
/// # Errors
/// [`ErrorKind::Other`] if there is no random number for the tickets.
pub fn server_config(resolver: &CertResolver) -> Result<ServerConfig> {
    let failed = |e: rustls::Error| {
        Error::new(ErrorKind::Other, "tls.server_config", "TLS cannot be set up on this machine")
            .with_source(e)
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(crypto_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(failed)?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(resolver.clone()));
    config.alpn_protocols = [&b"h2"[..], b"http/1.1", ACME_TLS].map(<[u8]>::to_vec).to_vec();
    config.ticketer = ticketer().map_err(failed)?;
    Ok(config)
}

#[cfg(feature = "aws-lc-rs")]
fn ticketer() -> std::result::Result<Arc<dyn rustls::server::ProducesTickets>, rustls::Error> {
    rustls::crypto::aws_lc_rs::Ticketer::new()
}

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
fn ticketer() -> std::result::Result<Arc<dyn rustls::server::ProducesTickets>, rustls::Error> {
    rustls::crypto::ring::Ticketer::new()
}
