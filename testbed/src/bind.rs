//! BIND: authoritative DNS with zones that are changed by TSIG-signed updates (RFC 2136, RFC 8945).

use std::net::SocketAddr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand::Rng as _;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Process, Spec};
use crate::{Port, TestbedError, files, free_port, program};

/// The algorithm of a TSIG key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TsigAlgorithm {
    /// hmac-sha256.
    #[default]
    HmacSha256,
    /// hmac-sha384.
    HmacSha384,
    /// hmac-sha512.
    HmacSha512,
}

impl TsigAlgorithm {
    /// The name in configuration files and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }
}

/// A TSIG key that the server knows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TsigKey {
    /// Its name.
    pub name: String,
    /// Its algorithm.
    pub algorithm: TsigAlgorithm,
    /// Its secret, base64.
    pub secret: String,
}

impl TsigKey {
    /// A key with a random secret of 64 octets.
    pub fn random(name: &str, algorithm: TsigAlgorithm) -> Self {
        let mut octets = [0; 64];
        rand::rng().fill(&mut octets);
        Self { name: name.to_owned(), algorithm, secret: BASE64_STANDARD.encode(octets) }
    }

    /// The key as a configuration file of BIND holds it.
    pub fn to_config(&self) -> String {
        format!(
            "key \"{}\" {{ algorithm {}; secret \"{}\"; }};\n",
            self.name,
            self.algorithm.as_str(),
            self.secret
        )
    }
}

/// A running BIND; ended on drop.
#[derive(Debug)]
pub struct Bind {
    // First, so that the server ends before its folder and port are given back.
    process: Process,
    port: Port,
    key: TsigKey,
    dig: PathBuf,
    dir: TempDir,
}

/// What a [`Bind`] is to be like.
#[derive(Debug, Clone)]
pub struct BindBuilder {
    zones: Vec<(String, Vec<String>)>,
    key: TsigKey,
    limited: Vec<(TsigKey, String)>,
}

impl Default for BindBuilder {
    fn default() -> Self {
        Self {
            zones: Vec::new(),
            key: TsigKey::random("update.testbed", TsigAlgorithm::default()),
            limited: Vec::new(),
        }
    }
}

impl BindBuilder {
    /// Serves a zone with an SOA, an NS `ns1` and its address 127.0.0.1.
    pub fn zone(mut self, name: &str) -> Self {
        self.zones.push((name.trim_end_matches('.').to_owned(), Vec::new()));
        self
    }

    /// Adds a line to the zone added last, as a zone file has it: `www 60 IN A 127.0.0.1`.
    pub fn record(mut self, line: &str) -> Self {
        if let Some((_, lines)) = self.zones.last_mut() {
            lines.push(line.to_owned());
        }
        self
    }

    /// Uses this key, which may change everything (default: a random one, hmac-sha256).
    pub fn key(mut self, key: TsigKey) -> Self {
        self.key = key;
        self
    }

    /// Knows another key, which may change the TXT records of one name alone.
    pub fn limited_key(mut self, key: TsigKey, name: &str) -> Self {
        self.limited.push((key, name.trim_end_matches('.').to_owned()));
        self
    }

    /// Starts it and waits until it answers for every zone.
    pub async fn start(self) -> Result<Bind, TestbedError> {
        let mut attempts = 3;
        loop {
            attempts -= 1;
            match self.try_start().await {
                Err(error) if error.is_port_conflict() && attempts > 0 => {}
                done => return done,
            }
        }
    }

    async fn try_start(&self) -> Result<Bind, TestbedError> {
        let named = program::find(None, "named", "bind9")?;
        let dig = program::find(None, "dig", "bind9-dnsutils")?;
        let port = free_port()?;
        let dir = files::temp_dir("bind")?;
        files::write(&dir.path().join("root.zone"), EMPTY_ROOT)?;
        for (name, lines) in &self.zones {
            files::write(&dir.path().join(format!("{name}.zone")), &zone_file(lines))?;
        }
        files::write(&dir.path().join("named.conf"), &self.config(&port))?;
        let process = Process::spawn(Spec {
            name: "named",
            program: named,
            args: ["-4", "-g", "-n", "1", "-c", "named.conf"].map(str::to_owned).to_vec(),
            env: Vec::new(),
            dir: dir.path().to_owned(),
        })?;
        let bind = Bind { process, port, key: self.key.clone(), dig, dir };
        for (name, _) in &self.zones {
            bind.process
                .wait_until(&format!("BIND answers for {name}"), || async {
                    let answer = bind.query(name, "SOA").await.ok()?;
                    (!answer.is_empty()).then_some(())
                })
                .await?;
        }
        Ok(bind)
    }

