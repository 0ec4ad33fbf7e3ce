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

mod endpoint;
pub mod faults;
mod issuer;
pub mod limits;
mod model;
mod policy;
mod problem;
pub mod validation;
mod validator;

pub use endpoint::Endpoint;
pub use issuer::{Issued, Issuer, IssueRequest, RenewalInfo};
pub use model::{Account, AccountId};
pub use policy::{NewOrder, Policy, Renewal};
pub use problem::{Problem, ProblemType};
pub use validator::{Validation, Validator};
