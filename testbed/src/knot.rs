//! Knot DNS: an authoritative DNS server that takes updates signed by TSIG.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use crate::dns_client::DnsClient;
use crate::process::{Process, Spec};
use crate::{Port, TestbedError, TsigAlgorithm, TsigKey, files, free_port, program};

/// A running Knot DNS; ended on drop.
///
/// Its main key may change and transfer everything; the [narrow](Self::narrow) one may only change the TXT records of
/// `_acme-challenge.mail.<zone>`.
#[derive(Debug)]
pub struct Knot {
    // First, so that the server ends before its folder and port are given back.
    process: Process,
    client: DnsClient,
    tsig: TsigKey,
    narrow: TsigKey,
    _port: Port,
    _dir: TempDir,
}

impl Knot {
    /// Starts one that serves these zones, and waits until it answers for each.
    pub async fn start(zones: &[&str]) -> Result<Self, TestbedError> {
        let mut attempts = 3;
        loop {
            attempts -= 1;
            match Self::try_start(zones).await {
                Err(error) if error.is_port_conflict() && attempts > 0 => {}
                done => return done,
            }
        }
    }

    async fn try_start(zones: &[&str]) -> Result<Self, TestbedError> {
        let program = program::find(None, "knotd", "knot")?;
        let port = free_port()?;
        let client = DnsClient::new(port.addr())?;
        let dir = files::temp_dir("knot")?;
        let tsig = TsigKey::random("testbed-key", TsigAlgorithm::default());
        let narrow = TsigKey::random("narrow", TsigAlgorithm::default());
        // It makes none itself.
        files::make_dir(&dir.path().join("db"))?;
        for zone in zones {
            let text = format!(
                "$TTL 1\n{zone}. IN SOA ns1.{zone}. hostmaster.{zone}. 1 3600 600 86400 1\n\
                 {zone}. IN NS ns1.{zone}.\nns1.{zone}. IN A 127.0.0.1\n"
            );
            files::write(&dir.path().join(format!("{zone}.zone")), &text)?;
        }
        let config = config(dir.path(), port.number(), zones, &[&tsig, &narrow]);
        files::write_with_mode(&dir.path().join("knot.conf"), &config, 0o600)?;
        let process = Process::spawn(Spec {
            name: "knotd",
            program,
            args: ["-c", "knot.conf"].map(str::to_owned).to_vec(),
            env: Vec::new(),
            dir: dir.path().to_owned(),
        })?;
        let zones: Vec<String> = zones.iter().map(|&zone| zone.to_owned()).collect();
        client.serves("Knot DNS serves its zones", &process, &zones).await?;
        Ok(Self { process, client, tsig, narrow, _port: port, _dir: dir })
    }

    /// Where it listens, over UDP and TCP.
    pub fn addr(&self) -> SocketAddr {
        self.client.addr()
    }

    /// What asks it, and changes its zones.
    pub fn client(&self) -> &DnsClient {
        &self.client
    }

    /// The key that may change and transfer every zone.
    pub fn tsig(&self) -> &TsigKey {
        &self.tsig
    }

    /// The key that may change the TXT records of `_acme-challenge.mail.<zone>` alone.
    pub fn narrow(&self) -> &TsigKey {
        &self.narrow
    }

    /// Everything it wrote.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// See <https://www.knot-dns.cz/docs/3.2/html/reference.html>.
fn config(dir: &Path, port: u16, zones: &[&str], keys: &[&TsigKey]) -> String {
    let dir = dir.display();
    let mut config = format!(
        "server:\n    rundir: \"{dir}\"\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n    \
         background-workers: 1\nlog:\n  - target: stderr\n    any: info\ndatabase:\n    storage: \"{dir}/db\"\nkey:\n"
    );
    for key in keys {
        // Writing to a String cannot fail.
        let _ = writeln!(
            config,
            "  - id: {}\n    algorithm: {}\n    secret: \"{}\"",
            key.name(),
            key.algorithm(),
            key.secret_base64()
        );
    }
    config.push_str("acl:\n  - id: main\n    key: testbed-key\n    action: [update, transfer]\n");
    for zone in zones {
        let _ = writeln!(
            config,
            "  - id: narrow-{zone}\n    key: narrow\n    action: update\n    update-type: TXT\n    update-owner: name\n    \
             update-owner-match: equal\n    update-owner-name: _acme-challenge.mail.{zone}."
        );
    }
    // Changes stay in the journal: nothing writes to the zone files.
    config.push_str("zone:\n");
    for zone in zones {
        let _ = writeln!(
            config,
            "  - domain: {zone}\n    storage: \"{dir}\"\n    file: \"{zone}.zone\"\n    acl: [main, narrow-{zone}]\n    \
             zonefile-sync: -1"
        );
    }
    config
}
