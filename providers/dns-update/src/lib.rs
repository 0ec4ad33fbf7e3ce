//! DNS-01 by the vendors of [dns-update](https://docs.rs/dns-update): one provider for those that acmekit has none of
//! its own for.
//!
//! ```
//! use acmekit_dns_update::{Config, DnsUpdate};
//!
//! # #[cfg(feature = "aws-lc-rs")]
//! # fn example() -> acmekit_core::Result<()> {
//! let config = Config::new("hetzner").setting("api_token", "the-token").zone("example.com".parse()?);
//! let provider = DnsUpdate::new(config)?;
//! # Ok(()) }
//! ```
//!
//! [`vendors`] tells which there are and what settings each has; [dns-update's documentation][docs] tells what they
//! mean. It runs on the crypto provider aws-lc-rs alone: with the feature `ring` and without `aws-lc-rs`, this crate
//! is empty.
//!
//! # What is at risk
//! Vendors differ in what can be said to them:
//!
//! - **One value** ([`Way::OneValue`]): a value is added, and taken away, by itself. Nothing is at risk.
//! - **Whole RRsets** ([`Way::WholeRrset`]): all TXT values of the name are read, and written back with one more or
//!   one less. This provider makes its own changes of a zone one after the other, looks
//!   [`settle`](Config::settle) later whether the value is as wanted, and if not begins anew, four times at most. Another
//!   program that writes at the same name in the same instant can lose a value to it, and the other way round. At some
//!   vendors the TTL of the whole RRset becomes that of the value. Give each its own name where you can, by a CNAME at
//!   `_acme-challenge`.
//! - **Whole zones, or a single value that is overwritten, or values that are not found again**: such a vendor is
//!   refused, and the error says why and what to use instead. Somebody's records would be at stake, or ours left behind.
//!
//! At every vendor it is looked before a value is written, and afterwards: what does not come, or does not go, is an
//! error there and then.
//!
//! # Errors
//! dns-update tells most of what happened in words; they are in `said`, without the values of settings and without the
//! queries of URLs. A refused credential is `Auth`, an unknown zone `NotFound`, status 429 `RateLimited` without a time
//! (dns-update does not hand it on), 5xx and whatever cannot be reached `Unavailable`, silence `Timeout`, the rest
//! `Protocol`.
//!
//! # Limits of dns-update
//! - What it reads of an answer has no limit but the time.
//! - Its HTTPS trusts the roots of the machine, not those of acmekit's configuration; a machine without any is refused
//!   by [`DnsUpdate::new`].
//! - A proxy is taken from the environment, as `HTTPS_PROXY`.
//!
//! [docs]: https://docs.rs/dns-update/0.6.1/dns_update/enum.DnsUpdater.html

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("acmekit-dns-update needs one crypto provider: enable the feature `aws-lc-rs` or `ring`");

#[cfg(feature = "aws-lc-rs")]
mod config;
#[cfg(feature = "aws-lc-rs")]
mod provider;
#[cfg(feature = "aws-lc-rs")]
mod refusal;
#[cfg(feature = "aws-lc-rs")]
mod vendors;

#[cfg(feature = "aws-lc-rs")]
pub use self::config::Config;
#[cfg(feature = "aws-lc-rs")]
pub use self::provider::{DnsUpdate, ID};
#[cfg(feature = "aws-lc-rs")]
pub use self::vendors::{Vendor, Way, vendor, vendors};
