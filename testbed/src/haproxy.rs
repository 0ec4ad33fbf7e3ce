//! HAProxy: a load balancer whose certificates are changed by its runtime API.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::ports::free_ports;
use crate::process::{Process, Spec};
use crate::{Port, TestbedError, files, free_port, program, self_signed};

/// A running HAProxy; ended on drop.
#[derive(Debug)]
pub struct HaProxy {
    // First, so that the server ends before its folder and ports are given back.
    process: Process,
    tls: Vec<Port>,
    admin: Port,
    binary: PathBuf,
    serial: String,
    dir: TempDir,
}

/// What a [`HaProxy`] is to be like.
#[derive(Debug, Clone)]
pub struct HaProxyBuilder {
    names: Vec<String>,
    bind_lines: usize,
    master: bool,
    global: Vec<String>,
}

impl Default for HaProxyBuilder {
    fn default() -> Self {
        Self { names: Vec::new(), bind_lines: 1, master: false, global: Vec::new() }
    }
}

impl HaProxyBuilder {
    /// Adds a name to its first certificate (default `localhost`).
    pub fn name(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    /// Listens at this many ports, each with the same crt-list (default 1).
    pub fn bind_lines(mut self, count: usize) -> Self {
        self.bind_lines = count;
        self
    }

    /// Runs a master with a worker (`-W`) and a master socket (`-S`), so that it can be reloaded.
    pub fn master(mut self) -> Self {
        self.master = true;
        self
    }

    /// Adds a line to the `global` section.
    pub fn global(mut self, line: &str) -> Self {
        self.global.push(line.to_owned());
        self
    }

    /// Starts it and waits until it answers.
    pub async fn start(self) -> Result<HaProxy, TestbedError> {
        let mut attempts = 3;
        loop {
            attempts -= 1;
            match self.try_start().await {
                Err(error) if error.is_port_conflict() && attempts > 0 => {}
                done => return done,
            }
        }
    }

    async fn try_start(&self) -> Result<HaProxy, TestbedError> {
        let binary = program::find(None, "haproxy", "haproxy")?;
        let tls = free_ports(self.bind_lines)?;
        let admin = free_port()?;
        let dir = files::temp_dir("haproxy")?;
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let pair = self_signed(if names.is_empty() { &["localhost"] } else { &names })?;
        files::make_dir(&dir.path().join("certs"))?;
        let site = dir.path().join("certs/site.pem");
        files::write(&site, &format!("{}{}", pair.cert_pem, pair.key_pem))?;
        files::write(&dir.path().join("crt-list.txt"), &format!("{}\n", site.display()))?;
        files::write(&dir.path().join("haproxy.cfg"), &self.config(&dir, &tls, &admin))?;
        let mut args = vec!["-f".to_owned(), "haproxy.cfg".to_owned()];
        if self.master {
            let socket = dir.path().join("master.sock");
            args.extend(["-W".to_owned(), "-S".to_owned(), format!("{},mode,600", socket.display())]);
        } else {
            args.push("-db".to_owned());
        }
        let process = Process::spawn(Spec {
            name: "haproxy",
            program: binary.clone(),
            args,
            env: Vec::new(),
            dir: dir.path().to_owned(),
        })?;
        let proxy = HaProxy { process, tls, admin, binary, serial: pair.serial, dir };
        proxy
            .process
            .wait_until("HAProxy answers", || async {
                for addr in proxy.tls_addrs() {
                    crate::handshake(addr, "localhost").await.ok()?;
                }
                Some(())
            })
            .await?;
        Ok(proxy)
    }

    fn config(&self, dir: &TempDir, tls: &[Port], admin: &Port) -> String {
        let dir = dir.path().display();
        let mut text = format!(
            "global\n stats socket {dir}/admin.sock mode 600 level admin\n \
             stats socket ipv4@{} level admin\n stats timeout 2m\n",
            admin.addr()
        );
        for line in &self.global {
            text.push_str(&format!(" {line}\n"));
        }
        text.push_str("defaults\n mode http\n timeout connect 5s\n timeout client 10s\n timeout server 10s\nfrontend tls\n");
        for port in tls {
            text.push_str(&format!(" bind {} ssl crt-list {dir}/crt-list.txt\n", port.addr()));
        }
        text.push_str(" http-request return status 200 content-type text/plain string hello\n");
        text
    }
}

impl HaProxy {
    /// One TLS port, a self-signed certificate, an admin socket.
    pub fn builder() -> HaProxyBuilder {
        HaProxyBuilder::default()
    }

    /// Where it listens for TLS, one address a `bind` line.
    pub fn tls_addrs(&self) -> Vec<SocketAddr> {
        self.tls.iter().map(Port::addr).collect()
    }

    /// The first of [`tls_addrs`](Self::tls_addrs).
    pub fn addr(&self) -> SocketAddr {
        self.tls.first().unwrap_or(&self.admin).addr()
    }

    /// The admin socket.
    pub fn socket_path(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// The admin socket over TCP.
    pub fn tcp_socket_addr(&self) -> SocketAddr {
        self.admin.addr()
    }

    /// The master's socket; there only with [`HaProxyBuilder::master`].
    pub fn master_socket_path(&self) -> PathBuf {
        self.dir.path().join("master.sock")
    }

    /// The crt-list file.
    pub fn crt_list_path(&self) -> PathBuf {
        self.dir.path().join("crt-list.txt")
    }

    /// The first certificate's file, under the name by which HAProxy knows it.
    pub fn cert_path(&self) -> PathBuf {
        self.dir.path().join("certs/site.pem")
    }

    /// The serial number of its first certificate, as [`serial_of`](crate::serial_of) writes it.
    pub fn initial_serial(&self) -> &str {
        &self.serial
    }

    /// Has the master start a new worker that reads everything again (SIGUSR2).
    pub fn reload(&self) -> Result<(), TestbedError> {
        self.process.signal(Signal::USR2)
    }

    /// Whether it runs.
    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// Stops it where it stands.
    pub fn freeze(&self) -> Result<(), TestbedError> {
        self.process.freeze()
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    pub fn thaw(&self) -> Result<(), TestbedError> {
        self.process.thaw()
    }

    /// Ends it; its ports stay reserved and refuse connections.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Starts it again, in the same folder and on the same ports.
    pub async fn restart(&self) -> Result<(), TestbedError> {
        self.process.respawn()?;
        let addr = self.addr();
        self.process
            .wait_until("HAProxy answers", || async move { crate::handshake(addr, "localhost").await.ok() })
            .await
            .map(drop)
    }

    /// The process id, `None` once stopped.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Everything it wrote.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// What `haproxy -v` says in its first line.
    pub async fn version(&self) -> Result<String, TestbedError> {
        let output = program::run(&self.binary, &["-v"], "").await?;
        Ok(output.stdout.lines().next().unwrap_or_default().to_owned())
    }
}
