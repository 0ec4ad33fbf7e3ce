//! PowerDNS: an authoritative DNS server over a database, here SQLite, that takes updates signed by TSIG, and over HTTP.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use crate::dns_client::DnsClient;
use crate::process::{Process, Spec};
use crate::{Port, TestbedError, TsigAlgorithm, TsigKey, files, free_port, program};

/// The tables of Debian's package; not in `/usr/share/doc`, which minimal systems leave out.
const SCHEMA: &str = "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql";

/// What its HTTP API is opened by.
const API_KEY: &str = "the-testbeds-api-key";

/// A running PowerDNS Authoritative Server; ended on drop.
///
/// Its main key may change and transfer everything; the [other](Self::other) one is known and may do nothing.
#[derive(Debug)]
pub struct PowerDns {
    // First, so that the server ends before its folder and port are given back.
    process: Process,
    client: DnsClient,
    tsig: TsigKey,
    other: TsigKey,
    api: Port,
    _port: Port,
    _dir: TempDir,
}

impl PowerDns {
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
        let program = program::find(None, "pdns_server", "pdns-server")?;
        let (port, api) = (free_port()?, free_port()?);
        let client = DnsClient::new(port.addr())?;
        let dir = files::temp_dir("pdns")?;
        let tsig = TsigKey::random("testbed-key", TsigAlgorithm::default());
        let other = TsigKey::random("other", TsigAlgorithm::default());
        make_database(dir.path(), zones, &[&tsig, &other]).await?;
        // Without `distributor-threads`, three connections to the database; what is cached would be seen late where
        // the database is changed by somebody else, which nobody does here.
        let config = format!(
            "launch=gsqlite3\ngsqlite3-database={0}/zones.sqlite3\ndnsupdate=yes\nlocal-address=127.0.0.1\n\
             local-port={1}\nsocket-dir={0}\ndaemon=no\nguardian=no\nsecurity-poll-suffix=\n\
             api=yes\napi-key={API_KEY}\nwebserver-address=127.0.0.1\nwebserver-port={2}\n",
            dir.path().display(),
            port.number(),
            api.number()
        );
        files::write(&dir.path().join("pdns.conf"), &config)?;
        let process = Process::spawn(Spec {
            name: "pdns_server",
            program,
            args: vec![format!("--config-dir={}", dir.path().display())],
            env: Vec::new(),
            dir: dir.path().to_owned(),
        })?;
        let zones: Vec<String> = zones.iter().map(|&zone| zone.to_owned()).collect();
        client.serves("PowerDNS serves its zones", &process, &zones).await?;
        Ok(Self { process, client, tsig, other, api, _port: port, _dir: dir })
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

    /// A key that the server knows and no zone admits.
    pub fn other(&self) -> &TsigKey {
        &self.other
    }

    /// Where its [HTTP API](https://doc.powerdns.com/authoritative/http-api/) is.
    pub fn api_url(&self) -> String {
        format!("http://{}", self.api.addr())
    }

    /// The key of the HTTP API, which may change everything.
    pub fn api_key(&self) -> &'static str {
        API_KEY
    }

    /// Everything it wrote.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// Zones, keys and who may do what: <https://doc.powerdns.com/authoritative/dnsupdate.html>.
async fn make_database(dir: &Path, zones: &[&str], keys: &[&TsigKey]) -> Result<(), TestbedError> {
    let sqlite = program::find(None, "sqlite3", "sqlite3")?;
    if !Path::new(SCHEMA).is_file() {
        return Err(TestbedError::MissingBinary {
            program: SCHEMA.to_owned(),
            package: "pdns-backend-sqlite3",
        });
    }
    let mut sql = format!(".bail on\n.read {SCHEMA}\n");
    for key in keys {
        // Writing to a String cannot fail.
        let _ = writeln!(
            sql,
            "INSERT INTO tsigkeys(name, algorithm, secret) VALUES('{}', '{}', '{}');",
            key.name(),
            key.algorithm(),
            key.secret_base64()
        );
    }
    for zone in zones {
        let _ = writeln!(sql, "INSERT INTO domains(name, type) VALUES('{zone}', 'NATIVE');");
    }
    for (name, kind, content) in [
        ("name", "SOA", "'ns1.' || name || ' hostmaster.' || name || ' 1 3600 600 86400 1'"),
        ("name", "NS", "'ns1.' || name"),
        ("'ns1.' || name", "A", "'127.0.0.1'"),
    ] {
        let _ = writeln!(
            sql,
            "INSERT INTO records(domain_id, name, type, content, ttl, auth) SELECT id, {name}, '{kind}', {content}, 1, 1 FROM domains;"
        );
    }
    for right in ["TSIG-ALLOW-DNSUPDATE", "TSIG-ALLOW-AXFR"] {
        let _ = writeln!(
            sql,
            "INSERT INTO domainmetadata(domain_id, kind, content) SELECT id, '{right}', 'testbed-key' FROM domains;"
        );
    }
    let file = dir.join("zones.sqlite3").display().to_string();
    let made = program::run(&sqlite, &[&file], &sql).await?;
    if made.success {
        return Ok(());
    }
    Err(TestbedError::unexpected("make PowerDNS's database", made.stderr))
}
