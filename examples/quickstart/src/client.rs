//! A client that makes handshakes all the time, and counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use acmekit::{Bundle, CertificateSpec, Deadline, Error, ErrorKind, Identifier, Result, probe};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Makes handshakes until it is stopped.
pub(crate) struct Client {
    running: JoinSet<()>,
    stop: watch::Sender<bool>,
    seen: Arc<Mutex<Seen>>,
}

/// What it has seen.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) handshakes: usize,
    pub(crate) failures: usize,
    pub(crate) last_failure: Option<String>,
    certificates: BTreeSet<Vec<u8>>,
    /// What each address showed last.
    latest: BTreeMap<SocketAddr, Vec<u8>>,
}

impl Client {
    pub(crate) fn start(addresses: &[SocketAddr], spec: &CertificateSpec) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        let names: Vec<Identifier> = spec.identifiers().iter().cloned().collect();
        for address in addresses.iter().copied() {
            let (seen, stopped, names) = (Arc::clone(&seen), stopped.clone(), names.clone());
            running.spawn(async move {
                // Each name in turn.
                for name in names.iter().cycle() {
                    if *stopped.borrow() {
                        break;
                    }
                    let deadline = Deadline::after(Duration::from_secs(10));
                    let shown = probe::served_chain(address, name, deadline).await;
                    lock(&seen).note(address, shown);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        Self { running, stop, seen }
    }

    /// Waits until every address shows this certificate.
    pub(crate) async fn sees(&self, bundle: &Bundle) -> Result<()> {
        let want = bundle.chain_der().first();
        let deadline = Deadline::after(Duration::from_secs(10));
        loop {
            {
                let seen = lock(&self.seen);
                let all_looked = seen.latest.len() == self.running.len();
                if all_looked && seen.latest.values().all(|shown| Some(shown) == want) {
                    return Ok(());
                }
            }
            if !deadline.sleep(Duration::from_millis(10)).await {
                return Err(deadline
                    .missed("quickstart", "the client sees the new certificate")
                    .with("serial", &bundle.facts().serial));
            }
        }
    }

    pub(crate) async fn stop(mut self) -> Result<Seen> {
        // Nobody listens any more if all tasks have ended already.
        self.stop.send(true).ok();
        while let Some(ended) = self.running.join_next().await {
            ended.map_err(|e| {
                Error::new(ErrorKind::Other, "quickstart", "the client stopped").with_source(e)
            })?;
        }
        Ok(lock(&self.seen).clone())
    }
}

impl Seen {
    pub(crate) fn certificates(&self) -> usize {
        self.certificates.len()
    }

    fn note(&mut self, address: SocketAddr, shown: Result<Vec<Vec<u8>>>) {
        self.handshakes += 1;
        match shown {
            Ok(chain) => {
                let leaf = chain.into_iter().next().unwrap_or_default();
                self.certificates.insert(leaf.clone());
                self.latest.insert(address, leaf);
            }
            Err(why) => {
                self.failures += 1;
                self.last_failure = Some(why.report());
            }
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
