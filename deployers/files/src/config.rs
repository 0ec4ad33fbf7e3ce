//! What can be chosen, and the defaults.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use acmekit_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// Where the files go, whose they are, and who is told.
///
/// In a configuration file only `root` is required. Modes are octal text (`"0640"`), times text with
/// a unit (`"30s"`) or whole seconds, addresses `IP:PORT`; a key that does not exist is an error.
///
/// ```
/// let mut config = acmekit_files::Config::new("/etc/acmekit/live");
/// config.reload = vec!["nginx".to_owned(), "-s".to_owned(), "reload".to_owned()];
/// config.verify_addresses = vec!["127.0.0.1:443".parse().unwrap()];
/// assert_eq!(config.key_mode.to_string(), "0600");
/// assert_eq!(config.keep, 3);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The folder everything is in. It is created if only its last part is missing.
    pub root: PathBuf,
    /// The deployer's id; only to be set when a pipeline has several of this kind. Default: `files`.
    #[serde(default = "default_id")]
    pub id: String,
    /// Whether to write `combined.pem` too: the full chain and the key in one file. Default: no.
    #[serde(default)]
    pub combined: bool,
    /// Whether a bundle without a key (the caller brought a CSR) is taken; there is then neither
    /// `privkey.pem` nor `combined.pem`. Default: no, it is an error.
    #[serde(default)]
    pub without_key: bool,
    /// The owner of files and folders: a name of /etc/passwd or a number. Default: who runs this.
    #[serde(default)]
    pub owner: Option<String>,
    /// Their group: a name of /etc/group or a number. Default: the running process's.
    #[serde(default)]
    pub group: Option<String>,
    /// The mode of the files that hold the key. Never for everybody to read. Default: 0600.
    #[serde(default = "default_key_mode")]
    pub key_mode: Mode,
    /// The mode of the other files. Default: 0644.
    #[serde(default = "default_file_mode")]
    pub file_mode: Mode,
    /// The mode of the folders. Default: 0755.
    #[serde(default = "default_folder_mode")]
    pub folder_mode: Mode,
    /// How many older versions stay beside the current one. Default: 3.
    #[serde(default = "default_keep")]
    pub keep: usize,
    /// The command that has the files taken up: program and arguments, without a shell. It gets a
    /// short, clean environment. Empty: nobody is told. Default: empty.
    #[serde(default)]
    pub reload: Vec<String>,
    /// How long the command may take before its whole process group is killed. Default: 30 s.
    #[serde(default = "default_reload_timeout", with = "seconds")]
    pub reload_timeout: Duration,
    /// Where a TLS handshake must show the new certificate. Empty: nobody looks. Default: empty.
    #[serde(default)]
    pub verify_addresses: Vec<SocketAddr>,
    /// How long the server has, after the reload, until it shows it. Default: 10 s.
    #[serde(default = "default_verify_timeout", with = "seconds")]
    pub verify_timeout: Duration,
    /// How long to wait for another process that deploys into the same root. Default: 60 s.
    #[serde(default = "default_lock_timeout", with = "seconds")]
    pub lock_timeout: Duration,
}

impl Config {
    /// Files in this folder, everything else as by default.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            id: default_id(),
            combined: false,
            without_key: false,
            owner: None,
            group: None,
            key_mode: default_key_mode(),
            file_mode: default_file_mode(),
            folder_mode: default_folder_mode(),
            keep: default_keep(),
            reload: Vec::new(),
            reload_timeout: default_reload_timeout(),
            verify_addresses: Vec::new(),
            verify_timeout: default_verify_timeout(),
            lock_timeout: default_lock_timeout(),
        }
    }

    /// Refuses what cannot work or would give the key away.
    pub(crate) fn check(&self) -> Result<()> {
        if self.root.as_os_str().is_empty() {
            return Err(refuse("the root folder is not set").with_hint("set `root` to a folder"));
        }
        if self.id.is_empty() {
            return Err(refuse("the deployer's id is empty").with_hint("leave `id` out, or name it"));
        }
        if self.key_mode.bits() & 0o007 != 0 {
            return Err(refuse("the key's mode lets everybody at it")
                .with("key_mode", self.key_mode)
                .with_hint("let a group read it: `group` and `key_mode` 0640"));
        }
        if self.folder_mode.bits() & 0o700 != 0o700 {
            return Err(refuse("the folder's mode keeps its owner out")
                .with("folder_mode", self.folder_mode)
                .with_hint("it must begin with 07, such as 0755 or 0750"));
        }
        if self.reload.first().is_some_and(String::is_empty) {
            return Err(refuse("the reload command has no program")
                .with_hint("the first entry of `reload` is the program, each argument an entry of its own"));
        }
        Ok(())
    }
}

pub(crate) fn refuse(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, "files.config", why)
}

/// Permission bits, written in octal: `"0640"`.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(u32);

impl Mode {
    /// These permission bits.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there are others than read, write and execute among them.
    pub fn new(bits: u32) -> Result<Self> {
        if bits > 0o777 {
            return Err(refuse(format!("{bits:#o} is no file mode"))
                .with_hint("a mode is three octal digits: 0600, 0640, 0644"));
        }
        Ok(Self(bits))
    }

    /// The bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let known = (3..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        match u32::from_str_radix(digits, 8) {
            Ok(bits) if known => Self::new(bits),
            _ => Err(refuse(format!("`{}` is no file mode", text.escape_debug()))
                .with_hint("write octal digits in quotes: \"0640\"")),
        }
    }
}

impl TryFrom<String> for Mode {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        mode.to_string()
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mode({self})")
    }
}

fn default_id() -> String {
    crate::ID.to_owned()
}
fn default_key_mode() -> Mode {
    Mode(0o600)
}
fn default_file_mode() -> Mode {
    Mode(0o644)
}
fn default_folder_mode() -> Mode {
    Mode(0o755)
}
fn default_keep() -> usize {
    3
}
fn default_reload_timeout() -> Duration {
    Duration::from_secs(30)
}
fn default_verify_timeout() -> Duration {
    Duration::from_secs(10)
}
fn default_lock_timeout() -> Duration {
    Duration::from_secs(60)
}

/// Durations: written as whole seconds, read with a unit too.
mod seconds {
    use std::time::Duration;

    use serde::{Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, out: S) -> Result<S::Ok, S::Error> {
        time.as_secs().serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        acmekit_core::duration::deserialize(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_root_is_required_and_the_defaults_are_the_same_everywhere() {
        let read: Config = serde_json::from_str(r#"{"root":"/x"}"#).unwrap();
        assert_eq!(read, Config::new("/x"));
        let again: Config = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(again, read);
    }

    #[test]
    fn modes_are_octal_text() {
        assert_eq!("0640".parse::<Mode>().unwrap().bits(), 0o640);
        assert_eq!("0o640".parse::<Mode>().unwrap(), "640".parse().unwrap());
        for bad in ["", "8", "0680", "4755", "rw", "+640", "-0640"] {
            assert!(bad.parse::<Mode>().is_err(), "{bad}");
        }
        let number = serde_json::from_str::<Config>(r#"{"root":"/x","key_mode":640}"#);
        assert!(number.is_err(), "a number's base is anybody's guess");
        assert!(serde_json::from_str::<Config>(r#"{"root":"/x","key-mode":"0600"}"#).is_err());
    }

    #[test]
    fn what_gives_the_key_away_is_refused() {
        let mut config = Config::new("/x");
        config.key_mode = "0644".parse().unwrap();
        assert!(config.check().unwrap_err().to_string().contains("key_mode=0644"));
    }
}