    fn config(&self, port: &Port) -> String {
        let mut text = self.key.to_config();
        for (key, _) in &self.limited {
            text.push_str(&key.to_config());
        }
        text.push_str(&format!(
            "options {{ directory \".\"; pid-file none; session-keyfile none; listen-on port {} {{ 127.0.0.1; }};\n\
             listen-on-v6 {{ none; }}; recursion yes; allow-recursion {{ 127.0.0.1; }}; dnssec-validation no;\n\
             notify no; empty-zones-enable no; minimal-responses no; tcp-clients 200; }};\ncontrols {{ }};\n\
             zone \".\" {{ type primary; file \"root.zone\"; }};\n",
            port.number()
        ));
        for (name, _) in &self.zones {
            let mut policy = format!("grant {} zonesub ANY; ", self.key.name);
            for (key, only) in &self.limited {
                policy.push_str(&format!("grant {} name {only}. TXT; ", key.name));
            }
            text.push_str(&format!(
                "zone \"{name}\" {{ type primary; file \"{name}.zone\"; update-policy {{ {policy} }};\n\
                 allow-transfer {{ key \"{}\"; }}; }};\n",
                self.key.name
            ));
        }
        text
    }
}

/// Names outside the served zones end here: nothing leaves the machine.
const EMPTY_ROOT: &str = "$TTL 60\n@ IN SOA localhost. nobody.localhost. 1 60 60 60 60\n@ IN NS localhost.\nlocalhost. IN A 127.0.0.1\n";

fn zone_file(lines: &[String]) -> String {
    let mut text = "$TTL 60\n@ IN SOA ns1 nobody 1 60 60 60 1\n@ IN NS ns1\nns1 IN A 127.0.0.1\n".to_owned();
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    text
}

impl Bind {
    /// A server without zones, to be given some.
    pub fn builder() -> BindBuilder {
        BindBuilder::default()
    }

    /// Where it listens, over UDP and TCP.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The key that may change everything.
    pub fn key(&self) -> &TsigKey {
        &self.key
    }

    /// Writes the key to a file as BIND's tools make them, and answers where.
    pub fn key_file(&self) -> Result<PathBuf, TestbedError> {
        let path = self.dir.path().join("update.key");
        files::write(&path, &self.key.to_config())?;
        Ok(path)
    }

    /// The whole zone by transfer (AXFR), a record a line, without the SOA at its end.
    pub async fn transfer(&self, zone: &str) -> Result<Vec<String>, TestbedError> {
        let key = format!("{}:{}:{}", self.key.algorithm.as_str(), self.key.name, self.key.secret);
        let lines = self.dig(&["-y", &key, zone, "AXFR", "+noall", "+answer", "+onesoa"]).await?;
        if lines.iter().any(|line| line.contains("SOA")) {
            return Ok(lines);
        }
        Err(TestbedError::unexpected(format!("transfer of {zone}"), lines.join("\n")))
    }

    /// The TXT records of a zone by transfer: owner name without the last dot, and unquoted value.
    pub async fn txt_records(&self, zone: &str) -> Result<Vec<(String, String)>, TestbedError> {
        let lines = self.transfer(zone).await?;
        let read = |line: &String| {
            let fields: Vec<&str> = line.splitn(5, char::is_whitespace).collect();
            match fields.as_slice() {
                [name, _, _, "TXT", value] => {
                    Some((name.trim_end_matches('.').to_owned(), value.trim().trim_matches('"').to_owned()))
                }
                _ => None,
            }
        };
        Ok(lines
            .iter()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter_map(|line| read(&line))
            .collect())
    }

    /// The TXT values at a name, asked as a resolver asks.
    pub async fn query_txt(&self, name: &str) -> Result<Vec<String>, TestbedError> {
        let values = self.query(name, "TXT").await?;
        Ok(values.into_iter().map(|value| value.trim_matches('"').to_owned()).collect())
    }

    /// The data of the records of one type at a name.
    pub async fn query(&self, name: &str, kind: &str) -> Result<Vec<String>, TestbedError> {
        self.dig(&[name, kind, "+short"]).await
    }

    async fn dig(&self, question: &[&str]) -> Result<Vec<String>, TestbedError> {
        let port = self.port.number().to_string();
        let mut args = vec!["@127.0.0.1", "-p", &port, "+tcp", "+time=5", "+tries=1"];
        args.extend(question);
        let output = program::run(&self.dig, &args, "").await?;
        if !output.success {
            return Err(TestbedError::unexpected("dig", format!("{}{}", output.stdout, output.stderr)));
        }
        let lines =
            output.stdout.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(';'));
        Ok(lines.map(str::to_owned).collect())
    }

    /// Stops it where it stands: connections are accepted and nothing answers.
    pub fn freeze(&self) -> Result<(), TestbedError> {
        self.process.freeze()
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    pub fn thaw(&self) -> Result<(), TestbedError> {
        self.process.thaw()
    }

    /// Has it read its configuration and zones again (SIGHUP).
    pub fn reload(&self) -> Result<(), TestbedError> {
        self.process.signal(Signal::HUP)
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
        self.process.log()
    }
}
