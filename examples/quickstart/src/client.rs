//! A client that makes handshakes all the time, and counts.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use acmekit::{CertificateSpec, Deadline, Error, ErrorKind, Result};
use acmekit_testbed::handshake;
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
    pub(crate) certificates: usize,
    pub(crate) last_failure: Option<String>,
    serials: BTreeSet<String>,
    /// The serial each address showed last.
    latest: std::collections::BTreeMap<SocketAddr, String>,
}

impl Client {
    pub(crate) fn start(addresses: Vec<SocketAddr>, spec: &CertificateSpec) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        let name =
            spec.identifiers().first().map(|name| name.to_string().replace('*', "www")).unwrap_or_default();
        for address in addresses {
            let (seen, stopped, name) = (Arc::clone(&seen), stopped.clone(), name.clone());
            running.spawn(async move {
                while !*stopped.borrow() {
                    let shown = handshake(address, &name).await.and_then(|presented| presented.serial());
                    lock(&seen).note(address, shown.map_err(|e| e.to_string()));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        Self { running, stop, seen }
    }

    /// Waits until every address shows this serial.
    pub(crate) async fn sees(&self, serial: &str) -> Result<()> {
        let want = serial.to_lowercase();
        let want = want.trim_start_matches('0');
        let deadline = Deadline::after(Duration::from_secs(10));
        loop {
            if lock(&self.seen).latest.values().all(|shown| shown == want) {
                return Ok(());
            }
            if !deadline.sleep(Duration::from_millis(10)).await {
                return Err(deadline
                    .missed("quickstart", "the client sees the new certificate")
                    .with("serial", serial));
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
    fn note(&mut self, address: SocketAddr, shown: std::result::Result<String, String>) {
        self.handshakes += 1;
        match shown {
            Ok(serial) => {
                self.serials.insert(serial.clone());
                self.certificates = self.serials.len();
                self.latest.insert(address, serial);
            }
            Err(why) => {
                self.failures += 1;
                self.last_failure = Some(why);
            }
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
