//! Real validation of challenges.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use acmekit_core::{ChallengeKind, Clock, Identifier, Result};
use async_trait::async_trait;

use crate::{Problem, Validation, Validator};

/// Stand-in until merged.
pub const DNS_PERSIST_01: &str = "dns-persist-01";

/// Stand-in until merged.
#[derive(Debug, Default)]
pub struct ValidationConfig;
#[allow(missing_docs)]
impl ValidationConfig {
    pub fn new() -> Self {
        Self
    }
    pub fn resolve_all_to(self, _: IpAddr) -> Self {
        self
    }
    pub fn dns_server(self, _: SocketAddr) -> Self {
        self
    }
    pub fn http_port(self, _: u16) -> Self {
        self
    }
    pub fn tls_port(self, _: u16) -> Self {
        self
    }
    pub fn clock(self, _: Arc<dyn Clock>) -> Self {
        self
    }
}

/// Stand-in until merged.
#[derive(Debug)]
pub struct RealValidator;
#[allow(missing_docs)]
impl RealValidator {
    pub fn new(_: ValidationConfig) -> Result<Self> {
        Ok(Self)
    }
}
/// Stand-in until merged.
#[derive(Debug, Default)]
pub struct AlwaysValid;
#[allow(missing_docs)]
impl AlwaysValid {
    pub fn new() -> Self {
        Self
    }
}
#[async_trait]
impl Validator for AlwaysValid {
    fn kinds(&self, _: &Identifier) -> Vec<ChallengeKind> {
        vec![ChallengeKind::Http01, ChallengeKind::Dns01]
    }
    async fn validate(&self, _: &Validation) -> Result<(), Problem> {
        Ok(())
    }
}
#[async_trait]
impl Validator for RealValidator {
    fn kinds(&self, _: &Identifier) -> Vec<ChallengeKind> {
        vec![ChallengeKind::Http01, ChallengeKind::Dns01]
    }
    async fn validate(&self, _: &Validation) -> Result<(), Problem> {
        Ok(())
    }
}
