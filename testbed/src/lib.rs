//! Real servers for tests: [`Pebble`] (an ACME CA), [`Bind`], [`Knot`] and [`PowerDns`] (DNS with TSIG updates), [`HaProxy`],
//! [`Nginx`] and [`Moto`] (AWS), each on free loopback ports, in a temporary folder of its own, ended when the value is
//! dropped. And
//! ACME clients to run against a CA: [`Certbot`], [`Lego`] and [`Uacme`].
//!
//! ```no_run
//! # async fn example() -> Result<(), acmekit_testbed::TestbedError> {
//! use acmekit_testbed::{Bind, Pebble};
//!
//! let dns = Bind::builder().zone("example.test").start().await?;
//! let ca = Pebble::builder().dns_server(dns.addr()).nonce_reject(15).start().await?;
//! println!("{} signed by\n{}", ca.directory_url(), ca.root_pem());
//! # Ok(()) }
//! ```
//!
//! `start()` returns once the server answers; nothing here sleeps for a fixed time. A server also ends when the
//! test process is killed, because a small watcher holds a pipe to it (see `process.rs`).
//!
//! | module | its one job |
//! |---|---|
//! | `pebble` | the CA: knobs, what it issued, freeze and restart |
//! | `bind` | authoritative DNS: zones, TSIG keys, what is in the zone now |
//! | `knot`, `power_dns` | two more that take updates, each with habits of its own |
//! | `dns_client` | questions, zone transfers and updates behind the back of the code under test |
//! | `haproxy`, `nginx` | the servers that certificates are delivered to |
//! | `moto` | Route 53: hosted zones, what is in them now |
//! | `clients` | certbot, lego and uacme: a certificate from its order to its revocation |
//! | `process` | start, watch, signal and end one server |
//! | `ports` | ports that no other test process takes meanwhile |
//! | `tls`, `http` | what a client sees: the presented chain, one HTTPS request |
//! | `logs` | the trace log of every test, to be searched for secrets |
//! | `wait` | a condition with a deadline |

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("acmekit-testbed needs one crypto provider: enable the feature `aws-lc-rs` or `ring`");

mod bind;
mod clients;
mod dns_client;
mod error;
mod files;
mod haproxy;
mod http;
mod knot;
mod logs;
mod moto;
mod nginx;
mod pebble;
mod ports;
mod power_dns;
mod process;
mod program;
mod running;
mod tls;
mod wait;

pub use bind::{Bind, BindBuilder, TsigAlgorithm, TsigKey};
pub use clients::{CaAccess, Certbot, DnsUpdates, Lego, Proof, StockClient, Uacme};
pub use dns_client::DnsClient;
pub use error::TestbedError;
pub use haproxy::{HaProxy, HaProxyBuilder};
pub use http::HttpResponse;
pub use knot::Knot;
pub use logs::log_layer;
pub use moto::{Moto, MotoRecords};
pub use nginx::{Nginx, NginxBuilder};
pub use pebble::{Pebble, PebbleBuilder};
pub use ports::{Port, free_loopback, free_port};
pub use power_dns::PowerDns;
pub use program::{Output, acme_sh, run_program};
pub use running::Running;
pub use tls::{Presented, SelfSigned, handshake, self_signed, serial_of, verify_chain};
pub use wait::wait_for;
