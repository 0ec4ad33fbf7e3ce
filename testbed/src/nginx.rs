//! nginx: TLS from two PEM files, reloaded by command.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::process::{Process, Spec};
use crate::{Port, TestbedError, files, free_port, handshake, program, self_signed};

/// A running nginx; ended on drop, with all its workers.
///
/// After a reload the first handshakes may still see the old certificate: verify with retries.
#[derive(Debug)]
pub struct Nginx {
    // First, so that the server ends before its folder and port are given back.
    process: Process,
    binary: PathBuf,
    port: Port,
    certificate: PathBuf,
    key: PathBuf,
    dir: TempDir,
}

/// What a [`Nginx`] is to serve.
#[derive(Debug, Clone, Default)]
pub struct NginxBuilder {
    binary: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    names: Vec<String>,
}

impl NginxBuilder {
    /// Runs this program (default: what is on `PATH` or in `/usr/sbin`).
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// Serves `fullchain.pem` and `privkey.pem` in this folder (default: `certs` in the server's own).
    pub fn certificate_dir(self, dir: impl AsRef<Path>) -> Self {
        let dir = dir.as_ref();
        self.certificate(dir.join("fullchain.pem"), dir.join("privkey.pem"))
    }

    /// Serves these two files. If neither is there, a self-signed certificate is written to them.
    pub fn certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.certificate = Some(certificate.into());
        self.key = Some(key.into());
        self
    }

    /// The names in the self-signed certificate (default `example.test`).
    pub fn names(mut self, names: &[&str]) -> Self {
        self.names = names.iter().map(|name| (*name).to_owned()).collect();
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
        let binary = program::find(self.binary.as_deref(), "nginx", "nginx-light")?;
        let port = free_port()?;
        let dir = files::temp_dir("nginx")?;
        let certs = dir.path().join("certs");
        let certificate = self.certificate.clone().unwrap_or_else(|| certs.join("fullchain.pem"));
        let key = self.key.clone().unwrap_or_else(|| certs.join("privkey.pem"));
        if !certificate.exists() && !key.exists() {
            self.write_self_signed(&certificate, &key)?;
        }
        let config = config(dir.path(), &port, &certificate, &key);
        files::write(&dir.path().join("nginx.conf"), &config)?;
        let process = Process::spawn(Spec {
            name: "nginx",
            program: binary.clone(),
            args: arguments(dir.path()),
            env: Vec::new(),
            dir: dir.path().to_owned(),
        })?;
        let nginx = Nginx { process, binary, port, certificate, key, dir };
        nginx.ready().await?;
        Ok(nginx)
    }

    fn write_self_signed(&self, certificate: &Path, key: &Path) -> Result<(), TestbedError> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let made = self_signed(if names.is_empty() { &["example.test"] } else { &names })?;
        for (path, pem) in [(certificate, &made.cert_pem), (key, &made.key_pem)] {
            files::make_dir(path.parent().unwrap_or(Path::new(".")))?;
            files::write(path, pem)?;
        }
        Ok(())
    }
}

impl Nginx {
    /// One TLS address and a self-signed certificate for `example.test`.
    pub fn builder() -> NginxBuilder {
        NginxBuilder::default()
    }

    /// Starts one with the builder's defaults.
    pub async fn start() -> Result<Self, TestbedError> {
        Self::builder().start().await
    }

    /// Where it answers HTTPS (status 200, body `ok`).
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The file it reads the certificate and its chain from.
    pub fn certificate_path(&self) -> &Path {
        &self.certificate
    }

    /// The file it reads the private key from.
    pub fn key_path(&self) -> &Path {
        &self.key
    }

    /// The command that makes it read its files again: `nginx … -s reload`.
    pub fn reload_argv(&self) -> Vec<String> {
        let mut argv = vec![self.binary.display().to_string()];
        argv.extend(arguments(self.dir.path()));
        argv.extend(["-s".to_owned(), "reload".to_owned()]);
        argv
    }

    /// Runs [`reload_argv`](Self::reload_argv). nginx judges the files later: look at its [`log`](Self::log).
    pub async fn reload(&self) -> Result<(), TestbedError> {
        let argv = self.reload_argv();
        let output = program::run(&self.binary, argv.get(1..).unwrap_or_default(), "").await?;
        if output.success { Ok(()) } else { Err(TestbedError::unexpected("nginx -s reload", output.stderr)) }
    }

    /// The process id of the master, `None` while stopped.
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

    /// The version of the program, such as `1.22.1`.
    pub async fn version(&self) -> Result<String, TestbedError> {
        let output = program::run(&self.binary, &["-v"], "").await?;
        Ok(output.stderr.trim().rsplit('/').next().unwrap_or("unknown").to_owned())
    }

    /// Stops it where it stands, workers too.
    pub fn freeze(&self) -> Result<(), TestbedError> {
        self.process.freeze()
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    pub fn thaw(&self) -> Result<(), TestbedError> {
        self.process.thaw()
    }

    /// Ends it; its port stays reserved and refuses connections until [`restart`](Self::restart).
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Ends it (if it runs) and starts it again on the same port, from the files as they are now.
    pub async fn restart(&self) -> Result<(), TestbedError> {
        self.process.respawn()?;
        self.ready().await
    }

    async fn ready(&self) -> Result<(), TestbedError> {
        let answer = || async { handshake(self.addr(), "127.0.0.1").await.ok() };
        self.process.wait_until("nginx answers TLS", answer).await.map(drop)
    }
}

/// The same for the server and for signals to it.
fn arguments(dir: &Path) -> Vec<String> {
    ["-e", "stderr", "-c", "nginx.conf", "-p", &dir.display().to_string()].map(str::to_owned).to_vec()
}

fn config(dir: &Path, port: &Port, certificate: &Path, key: &Path) -> String {
    // As root, nginx would give its workers to a user who cannot read a private temporary folder.
    let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", dir.display()))
        .collect();
    format!(
        "{user}\ndaemon off;\nworker_processes 1;\nerror_log stderr notice;\npid {}/nginx.pid;\n\
         events {{ worker_connections 64; }}\n\
         http {{\naccess_log off;\n{temp}server {{\nlisten {} ssl;\nssl_certificate {};\nssl_certificate_key {};\n\
         location / {{ default_type text/plain; return 200 \"ok\"; }}\n}}\n}}\n",
        dir.display(),
        port.addr(),
        certificate.display(),
        key.display()
    )
}
