//! Gets, renews and delivers TLS certificates over ACME (RFC 8555) and never loses one.
//!
//! This crate is what applications add: everything of `acmekit-core`, and one feature per plug-in.
//!
//! | feature | module | what it does |
//! |---|---|---|
//! | `acme-dns` | `acme_dns` | dns-01: an acme-dns server; tells the CNAMEs to set |
//! | `cloudflare` | `cloudflare` | dns-01: zones at Cloudflare, by an API token that may be for one zone alone |
//! | `desec` | `desec` | dns-01: domains at deSEC, by a token that may be for one name alone |
//! | `dns-update` | `dns_update` | dns-01: fifty vendors by the dns-update crate: Hetzner, OVH, Gandi, Porkbun, … |
//! | `exec` | `exec` | dns-01: a program, as lego's `exec` or certbot's manual hooks, or one of acme.sh's nearly two hundred DNS scripts |
//! | `httpreq` | `httpreq` | dns-01: any server of lego's HTTP request protocol |
//! | `responder` | `responder` | dns-01: an own authoritative DNS server in the program, for zones that challenges are delegated to |
//! | `rfc2136` | `rfc2136` | dns-01: dynamic updates signed by TSIG: BIND, Knot, PowerDNS, … |
//! | `route53` | `route53` | dns-01: hosted zones at AWS Route 53 |
//! | `files` | `files` | deploys: PEM files in a folder, switched as a whole, with reload, verify, rollback |
//! | `haproxy` | `haproxy` | deploys: a running HAProxy, by its runtime API, without a reload |
//! | `plug-ins` | | all of the above |
//! | `config` | `config` | all of it out of one TOML file |
//! | `rustls` | `tls` | TLS servers in this program that get and renew their certificates by themselves |
//! | `axum` | `tls` | the same for `axum::serve` |
//! | `metrics` | [`metrics`](mod@metrics) | expiry, results, latencies and budgets for any recorder of the `metrics` facade; the module lists them all |
//! | `rsa` | | RSA certificate keys |
//! | `aws-lc-rs` (default), `ring` | | the crypto provider: exactly one is linked |
//!
//! A service that wants HTTPS starts at `tls::AutoTls`, anything else at [`Pipeline`]; the [map](acmekit_core#the-map) shows the rest.

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use acmekit_core::*;

/// DNS-01 by an acme-dns server.
#[cfg(feature = "acme-dns")]
pub use acmekit_acme_dns as acme_dns;

/// DNS-01 in zones at Cloudflare.
#[cfg(feature = "cloudflare")]
pub use acmekit_cloudflare as cloudflare;

/// DNS-01 in domains at deSEC.
#[cfg(feature = "desec")]
pub use acmekit_desec as desec;

/// DNS-01 by the vendors of the crate dns-update. Empty with the feature `ring` and without `aws-lc-rs`.
#[cfg(feature = "dns-update")]
pub use acmekit_dns_update as dns_update;

/// DNS-01 by a program that is run for each change.
#[cfg(feature = "exec")]
pub use acmekit_exec as exec;

/// DNS-01 by a server of lego's HTTP request protocol.
#[cfg(feature = "httpreq")]
pub use acmekit_httpreq as httpreq;

/// DNS-01 by an own authoritative DNS server in the program.
#[cfg(feature = "responder")]
pub use acmekit_responder as responder;

/// DNS-01 by dynamic updates (RFC 2136) signed with TSIG.
#[cfg(feature = "rfc2136")]
pub use acmekit_rfc2136 as rfc2136;

/// DNS-01 in hosted zones at AWS Route 53.
#[cfg(feature = "route53")]
pub use acmekit_route53 as route53;

/// PEM files in a folder, switched as a whole.
#[cfg(feature = "files")]
pub use acmekit_files as files;

/// A running HAProxy, by its runtime API.
#[cfg(feature = "haproxy")]
pub use acmekit_haproxy as haproxy;

#[cfg(feature = "config")]
pub mod config;
