//! The knobs of a HAProxy, its configuration and its start.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::HaProxy;
use crate::process::{Process, Spec};
use crate::{Port, SelfSigned, TestbedError, files, free_port, ports, program, self_signed};

/// What a [`HaProxy`] is to be like.
#[derive(Debug, Clone)]
pub struct HaProxyBuilder {
    binary: Option<PathBuf>,
    bind_lines: usize,
    certificates: Vec<(String, Vec<String>)>,
    master_worker: bool,
    global: Vec<String>,
}

impl Default for HaProxyBuilder {
    fn default() -> Self {
        Self {
            binary: None,
            bind_lines: 1,
            certificates: Vec::new(),
            master_worker: false,
            global: Vec::new(),
        }
    }
}

impl HaProxyBuilder {
    /// Runs this program (default: `ACMEKIT_HAPROXY`, else what is on `PATH` or in `/usr/sbin`).
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// Listens on this many ports, all with the same crt-list (default 1). More than ten make `commit ssl cert`
    /// pause on its way.
    pub fn bind_lines(mut self, count: usize) -> Self {
        self.bind_lines = count;
        self
    }

    /// Starts with a self-signed certificate for these names in the file `<file>` (default: `site.pem` for
    /// `example.test`); called again, adds another one. The first is the default for unknown names.
    pub fn certificate(mut self, file: &str, names: &[&str]) -> Self {
        self.certificates.push((file.to_owned(), names.iter().map(|name| (*name).to_owned()).collect()));
        self
    }

    /// The default certificate's names: `certificate("site.pem", names)`.
    pub fn names(self, names: &[&str]) -> Self {
        self.certificate("site.pem", names)
    }

    /// Runs a master with a socket of its own and a worker below it, so that it can reload (default: no).
    pub fn master_worker(mut self, master: bool) -> Self {
        self.master_worker = master;
        self
    }

    /// Adds a line to the `global` section, such as `tune.bufsize 32768`.
    pub fn global_line(mut self, line: &str) -> Self {
        self.global.push(line.to_owned());
        self
    }

    /// Starts it and waits until its sockets and every TLS address answer.
    pub async fn start(mut self) -> Result<HaProxy, TestbedError> {
        if self.certificates.is_empty() {
            self = self.names(&["example.test"]);
        }
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
        let chosen = self.binary.clone().or_else(|| std::env::var_os("ACMEKIT_HAPROXY").map(PathBuf::from));
        let binary = program::find(chosen.as_deref(), "haproxy", "haproxy")?;
        let (tls, admin) = (ports::free_ports(self.bind_lines)?, free_port()?);
        let dir = files::temp_dir("haproxy")?;
        let (cert_paths, initial) = self.write_certificates(dir.path())?;
        let config = dir.path().join("haproxy.cfg");
        files::write(&config, &self.config(dir.path(), &tls, &admin))?;
        let mut args = vec!["-f".to_owned(), config.display().to_string()];
        if self.master_worker {
            let socket = format!("{},mode,600,level,admin", dir.path().join("master.sock").display());
            args.extend(["-W".to_owned(), "-S".to_owned(), socket]);
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
        let master_worker = self.master_worker;
        let haproxy = HaProxy { process, binary, tls, admin, initial, cert_paths, master_worker, dir };
        haproxy.started().await?;
        Ok(haproxy)
    }

    fn write_certificates(&self, dir: &Path) -> Result<(Vec<PathBuf>, Vec<SelfSigned>), TestbedError> {
        let certs = dir.join("certs");
        files::make_dir(&certs)?;
        let (mut paths, mut made, mut list) = (Vec::new(), Vec::new(), String::new());
        for (file, names) in &self.certificates {
            let path = certs.join(file);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let cert = self_signed(&names)?;
            files::write(&path, &format!("{}{}", cert.cert_pem, cert.key_pem))?;
            // Writing to a String cannot fail.
            let _ = writeln!(list, "{}", path.display());
            paths.push(path);
            made.push(cert);
        }
        files::write(&dir.join("crt-list.txt"), &list)?;
        Ok((paths, made))
    }

    fn config(&self, dir: &Path, tls: &[Port], admin: &Port) -> String {
        let dir = dir.display();
        let mut config = format!(
            "global\n    stats socket {dir}/admin.sock mode 600 level admin\n    \
             stats socket ipv4@{} level admin\n    stats timeout 2m\n",
            admin.addr()
        );
        for line in &self.global {
            let _ = writeln!(config, "    {line}");
        }
        config.push_str(
            "defaults\n    mode http\n    timeout connect 5s\n    timeout client 10s\n    timeout server 10s\n\
             frontend tls\n",
        );
        for port in tls {
            let _ = writeln!(config, "    bind {} ssl crt-list {dir}/crt-list.txt", port.addr());
        }
        config.push_str("    http-request return status 200 content-type text/plain string ok\n");
        config
    }
}
