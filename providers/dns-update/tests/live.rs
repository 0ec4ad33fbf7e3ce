//! In a real zone, with the provider that the environment tells of.

#![cfg(feature = "aws-lc-rs")]

use acmekit_dns_update::{Config, DnsUpdate};

acmekit_conformance::dns_provider_live!(Config::from_env().and_then(DnsUpdate::new));
