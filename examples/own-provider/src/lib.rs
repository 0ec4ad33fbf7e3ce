//! A DNS provider for an API of one's own: all of it is in `provider.rs`.
//!
//! ```no_run
//! use std::sync::Arc;
//! use acmekit::{Authority, CertificateSpec, Pipeline, Secret, solvers::Dns01, stores::FileStore};
//! use own_provider::InHouse;
//!
//! # async fn example() -> acmekit::Result<()> {
//! let dns = InHouse::new("https://dns.example.internal/api", &Secret::from("the-token"))?;
//! let authority = Authority::lets_encrypt_staging().contact("ops@example.com").agree_to_terms();
//! let pipeline = Pipeline::builder(authority, Arc::new(FileStore::open("/var/lib/acme").await?))
//!     .solver(Dns01::new(dns)?)
//!     .build()?;
//! pipeline.obtain(&CertificateSpec::new(["example.com", "*.example.com"])?).await?;
//! # Ok(()) }
//! ```

mod provider;

pub use provider::{ID, InHouse};
