//! What can be chosen, and the defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use acmekit_core::dns::Resolver;
use acmekit_core::{DnsName, Error, ErrorKind, Result, Secret};

/// What is run, with what, and for which zones.
///
/// ```
/// use acmekit_exec::{Config, Dialect};
/// let config = Config::new(Dialect::lego(["/usr/local/bin/update-dns"])).zone("example.com".parse()?);
/// assert_eq!(config.timeout.as_secs(), 60);
/// # Ok::<(), acmekit_core::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// What is run, and how it is told what to do.
    pub dialect: Dialect,
    /// Environment variables that the program gets beside `PATH`, `HOME` and the like: secrets above all, and
    /// whatever else it is set up by. No error shows a value, unless it has less than four octets.
    pub env: BTreeMap<String, Secret<String>>,
    /// The zones the program can change; the longest one that holds a name is its zone. Where there are none
    /// (default), the DNS is asked, and every name is this provider's: with several providers of this kind, name them.
    pub zones: Vec<DnsName>,
    /// Who is asked for zones where there are none here. Default: the machine's resolvers.
    pub resolver: Option<Resolver>,
    /// How long one run may take (default 60 s); also how long to wait for one that is under way.
    pub timeout: Duration,
}

/// Which program, and how it is told what to do. See the [crate](crate#dialects).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// As lego's provider `exec`: `PROGRAM present|cleanup NAME. VALUE`.
    #[non_exhaustive]
    Lego {
        /// The program, and arguments to come first.
        program: Vec<String>,
    },
    /// As certbot's manual hooks, which are told by variables.
    #[non_exhaustive]
    Certbot {
        /// The program that adds, with its arguments. No shell is between.
        auth_hook: Vec<String>,
        /// The program that removes, with its arguments.
        cleanup_hook: Vec<String>,
    },
    /// As acme.sh calls what is in its folder `dnsapi`.
    #[non_exhaustive]
    AcmeSh {
        /// The program `acme.sh`.
        acme_sh: PathBuf,
        /// The name of a script in the folder `dnsapi` beside it (`dns_cf`), or the path of one (`/opt/dns_own.sh`).
        script: String,
        /// The folder for what scripts keep; it is created, closed to everybody else, if only its last part is
        /// missing. acme.sh bears no space in its path.
        home: PathBuf,
    },
}

impl Dialect {
    /// As lego's provider `exec`.
    pub fn lego<T: Into<String>>(program: impl IntoIterator<Item = T>) -> Self {
        Self::Lego { program: program.into_iter().map(Into::into).collect() }
    }

    /// As certbot's manual hooks.
    pub fn certbot<A: Into<String>, C: Into<String>>(
        auth_hook: impl IntoIterator<Item = A>,
        cleanup_hook: impl IntoIterator<Item = C>,
    ) -> Self {
        Self::Certbot {
            auth_hook: auth_hook.into_iter().map(Into::into).collect(),
            cleanup_hook: cleanup_hook.into_iter().map(Into::into).collect(),
        }
    }

    /// As acme.sh calls its scripts.
    pub fn acme_sh(acme_sh: impl Into<PathBuf>, script: impl Into<String>, home: impl Into<PathBuf>) -> Self {
        Self::AcmeSh { acme_sh: acme_sh.into(), script: script.into(), home: home.into() }
    }

    /// Whether the dialect itself sets this variable.
    fn sets(&self, name: &str) -> bool {
        match self {
            Self::Lego { .. } => false,
            Self::Certbot { .. } => name.starts_with("CERTBOT_"),
            Self::AcmeSh { .. } => crate::dialect::ACME_SH_SETS.contains(&name),
        }
    }
}

