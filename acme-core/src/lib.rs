//! Work in progress.

pub mod atomic;
mod authority;
mod bundle;
mod ca;
mod challenge;
mod clock;
mod csr;
mod deployer;
pub mod dns;
mod effect;
mod error;
mod event;
mod issue;
mod journal;
mod key;
mod lease;
mod name;
pub mod order;
mod pipeline;
pub mod probe;
mod provider;
pub mod renewal;
mod secret;
mod solver;
pub mod solvers;
mod spec;
mod store;
pub mod stores;

pub use async_trait::async_trait;

pub use authority::{Authority, Timeouts};
pub use bundle::{Bundle, CertificateFacts, Origin};
pub use challenge::{Challenge, ChallengeKind, KeyAuthorization};
pub use clock::{Clock, Deadline, SystemClock};
pub use csr::Csr;
pub use deployer::{Deployer, Outcome};
pub use error::{Error, ErrorKind, Problem, Result, Retry};
pub use event::{Event, Observer, What};
pub use key::{KeyType, PrivateKey};
pub use name::{DnsName, Identifier};
pub use pipeline::{Deployment, Issuance, Pipeline, PipelineBuilder};
pub use provider::{DnsProvider, ProviderLimits, RecordHandle, TxtRecord, Zone};
pub use secret::Secret;
pub use solver::{ChallengeSolver, Presentation};
pub use spec::{CertificateId, CertificateSpec};
pub use store::{Condition, Entry, Expected, Fence, Guard, Lease, Store, StoreKey, Version};
