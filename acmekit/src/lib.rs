#![doc = include_str!("../README.md")]

pub use acmekit_core::*;

/// DNS-01 by dynamic updates (RFC 2136) signed with TSIG.
#[cfg(feature = "rfc2136")]
pub use acmekit_rfc2136 as rfc2136;

/// PEM files in a folder, switched as a whole.
#[cfg(feature = "files")]
pub use acmekit_files as files;

/// A running HAProxy, by its runtime API.
#[cfg(feature = "haproxy")]
pub use acmekit_haproxy as haproxy;
