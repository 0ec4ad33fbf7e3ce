//! HAProxy: TLS in front of an answer of its own, with admin sockets.

mod builder;

use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::process::Process;
use crate::{Port, SelfSigned, TestbedError, handshake, program};

pub use builder::HaProxyBuilder;

const ANSWER: Duration = Duration::from_secs(10);

/// A running HAProxy; ended on drop, with all its workers.
#[derive(Debug)]
pub struct HaProxy {
    // First, so that the server ends before its folder and ports are given back.
    process: Process,
    binary: PathBuf,
    tls: Vec<Port>,
    admin: Port,
    initial: Vec<SelfSigned>,
    cert_paths: Vec<PathBuf>,
    master_worker: bool,
    dir: TempDir,
}

impl HaProxy {
    /// One TLS address, a certificate for `example.test`, no master.
    pub fn builder() -> HaProxyBuilder {
        HaProxyBuilder::default()
    }

    /// Starts one with the builder's defaults.
    pub async fn start() -> Result<Self, TestbedError> {
        Self::builder().start().await
    }

    /// Where it answers HTTPS (status 200, body `ok`): one per bind line.
    pub fn tls_addrs(&self) -> Vec<SocketAddr> {
        self.tls.iter().map(Port::addr).collect()
    }

    /// The admin socket (`stats socket … level admin`).
    pub fn socket_path(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// The same over TCP.
    pub fn tcp_socket_addr(&self) -> SocketAddr {
        self.admin.addr()
    }

    /// The socket of the master, if there is one.
    pub fn master_socket_path(&self) -> Option<PathBuf> {
        self.master_worker.then(|| self.dir.path().join("master.sock"))
    }

    /// The crt-list all bind lines share.
    pub fn crt_list_path(&self) -> PathBuf {
        self.dir.path().join("crt-list.txt")
    }

    /// The folder with the certificates.
    pub fn cert_dir(&self) -> PathBuf {
        self.dir.path().join("certs")
    }

    /// The first certificate of the crt-list, the default one: certificate and key in one PEM file.
    pub fn cert_path(&self) -> &Path {
        &self.cert_paths[0]
    }

    /// All certificates of the crt-list, in its order.
    pub fn cert_paths(&self) -> &[PathBuf] {
        &self.cert_paths
    }

    /// What it started with, in the order of the crt-list.
    pub fn initial_certificates(&self) -> &[SelfSigned] {
        &self.initial
    }

    /// The configuration file, for `haproxy -c -f`.
    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("haproxy.cfg")
    }

    /// The process id (of the master, if there is one), `None` while stopped.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// Everything it wrote, over all its starts.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The version of the program, such as `2.6.12-1+deb12u4`.
    pub async fn version(&self) -> Result<String, TestbedError> {
        let output = program::run(&self.binary, &["-v"], "").await?;
        Ok(output.stdout.split_whitespace().nth(2).unwrap_or("unknown").to_owned())
    }

    /// Sends one line to the admin socket and returns the whole answer.
    pub async fn command(&self, line: &str) -> Result<String, TestbedError> {
        let request = format!("{line}\n");
        ask(&self.socket_path(), &request)
            .await
            .map_err(TestbedError::io(format!("HAProxy command {line:?}")))
    }

    /// Sends one line to the master's socket and returns the whole answer.
    pub async fn master_command(&self, line: &str) -> Result<String, TestbedError> {
        let what = format!("HAProxy master command {line:?}");
        let socket =
            self.master_socket_path().ok_or_else(|| TestbedError::unexpected(&what, "no master runs"))?;
        // The master of 2.6 waits for more after its answer.
        ask(&socket, &format!("{line}\nquit\n")).await.map_err(TestbedError::io(what))
    }

    /// Reloads: SIGUSR2 to the master, then waits until its new worker answers. An error if the master refuses
    /// its configuration, and without [`HaProxyBuilder::master_worker`].
    pub async fn reload(&self) -> Result<(), TestbedError> {
        if !self.master_worker {
            return Err(TestbedError::unexpected("reload HAProxy", "it runs without a master"));
        }
        let before = self.log().len();
        self.process.signal(Signal::USR2)?;
        let since = || self.log().get(before..).unwrap_or_default().to_owned();
        let loaded = self.process.wait_until("HAProxy's master reloads", || async {
            let news = since();
            if news.contains("Loading failure") || news.contains("Failed to load worker") {
                Some(false)
            } else {
                news.contains("Loading success").then_some(true)
            }
        });
        if !loaded.await? {
            return Err(TestbedError::unexpected("reload HAProxy", since()));
        }
        self.ready().await
    }

    /// Stops it where it stands, workers too.
    pub fn freeze(&self) -> Result<(), TestbedError> {
        self.process.freeze()
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    pub fn thaw(&self) -> Result<(), TestbedError> {
        self.process.thaw()
    }

    /// Ends it; its ports stay reserved and refuse connections until [`restart`](Self::restart).
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Ends it (if it runs) and starts it again on the same ports, from the files as they are now.
    pub async fn restart(&self) -> Result<(), TestbedError> {
        self.process.respawn()?;
        self.started().await
    }

    /// As [`ready`](Self::ready), and the master knows its worker: for a moment after the start it names none.
    async fn started(&self) -> Result<(), TestbedError> {
        self.ready().await?;
        if self.master_worker {
            self.process
                .wait_until("HAProxy's master names its worker", || async {
                    self.master_command("@1 show info").await.ok().filter(|info| info.contains("Uptime_sec"))
                })
                .await?;
        }
        Ok(())
    }

    async fn ready(&self) -> Result<(), TestbedError> {
        self.process
            .wait_until("HAProxy's admin socket answers", || async {
                self.command("show info").await.ok().filter(|info| info.contains("Uptime_sec"))
            })
            .await?;
        if let Some(master) = self.master_socket_path() {
            // The file alone is no answer, but 2.6 takes no command while a reload settles.
            self.process
                .wait_until("HAProxy's master socket accepts", || async {
                    StdUnixStream::connect(&master).ok()
                })
                .await?;
        }
        for addr in self.tls_addrs() {
            self.process
                .wait_until("HAProxy answers TLS", || async { handshake(addr, "127.0.0.1").await.ok() })
                .await?;
        }
        Ok(())
    }
}

/// The worker closes after one command; our side stays open until then (3.2.0 dies of a half-closed socket).
async fn ask(socket: &Path, request: &str) -> std::io::Result<String> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(ANSWER, exchange).await?
}
