//! The process that is killed: gets the certificates of one task, and notes each point it passes.
//!
//! The library tells every side effect to `tracing` before and after it happens; a layer here writes each down, and
//! ends the process with SIGKILL at the chosen one.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use acmekit::dns::Resolver;
use acmekit::haproxy::{self, Endpoint, HaProxy, Instance};
use acmekit::rfc2136::{self, Algorithm, Key, Rfc2136};
use acmekit::solvers::{Dns01, Http01};
use acmekit::stores::FileStore;
use acmekit::{
    Authority, CertificateSpec, Clock, Error, ErrorKind, Manager, Pipeline, Result, SystemClock, Timeouts,
    files,
};
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// What the process is to do. Handed over as a file, because it holds a secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Task {
    /// The CA's directory URL.
    pub(super) directory: String,
    /// The root to trust for it.
    pub(super) root_pem: String,
    /// The store's folder.
    pub(super) store: PathBuf,
    /// A file that holds how many seconds the clock is ahead.
    pub(super) ahead: PathBuf,
    /// The certificates, each by its names.
    pub(super) certificates: Vec<Vec<String>>,
    /// Where TXT records go, if names are proved by dns-01.
    pub(super) dns: Option<Dns>,
    /// The folder a web server serves, if names are proved by http-01.
    pub(super) webroot: Option<PathBuf>,
    /// The HAProxy that serves the one certificate, if one does.
    pub(super) haproxy: Option<Proxy>,
    /// The folder of the files deployer, and its reload command.
    pub(super) files: Option<(PathBuf, Vec<String>)>,
    /// By a manager rather than one call for each.
    pub(super) manager: bool,
    /// Die at the so-manieth point.
    pub(super) die_at: Option<u64>,
    /// Where to append each point that was passed, one a line.
    pub(super) points: PathBuf,
    /// Where to append the log.
    pub(super) log: PathBuf,
}

/// A DNS server, and what updates need.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Dns {
    pub(super) server: SocketAddr,
    pub(super) tsig_name: String,
    pub(super) tsig_secret: String,
}

/// A HAProxy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Proxy {
    pub(super) socket: PathBuf,
    /// Whether it is its master's socket, and a reload may be asked for.
    pub(super) master: bool,
    pub(super) file: PathBuf,
    pub(super) address: SocketAddr,
}

/// The name of the certificate at this place.
pub(super) fn name_of(place: usize) -> String {
    format!("c{place}")
}

/// The specs of these certificates.
pub(super) fn specs(certificates: &[Vec<String>]) -> Result<Vec<CertificateSpec>> {
    let all = certificates.iter().enumerate();
    all.map(|(place, names)| CertificateSpec::new(names)?.named(&name_of(place))).collect()
}

/// Deadlines that a healthy run on a busy machine keeps.
pub(super) fn timeouts() -> Timeouts {
    let mut timeouts = Timeouts::default();
    timeouts.connect = Duration::from_secs(5);
    timeouts.request = Duration::from_secs(5);
    timeouts.present = Duration::from_secs(15);
    timeouts.ready = Duration::from_secs(15);
    timeouts.poll = Duration::from_secs(15);
    timeouts.cleanup = Duration::from_secs(10);
    timeouts.deploy = Duration::from_secs(20);
    timeouts.lease = Duration::from_secs(30);
    timeouts
}

/// What these deadlines allow an unhurt run for one certificate in all, at a CA that is well: it waits for a lease,
/// proves, is issued to and deploys to two places, and asks the CA for no more than a dozen things.
pub(super) fn limit() -> Duration {
    let all = timeouts();
    all.lease + all.present + all.ready + all.poll * 2 + all.cleanup * 2 + all.deploy * 2 + all.request * 12
}

/// The machine's clock, moved ahead by whoever writes the file.
#[derive(Debug)]
pub(super) struct FileClock(pub(super) PathBuf);

impl Clock for FileClock {
    fn now(&self) -> SystemTime {
        let ahead = std::fs::read_to_string(&self.0).ok().and_then(|text| text.trim().parse().ok());
        SystemClock::default().now() + Duration::from_secs(ahead.unwrap_or(0))
    }
}

/// Does the task in this file.
pub(super) async fn run(path: &Path) -> Result<()> {
    let unreadable = |why: String| Error::new(ErrorKind::Config, "campaign.task", why);
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let task: Task = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    observe(&task);
    let pipeline = pipeline(&task).await?;
    pipeline.sweep().await?;
    if task.manager {
        return manage(&task, pipeline).await;
    }
    for spec in specs(&task.certificates)? {
        pipeline.obtain(&spec).await?.served()?;
    }
    Ok(())
}

