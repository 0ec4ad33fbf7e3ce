//! BIND: an authoritative DNS server that takes updates signed by TSIG.

mod builder;
mod key;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::dns_client::DnsClient;
use crate::process::Process;
use crate::{Port, TestbedError, program};

pub use builder::BindBuilder;
pub use key::{TsigAlgorithm, TsigKey};

/// A running BIND; ended on drop.
///
/// It serves its zones and follows CNAMEs between them; an empty root zone of its own keeps every other question
/// on the machine. Each zone has `ns1.<zone>` as its name server, at the address it listens on: the port is not 53, so
/// clients are told [`addr`](Self::addr).
///
/// Two can be the name servers of one zone: NS records name no port, so they share one, on 127.0.0.1 and on `::1`
/// ([`beside`](Self::beside), [`secondary`](Self::secondary)). BIND does not listen on 127.0.0.2 and its like, which
/// no interface has.
#[derive(Debug)]
pub struct Bind {
    // First, so that the server ends before its folder and port are given back.
    process: Process,
    port: Arc<Port>,
    client: DnsClient,
    zones: Vec<String>,
    keys: Vec<TsigKey>,
    named: PathBuf,
    _dir: TempDir,
}

impl Bind {
    /// A server without zones yet, with one key that may change and transfer everything.
    pub fn builder() -> BindBuilder {
        BindBuilder::default()
    }

    /// Starts one that serves `example.test`.
    pub async fn start() -> Result<Self, TestbedError> {
        Self::builder().zone("example.test").start().await
    }

    /// A server at the same port of `::1`, with the same keys.
    pub fn beside(&self) -> BindBuilder {
        Self::builder().on_ipv6().sharing(Arc::clone(&self.port), self.keys.clone())
    }

    /// A secondary of all its zones, [`beside`](Self::beside) it. It is not notified: it asks for news as often as
    /// [the zones say](BindBuilder::refresh).
    pub fn secondary(&self) -> BindBuilder {
        self.beside().secondary_of(self.addr(), &self.zones)
    }

    /// Where it listens, over UDP and TCP.
    pub fn addr(&self) -> SocketAddr {
        self.client.addr()
    }

    /// The zones it serves, without a dot at the end.
    pub fn zones(&self) -> &[String] {
        &self.zones
    }

    /// The process id, `None` while stopped.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// The key that may update and transfer every zone.
    pub fn tsig(&self) -> &TsigKey {
        &self.keys[0]
    }

    /// The name of [`tsig`](Self::tsig).
    pub fn tsig_name(&self) -> &str {
        self.tsig().name()
    }

    /// The secret of [`tsig`](Self::tsig).
    pub fn tsig_secret_base64(&self) -> &str {
        self.tsig().secret_base64()
    }

    /// The algorithm of [`tsig`](Self::tsig).
    pub fn tsig_algorithm(&self) -> TsigAlgorithm {
        self.tsig().algorithm()
    }

    /// The key of this name: see [`BindBuilder::add_key`].
    pub fn key(&self, name: &str) -> Option<&TsigKey> {
        self.keys.iter().find(|key| key.name() == name)
    }

    /// All records of a zone by AXFR, one per line as `dig` writes them: name, TTL, class, type, data.
    pub async fn transfer(&self, zone: &str) -> Result<Vec<String>, TestbedError> {
        self.transfer_with(self.tsig(), zone).await
    }

    /// [`transfer`](Self::transfer) with another key.
    pub async fn transfer_with(&self, key: &TsigKey, zone: &str) -> Result<Vec<String>, TestbedError> {
        self.client.transfer(key, zone).await
    }

    /// All TXT records of a zone by AXFR: name (without a dot at the end) and value (without quotes).
    pub async fn txt_records(&self, zone: &str) -> Result<Vec<(String, String)>, TestbedError> {
        self.client.txt_records(self.tsig(), zone).await
    }

    /// The values at this name as a resolver sees them, through CNAMEs.
    pub async fn query_txt(&self, name: &str) -> Result<Vec<String>, TestbedError> {
        self.client.query_txt(name).await
    }

    /// Runs `nsupdate` with these lines (`add …`, `delete …`, `prereq …`) and sends them as one update.
    pub async fn update(&self, key: &TsigKey, zone: &str, lines: &str) -> Result<(), TestbedError> {
        self.client.update(key, zone, lines).await
    }

    /// Adds a TXT record behind the back of the code under test.
    pub async fn add_txt(&self, zone: &str, name: &str, value: &str) -> Result<(), TestbedError> {
        let name = name.trim_end_matches('.');
        self.update(self.tsig(), zone, &format!("add {name}. 1 TXT \"{value}\"")).await
    }

    /// The version of the program, such as `9.18.49-1~deb12u3-Debian`.
    pub async fn version(&self) -> Result<String, TestbedError> {
        let output = program::run(&self.named, &["-v"], "").await?;
        Ok(output.stdout.split_whitespace().nth(1).unwrap_or("unknown").to_owned())
    }

    pub(crate) fn nsupdate(&self) -> &Path {
        self.client.nsupdate()
    }

    /// Everything it wrote, over all its starts.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Stops it where it stands: questions arrive and nothing answers.
    pub fn freeze(&self) -> Result<(), TestbedError> {
        self.process.freeze()
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    pub fn thaw(&self) -> Result<(), TestbedError> {
        self.process.thaw()
    }

    /// Ends it; its port stays reserved and refuses until [`restart`](Self::restart).
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Ends it (if it runs) and starts it again on the same port; updates are replayed from its journal.
    pub async fn restart(&self) -> Result<(), TestbedError> {
        self.process.respawn()?;
        self.ready().await
    }

    async fn ready(&self) -> Result<(), TestbedError> {
        self.client.serves("BIND serves its zones", &self.process, &self.zones).await
    }
}
