//! The knobs of a Pebble, its configuration and its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Pebble, Ports};
use crate::process::{Process, Spec};
use crate::{TestbedError, files, free_port, program, tls};

/// What a [`Pebble`] is to be like.
#[derive(Debug, Clone)]
pub struct PebbleBuilder {
    binary: Option<PathBuf>,
    nonce_reject: u8,
    authz_reuse: u8,
    dns_server: Option<SocketAddr>,
    http_port: Option<u16>,
    tls_port: Option<u16>,
    eab: Vec<(String, String)>,
    alternate_roots: u8,
    chain_length: u8,
    no_sleep: bool,
    always_valid: bool,
    retry_after: Duration,
    strict: bool,
    profiles: Vec<(String, Duration)>,
    blocked: Vec<String>,
    env: Vec<(String, String)>,
}

impl Default for PebbleBuilder {
    fn default() -> Self {
        Self {
            binary: None,
            nonce_reject: 0,
            authz_reuse: 0,
            dns_server: None,
            http_port: None,
            tls_port: None,
            eab: Vec::new(),
            alternate_roots: 0,
            chain_length: 1,
            no_sleep: true,
            always_valid: false,
            retry_after: Duration::from_secs(1),
            strict: false,
            profiles: Vec::new(),
            blocked: Vec::new(),
            env: Vec::new(),
        }
    }
}

impl PebbleBuilder {
    /// Runs this program; else `ACMEKIT_PEBBLE`, else what `dev/setup` unpacked, else what is on `PATH`.
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// Answers this percentage of good nonces with `badNonce` (default 0; Pebble's own is 5).
    pub fn nonce_reject(mut self, percent: u8) -> Self {
        self.nonce_reject = percent;
        self
    }

    /// Reuses valid authorizations in this percentage of orders (default 0; Pebble's own is 50).
    pub fn authz_reuse(mut self, percent: u8) -> Self {
        self.authz_reuse = percent;
        self
    }

    /// Resolves names to validate with this server (default: the system's resolver).
    pub fn dns_server(mut self, addr: SocketAddr) -> Self {
        self.dns_server = Some(addr);
        self
    }

    /// Looks for HTTP-01 answers at this port (default: a reserved free one).
    pub fn http_port(mut self, port: u16) -> Self {
        self.http_port = Some(port);
        self
    }

    /// Looks for TLS-ALPN-01 answers at this port (default: a reserved free one).
    pub fn tls_port(mut self, port: u16) -> Self {
        self.tls_port = Some(port);
        self
    }

    /// Requires external account binding and knows this key; may be called several times.
    pub fn eab(mut self, kid: &str, base64url_key: &str) -> Self {
        crate::logs::note_secret(base64url_key);
        self.eab.push((kid.to_owned(), base64url_key.to_owned()));
        self
    }

    /// Offers this many alternate chains, each up to another root.
    pub fn alternate_roots(mut self, count: u8) -> Self {
        self.alternate_roots = count;
        self
    }

    /// Puts this many intermediates between the leaf and the root (default 1).
    pub fn chain_length(mut self, intermediates: u8) -> Self {
        self.chain_length = intermediates;
        self
    }

    /// Validates at once (default) or, if `false`, after up to 15 seconds as Pebble does by itself.
    pub fn no_sleep(mut self, no_sleep: bool) -> Self {
        self.no_sleep = no_sleep;
        self
    }

    /// Takes every challenge for fulfilled without looking.
    pub fn always_valid(mut self, always: bool) -> Self {
        self.always_valid = always;
        self
    }

