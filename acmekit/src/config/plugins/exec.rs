//! Programs that change DNS records.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use acmekit_core::dns::Resolver;
use acmekit_core::{DnsName, DnsProvider, Error, ErrorKind, Secret, async_trait, duration};
use acmekit_exec::{Config, Dialect, Exec};
use serde::Deserialize;

use super::{Flaw, ProviderPlugin};
use crate::config::secret::SecretKeys;

/// `kind = "exec"`: a program that is run for each change.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    /// How the program is told what to do.
    dialect: Tongue,
    /// lego: the program and its first arguments.
    #[serde(default)]
    program: Option<Vec<String>>,
    /// certbot: the program that adds.
    #[serde(default)]
    auth_hook: Option<Vec<String>>,
    /// certbot: the program that removes.
    #[serde(default)]
    cleanup_hook: Option<Vec<String>>,
    /// acme.sh: where it is.
    #[serde(default)]
    acme_sh: Option<PathBuf>,
    /// acme.sh: the name of one of its scripts, or the path of another.
    #[serde(default)]
    script: Option<String>,
    /// acme.sh: the folder for what scripts keep.
    #[serde(default)]
    home: Option<PathBuf>,
    /// Variables, written out.
    #[serde(default)]
    env: BTreeMap<String, Secret<String>>,
    /// Variables whose values are in files.
    #[serde(default)]
    env_files: BTreeMap<String, PathBuf>,
    /// Variables whose values are in variables of this process.
    #[serde(default)]
    env_from: BTreeMap<String, String>,
    /// The zones it can change. Default: the DNS is asked.
    #[serde(default)]
    zones: Vec<DnsName>,
    /// How long one run may take. Default: 60 s.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    timeout: Option<Duration>,
}

/// The dialects there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Tongue {
    #[serde(rename = "lego")]
    Lego,
    #[serde(rename = "certbot")]
    Certbot,
    #[serde(rename = "acme.sh")]
    AcmeSh,
}

impl Tongue {
    fn name(self) -> &'static str {
        match self {
            Self::Lego => "lego",
            Self::Certbot => "certbot",
            Self::AcmeSh => "acme.sh",
        }
    }

    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Lego => &["program"],
            Self::Certbot => &["auth_hook", "cleanup_hook"],
            Self::AcmeSh => &["acme_sh", "script", "home"],
        }
    }
}

impl Keys {
    /// That the keys of the dialect are there, and no others.
    fn check_dialect(&self) -> Result<(), Flaw> {
        let given = [
            ("program", self.program.is_some()),
            ("auth_hook", self.auth_hook.is_some()),
            ("cleanup_hook", self.cleanup_hook.is_some()),
            ("acme_sh", self.acme_sh.is_some()),
            ("script", self.script.is_some()),
            ("home", self.home.is_some()),
        ];
        let (dialect, wanted) = (self.dialect.name(), self.dialect.keys());
        for (key, given) in given {
            let why = match (wanted.contains(&key), given) {
                (true, false) => format!("the dialect `{dialect}` needs this key"),
                (false, true) => format!("the dialect `{dialect}` has no such key"),
                _ => continue,
            };
            let error = Error::new(ErrorKind::Config, "config.exec", why)
                .with_hint(format!("the keys of this dialect: {}", wanted.join(", ")));
            return Err(Flaw::at(key)(error));
        }
        Ok(())
    }

    fn dialect(&self, base: &Path) -> Dialect {
        let command = |words: &Option<Vec<String>>| {
            let mut words = words.clone().unwrap_or_default();
            if let Some(program) = words.first_mut() {
                *program = placed(base, program);
            }
            words
        };
        match self.dialect {
            Tongue::Lego => Dialect::lego(command(&self.program)),
            Tongue::Certbot => Dialect::certbot(command(&self.auth_hook), command(&self.cleanup_hook)),
            Tongue::AcmeSh => {
                let at = |path: &Option<PathBuf>| base.join(path.as_deref().unwrap_or(Path::new("")));
                let script = placed(base, self.script.as_deref().unwrap_or_default());
                Dialect::acme_sh(at(&self.acme_sh), script, at(&self.home))
            }
        }
    }

    fn secrets(&self) -> impl Iterator<Item = (&String, &'static str, SecretKeys<'_>)> {
        let none = SecretKeys { name: "env", inline: None, file: None, env: None };
        let files = self.env_files.iter();
        let files =
            files.map(move |(name, file)| (name, "env_files", SecretKeys { file: Some(file), ..none }));
        let from = self.env_from.iter();
        files.chain(from.map(move |(name, from)| (name, "env_from", SecretKeys { env: Some(from), ..none })))
    }

    fn config(&self, base: &Path) -> Config {
        let mut config = Config::new(self.dialect(base));
        config.env.clone_from(&self.env);
        config.zones.clone_from(&self.zones);
        config.timeout = self.timeout.unwrap_or(config.timeout);
        config
    }
}

/// A path relative to the configuration file; what has no `/` is a name that is looked for.
fn placed(base: &Path, program: &str) -> String {
    match program.contains('/') {
        true => base.join(program).to_string_lossy().into_owned(),
        false => program.to_owned(),
    }
}

#[async_trait]
impl ProviderPlugin for Keys {
    fn check(&self) -> Result<(), Flaw> {
        self.check_dialect()?;
        let mut seen: Vec<&String> = self.env.keys().collect();
        for (name, table, _) in self.secrets() {
            if seen.contains(&name) {
                let error =
                    Error::new(ErrorKind::Config, "config.exec", "the variable is given more than once")
                        .with_hint("keep one of `env`, `env_files` and `env_from`");
                return Err(Flaw::at(format!("{table}.{name}"))(error));
            }
            seen.push(name);
        }
        Ok(())
    }

    async fn build(&self, base: &Path, resolver: Option<&Resolver>) -> Result<Arc<dyn DnsProvider>, Flaw> {
        let mut config = self.config(base);
        config.resolver = resolver.cloned();
        for (name, table, secret) in self.secrets() {
            let value = secret.read(base).await.map_err(Flaw::at(format!("{table}.{name}")))?;
            config.env.insert(name.clone(), value);
        }
        Ok(Arc::new(Exec::new(config)?))
    }
}
