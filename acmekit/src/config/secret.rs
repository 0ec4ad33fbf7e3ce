//! A secret written out, in a file, or in an environment variable: exactly one of the three.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use acmekit_core::{Error, ErrorKind, Result, Secret};

use super::plugins::Flaw;

/// The three keys a secret can be given by.
#[derive(Debug, Clone, Copy)]
pub(super) struct SecretKeys<'c> {
    /// The key without `_file` and `_env`.
    pub(super) name: &'static str,
    pub(super) inline: Option<&'c Secret<String>>,
    pub(super) file: Option<&'c Path>,
    pub(super) env: Option<&'c str>,
}

impl SecretKeys<'_> {
    /// The key that it is given by.
    pub(super) fn key(&self) -> String {
        match (self.inline, self.file, self.env) {
            (None, Some(_), _) => format!("{}_file", self.name),
            (None, None, Some(_)) => format!("{}_env", self.name),
            _ => self.name.to_owned(),
        }
    }

    /// That it is given, once.
    pub(super) fn check(&self) -> Result<()> {
        let name = self.name;
        let refuse = |why: String| {
            Err(Error::new(ErrorKind::Config, "config.secret", why)
                .with_hint(format!("keep one of `{name}`, `{name}_file` and `{name}_env`")))
        };
        let given = [
            self.inline.map(|_| name.to_owned()),
            self.file.map(|_| format!("{name}_file")),
            self.env.map(|_| format!("{name}_env")),
        ];
        let given: Vec<String> = given.into_iter().flatten().collect();
        match given.len() {
            1 => Ok(()),
            0 => refuse(format!("`{name}` is missing, and so are `{name}_file` and `{name}_env`")),
            _ => refuse(format!("the secret is given more than once: {}", given.join(", "))),
        }
    }

    /// The secret. One in a file ends before the last line break.
    pub(super) async fn read(&self, base: &Path) -> Result<Secret<String>> {
        self.check()?;
        let name = self.name;
        let refuse = |why: String| Error::new(ErrorKind::Config, "config.secret", why);
        let secret = match (self.inline, self.file, self.env) {
            (Some(secret), ..) => secret.clone(),
            (_, Some(file), _) => {
                let text = Secret::new(read_text(&base.join(file)).await?);
                Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned())
            }
            (_, _, Some(variable)) => Secret::new(environment(variable)?),
            _ => return Err(refuse(format!("`{name}` is missing"))),
        };
        if secret.expose().is_empty() {
            return Err(refuse(format!("`{name}` is empty"))
                .with_hint("an empty file or variable is a secret that was not put there"));
        }
        Ok(secret)
    }
}

/// Secrets by names that are not known beforehand, in three tables: `NAME`, `NAME_files` and `NAME_from`.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "plug-ins"), allow(dead_code, reason = "not every plug-in has such tables"))]
pub(super) struct SecretTables<'c> {
    /// The key of the first table.
    pub(super) name: &'static str,
    pub(super) inline: &'c BTreeMap<String, Secret<String>>,
    pub(super) files: &'c BTreeMap<String, PathBuf>,
    /// The names of environment variables.
    pub(super) from: &'c BTreeMap<String, String>,
}

#[cfg_attr(not(feature = "plug-ins"), allow(dead_code, reason = "not every plug-in has such tables"))]
impl<'c> SecretTables<'c> {
    /// Each with its key, and where it is to be had.
    fn entries(self) -> impl Iterator<Item = (&'c String, String, SecretKeys<'c>)> {
        let Self { name, inline, files, from } = self;
        let none = SecretKeys { name, inline: None, file: None, env: None };
        let inline = inline.iter().map(move |(of, secret)| {
            (of, format!("{name}.{of}"), SecretKeys { inline: Some(secret), ..none })
        });
        let files = files.iter().map(move |(of, file)| {
            (of, format!("{name}_files.{of}"), SecretKeys { file: Some(file), ..none })
        });
        let from = from
            .iter()
            .map(move |(of, from)| (of, format!("{name}_from.{of}"), SecretKeys { env: Some(from), ..none }));
        inline.chain(files).chain(from)
    }

    /// The names there are, if each is given once.
    pub(super) fn names(self) -> Result<Vec<&'c str>, Flaw> {
        let mut seen: Vec<&str> = Vec::new();
        for (of, key, _) in self.entries() {
            if seen.contains(&of.as_str()) {
                let name = self.name;
                let error = Error::new(ErrorKind::Config, "config.secret", "this is given more than once")
                    .with_hint(format!("keep one of `{name}`, `{name}_files` and `{name}_from`"));
                return Err(Flaw::at(key)(error));
            }
            seen.push(of);
        }
        Ok(seen)
    }

    /// All of them. One that is written out may be empty: that is not forgotten but meant.
    pub(super) async fn read(self, base: &Path) -> Result<BTreeMap<String, Secret<String>>, Flaw> {
        let mut all = self.inline.clone();
        for (of, key, secret) in self.entries().filter(|(.., secret)| secret.inline.is_none()) {
            all.insert(of.clone(), secret.read(base).await.map_err(Flaw::at(key))?);
        }
        Ok(all)
    }
}

/// A variable of this process.
fn environment(variable: &str) -> Result<String> {
    let refuse = |why: &str| {
        Error::new(ErrorKind::Config, "config.secret", why.to_owned())
            .with("variable", variable.escape_debug())
            .with_hint("set it for this program, or keep the secret in a file")
    };
    // `std::env::var` would panic on such a name on some systems.
    if variable.is_empty() || variable.contains(['=', '\0']) {
        return Err(refuse("this is no name of an environment variable"));
    }
    std::env::var(variable).map_err(|error| match error {
        std::env::VarError::NotPresent => refuse("the environment variable is not set"),
        std::env::VarError::NotUnicode(_) => refuse("the environment variable is not text"),
    })
}

/// The text of a file that the configuration names.
pub(super) async fn read_text(path: &Path) -> Result<String> {
    let shown = PathBuf::from(path);
    tokio::fs::read_to_string(path).await.map_err(|e| {
        Error::new(ErrorKind::Config, "config.file", format!("the file cannot be read: {e}"))
            .with("path", shown.display())
            .with_hint("relative paths are relative to the configuration file")
            .with_source(e)
    })
}
