//! uacme: the client in C.

use std::path::PathBuf;

use tokio::net::TcpListener;

use super::{CaAccess, Proof, StockClient, Workplace, strings, webroot};
use crate::{TestbedError, files, program};

/// Where its libcurl looks for roots; neither an option nor the environment changes that.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// uacme, with a hook that writes a file for the web server or a TXT record.
///
/// It sees the CA's root in place of the machine's, in a mount namespace of its own. For that it takes root, or a
/// kernel that lets everybody make user namespaces.
#[derive(Debug)]
pub struct Uacme {
    place: Workplace,
    unshare: PathBuf,
}

impl StockClient for Uacme {
    const NAME: &'static str = "uacme";

    async fn new(ca: &CaAccess) -> Result<Self, TestbedError> {
        let place = Workplace::new(Self::NAME, "uacme", ca)?;
        let unshare = program::find(None, "unshare", "util-linux")?;
        let uacme = Self { place, unshare };
        let probed = program::run(&uacme.unshare, &uacme.isolated(&["true"]), "").await?;
        if probed.success {
            return Ok(uacme);
        }
        let reason = format!("{ROOTS} cannot be replaced in a mount namespace: {}", probed.stderr.trim());
        Err(TestbedError::Unavailable { program: Self::NAME, reason })
    }

    async fn obtain(&mut self, names: &[&str], proof: &Proof) -> Result<(), TestbedError> {
        self.place.ask(names, proof);
        self.run(&["new"]).await?;
        self.issue(&[]).await
    }

    async fn renew(&mut self) -> Result<(), TestbedError> {
        self.issue(&["--force"]).await
    }

    /// The file is renamed by it.
    async fn revoke(&mut self) -> Result<(), TestbedError> {
        let certificate = self.fullchain_path()?.display().to_string();
        self.run(&["revoke", &certificate]).await
    }

    fn fullchain_path(&self) -> Result<PathBuf, TestbedError> {
        let name = self.place.first_name()?.trim_start_matches("*.");
        Ok(self.place.path("uacme").join(name).join("cert.pem"))
    }
}

impl Uacme {
    async fn issue(&self, options: &[&str]) -> Result<(), TestbedError> {
        let (names, proof) = self.place.asked()?;
        let hook = self.hook(proof)?.display().to_string();
        // It asks the CA's OCSP responder about the certificate it has, if not told otherwise.
        let mut args = vec!["--hook", &hook, "--type", "EC", "--no-ocsp"];
        args.extend(options);
        args.push("issue");
        args.extend(names.iter().map(String::as_str));
        match proof {
            Proof::Dns01(_) => self.run(&args).await,
            Proof::Http01 => {
                let addr = (std::net::Ipv4Addr::LOCALHOST, self.place.ca.http_port);
                let listener = TcpListener::bind(addr)
                    .await
                    .map_err(TestbedError::io(format!("listen on port {}", addr.1)))?;
                let webroot = self.webroot();
                tokio::select! {
                    ended = self.run(&args) => ended,
                    failed = webroot::serve(&listener, &webroot) => Err(failed),
                }
            }
        }
    }

    /// It offers one challenge after the other until the hook accepts.
    fn hook(&self, proof: &Proof) -> Result<PathBuf, TestbedError> {
        let dir = self.place.dir.path();
        match proof {
            Proof::Http01 => {
                let webroot = self.webroot();
                files::make_dir(&webroot)?;
                let text = format!(
                    r#"#!/bin/sh
case "$1 $2" in
    "begin http-01") printf %s "$5" >'{webroot}'/"$4" ;;
    "done http-01" | "failed http-01") rm -f '{webroot}'/"$4" ;;
    *) exit 1 ;;
esac
"#,
                    webroot = webroot.display()
                );
                let script = dir.join("web-hook");
                files::write_with_mode(&script, &text, 0o755)?;
                Ok(script)
            }
            Proof::Dns01(dns) => {
                let commands = r#"case "$1 $2" in
    "begin dns-01") txt add "_acme-challenge.$3." "$5" ;;
    "done dns-01" | "failed dns-01") txt delete "_acme-challenge.$3." "$5" ;;
    *) exit 1 ;;
esac"#;
                dns.script(dir, "dns-hook", commands)
            }
        }
    }

    fn webroot(&self) -> PathBuf {
        self.place.path("webroot")
    }

    async fn run(&self, args: &[&str]) -> Result<(), TestbedError> {
        let program = self.place.program.display().to_string();
        let config = self.place.path("uacme").display().to_string();
        let mut command = vec![program.as_str(), "--verbose", "--yes", "--confdir", &config];
        command.extend(["--acme-url", &self.place.ca.directory_url]);
        command.extend(args);
        self.place.run_program(&self.unshare, self.isolated(&command), &[]).await
    }

    /// What `unshare` is told to run `command` where only the CA's root is trusted.
    fn isolated(&self, command: &[&str]) -> Vec<String> {
        let mut args = strings(["--mount"]);
        if !rustix::process::geteuid().is_root() {
            args.push("--map-root-user".to_owned());
        }
        args.extend(strings(["/bin/sh", "-c", r#"mount --bind "$0" "$1" && shift && exec "$@""#]));
        args.extend([self.place.root().display().to_string(), ROOTS.to_owned()]);
        args.extend(command.iter().map(|&arg| arg.to_owned()));
        args
    }
}
