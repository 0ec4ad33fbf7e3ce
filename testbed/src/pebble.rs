//! Pebble: the ACME CA that tests order from.

mod builder;
mod log;

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::{HttpResponse, Port, TestbedError, http, program};

pub use builder::PebbleBuilder;

/// A running Pebble; ended on drop.
///
/// Different versions can do different things: ask [`offers_renewal_info`](Self::offers_renewal_info) and
/// [`offers_profiles`](Self::offers_profiles), not [`version`](Self::version). Every version freezes for good now
/// and then above about 16 orders at once.
#[derive(Debug)]
pub struct Pebble {
    // First, so that the server ends before its folder and ports are given back.
    process: Process,
    binary: PathBuf,
    root_pem: String,
    ports: Ports,
    meta: Value,
    _dir: TempDir,
}

#[derive(Debug)]
struct Ports {
    directory: Port,
    management: Port,
    http: u16,
    tls: u16,
    _validation: Vec<Port>,
}

impl Pebble {
    /// A CA that rejects no nonce, reuses no authorization and does not sleep before it validates.
    pub fn builder() -> PebbleBuilder {
        PebbleBuilder::default()
    }

    /// Starts one with the builder's defaults.
    pub async fn start() -> Result<Self, TestbedError> {
        Self::builder().start().await
    }

    /// The URL of its ACME directory.
    pub fn directory_url(&self) -> String {
        format!("https://{}/dir", self.ports.directory.addr())
    }

    /// The URL of its management interface, without a slash at the end.
    pub fn management_url(&self) -> String {
        format!("https://{}", self.ports.management.addr())
    }

    /// The root that signs the CA's own HTTPS certificate: what a client must trust to talk to it.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The port at which it looks for HTTP-01 answers; reserved for the test, nothing listens there yet.
    pub fn http_port(&self) -> u16 {
        self.ports.http
    }

    /// The port at which it looks for TLS-ALPN-01 answers; reserved for the test, nothing listens there yet.
    pub fn tls_port(&self) -> u16 {
        self.ports.tls
    }

    /// The process id, `None` while stopped.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// The version of the program, as packaged; `unknown` if nobody wrote it down.
    pub async fn version(&self) -> String {
        if let Ok(noted) = std::fs::read_to_string(self.binary.with_extension("version")) {
            return noted.trim().to_owned();
        }
        let args = ["-W", "-f", "${Version}", "pebble"];
        let packaged = match program::find(None, "dpkg-query", "dpkg") {
            Ok(dpkg) if self.binary.starts_with("/usr/bin") => program::run(&dpkg, &args, "").await.ok(),
            _ => None,
        };
        packaged.filter(|output| output.success).map_or_else(|| "unknown".to_owned(), |output| output.stdout)
    }

    /// Whether it has a renewal-information resource (RFC 9773).
    pub fn offers_renewal_info(&self) -> bool {
        self.meta.get("renewalInfo").is_some()
    }

    /// The profiles it offers; none if it knows no profiles.
    pub fn offers_profiles(&self) -> Vec<String> {
        let profiles = self.meta.pointer("/meta/profiles").and_then(Value::as_object);
        profiles.map(|profiles| profiles.keys().cloned().collect()).unwrap_or_default()
    }

    /// The roots it issues from, one PEM each: the usual one first, then the alternate ones.
    pub async fn issuing_roots_pem(&self) -> Result<Vec<String>, TestbedError> {
        let mut roots = Vec::new();
        loop {
            let path = format!("/roots/{}", roots.len());
            let answer = self.management("GET", &path, "").await?;
            match answer.status {
                200 => roots.push(answer.body),
                404 if !roots.is_empty() => return Ok(roots),
                _ => return Err(TestbedError::unexpected(format!("Pebble {path}"), answer.body)),
            }
        }
    }

    /// Asks the management interface: `management("GET", "/cert-status-by-serial/2a", "")`.
    pub async fn management(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<HttpResponse, TestbedError> {
        http::request(method, self.ports.management.addr(), path, body, &self.root_pem).await
    }

    /// Makes it answer `response` (any text, usually JSON) when asked for this certificate's renewal information.
    pub async fn set_renewal_info(&self, certificate_pem: &str, response: &str) -> Result<(), TestbedError> {
        let body = serde_json::json!({ "Certificate": certificate_pem, "ARIResponse": response }).to_string();
        let answer = self.management("POST", "/set-renewal-info/", &body).await?;
        match answer.status {
            200 => Ok(()),
            status => {
                Err(TestbedError::unexpected(format!("Pebble set-renewal-info: {status}"), answer.body))
            }
        }
    }

    /// Stops it where it stands: connections are accepted and nothing answers.
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

    /// Ends it (if it runs) and starts it again on the same ports: it has forgotten every account, order and key,
    /// and issues from new roots.
    pub async fn restart(&self) -> Result<(), TestbedError> {
        self.process.respawn()?;
        self.ready().await.map(drop)
    }

    async fn ready(&self) -> Result<Value, TestbedError> {
        let addr = self.ports.directory.addr();
        let meta = self.process.wait_until("Pebble answers with its directory", || async {
            let answer = http::request("GET", addr, "/dir", "", &self.root_pem).await.ok()?;
            serde_json::from_str::<Value>(&answer.body).ok().filter(|meta| meta.get("newOrder").is_some())
        });
        let meta = meta.await?;
        self.process
            .wait_until("Pebble's management interface answers", || async {
                self.management("GET", "/roots/0", "").await.ok().filter(|answer| answer.status == 200)
            })
            .await?;
        Ok(meta)
    }
}
