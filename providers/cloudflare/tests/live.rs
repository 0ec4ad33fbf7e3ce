//! In a real zone, with the provider that the environment tells of.

use acmekit_cloudflare::{Cloudflare, Config};

acmekit_conformance::dns_provider_live!(Config::from_env().and_then(Cloudflare::new));
