//! Work in progress.

pub mod atomic;
mod bundle;
mod challenge;
mod clock;
mod csr;
mod deployer;
mod error;
mod event;
mod key;
mod name;
pub mod probe;
mod provider;
mod secret;
mod solver;
pub mod solvers;
mod spec;
mod store;
pub mod stores;

pub use async_trait::async_trait;

pub use bundle::{Bundle, CertificateFacts, Origin};
pub use challenge::{Challenge, ChallengeKind, KeyAuthorization};
pub use clock::{Clock, Deadline, SystemClock};
pub use csr::Csr;
pub use deployer::{Deployer, Outcome};
pub use error::{Error, ErrorKind, Problem, Result, Retry};
pub use event::{Event, Observer, What};
pub use key::{KeyType, PrivateKey};
pub use name::{DnsName, Identifier};
pub use provider::{DnsProvider, ProviderLimits, RecordHandle, TxtRecord, Zone};
pub use secret::Secret;
pub use solver::{ChallengeSolver, Presentation};
pub use spec::{CertificateId, CertificateSpec};
pub use store::{Condition, Entry, Expected, Fence, Guard, Lease, Store, StoreKey, Version};
