//! nginx: a TLS server that reads its certificate from files and takes up new ones on a reload.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::process::{Process, Spec};
use crate::{Port, TestbedError, files, free_port, program, self_signed};

/// A running nginx; ended on drop.
#[derive(Debug)]
pub struct Nginx {
    // First, so that the server ends before its folder and port are given back.
    process: Process,
    port: Port,
    binary: PathBuf,
    dir: TempDir,
}

/// What an [`Nginx`] is to be like.
#[derive(Debug, Clone, Default)]
pub struct NginxBuilder {
    certificate: Option<(PathBuf, PathBuf)>,
    names: Vec<String>,
}

impl NginxBuilder {
    /// Reads the full chain and the key from these files. Where they are not there yet, a
    /// self-signed pair is put there first.
    pub fn certificate(mut self, fullchain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.certificate = Some((fullchain.into(), key.into()));
        self
    }

    /// Adds a name to the self-signed certificate (default `localhost`).
    pub fn name(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    /// Starts it and waits until it answers.
    pub async fn start(self) -> Result<Nginx, TestbedError> {
        let mut attempts = 3;
        loop {
            attempts -= 1;
            match self.try_start().await {
                Err(error) if error.is_port_conflict() && attempts > 0 => {}
                done => return done,
            }
        }
    }

    async fn try_start(&self) -> Result<Nginx, TestbedError> {
        let binary = program::find(None, "nginx", "nginx-light")?;
        let port = free_port()?;
        let dir = files::temp_dir("nginx")?;
        let (fullchain, key) = self
            .certificate
            .clone()
            .unwrap_or_else(|| (dir.path().join("fullchain.pem"), dir.path().join("privkey.pem")));
        if !fullchain.exists() {
            let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
            let pair = self_signed(if names.is_empty() { &["localhost"] } else { &names })?;
            for (path, text) in [(&fullchain, &pair.cert_pem), (&key, &pair.key_pem)] {
                if let Some(folder) = path.parent() {
                    files::make_dir(folder)?;
                }
                files::write(path, text)?;
            }
        }
        files::write(&dir.path().join("nginx.conf"), &config(&port, &fullchain, &key))?;
        let process = Process::spawn(Spec {
            name: "nginx",
            program: binary.clone(),
            args: arguments(dir.path()),
            env: Vec::new(),
            dir: dir.path().to_owned(),
        })?;
        let nginx = Nginx { process, port, binary, dir };
        nginx
            .process
            .wait_until("nginx answers", || async { crate::handshake(nginx.addr(), "localhost").await.ok() })
            .await?;
        Ok(nginx)
    }
}

fn arguments(dir: &Path) -> Vec<String> {
    let dir = dir.display();
    ["-p", &format!("{dir}/"), "-c", &format!("{dir}/nginx.conf"), "-e", &format!("{dir}/error.log")]
        .map(str::to_owned)
        .to_vec()
}

fn config(port: &Port, fullchain: &Path, key: &Path) -> String {
    let (fullchain, key) = (fullchain.display(), key.display());
    format!(
        "daemon off; worker_processes 1; pid nginx.pid;\nevents {{ worker_connections 256; }}\n\
         http {{\n access_log off; client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;\n \
         uwsgi_temp_path tmp; scgi_temp_path tmp;\n server {{\n  listen {} ssl;\n  ssl_certificate {fullchain};\n  \
         ssl_certificate_key {key};\n  return 200 \"hello\\n\";\n }}\n}}\n",
        port.addr()
    )
}

impl Nginx {
    /// A server with a self-signed certificate.
    pub fn builder() -> NginxBuilder {
        NginxBuilder::default()
    }

    /// Where it listens for TLS.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The command that makes it read its files again.
    pub fn reload_argv(&self) -> Vec<String> {
        let mut argv = vec![self.binary.display().to_string()];
        argv.extend(arguments(self.dir.path()));
        argv.extend(["-s".to_owned(), "reload".to_owned()]);
        argv
    }

    /// Whether it runs.
    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// Ends it; its port stays reserved and refuses connections.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// The process id, `None` once stopped.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Everything it wrote.
    pub fn log(&self) -> String {
        let errors = std::fs::read(self.dir.path().join("error.log")).unwrap_or_default();
        format!("{}{}", self.process.log(), String::from_utf8_lossy(&errors))
    }
}
