//! A process that obtains one certificate, and can be told where to die.
//!
//! The library tells every side effect to `tracing` before and after it happens; a layer here
//! counts them and ends the process with SIGKILL at the chosen one. Production code knows nothing
//! of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use acmekit::dns::Resolver;
use acmekit::haproxy::{Endpoint, HaProxy, Instance};
use acmekit::rfc2136::{Config, Key, Rfc2136};
use acmekit::solvers::Dns01;
use acmekit::stores::FileStore;
use acmekit::{Authority, CertificateSpec, Pipeline, Result};
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::timeouts;

/// What the child is to do. Handed over as a file, because it holds a secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Task {
    /// The CA's directory URL.
    pub directory: String,
    /// The root to trust for it.
    pub root_pem: String,
    /// The store's folder.
    pub store: PathBuf,
    /// The DNS server.
    pub dns: SocketAddr,
    /// The TSIG key's name.
    pub tsig_name: String,
    /// The TSIG key's secret.
    pub tsig_secret: String,
    /// The names to certify.
    pub names: Vec<String>,
    /// HAProxy's admin socket.
    pub haproxy_socket: PathBuf,
    /// The certificate's file, as HAProxy knows it.
    pub haproxy_file: PathBuf,
    /// Where HAProxy listens for TLS.
    pub haproxy_address: SocketAddr,
    /// Where to die: `effect:begin:1` is before its first occurrence.
    pub die_at: Option<String>,
    /// Where to append each point that was passed, one a line.
    pub points: PathBuf,
    /// Where to append the whole log, at level trace.
    pub log: PathBuf,
}

/// Does it.
///
/// # Errors
/// Whatever the pipeline fails with; a deployment that failed, too.
pub async fn run(task: &Task) -> Result<String> {
    observe(task);
    let pipeline = pipeline(task).await?;
    pipeline.sweep().await?;
    let names = CertificateSpec::new(&task.names)?;
    let issued = pipeline.obtain(&names).await?.served()?;
    Ok(issued.bundle.facts().serial.clone())
}

async fn pipeline(task: &Task) -> Result<Pipeline> {
    let authority = Authority::custom(&task.directory)?
        .with_id("pebble")
        .extra_roots_pem(&task.root_pem)?
        .agree_to_terms()
        .with_timeouts(timeouts());
    let key = Key::new(&task.tsig_name, acmekit::rfc2136::Algorithm::HmacSha256, task.tsig_secret.as_str());
    let provider = Rfc2136::new(Config::new(task.dns.to_string(), key))?;
    let resolver = Resolver::new([task.dns])?.authoritative_port(task.dns.port());
    let mut instance = Instance::new(Endpoint::unix(&task.haproxy_socket), &task.haproxy_file);
    instance.addresses = vec![task.haproxy_address];
    Pipeline::builder(authority, std::sync::Arc::new(FileStore::open(&task.store).await?))
        .solver(Dns01::with_resolver(provider, resolver))
        .deployer(HaProxy::new(acmekit::haproxy::Config::new(instance))?)
        .build()
}

/// The log goes to a file at trace level; the points are counted.
fn observe(task: &Task) {
    let reaper = Reaper {
        die_at: task.die_at.clone(),
        points: task.points.clone(),
        seen: Mutex::new(BTreeMap::new()),
    };
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&task.log).ok();
    let file =
        log.map(|file| tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Mutex::new(file)));
    tracing_subscriber::registry().with(reaper).with(file).with(acmekit_testbed::log_layer()).init();
}

/// Counts side effects, and kills the process at the chosen one.
struct Reaper {
    die_at: Option<String>,
    points: PathBuf,
    seen: Mutex<BTreeMap<String, usize>>,
}

impl<S: tracing::Subscriber> Layer<S> for Reaper {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "acmekit::effect" {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        if fields.at == "failed" {
            return;
        }
        let point = format!("{}:{}", fields.effect, fields.at);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let count = seen.entry(point.clone()).or_default();
        *count += 1;
        let point = format!("{point}:{count}");
        append(&self.points, &point);
        if self.die_at.as_ref() == Some(&point)
            && let Err(error) =
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
        {
            append(&self.points, &format!("could not die: {error}"));
        }
    }
}

#[derive(Default)]
struct Fields {
    effect: String,
    at: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "effect" => value.clone_into(&mut self.effect),
            "at" => value.clone_into(&mut self.at),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

fn append(path: &Path, line: &str) {
    use std::io::Write;
    if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
        // A point that cannot be noted shows as a missing one in the test.
        writeln!(file, "{line}").ok();
    }
}
