//! The suite for [`Deployer`]: what a TLS client sees decides.
//!
//! ```no_run
//! use std::net::SocketAddr;
//! use std::sync::Arc;
//! use acmekit_conformance::deployer::DeployerSubject;
//! use acmekit_core::{CertificateId, Deployer, async_trait};
//!
//! # #[derive(Debug)] struct MyServer;
//! # impl MyServer {
//! #     async fn start() -> Self { todo!() }
//! #     fn address(&self) -> SocketAddr { todo!() }
//! #     fn deployer(&self) -> Arc<dyn Deployer> { todo!() }
//! #     async fn make_reloads_fail(&self, _: bool) {}
//! #     async fn forget(&self, _: &CertificateId) {}
//! # }
//! struct MySubject { server: MyServer }
//!
//! impl MySubject {
//!     async fn start() -> Self { Self { server: MyServer::start().await } }
//! }
//!
//! #[async_trait]
//! impl DeployerSubject for MySubject {
//!     fn deployer(&self) -> Arc<dyn Deployer> { self.server.deployer() }
//!     fn handshake_address(&self) -> SocketAddr { self.server.address() }
//!     async fn break_target(&mut self) { self.server.make_reloads_fail(true).await }
//!     async fn mend(&mut self) { self.server.make_reloads_fail(false).await }
//!     async fn release(&mut self, id: &CertificateId) { self.server.forget(id).await }
//! }
//!
//! acmekit_conformance::deployer_suite!(MySubject::start());
//! ```
//!
//! With `deployer_suite!(MySubject::start(), skip { Y3: "the device restarts for each change" })`
//! that clause becomes an ignored test with the reason. A name that is no clause does not compile.
//!
//! | clause | what must hold |
//! |---|---|
//! | Y1 | after `deploy` every client sees the new certificate with its chain |
//! | Y2 | the certificate that is served already is `AlreadyCurrent`, and nothing is touched |
//! | Y3 | while certificates are switched every handshake succeeds and shows one whole chain |
//! | Y4 | after a deployment that failed the previous certificate is served; the next one works |
//! | Y5 | the error of a deployment that failed says, by serial number, what is served now |
//! | Y6 | `verify` is `Ok` for what is served, and changes nothing |
//! | Y7 | `verify` is an error for what is not served, however nearly |
//! | Y8 | `remove` takes away what is there, and nothing else; what is not there is `Ok` |
//! | Y9 | neither `Debug` nor any error shows a private key |
//! | Y10 | it does the same behind `Arc` and `Box` |

#![expect(clippy::panic, reason = "test code: a clause that does not hold panics and names itself")]

use std::net::SocketAddr;
use std::sync::Arc;

use acmekit_core::{CertificateId, Deployer, async_trait};

mod clauses;
mod client;
mod suite;

pub use clauses::*;
#[doc(hidden)]
pub use suite::run;

/// The names in the certificates of the suite. All have the same [`CertificateId`], so a subject
/// may put a first certificate for them in place with [`test_bundle`](crate::test_bundle).
pub const NAMES: [&str; 2] = ["conformance.test", "*.conformance.test"];

/// A deployer together with the real thing it deploys to. Each clause starts one of its own.
///
/// The server answers from the start, with any certificate. It must be told apart from the
/// deployer: the suite makes handshakes with it, and believes nothing else.
#[async_trait]
pub trait DeployerSubject: Send + Sync {
    /// The deployer under test; the same one every time.
    fn deployer(&self) -> Arc<dyn Deployer>;

    /// Where clients meet what is deployed.
    fn handshake_address(&self) -> SocketAddr;

    /// From now on a deployment must fail, while the server goes on serving what it serves.
    async fn break_target(&mut self);

    /// Undoes [`break_target`](Self::break_target).
    async fn mend(&mut self);

    /// The server's administrator takes the certificate out of its configuration, as far as
    /// [`Deployer::remove`] asks for that; afterwards it may serve anything else, or not at all.
    async fn release(&mut self, id: &CertificateId);

    /// Something that changes whenever the target is touched: a modification time, a counter of
    /// reloads. With `None`, the default, Y2 and Y6 look only at what is served.
    async fn fingerprint(&self) -> Option<String> {
        None
    }
}
