//! The server half of ACME (RFC 8555) as a library.
//!
//! # The map
//! | to do | see |
//! |---|---|
//! | issue certificates | [`Issuer`] |
//! | check control of an identifier | [`Validator`], [`validation`] |
//! | say who may have what | [`Policy`], [`limits`] |
//! | keep accounts and orders | [`State`] |
//! | misbehave on purpose | [`faults`] |

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("acmekit-server needs one crypto provider: enable the feature `aws-lc-rs` or `ring`");

mod certificate;
mod endpoint;
pub mod faults;
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
pub use test_ca::{MovableClock, TestCa, TestCaBuilder};
pub use validator::{Validation, Validator};
