//! In a real zone, with the provider that the environment tells of.

use acmekit_desec::{Config, Desec};

acmekit_conformance::dns_provider_live!(Config::from_env().and_then(Desec::new));