    /// What it says in `Retry-After` on orders and authorizations, in whole seconds (default 1). Pebble 2.4 sends
    /// none; later ones write it as seconds or as an HTTP date, at random.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = wait;
        self
    }

    /// Switches on Pebble's strict mode.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Offers this profile (Pebble 2.10 and later; default: `default` alone, with 90 days). A Pebble with several
    /// takes a random one for an order that names none.
    pub fn profile(mut self, name: &str, validity: Duration) -> Self {
        self.profiles.push((name.to_owned(), validity));
        self
    }

    /// Refuses orders for this name and those below it (`rejectedIdentifier`).
    pub fn block(mut self, domain: &str) -> Self {
        self.blocked.push(domain.to_owned());
        self
    }

    /// Sets an environment variable of the server, for what has no method here.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it answers.
    pub async fn start(self) -> Result<Pebble, TestbedError> {
        let mut attempts = 3;
        loop {
            attempts -= 1;
            match self.try_start().await {
                Err(error) if error.is_port_conflict() && attempts > 0 => {}
                done => return done,
            }
        }
    }

    async fn try_start(&self) -> Result<Pebble, TestbedError> {
        let binary = program::find(self.program().as_deref(), "pebble", "pebble")?;
        let ports = self.ports()?;
        let dir = files::temp_dir("pebble")?;
        let https = tls::signed_by_new_root(&["localhost", "127.0.0.1", "::1"])?;
        files::write(&dir.path().join("cert.pem"), &https.cert_pem)?;
        files::write(&dir.path().join("key.pem"), &https.key_pem)?;
        files::write(&dir.path().join("pebble.json"), &self.config(&ports).to_string())?;
        let process = Process::spawn(Spec {
            name: "pebble",
            program: binary.clone(),
            args: self.args(),
            env: self.environment(),
            dir: dir.path().to_owned(),
        })?;
        let mut pebble =
            Pebble { process, binary, root_pem: https.root_pem, ports, meta: Value::Null, _dir: dir };
        pebble.meta = pebble.ready().await?;
        Ok(pebble)
    }

    fn program(&self) -> Option<PathBuf> {
        let unpacked = program::workspace_root().join(".testbed/bin/pebble");
        self.binary
            .clone()
            .or_else(|| std::env::var_os("ACMEKIT_PEBBLE").map(PathBuf::from))
            .or_else(|| unpacked.is_file().then_some(unpacked))
    }

    fn ports(&self) -> Result<Ports, TestbedError> {
        let mut validation = Vec::new();
        let mut chosen_or_free = |chosen: Option<u16>| match chosen {
            Some(port) => Ok(port),
            None => free_port().map(|port| {
                let number = port.number();
                validation.push(port);
                number
            }),
        };
        let http = chosen_or_free(self.http_port)?;
        let tls = chosen_or_free(self.tls_port)?;
        Ok(Ports { directory: free_port()?, management: free_port()?, http, tls, _validation: validation })
    }

    /// One file serves all versions: each ignores the keys it does not know.
    fn config(&self, ports: &Ports) -> Value {
        let seconds = self.retry_after.as_secs();
        let keys: serde_json::Map<String, Value> =
            self.eab.iter().map(|(kid, key)| (kid.clone(), json!(key))).collect();
        let ninety_days = [("default".to_owned(), Duration::from_secs(90 * 86_400))];
        let profiles = if self.profiles.is_empty() { &ninety_days[..] } else { &self.profiles };
        let validity = profiles.first().map_or(0, |(_, validity)| validity.as_secs());
        let profiles: serde_json::Map<String, Value> = profiles
            .iter()
            .map(|(name, validity)| {
                (name.clone(), json!({ "description": name, "validityPeriod": validity.as_secs() }))
            })
            .collect();
        json!({ "pebble": {
            "listenAddress": ports.directory.addr().to_string(),
            "managementListenAddress": ports.management.addr().to_string(),
            "certificate": "cert.pem",
            "privateKey": "key.pem",
            "httpPort": ports.http,
            "tlsPort": ports.tls,
            "externalAccountBindingRequired": !self.eab.is_empty(),
            "externalAccountMACKeys": keys,
            "domainBlocklist": self.blocked,
            "caaIdentities": ["pebble.test"],
            "retryAfter": { "authz": seconds, "order": seconds },
            "keyAlgorithm": "ecdsa",
            "certificateValidityPeriod": validity,
            "profiles": profiles,
        }})
    }

    fn args(&self) -> Vec<String> {
        let mut args = vec!["-config".to_owned(), "pebble.json".to_owned()];
        if let Some(addr) = self.dns_server {
            args.extend(["-dnsserver".to_owned(), addr.to_string()]);
        }
        if self.strict {
            args.push("-strict".to_owned());
        }
        args
    }

    fn environment(&self) -> Vec<(String, String)> {
        let mut env = vec![
            ("PEBBLE_WFE_NONCEREJECT".to_owned(), self.nonce_reject.to_string()),
            ("PEBBLE_AUTHZREUSE".to_owned(), self.authz_reuse.to_string()),
            ("PEBBLE_ALTERNATE_ROOTS".to_owned(), self.alternate_roots.to_string()),
            ("PEBBLE_CHAIN_LENGTH".to_owned(), self.chain_length.to_string()),
        ];
        if self.no_sleep {
            env.push(("PEBBLE_VA_NOSLEEP".to_owned(), "1".to_owned()));
        }
        if self.always_valid {
            env.push(("PEBBLE_VA_ALWAYS_VALID".to_owned(), "1".to_owned()));
        }
        env.extend(self.env.iter().cloned());
        env
    }
}
