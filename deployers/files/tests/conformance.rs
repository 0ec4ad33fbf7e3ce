//! The suite for deployers, on a real nginx.

mod subject;

acmekit_conformance::deployer_suite!(subject::NginxSubject::start());
