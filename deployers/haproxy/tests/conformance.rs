//! The suite for deployers, on a real HAProxy: once where it refuses the change, once where the
//! change has to be taken back.

#![expect(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use acmekit_conformance::deployer::DeployerSubject;
use acmekit_core::{CertificateId, Deployer, async_trait};
use acmekit_haproxy::{Config, CrtList, Endpoint, HaProxy, Instance};
use acmekit_testbed::{HaProxy as Server, self_signed};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Somebody else's open transaction stands in the way: nothing is changed.
mod refused {
    acmekit_conformance::deployer_suite!(super::Subject::start(super::Breaks::Refusal));
}

/// A balancer in front sends clients elsewhere: what HAProxy has committed is taken back.
mod taken_back {
    acmekit_conformance::deployer_suite!(super::Subject::start(super::Breaks::Balancer));
}

/// The same below a master, where a deployment means each worker.
mod master {
    acmekit_conformance::deployer_suite!(super::Subject::start(super::Breaks::MasterRefusal));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breaks {
    Refusal,
    MasterRefusal,
    Balancer,
}

/// HAProxy starts with a default certificate of its own; the deployer adds the suite's.
struct Subject {
    server: Server,
    deployer: Arc<HaProxy>,
    breaks: Breaks,
    balancer: Balancer,
}

impl Subject {
    async fn start(breaks: Breaks) -> Self {
        let master = breaks == Breaks::MasterRefusal;
        let server = Server::builder().names(&["other.test"]).master_worker(master).start().await.unwrap();
        let balancer = Balancer::start(server.tls_addrs()[0]).await;
        let endpoint = match server.master_socket_path() {
            Some(socket) => Endpoint::master(socket),
            None => Endpoint::unix(server.socket_path()),
        };
        let mut instance = Instance::new(endpoint, server.cert_dir().join("{id}.pem"));
        instance.crt_list = Some(CrtList::new(server.crt_list_path().display().to_string()));
        instance.addresses = vec![server.tls_addrs()[0], balancer.address];
        instance.verify_timeout = Duration::from_secs(1);
        let deployer = Arc::new(HaProxy::new(Config::new(instance)).unwrap());
        Self { server, deployer, breaks, balancer }
    }
}

#[async_trait]
impl DeployerSubject for Subject {
    fn deployer(&self) -> Arc<dyn Deployer> {
        Arc::clone(&self.deployer) as Arc<dyn Deployer>
    }

    fn handshake_address(&self) -> SocketAddr {
        self.server.tls_addrs()[0]
    }

    async fn break_target(&mut self) {
        if self.breaks == Breaks::Balancer {
            return self.balancer.astray.store(true, Ordering::SeqCst);
        }
        let other = self_signed(&["other.test"]).unwrap();
        let pem = format!("{}{}", other.cert_pem, other.key_pem);
        let set = format!("set ssl cert {} <<\n{pem}", self.server.cert_path().display());
        let answer = self.server.command(&set).await.unwrap();
        assert!(answer.starts_with("Transaction created"), "{answer}");
    }

    async fn mend(&mut self) {
        if self.breaks == Breaks::Balancer {
            return self.balancer.astray.store(false, Ordering::SeqCst);
        }
        let abort = format!("abort ssl cert {}", self.server.cert_path().display());
        let answer = self.server.command(&abort).await.unwrap();
        assert!(answer.starts_with("Transaction aborted"), "{answer}");
    }

    /// Nothing: the deployer takes the crt-list's entry out itself.
    async fn release(&mut self, _: &CertificateId) {}

    /// Every file there, what HAProxy holds, and which process does.
    async fn fingerprint(&self) -> Option<String> {
        let mut text = String::new();
        for command in ["show ssl cert", "show ssl crt-list"] {
            text += &self.server.command(command).await.unwrap();
        }
        let info = self.server.command("show info").await.unwrap();
        text += info.lines().find(|line| line.starts_with("Pid:")).unwrap();
        let mut files: Vec<_> =
            std::fs::read_dir(self.server.cert_dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.push(self.server.crt_list_path());
        files.sort();
        for file in files {
            let facts = std::fs::metadata(&file).unwrap();
            let changed = (facts.ino(), facts.mtime(), facts.mtime_nsec());
            write!(text, "{} {changed:?}", file.display()).unwrap();
        }
        Some(text)
    }
}

/// Passes connections on, to HAProxy or astray.
struct Balancer {
    address: SocketAddr,
    astray: Arc<AtomicBool>,
    _elsewhere: Server,
    /// Ends with the subject.
    _work: JoinSet<()>,
}

impl Balancer {
    async fn start(to: SocketAddr) -> Self {
        let elsewhere = Server::start().await.unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, astray) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let (away, lost) = (elsewhere.tls_addrs()[0], Arc::clone(&astray));
        let mut work = JoinSet::new();
        work.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let to = if lost.load(Ordering::SeqCst) { away } else { to };
                connections.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(to).await {
                        // Either side may leave in the middle of it: that is its own affair.
                        tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
                    }
                });
            }
        });
        Self { address, astray, _elsewhere: elsewhere, _work: work }
    }
}
