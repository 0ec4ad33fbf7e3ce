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
use crate::config::secret::SecretTables;

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

    fn secrets(&self) -> SecretTables<'_> {
        SecretTables { name: "env", inline: &self.env, files: &self.env_files, from: &self.env_from }
    }

    fn config(&self, base: &Path) -> Config {
        let mut config = Config::new(self.dialect(base));
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
        self.secrets().names().map(drop)
    }

    async fn build(&self, base: &Path, resolver: Option<&Resolver>) -> Result<Arc<dyn DnsProvider>, Flaw> {
        let mut config = self.config(base);
        config.resolver = resolver.cloned();
        config.env = self.secrets().read(base).await?;
        Ok(Arc::new(Exec::new(config)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Keys {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn each_dialect_has_its_keys_and_no_others() {
        for fine in [
            "dialect = 'lego'\nprogram = ['a']",
            "dialect = 'certbot'\nauth_hook = ['a']\ncleanup_hook = ['b']",
            "dialect = 'acme.sh'\nacme_sh = 'a'\nscript = 'dns_cf'\nhome = 'h'",
        ] {
            keys(fine).check().unwrap();
        }
        for (text, key) in [
            ("dialect = 'lego'", "program"),
            ("dialect = 'lego'\nprogram = ['a']\nhome = 'h'", "home"),
            ("dialect = 'certbot'\nauth_hook = ['a']", "cleanup_hook"),
            ("dialect = 'acme.sh'\nacme_sh = 'a'\nscript = 'dns_cf'", "home"),
            ("dialect = 'lego'\nprogram = ['a']\nenv.A = 'x'\nenv_files.A = 'y'", "env_files.A"),
            ("dialect = 'lego'\nprogram = ['a']\nenv_from.A = 'x'\nenv_files.A = 'y'", "env_from.A"),
        ] {
            let flaw = keys(text).check().unwrap_err();
            assert_eq!(flaw.key, key, "{text}");
            assert!(flaw.error.hint().is_some(), "{text}");
        }
        assert!(toml::from_str::<Keys>("dialect = 'raw'").is_err());
    }

    #[tokio::test]
    async fn paths_and_files_are_relative_to_the_configuration_and_names_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        let file = base.join("token");
        let attributes = acmekit_core::atomic::FileAttributes::default();
        acmekit_core::atomic::write_file(&file, b"hunter2\n", attributes).unwrap();
        let text =
            "zones = ['example.com']\nenv.A = 'one'\nenv_files.B = 'token'\nenv_from.C = 'CARGO_PKG_NAME'";
        let hooks =
            keys(&format!("dialect = 'certbot'\nauth_hook = ['./a', 'b/c']\ncleanup_hook = ['d']\n{text}"));
        let at = |path: &str| base.join(path).display().to_string();
        assert_eq!(hooks.dialect(base), Dialect::certbot([at("./a"), "b/c".to_owned()], ["d"]));
        let provider = hooks.build(base, None).await.unwrap();
        let shown = format!("{provider:?} {hooks:?}");
        for name in ["A", "B", "C"] {
            assert!(shown.contains(&format!("\"{name}\"")), "{shown}");
        }
        assert!(!shown.contains("hunter2"), "{shown}");

        let missing =
            keys("dialect = 'lego'\nprogram = ['a']\nenv_files.B = 'none'\nzones = ['example.com']");
        assert_eq!(missing.build(base, None).await.unwrap_err().key, "env_files.B");
        let own = keys("dialect = 'acme.sh'\nacme_sh = 'a'\nscript = 'own/dns_own.sh'\nhome = 'h'");
        let want = Dialect::acme_sh(base.join("a"), at("own/dns_own.sh"), base.join("h"));
        assert_eq!(own.dialect(base), want);
    }
}
