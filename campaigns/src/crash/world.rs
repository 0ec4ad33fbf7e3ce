//! What a round takes place in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use acmekit::atomic::{FileAttributes, write_file};
use acmekit_server::{MovableClock, TestCa};
use acmekit_testbed::{Bind, HaProxy};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::child::{Dns, Proxy, Task};
use super::plan::Sort;

/// The zone all names are in.
pub(super) const ZONE: &str = "example.test";

/// The reload command: reads all that a server would, as a server would, and keeps it.
const RELOAD: &str = "#!/bin/sh\ncat \"$1\"/*/fullchain.pem >> \"$2\"\n";

/// A CA with a clock, and folders; and a HAProxy and a DNS server that other rounds have used before.
pub(super) struct World {
    pub(super) ca: TestCa,
    pub(super) clock: MovableClock,
    pub(super) task: Task,
    pub(super) folder: TempDir,
    _web: JoinSet<()>,
}

/// What cannot be set up has nothing to do with what is tried.
pub(super) type SetUp<T> = Result<T, String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl World {
    pub(super) async fn start(
        sort: Sort,
        certificates: &[Vec<String>],
        dns: &Bind,
        haproxy: Option<&HaProxy>,
    ) -> SetUp<Self> {
        let folder = tempfile::Builder::new().prefix("acmekit-crash-").tempdir().map_err(text)?;
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("web")).map_err(text)?;
        let (port, web) = serve(at("web")).await?;
        let clock = MovableClock::new();
        let ca = TestCa::builder().clock(clock.clone()).dns_server(dns.addr()).http_port(port);
        let ca = ca.start().await.map_err(text)?;
        write(&at("ahead"), "0")?;
        write(&at("reload.sh"), RELOAD)?;
        let reload = ["/bin/sh".into(), at("reload.sh"), at("live"), at("reloads")];
        let reload = reload.iter().map(|part| part.display().to_string()).collect();
        let haproxy = haproxy.filter(|_| sort.haproxy).map(|haproxy| Proxy {
            socket: haproxy.master_socket_path().unwrap_or_else(|| haproxy.socket_path()),
            master: haproxy.master_socket_path().is_some(),
            file: haproxy.cert_path().to_owned(),
            address: haproxy.tls_addrs()[0],
        });
        let task = Task {
            directory: ca.directory_url(),
            root_pem: ca.root_pem().to_owned(),
            store: at("store"),
            ahead: at("ahead"),
            certificates: certificates.to_vec(),
            dns: sort.dns.then(|| Dns {
                server: dns.addr(),
                tsig_name: dns.tsig_name().to_owned(),
                tsig_secret: dns.tsig_secret_base64().to_owned(),
            }),
            webroot: (!sort.dns).then(|| at("web")),
            haproxy,
            files: sort.files.then(|| (at("live"), reload)),
            manager: sort.manager,
            die_at: None,
            points: at("points"),
            log: at("log"),
        };
        Ok(Self { ca, clock, task, folder, _web: web })
    }

    /// Time passes, for the CA and for the processes.
    pub(super) fn advance(&self, by: Duration) -> SetUp<()> {
        self.clock.advance(by);
        write(&self.task.ahead, &by.as_secs().to_string())
    }
}

/// Writes a file whole.
pub(super) fn write(path: &Path, content: &str) -> SetUp<()> {
    write_file(path, content.as_bytes(), FileAttributes::default()).map_err(text)
}

/// A web server for this folder, at a port of its own. It ends with what is answered.
async fn serve(folder: PathBuf) -> SetUp<(u16, JoinSet<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(text)?;
    let port = listener.local_addr().map_err(text)?.port();
    let mut running = JoinSet::new();
    running.spawn(async move {
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                    let folder = folder.clone();
                    // The CA says what it could not read.
                    clients.spawn(async move { answer(stream, &folder).await.ok() });
                },
                Some(_) = clients.join_next() => {}
            }
        }
    });
    Ok((port, running))
}

async fn answer(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < 16_384 {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let request = String::from_utf8_lossy(&request);
    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let found = match path.contains("..") {
        true => None,
        false => tokio::fs::read(folder.join(path)).await.ok(),
    };
    let status = if found.is_some() { "200 OK" } else { "404 Not Found" };
    let body = found.unwrap_or_default();
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}
