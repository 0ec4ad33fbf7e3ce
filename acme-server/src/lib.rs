//! The server half of ACME (RFC 8555, RFC 9773) as a library, and with it a CA to test ACME clients against.
//!
//! # Test your ACME client in five lines
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> acmekit_core::Result<()> {
//! use acmekit_server::{Endpoint, TestCa, faults::{Action, Fault}};
//!
//! let ca = TestCa::builder().http_port(5002).start().await?; // http-01 is asked of 127.0.0.1:5002
//! ca.faults().add(Fault::new(Endpoint::Finalize, Action::Reset).after_effect()); // the first answer is lost
//! let (url, trust) = (ca.directory_url(), ca.root_pem());
//! // … run your client with `url` and `trust`, then see what it did:
//! assert_eq!((ca.certificates_issued(), ca.requests(Endpoint::NewOrder)), (0, 0));
//! # let _ = (url, trust); Ok(()) }
//! ```
//!
//! [`TestCa`] checks challenges for real unless told otherwise, limits like Let's Encrypt if asked to
//! ([`limits`]), lives by a clock that can be moved, and misbehaves on demand ([`faults`]).
//!
//! # A server of your own
//!
//! [`AcmeServer`] is the protocol alone: accounts, orders, signatures, nonces, problem documents. Who may have what, how control
//! of a name is checked, who signs and where things are kept are four traits, so that a server can be the front of
//! anything that makes certificates:
//!
//! ```
//! # use acmekit_server::{AcmeServer, Issuer, Validator};
//! # fn example(issuer: impl Issuer + 'static, validator: impl Validator + 'static) -> axum::Router {
//! let server = AcmeServer::builder("https://ca.example", issuer, validator).build();
//! server.router() // serve it by HTTPS, as you like
//! # }
//! ```
//!
//! # The map
//! | to do | see |
//! |---|---|
//! | serve ACME | [`AcmeServer`], [`Settings`] |
//! | issue certificates | [`Issuer`] |
//! | check control of an identifier | [`Validator`], [`validation`] |
//! | say who may have what | [`Policy`], [`limits`] |
//! | keep accounts and orders | [`State`] |
//! | tell a client what went wrong | [`Problem`] |
//! | misbehave on purpose | [`faults`] |
//!
//! # Features
//! Exactly one crypto provider is linked: `aws-lc-rs` (default) or, with `default-features = false`, `ring`.
//! `test-ca` (default) is [`TestCa`]; `rsa` gives it an RSA intermediate.

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("acmekit-server needs one crypto provider: enable the feature `aws-lc-rs` or `ring`");

mod certificate;
mod clock;
mod endpoint;
pub mod faults;
#[doc(hidden)]
pub mod fuzzing;
mod issuer;
mod jwk;
mod jws;
pub mod limits;
mod model;
mod policy;
mod problem;
mod provider;
mod server;
mod state;
#[cfg(feature = "test-ca")]
mod test_ca;
pub mod validation;
mod validator;

pub use clock::MovableClock;
pub use endpoint::Endpoint;
pub use issuer::{IssueRequest, Issued, Issuer, RenewalInfo};
pub use jwk::Jwk;
pub use model::{
    Account, AccountId, AccountStatus, Authorization, AuthorizationState, Certificate, ChallengeState,
    OfferedChallenge, Order, OrderState,
};
pub use policy::{NewOrder, Policy, Renewal};
pub use problem::{Problem, ProblemType};
pub use server::{AcmeServer, ServerBuilder, Settings};
pub use state::{Change, MemoryState, State};
#[cfg(feature = "test-ca")]
pub use test_ca::{NoProof, TestCa, TestCaBuilder};
pub use validator::{Validation, Validator};
