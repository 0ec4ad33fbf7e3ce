//! ACME clients that nobody here wrote, run as their users run them: certbot, lego and uacme.
//!
//! Each value keeps an account, its configuration and one certificate in a temporary folder of its own. Nothing
//! of the machine's settings reaches the client, and it talks to nobody but the CA and the DNS server it is given.

mod certbot;
mod dns;
mod lego;
mod uacme;
mod webroot;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Process, Spec};
use crate::{TestbedError, files, program};

pub use certbot::Certbot;
pub use dns::DnsUpdates;
pub use lego::Lego;
pub use uacme::Uacme;

/// How long one run of a client may take.
const WITHIN: Duration = Duration::from_secs(60);

/// What a client is told about a CA.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CaAccess {
    /// The URL of its ACME directory.
    pub directory_url: String,
    /// The root its HTTPS certificate is signed by.
    pub root_pem: String,
    /// The port on 127.0.0.1 at which it looks for HTTP-01 answers.
    pub http_port: u16,
}

impl CaAccess {
    /// A CA of any make.
    pub fn new(directory_url: impl Into<String>, root_pem: impl Into<String>, http_port: u16) -> Self {
        Self { directory_url: directory_url.into(), root_pem: root_pem.into(), http_port }
    }
}

/// How a client is to prove that it controls its names.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Proof {
    /// By a file served at the CA's [`http_port`](CaAccess::http_port).
    Http01,
    /// By TXT records.
    Dns01(DnsUpdates),
}

/// What every client can do: one certificate, from its order to its end.
pub trait StockClient: Sized + Send {
    /// The program's name.
    const NAME: &'static str;

    /// A client without an account yet.
    ///
    /// Fails with [`TestbedError::MissingBinary`] if it is not installed and with [`TestbedError::Unavailable`]
    /// if this machine does not let it run.
    fn new(ca: &CaAccess) -> impl Future<Output = Result<Self, TestbedError>> + Send;

    /// Gets a certificate for `names`.
    fn obtain(
        &mut self,
        names: &[&str],
        proof: &Proof,
    ) -> impl Future<Output = Result<(), TestbedError>> + Send;

    /// Gets another one for the same names in the same way, however long the first is valid.
    fn renew(&mut self) -> impl Future<Output = Result<(), TestbedError>> + Send;

    /// Revokes it with the account's key.
    fn revoke(&mut self) -> impl Future<Output = Result<(), TestbedError>> + Send;

    /// The file with the newest certificate and its chain.
    fn fullchain_path(&self) -> Result<PathBuf, TestbedError>;

    /// The newest certificate and its chain, leaf first.
    fn fullchain_pem(&self) -> Result<String, TestbedError> {
        let path = self.fullchain_path()?;
        std::fs::read_to_string(&path).map_err(TestbedError::io(format!("read {}", path.display())))
    }
}

/// A client's folder, and what it was last asked for.
#[derive(Debug)]
struct Workplace {
    name: &'static str,
    program: PathBuf,
    ca: CaAccess,
    asked: Option<(Vec<String>, Proof)>,
    dir: TempDir,
}

impl Workplace {
    fn new(name: &'static str, package: &'static str, ca: &CaAccess) -> Result<Self, TestbedError> {
        let program = program::find(None, name, package)?;
        let dir = files::temp_dir(name)?;
        files::write(&dir.path().join("root.pem"), &ca.root_pem)?;
        Ok(Self { name, program, ca: ca.clone(), asked: None, dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The file with the root to trust.
    fn root(&self) -> PathBuf {
        self.path("root.pem")
    }

    fn ask(&mut self, names: &[&str], proof: &Proof) {
        self.asked = Some((names.iter().map(|name| (*name).to_owned()).collect(), proof.clone()));
    }

    fn asked(&self) -> Result<(&[String], &Proof), TestbedError> {
        let asked = self.asked.as_ref().map(|(names, proof)| (names.as_slice(), proof));
        asked.ok_or_else(|| TestbedError::unexpected(self.name, "no certificate was asked for yet"))
    }

    /// The first name: what each client calls the certificate.
    fn first_name(&self) -> Result<&str, TestbedError> {
        let first = self.asked()?.0.first().map(String::as_str);
        first.ok_or_else(|| TestbedError::unexpected(self.name, "asked for a certificate without names"))
    }

    async fn run(&self, args: Vec<String>, env: &[(&str, String)]) -> Result<(), TestbedError> {
        self.run_program(&self.program, args, env).await
    }

    /// Runs it to its end; its whole process group is ended with it, or at the deadline.
    async fn run_program(
        &self,
        program: &Path,
        args: Vec<String>,
        env: &[(&str, String)],
    ) -> Result<(), TestbedError> {
        let process = Process::spawn(Spec {
            name: self.name,
            program: program.to_owned(),
            args,
            env: env.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
            dir: self.dir.path().to_owned(),
        })?;
        let status = process.end(WITHIN).await?;
        if status.success() {
            return Ok(());
        }
        Err(TestbedError::Failed { program: self.name, status, output: process.log() })
    }
}

fn strings<const N: usize>(args: [&str; N]) -> Vec<String> {
    args.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(dir: &TempDir, script: &str) -> Process {
        let program = PathBuf::from("/bin/sh");
        let args = strings(["-c", script]);
        let dir = dir.path().to_owned();
        Process::spawn(Spec { name: "shell", program, args, env: Vec::new(), dir }).unwrap()
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_ended_with_all_it_started() {
        let dir = files::temp_dir("shell").unwrap();
        let process = shell(&dir, "sleep 1000 & echo $!; wait");
        let child = crate::wait_for(WITHIN, "it wrote", || {
            std::future::ready(process.log().trim().parse::<u32>().ok())
        });
        let child = child.await.unwrap();
        let error = process.end(Duration::from_millis(20)).await.unwrap_err();
        assert!(error.to_string().contains(&child.to_string()), "{error}");
        drop(process);
        let stat = || std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let gone = || std::future::ready((stat().is_empty() || stat().contains(") Z")).then_some(()));
        crate::wait_for(WITHIN, "what it started is gone", gone).await.unwrap();
    }

    #[tokio::test]
    async fn nothing_of_the_callers_environment_is_passed_on() {
        let dir = files::temp_dir("shell").unwrap();
        let process = shell(&dir, "env | cut -d= -f1 | sort | tr '\\n' ' '");
        assert!(process.end(WITHIN).await.unwrap().success());
        assert_eq!(process.log().trim(), "HOME LC_ALL PATH PWD TMPDIR");
    }

    #[test]
    fn a_client_that_is_not_installed_is_named_with_its_package() {
        let ca = CaAccess::new("https://127.0.0.1:1/dir", "", 1);
        let error = Workplace::new("no-such-client", "the-package", &ca).unwrap_err().to_string();
        assert!(error.contains("no-such-client") && error.contains("the-package"), "{error}");
    }
}
