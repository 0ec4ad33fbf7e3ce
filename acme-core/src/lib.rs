//! Gets, renews and delivers TLS certificates over ACME (RFC 8555) and never loses one.
//!
//! This is the core: types, the plug-in traits, and the way of one certificate from a wish to a
//! client that sees it. Applications add the crate `acmekit`, which re-exports all of this.
//!
//! ```
//! use std::sync::Arc;
//! use acmekit_core::{Authority, CertificateSpec, Pipeline, solvers::Http01, stores::MemoryStore};
//!
//! # async fn example() -> acmekit_core::Result<()> {
//! // Staging first: its certificates are trusted by nobody, and its limits are wide.
//! let authority = Authority::lets_encrypt_staging().contact("mailto:ops@example.com").agree_to_terms();
//! let pipeline = Pipeline::builder(authority, Arc::new(MemoryStore::new()))
//!     .solver(Http01::webroot("/var/www/html"))
//!     .observer(|event: &acmekit_core::Event| println!("{event:?}"))
//!     .build()?;
//!
//! pipeline.sweep().await?; // what a crash has left behind
//! let issuance = pipeline.obtain(&CertificateSpec::new(["www.example.com"])?).await?;
//! println!("{}", issuance.bundle.fullchain_pem());
//! # Ok(()) }
//! ```
//!
//! # The map
//! | to do | see |
//! |---|---|
//! | say what is wanted | [`CertificateSpec`], [`Identifier`], [`KeyType`], [`Csr`] |
//! | say from whom | [`Authority`], [`Timeouts`] |
//! | get it | [`Pipeline`], [`Issuance`], [`Bundle`] |
//! | prove control | [`ChallengeSolver`], [`solvers`], [`DnsProvider`] |
//! | keep it | [`Store`], [`stores`] |
//! | have it served | [`Deployer`], [`probe`] |
//! | write a DNS provider over a JSON API | [`rest`] |
//! | run a program from a plug-in | [`child`] |
//! | see what happens | [`Event`], [`Observer`], the `tracing` span `certificate`, and the target `acmekit::effect` |
//! | measure it | [`metrics`](mod@metrics) |
//! | act on failures | [`Error`], [`ErrorKind`], [`Retry`] |
//!
//! # Crashes
//! Every side effect is written to a journal in the store before it happens. A process that is
//! killed anywhere and started again goes on with the same order, takes down what it put up, and
//! orders nothing twice. Dropping a future is like being killed: see [`Pipeline::obtain`].
//!
//! # Features
//! Exactly one crypto provider is linked: `aws-lc-rs` (default) or, with `default-features = false`,
//! `ring`. `rsa` adds RSA certificate keys. `metrics` measures what [`metrics`](mod@metrics) lists, for any recorder of the
//! `metrics` facade: expiry, results, latencies of CAs and DNS providers, budgets. `rustls` adds `tls`: servers in this
//! program that get and renew their certificates by themselves; `axum` makes their listener one for `axum::serve`.

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("acmekit-core needs one crypto provider: enable the feature `aws-lc-rs` or `ring`");

pub mod atomic;
mod authority;
pub mod backoff;
mod budget;
mod bundle;
mod ca;
mod challenge;
pub mod child;
mod clock;
mod connection;
mod csr;
mod deployer;
pub mod dns;
pub mod duration;
mod effect;
mod error;
mod event;
mod exchange;
#[doc(hidden)]
pub mod fuzzing;
mod issue;
mod journal;
mod key;
mod lease;
pub mod limits;
pub mod manager;
pub mod metrics;
mod name;
pub mod order;
mod pipeline;
pub mod probe;
mod provider;
pub mod renewal;
pub mod rest;
mod secret;
mod solver;
pub mod solvers;
mod spec;
mod store;
pub mod stores;
#[cfg(feature = "rustls")]
pub mod tls;

pub use async_trait::async_trait;

pub use authority::{Authority, Timeouts};
pub use budget::Left;
pub use budget::plan::{Plan, Planned};
pub use bundle::{Bundle, CertificateFacts, Origin};
pub use challenge::{Challenge, ChallengeKind, KeyAuthorization};
pub use clock::{Clock, Deadline, SystemClock};
pub use csr::Csr;
pub use deployer::{Deployer, Outcome};
pub use error::{Error, ErrorKind, Problem, Result, Retry};
pub use event::{Event, Observer, What};
pub use exchange::Exchange;
pub use key::{KeyType, PrivateKey};
pub use manager::{Manager, ManagerBuilder};
pub use name::{DnsName, Identifier};
pub use pipeline::{Deployment, Issuance, Pipeline, PipelineBuilder, Status};
pub use provider::{DnsProvider, ProviderLimits, RecordHandle, TxtRecord, Zone};
pub use secret::Secret;
pub use solver::{ChallengeSolver, Presentation};
pub use spec::{CertificateId, CertificateSpec};
pub use store::{Condition, Entry, Expected, Fence, Guard, Lease, Store, StoreKey, Version};
