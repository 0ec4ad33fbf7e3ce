//! Limits.
use std::sync::Arc;

use acmekit_core::Clock;

/// Stand-in until merged.
#[derive(Debug)]
pub struct Limits;
#[allow(missing_docs)]
impl Limits {
    pub fn none() -> Self {
        Self
    }
}
/// Stand-in until merged.
#[derive(Debug)]
pub struct RateLimits;
#[allow(missing_docs)]
impl RateLimits {
    pub fn new(_: Limits, _: Arc<dyn Clock>) -> Self {
        Self
    }
}
impl crate::Policy for RateLimits {}
