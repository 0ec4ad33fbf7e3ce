//! Conformance suites for acmekit's plug-in traits: one numbered clause of the contract, one test.
//!
//! A plug-in's author writes a *subject*, which starts the real other side, and one macro line that
//! expands to all tests of the suite. None can be left out; one that cannot apply is skipped with
//! a reason and then shows up as an ignored test.
//!
//! The oracle is never the plug-in itself: a deployer is believed when a TLS client sees the
//! certificate.
//!
//! This crate is test code: a clause that does not hold panics with a message that names it.

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("acmekit-conformance needs one crypto provider: enable the feature `aws-lc-rs` or `ring`");

pub mod deployer;
mod test_bundle;

pub use test_bundle::test_bundle;
