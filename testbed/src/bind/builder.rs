//! Zones and keys of a BIND, its configuration and its start.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Bind, TsigAlgorithm, TsigKey};
use crate::dns_client::DnsClient;
use crate::process::{Process, Spec};
use crate::{Port, TestbedError, files, free_port, program};

const MAIN_KEY: &str = "testbed-key";

/// What a [`Bind`] is to serve.
#[derive(Debug, Clone)]
pub struct BindBuilder {
    binary: Option<PathBuf>,
    ip: IpAddr,
    /// One that others use, too, and the keys they know; else both are made.
    shared: Option<(Arc<Port>, Vec<TsigKey>)>,
    primary: Option<SocketAddr>,
    zones: Vec<String>,
    refresh: Duration,
    records: Vec<String>,
    algorithm: TsigAlgorithm,
    keys: Vec<NarrowKey>,
    log_queries: bool,
    recursive: bool,
}

impl Default for BindBuilder {
    fn default() -> Self {
        Self {
            binary: None,
            ip: Ipv4Addr::LOCALHOST.into(),
            shared: None,
            primary: None,
            zones: Vec::new(),
            refresh: Duration::from_secs(3600),
            records: Vec::new(),
            algorithm: TsigAlgorithm::default(),
            keys: Vec::new(),
            log_queries: false,
            recursive: true,
        }
    }
}

#[derive(Debug, Clone)]
struct NarrowKey {
    name: String,
    zone: String,
    rule: String,
}

impl BindBuilder {
    /// Runs this `named` (default: what is on `PATH` or in `/usr/sbin`).
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    pub(super) fn sharing(mut self, port: Arc<Port>, keys: Vec<TsigKey>) -> Self {
        self.shared = Some((port, keys));
        self
    }

    pub(super) fn secondary_of(mut self, primary: SocketAddr, zones: &[String]) -> Self {
        (self.primary, self.zones) = (Some(primary), zones.to_vec());
        self
    }

    /// Listens on `::1` instead of 127.0.0.1, and on nothing else.
    pub fn on_ipv6(mut self) -> Self {
        self.ip = Ipv6Addr::LOCALHOST.into();
        self
    }

    /// Lets secondaries ask for news this often (whole seconds; default an hour).
    pub fn refresh(mut self, every: Duration) -> Self {
        self.refresh = every;
        self
    }

    /// Answers REFUSED for what it does not serve, as name servers on the Internet do: no recursion, no root zone.
    pub fn authoritative_only(mut self) -> Self {
        self.recursive = false;
        self
    }

    /// Serves this zone.
    pub fn zone(mut self, name: &str) -> Self {
        self.zones.push(plain(name));
        self
    }

    /// Puts a record into the zone its name belongs to: a line of a zone file with the whole name, such as
    /// `www.example.test. 1 IN A 127.0.0.1`.
    pub fn record(mut self, line: &str) -> Self {
        self.records.push(line.trim().to_owned());
        self
    }

    /// Lets `name` resolve to 127.0.0.1, as HTTP-01 validation needs it.
    pub fn loopback(self, name: &str) -> Self {
        self.record(&format!("{}. 1 IN A 127.0.0.1", plain(name)))
    }

    /// Makes `name` an alias of `target`.
    pub fn cname(self, name: &str, target: &str) -> Self {
        self.record(&format!("{}. 1 IN CNAME {}.", plain(name), plain(target)))
    }

