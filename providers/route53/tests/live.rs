//! In a real zone, with the credential that the AWS SDK finds.

use acmekit_route53::{Config, Credential, Route53};

acmekit_conformance::dns_provider_live!(Route53::new(Config::new(Credential::found())));
