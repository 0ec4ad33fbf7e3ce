//! Conformance suites for acmekit's plug-in traits: one numbered clause of the contract, one test.
//!
//! Each suite is a module with one function per clause, and a macro that makes a test of each: a
//! plug-in's author writes a *subject*, which starts the real other side, and one macro line.
//! Nothing can be left out silently: a clause is skipped by name, with a reason.
//!
//! The oracle is never the plug-in itself: a deployer is believed when a TLS client sees the
//! certificate.
//!
//! For providers over an API there is [`dns_api`] beside, and for real zones [`dns_live`].
//!
//! For fakes of vendors' APIs there is [`api`], and [`log`] for tests that look for secrets in what is
//! logged.
//!
//! This crate is test code: a clause that does not hold panics with a message that names it.

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("acmekit-conformance needs one crypto provider: enable the feature `aws-lc-rs` or `ring`");

pub mod api;
pub mod deployer;
pub mod dns_api;
pub mod dns_live;
pub mod dns_provider;
pub mod log;
pub mod store;
mod test_bundle;

pub use test_bundle::test_bundle;
