//! The challenge solvers that come with acmekit.

mod http01;

pub use http01::{Http01, Http01Body, Http01Responder, Http01Standalone, Http01Webroot};
