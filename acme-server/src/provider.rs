//! The crypto provider's own primitives. Both providers have the same interface; `aws-lc-rs` wins if both are there.

#[cfg(feature = "aws-lc-rs")]
pub(crate) use aws_lc_rs::{hmac, signature};
#[cfg(not(feature = "aws-lc-rs"))]
pub(crate) use ring::{hmac, signature};