    /// Signs with this algorithm (default HMAC-SHA256): every key.
    pub fn tsig_algorithm(mut self, algorithm: TsigAlgorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Knows another key, allowed only what `rule` says, in this zone: an update-policy rule without `grant` and
    /// key, such as `name _acme-challenge.www.example.test. TXT` or `zonesub TXT`. It may not transfer. The same
    /// name again adds a rule.
    pub fn add_key(mut self, name: &str, zone: &str, rule: &str) -> Self {
        self.keys.push(NarrowKey { name: name.to_owned(), zone: plain(zone), rule: rule.to_owned() });
        self
    }

    /// Writes each question to the [log](Bind::log), as `query: www.example.test IN TXT`.
    pub fn log_queries(mut self) -> Self {
        self.log_queries = true;
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
        let named = program::find(self.binary.as_deref(), "named", "bind9")?;
        let (port, keys) = match &self.shared {
            Some((port, keys)) => (Arc::clone(port), keys.clone()),
            None => (Arc::new(free_port()?), self.make_keys()),
        };
        let client = DnsClient::new((self.ip, port.number()).into())?;
        let dir = files::temp_dir("bind")?;
        self.write_zones(dir.path())?;
        files::write(&dir.path().join("named.conf"), &self.config(dir.path(), port.number(), &keys))?;
        let args = ["-g", "-n", "1", "-c", "named.conf"];
        let process = Process::spawn(Spec {
            name: "named",
            program: named.clone(),
            args: args.map(str::to_owned).to_vec(),
            env: Vec::new(),
            dir: dir.path().to_owned(),
        })?;
        let bind = Bind { process, client, port, zones: self.zones.clone(), keys, named, _dir: dir };
        bind.ready().await?;
        Ok(bind)
    }

    fn make_keys(&self) -> Vec<TsigKey> {
        let mut keys = vec![TsigKey::random(MAIN_KEY, self.algorithm)];
        for narrow in &self.keys {
            if keys.iter().all(|key| key.name() != narrow.name) {
                keys.push(TsigKey::random(&narrow.name, self.algorithm));
            }
        }
        keys
    }

    fn write_zones(&self, dir: &Path) -> Result<(), TestbedError> {
        let root = "$TTL 1\n. IN SOA ns. hostmaster. 1 3600 600 86400 1\n. IN NS ns.\nns. IN A 127.0.0.1\n";
        files::write(&dir.join("root.zone"), root)?;
        let mut zones: Vec<(&str, String)> =
            self.zones.iter().map(|zone| (zone.as_str(), self.head(zone))).collect();
        for record in &self.records {
            let owner = plain(record.split_whitespace().next().unwrap_or_default());
            let zone = zones
                .iter_mut()
                .filter(|(zone, _)| owner == *zone || owner.ends_with(&format!(".{zone}")))
                .max_by_key(|(zone, _)| zone.len())
                .ok_or_else(|| {
                    TestbedError::unexpected(format!("record {record:?}"), "its zone is not served")
                })?;
            zone.1.push_str(record);
            zone.1.push('\n');
        }
        if self.primary.is_some() {
            // It writes down what it gets.
            return Ok(());
        }
        zones.iter().try_for_each(|(zone, text)| files::write(&dir.join(format!("{zone}.zone")), text))
    }

    fn config(&self, dir: &Path, port: u16, keys: &[TsigKey]) -> String {
        let (v4, v6) = match self.ip {
            IpAddr::V4(ip) => (format!("{ip};"), "none;".to_owned()),
            IpAddr::V6(ip) => ("none;".to_owned(), format!("{ip};")),
        };
        let recursion = match self.recursive {
            true => "recursion yes; allow-recursion { localhost; };",
            false => "recursion no;",
        };
        let mut config = format!(
            "options {{ directory \"{}\"; listen-on port {port} {{ {v4} }}; listen-on-v6 port {port} {{ {v6} }};\n\
             pid-file none; lock-file none; session-keyfile none; dnssec-validation no; notify no; querylog {};\n\
             {recursion} allow-transfer {{ none; }}; }};\ncontrols {{ }};\n",
            dir.display(),
            if self.log_queries { "yes" } else { "no" }
        );
        if self.recursive {
            config.push_str("zone \".\" { type primary; file \"root.zone\"; };\n");
        }
        for key in keys {
            // Writing to a String cannot fail.
            let _ = writeln!(
                config,
                "key \"{}\" {{ algorithm {}; secret \"{}\"; }};",
                key.name(),
                key.algorithm(),
                key.secret_base64()
            );
        }
        for zone in &self.zones {
            if let Some(primary) = self.primary {
                // Without the two limits, five minutes pass before the zone's own times count.
                let _ = writeln!(
                    config,
                    "zone \"{zone}\" {{ type secondary; file \"{zone}.zone\"; min-refresh-time 1; min-retry-time 1; \
                     primaries {{ {} port {} key {MAIN_KEY}; }}; allow-transfer {{ key {MAIN_KEY}; }}; }};",
                    primary.ip(),
                    primary.port()
                );
                continue;
            }
            let mut rules = format!("grant {MAIN_KEY} zonesub ANY;");
            for narrow in self.keys.iter().filter(|narrow| narrow.zone == *zone) {
                let _ = write!(rules, " grant {} {};", narrow.name, narrow.rule.trim_end_matches(';'));
            }
            let _ = writeln!(
                config,
                "zone \"{zone}\" {{ type primary; file \"{zone}.zone\"; update-policy {{ {rules} }}; \
                 allow-transfer {{ key {MAIN_KEY}; }}; }};"
            );
        }
        config
    }

    /// What every zone starts with. One second each: tests wait for no cache.
    fn head(&self, zone: &str) -> String {
        let kind = if self.ip.is_ipv4() { "A" } else { "AAAA" };
        format!(
            "$TTL 1\n{zone}. IN SOA ns1.{zone}. hostmaster.{zone}. 1 {} 600 86400 1\n\
             {zone}. IN NS ns1.{zone}.\nns1.{zone}. IN {kind} {}\n",
            self.refresh.as_secs(),
            self.ip
        )
    }
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}