/// Adds all to a manager, and waits until each is had and served.
async fn manage(task: &Task, pipeline: Pipeline) -> Result<()> {
    let manager = Manager::builder(pipeline).start();
    for spec in specs(&task.certificates)? {
        manager.add(spec).await?;
    }
    let mut pause = Duration::from_millis(20);
    loop {
        manager.settled().await?;
        let status = manager.status().await?;
        let undone = status.certificates.iter().find(|one| {
            one.serial.is_none() || one.deployments.values().any(|deployment| !deployment.current)
        });
        let failed = status.certificates.iter().find_map(|one| {
            let deployed = one.deployments.values().find_map(|deployment| deployment.trouble.as_ref());
            one.trouble.as_ref().or(deployed)
        });
        match (undone, failed) {
            (None, None) => break,
            (_, Some(trouble)) => {
                return Err(Error::new(ErrorKind::Other, "campaign.manager", trouble.error.clone()));
            }
            // Another process is at it: the manager looks again when that is done.
            (Some(_), None) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(Duration::from_millis(500));
    }
    manager.shutdown().await;
    Ok(())
}

/// The pipeline of a task.
pub(super) async fn pipeline(task: &Task) -> Result<Pipeline> {
    let authority = Authority::custom(&task.directory)?
        .with_id("test-ca")
        .extra_roots_pem(&task.root_pem)?
        .agree_to_terms()
        .with_timeouts(timeouts());
    let mut builder = Pipeline::builder(authority, Arc::new(FileStore::open(&task.store).await?))
        .clock(Arc::new(FileClock(task.ahead.clone())));
    if let Some(dns) = &task.dns {
        let key = Key::new(&dns.tsig_name, Algorithm::HmacSha256, dns.tsig_secret.as_str());
        let provider = Rfc2136::new(rfc2136::Config::new(dns.server.to_string(), key))?;
        let resolver = Resolver::new([dns.server])?.authoritative_port(dns.server.port());
        builder = builder.solver(Dns01::with_resolver(provider, resolver));
    }
    if let Some(webroot) = &task.webroot {
        builder = builder.solver(Http01::webroot(webroot));
    }
    if let Some(proxy) = &task.haproxy {
        let endpoint = match proxy.master {
            true => Endpoint::master(&proxy.socket),
            false => Endpoint::unix(&proxy.socket),
        };
        let mut instance = Instance::new(endpoint, &proxy.file);
        instance.reload = proxy.master;
        instance.addresses = vec![proxy.address];
        builder = builder.deployer(HaProxy::new(haproxy::Config::new(instance))?);
    }
    if let Some((root, reload)) = &task.files {
        let mut config = files::Config::new(root);
        config.reload.clone_from(reload);
        builder = builder.deployer(files::Files::new(config)?);
    }
    builder.build()
}

fn observe(task: &Task) {
    let append = |path: &Path| std::fs::OpenOptions::new().create(true).append(true).open(path).ok();
    let reaper =
        Reaper { die_at: task.die_at, points: Mutex::new(append(&task.points)), passed: AtomicU64::new(0) };
    let effects = Targets::new().with_target("acmekit::effect", LevelFilter::DEBUG);
    let log = append(&task.log).map(|file| {
        let ours = Targets::new().with_default(LevelFilter::INFO).with_target("acmekit", LevelFilter::DEBUG);
        tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Mutex::new(file)).with_filter(ours)
    });
    tracing_subscriber::registry().with(reaper.with_filter(effects)).with(log).init();
}

/// Writes down the points, and kills the process at the chosen one.
struct Reaper {
    die_at: Option<u64>,
    points: Mutex<Option<std::fs::File>>,
    passed: AtomicU64,
}

impl<S: tracing::Subscriber> Layer<S> for Reaper {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if fields.effect.is_empty() {
            return;
        }
        let line = format!("{}:{}\n", fields.effect, fields.at);
        let mut points = self.points.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(file) = points.as_mut() {
            // A point that cannot be noted shows as a missing one in the table.
            file.write_all(line.as_bytes()).ok();
        }
        let passed = self.passed.fetch_add(1, Ordering::SeqCst) + 1;
        if self.die_at == Some(passed) {
            let me = rustix::process::getpid();
            // One that does not die ends well, and is counted as a kill that came too late.
            rustix::process::kill_process(me, rustix::process::Signal::KILL).ok();
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
