//! What the deployer is told: which HAProxy processes, which files, which checks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use acmekit_core::{CertificateId, Error, ErrorKind, Result, duration};
use serde::Deserialize;

use crate::Endpoint;

/// The HAProxy processes that serve the certificate: one, or several of a cluster.
///
/// ```
/// let config: acmekit_haproxy::Config = serde_json::from_str(r#"{
///     "instances": [{
///         "endpoint": "/run/haproxy/admin.sock",
///         "file": "/etc/haproxy/certs/{id}.pem",
///         "addresses": ["192.0.2.10:443"]
///     }]
/// }"#)?;
/// assert_eq!(config.instances[0].mode, 0o600);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The processes, in the order in which they are changed: the first one is the canary.
    pub instances: Vec<Instance>,
}

impl Config {
    /// One process.
    pub fn new(instance: Instance) -> Self {
        Self { instances: vec![instance] }
    }

    /// Adds another process that serves the same certificates.
    #[must_use]
    pub fn and(mut self, instance: Instance) -> Self {
        self.instances.push(instance);
        self
    }
}

/// One HAProxy process (or the workers of one master) and the files it reads when it starts.
///
/// In configuration files times are text with a unit (`"30s"`), or whole seconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Instance {
    /// What it is called in errors. By default its endpoint.
    #[serde(default)]
    pub name: Option<String>,
    /// Where its command line listens; it needs `level admin`.
    pub endpoint: Endpoint,
    /// The file the certificate is kept in for HAProxy's next start: chain and key, in *our*
    /// spelling. `{id}` stands for the certificate's id; without it, the deployer is for one
    /// certificate only. Several instances may share a file.
    pub file: PathBuf,
    /// *HAProxy's* spelling of that file, where it differs (`crt-base`, chroot, container); `{id}`
    /// as above. By default it is looked up: the same path, or the one store of that file name
    /// which holds the certificate that the file holds, or one for the same names.
    #[serde(default)]
    pub haproxy_path: Option<String>,
    /// The crt-list that takes up certificates HAProxy does not know yet. Without one they are
    /// refused.
    #[serde(default)]
    pub crt_list: Option<CrtList>,
    /// Where clients connect: each name of the certificate is asked for at each address, and must
    /// be served with it, before a deployment counts. Empty by default: then HAProxy's own word
    /// has to do. Leave it empty too if another certificate has precedence for one of the names.
    #[serde(default)]
    pub addresses: Vec<SocketAddr>,
    /// The file's permission bits; 0600 by default. In configuration files a number, or octal
    /// digits as text: `"0640"`.
    #[serde(default = "default::mode", deserialize_with = "mode")]
    pub mode: u32,
    /// The file's owner; by default the deployer's own.
    #[serde(default)]
    pub uid: Option<u32>,
    /// The file's group; by default the deployer's own.
    #[serde(default)]
    pub gid: Option<u32>,
    /// HAProxy's `tune.bufsize`, which limits command and certificate together before 3.4. 16384 by
    /// default, as HAProxy's; it cannot be asked for. Say it exactly: HAProxy 2.6 ends of a command of
    /// just this length, and 3.2.0 of longer ones.
    #[serde(default = "default::bufsize")]
    pub bufsize: usize,
    /// `tune.cli.max-payload-size`, the same from 3.4 on. 131072 by default.
    #[serde(default = "default::max_payload")]
    pub max_payload: usize,
    /// Whether a reload may be asked of the master when a commit stays unanswered: that is the only
    /// safe way on then. `false` by default; works with [`Endpoint::master`] alone.
    #[serde(default)]
    pub reload: bool,
    /// How long one command may take; 10 s by default.
    #[serde(default = "default::timeout", deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    /// How long a commit may take; 120 s by default, never less than 60 s. Giving up on one is
    /// dangerous for HAProxy, so it is not given up when `deploy` is cancelled.
    #[serde(default = "default::commit_timeout", deserialize_with = "duration::deserialize")]
    pub commit_timeout: Duration,
    /// How long the new certificate may take to appear at the addresses; 10 s by default.
    #[serde(default = "default::timeout", deserialize_with = "duration::deserialize")]
    pub verify_timeout: Duration,
}

impl Instance {
    /// A process with everything at its default. Set the fields that differ.
    pub fn new(endpoint: Endpoint, file: impl Into<PathBuf>) -> Self {
        Self {
            name: None,
            endpoint,
            file: file.into(),
            haproxy_path: None,
            crt_list: None,
            addresses: Vec::new(),
            mode: default::mode(),
            uid: None,
            gid: None,
            bufsize: default::bufsize(),
            max_payload: default::max_payload(),
            reload: false,
            timeout: default::timeout(),
            commit_timeout: default::commit_timeout(),
            verify_timeout: default::timeout(),
        }
    }

