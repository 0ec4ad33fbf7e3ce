//! What the end-to-end tests share. The tests are in `tests/`, one file a story.

pub mod child;
pub mod fleet;

/// The README's code compiles: here, because this crate has all that it shows.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use acmekit::dns::Resolver;
use acmekit::rfc2136::{Config, Key, Rfc2136};
use acmekit::solvers::Dns01;
use acmekit::{Authority, Event, Result, Timeouts};
pub use acmekit_server::NoProof;
use acmekit_testbed::{Bind, Pebble, TestbedError, TsigAlgorithm};

/// What a program of these tests is to do: its one argument names a file that says so, in JSON.
///
/// # Errors
/// What is wrong with the argument or the file.
pub fn task<T: serde::de::DeserializeOwned>() -> std::result::Result<T, String> {
    let path = std::env::args().nth(1).ok_or("there is no argument: the path of a task in JSON")?;
    let task = std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
    serde_json::from_slice(&task).map_err(|error| format!("{path}: {error}"))
}

/// The CA as an authority: trusted, agreed to, with deadlines fit for a test.
///
/// # Errors
/// If the CA's URL or root cannot be used.
pub fn authority(ca: &Pebble) -> Result<Authority> {
    Ok(trusted(&ca.directory_url(), ca.root_pem())?
        .with_id("pebble")
        .contact("mailto:ops@example.test")
        .with_timeouts(timeouts()))
}

/// Any CA as an authority: trusted and agreed to, with the deadlines of a real one.
///
/// # Errors
/// If its URL or root cannot be used.
pub fn trusted(directory_url: &str, root_pem: &str) -> Result<Authority> {
    Ok(Authority::custom(directory_url)?.with_id("test-ca").extra_roots_pem(root_pem)?.agree_to_terms())
}

/// Deadlines that a healthy run on a busy machine keeps, and a frozen one misses soon.
pub fn timeouts() -> Timeouts {
    let mut timeouts = Timeouts::default();
    timeouts.connect = Duration::from_secs(3);
    timeouts.request = Duration::from_secs(3);
    timeouts.present = Duration::from_secs(20);
    timeouts.ready = Duration::from_secs(20);
    timeouts.poll = Duration::from_secs(30);
    timeouts.cleanup = Duration::from_secs(10);
    timeouts.deploy = Duration::from_secs(30);
    timeouts.lease = Duration::from_secs(30);
    timeouts
}

/// dns-01 by updates to this server, which is also asked for everything.
///
/// # Errors
/// If the server's key or address cannot be used.
pub fn dns01(bind: &Bind) -> Result<Dns01> {
    Ok(Dns01::with_resolver(rfc2136(bind)?, resolver(bind)?))
}

/// Updates to this server with its own key.
///
/// # Errors
/// If the server's key or address cannot be used.
pub fn rfc2136(bind: &Bind) -> Result<Rfc2136> {
    let algorithm = match bind.tsig_algorithm() {
        TsigAlgorithm::HmacSha384 => acmekit::rfc2136::Algorithm::HmacSha384,
        TsigAlgorithm::HmacSha512 => acmekit::rfc2136::Algorithm::HmacSha512,
        _ => acmekit::rfc2136::Algorithm::HmacSha256,
    };
    let key = Key::new(bind.tsig_name(), algorithm, bind.tsig_secret_base64());
    Rfc2136::new(Config::new(bind.addr().to_string(), key))
}

/// Asks this server, and its zones' name servers at its port.
///
/// # Errors
/// Never for a running server.
pub fn resolver(bind: &Bind) -> Result<Resolver> {
    Ok(Resolver::new([bind.addr()])?.authoritative_port(bind.addr().port()))
}

/// A CA that validates by asking a DNS server with the zones `example.test` and `other.test`.
#[derive(Debug)]
#[non_exhaustive]
pub struct World {
    /// The DNS server.
    pub dns: Bind,
    /// The CA.
    pub ca: Pebble,
}

impl World {
    /// Starts both.
    ///
    /// # Errors
    /// If one does not start.
    pub async fn start() -> Result<Self, TestbedError> {
        Self::with(Pebble::builder()).await
    }

    /// Starts both, the CA with these knobs.
    ///
    /// # Errors
    /// If one does not start.
    pub async fn with(ca: acmekit_testbed::PebbleBuilder) -> Result<Self, TestbedError> {
        let dns = Bind::builder()
            .zone("other.test")
            .zone("example.test")
            .cname("_acme-challenge.alias.example.test", "proof.other.test.")
            .start()
            .await?;
        let ca = ca.dns_server(dns.addr()).start().await?;
        Ok(Self { dns, ca })
    }

    /// The TXT records left in either zone.
    ///
    /// # Errors
    /// If the zones cannot be transferred.
    pub async fn leftovers(&self) -> Result<Vec<(String, String)>, TestbedError> {
        let mut left = self.dns.txt_records("example.test").await?;
        left.extend(self.dns.txt_records("other.test").await?);
        Ok(left)
    }
}

/// Keeps every event, as JSON text.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    /// What to hand to the pipeline.
    pub fn observer(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let events = Arc::clone(&self.0);
        move |event: &Event| {
            let text = serde_json::to_string(event).unwrap_or_default();
            events.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        }
    }

    /// How many events have this name, such as `order-created`.
    pub fn count(&self, name: &str) -> usize {
        let mark = format!("\"event\":\"{name}\"");
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|text| text.contains(&mark))
            .count()
    }

    /// All of them.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