impl Config {
    /// This dialect, everything else as by default.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            env: BTreeMap::new(),
            zones: Vec::new(),
            resolver: None,
            timeout: Duration::from_secs(60),
        }
    }

    /// Gives the program a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<Secret<String>>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Names a zone that the program can change.
    #[must_use]
    pub fn zone(mut self, zone: DnsName) -> Self {
        self.zones.push(zone);
        self
    }

    /// Refuses what cannot work, and makes paths independent of the current folder.
    pub(crate) fn check(&mut self) -> Result<()> {
        let dialect = match &mut self.dialect {
            Dialect::Lego { program } => check_program("program", program),
            Dialect::Certbot { auth_hook, cleanup_hook } => {
                check_program("auth_hook", auth_hook).and(check_program("cleanup_hook", cleanup_hook))
            }
            Dialect::AcmeSh { acme_sh, script, home } => {
                *acme_sh = whole("acme_sh", acme_sh)?;
                *home = whole("home", home)?;
                check_script(script).and(check_home(home))
            }
        };
        dialect?;
        if self.timeout.is_zero() {
            return Err(refuse("timeout", "no program ends in no time").with_hint("leave it out: 60 s"));
        }
        for (name, value) in &self.env {
            let shown = name.escape_debug();
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(
                    refuse("env", "this is no name of an environment variable").with("variable", shown)
                );
            }
            if value.expose().contains('\0') {
                return Err(refuse("env", "the value has a NUL in it").with("variable", shown));
            }
            if self.dialect.sets(name) {
                return Err(refuse("env", "this variable is set by the dialect")
                    .with("variable", shown)
                    .with_hint("take it out"));
            }
        }
        Ok(())
    }
}

fn check_program(key: &'static str, program: &[String]) -> Result<()> {
    match program.first() {
        Some(first) if !first.is_empty() => Ok(()),
        _ => Err(refuse(key, "there is no program")
            .with_hint("the first entry is the program, each argument an entry of its own")),
    }
}

/// The name becomes a function's, and is read by bash.
fn check_script(script: &str) -> Result<()> {
    let name = crate::dialect::function_of(script);
    let word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match word && name.starts_with("dns_") {
        true => Ok(()),
        false => Err(refuse("script", "this is no script of acme.sh's dnsapi")
            .with("script", script.escape_debug())
            .with_hint(
                "write its name, such as `dns_cf`, or the path of a file of such a name: `/opt/dns_own.sh`",
            )),
    }
}

fn check_home(home: &Path) -> Result<()> {
    match home.to_string_lossy().contains(char::is_whitespace) {
        false => Ok(()),
        true => Err(refuse("home", "acme.sh bears no space in the path of its folder")
            .with("home", home.display())
            .with_hint("choose another folder")),
    }
}

fn whole(key: &'static str, path: &Path) -> Result<PathBuf> {
    absolute(path).map_err(|e| {
        refuse(key, "there is no path").with("reason", &e).with_hint("name it, from `/` on").with_source(e)
    })
}

fn refuse(key: &'static str, why: &str) -> Error {
    Error::new(ErrorKind::Config, "exec.config", why).with("key", key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: Config) -> String {
        let mut config = config;
        let error = config.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.report()
    }

    fn lego() -> Config {
        Config::new(Dialect::lego(["/usr/local/bin/update-dns"]))
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        assert!(refused(Config::new(Dialect::lego([""]))).contains("key=program"));
        assert!(refused(Config::new(Dialect::lego(Vec::<String>::new()))).contains("key=program"));
        let none = Vec::<String>::new();
        assert!(refused(Config::new(Dialect::certbot(["/a"], none))).contains("key=cleanup_hook"));
        for script in ["", "cf", "dns_a;b", "dns_a b", "/x/own.sh", "dns_x/"] {
            let config = Config::new(Dialect::acme_sh("/x/acme.sh", script, "/x/home"));
            assert!(refused(config).contains("key=script"), "{script}");
        }
        assert!(refused(Config::new(Dialect::acme_sh("/x/acme.sh", "dns_cf", "/x y"))).contains("key=home"));
        assert!(refused(Config::new(Dialect::acme_sh("", "dns_cf", "/x"))).contains("key=acme_sh"));
        let mut never = lego();
        never.timeout = Duration::ZERO;
        assert!(refused(never).contains("key=timeout"));
    }

    #[test]
    fn variables_have_names_and_are_nobody_elses() {
        for name in ["", "A=B", "A\0"] {
            assert!(refused(lego().env(name, "value")).contains("key=env"), "{name}");
        }
        let shown = refused(lego().env("TOKEN", "hunter2\0"));
        assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
        let hooks = Config::new(Dialect::certbot(["/a"], ["/b"]));
        assert!(refused(hooks.clone().env("CERTBOT_DOMAIN", "x")).contains("CERTBOT_DOMAIN"));
        let script = Config::new(Dialect::acme_sh("/x/acme.sh", "/opt/dns_own.sh", "/x"));
        assert!(refused(script.clone().env("LE_CONFIG_HOME", "x")).contains("LE_CONFIG_HOME"));
        for mut fine in [lego(), hooks, script] {
            fine.check().unwrap();
        }
    }
}