    /// What it is called in errors.
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.endpoint.to_string())
    }

    pub(crate) fn file_for(&self, id: &CertificateId) -> PathBuf {
        PathBuf::from(self.file.to_string_lossy().replace("{id}", id.as_str()))
    }

    pub(crate) fn path_for(&self, id: &CertificateId) -> Option<String> {
        self.haproxy_path.as_ref().map(|path| path.replace("{id}", id.as_str()))
    }

    pub(crate) fn commit_budget(&self) -> Duration {
        self.commit_timeout.max(Duration::from_secs(60))
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.file.file_name().is_none() {
            return Err(refuse("the file's path is empty").with("instance", self.label()));
        }
        let list = self.crt_list.as_ref();
        let file = self.file.to_string_lossy();
        let paths = [Some(file.as_ref()), self.haproxy_path.as_deref(), list.map(|list| list.name.as_str())];
        for path in paths.into_iter().flatten() {
            check_path(path)?;
        }
        if list.is_some_and(|list| list.options.chars().any(|c| c.is_control() || matches!(c, '#' | '\\'))) {
            return Err(refuse("a crt-list entry's options are one line without `#` and `\\`"));
        }
        if self.mode & 0o007 != 0 {
            return Err(refuse("the file's mode lets everybody at the private key in it")
                .with("mode", format!("{:04o}", self.mode))
                .with_hint("let a group read it: `gid` and mode 0640"));
        }
        if self.reload && !self.endpoint.is_master() {
            return Err(refuse("`reload` needs the master's socket").with("instance", self.label()));
        }
        Ok(())
    }
}

/// Words on HAProxy's command line have no quoting that works in every version.
pub(crate) fn check_path(path: &str) -> Result<()> {
    let unusable = |c: char| c.is_whitespace() || c.is_control() || "\\\"'`;<>#[]|&$*!".contains(c);
    if path.is_empty() || path.starts_with('@') || path.contains(unusable) {
        return Err(refuse("HAProxy's command line cannot name this path")
            .with("path", path.escape_debug())
            .with_hint("use a path without spaces, quotes and shell characters"));
    }
    Ok(())
}

pub(crate) fn refuse(why: &str) -> Error {
    Error::new(ErrorKind::Config, "haproxy.config", why)
}

/// A crt-list for certificates that HAProxy does not know yet.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CrtList {
    /// Its name in HAProxy's spelling, as in `bind … ssl crt-list NAME`.
    pub name: String,
    /// The same file in our spelling: it gets the line as well, so that a reload keeps it. By
    /// default the name. A folder (`bind … ssl crt FOLDER`) needs no line and gets none.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// What follows the path on the line: `[alpn h2] example.com`. Empty by default: HAProxy takes
    /// the names out of the certificate.
    #[serde(default)]
    pub options: String,
}

impl CrtList {
    /// A crt-list known under this name to HAProxy and to us; entries without options.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), file: None, options: String::new() }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(|| PathBuf::from(&self.name))
    }

    pub(crate) fn line(&self, path: &str) -> String {
        format!("{path} {}", self.options.trim()).trim_end().to_owned()
    }
}

mod default {
    use std::time::Duration;

    pub(super) fn mode() -> u32 {
        0o600
    }
    pub(super) fn bufsize() -> usize {
        16_384
    }
    pub(super) fn max_payload() -> usize {
        131_072
    }
    pub(super) fn timeout() -> Duration {
        Duration::from_secs(10)
    }
    pub(super) fn commit_timeout() -> Duration {
        Duration::from_secs(120)
    }
}

fn mode<'de, D: serde::Deserializer<'de>>(input: D) -> Result<u32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(u32),
        Octal(String),
    }
    let bits = match Form::deserialize(input)? {
        Form::Number(bits) => Some(bits),
        Form::Octal(text) => u32::from_str_radix(text.trim_start_matches("0o"), 8).ok(),
    };
    bits.filter(|bits| *bits <= 0o7777)
        .ok_or_else(|| serde::de::Error::custom("these are no permission bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_the_command_line_would_split_are_refused() {
        for bad in ["", "/a b.pem", "/a;b", "/a\nb", "*/a", "@1", "/a<<b", "/a\"b", "/a\\b"] {
            assert_eq!(check_path(bad).unwrap_err().kind(), ErrorKind::Config, "{bad}");
        }
        check_path("/etc/haproxy/certs/wildcard.example.com-0123456789ab.pem").unwrap();
        check_path("@certs/site.pem").unwrap_err();
    }

    #[test]
    fn reload_without_a_master_is_refused() {
        let mut instance = Instance::new(Endpoint::unix("/run/h.sock"), "/srv/a.pem");
        instance.check().unwrap();
        instance.reload = true;
        assert_eq!(instance.check().unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn the_id_takes_its_place_in_both_spellings() {
        let id: CertificateId = "web-1".parse().unwrap();
        let mut instance = Instance::new(Endpoint::unix("/run/h.sock"), "/srv/{id}.pem");
        instance.haproxy_path = Some("certs/{id}.pem".to_owned());
        assert_eq!(instance.file_for(&id), PathBuf::from("/srv/web-1.pem"));
        assert_eq!(instance.path_for(&id).as_deref(), Some("certs/web-1.pem"));
    }

    #[test]
    fn unknown_keys_and_short_commit_timeouts_do_not_pass() {
        let text =
            r#"{"instances":[{"endpoint":"/run/h.sock","file":"/a.pem","commit_timeout":1,"mode":"0640"}]}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.instances[0].commit_budget(), Duration::from_secs(60));
        assert_eq!(config.instances[0].mode, 0o640);
        assert!(serde_json::from_str::<Config>(&text.replace("commit_timeout", "committimeout")).is_err());
    }
}
