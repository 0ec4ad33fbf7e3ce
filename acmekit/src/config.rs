//! All that acmekit needs, out of one TOML file: authorities, store, solvers, deployers, certificates.
//!
//! ```
//! # async fn example() -> acmekit::Result<()> {
//! use acmekit::config::Config;
//!
//! let config = Config::parse(r#"
//!     [[authorities]]
//!     ca = "lets-encrypt-staging"
//!     contacts = ["ops@example.com"]
//!     agree_to_terms = true
//!
//!     [store]
//!     kind = "files"
//!     path = "state"
//!
//!     [http]
//!     webroot = "/var/www/html"
//!
//!     [[certificates]]
//!     names = ["www.example.com"]
//! "#, "/etc/acme")?;
//! let setup = config.build().await?;
//! let manager = acmekit::Manager::builder(setup.pipeline()?).start();
//! for certificate in setup.certificates() {
//!     manager.add(certificate).await?;
//! }
//! manager.settled().await?; // for a cron job, this is all
//! manager.shutdown().await;
//! setup.close().await;
//! # Ok(()) }
//! ```
//!
//! `examples/from-config/full.toml` shows every key with its unit and default, and
//! `examples/from-config` is the program around it.
//!
//! | section | type | |
//! |---|---|---|
//! | `[[authorities]]` | [`AuthorityConfig`] | in order: the first is preferred |
//! | `[store]` | [`StoreConfig`] | `kind = "files"` |
//! | `[http]` | [`HttpConfig`] | http-01 |
//! | `[dns]`, `[[dns.providers]]` | [`DnsConfig`], [`ProviderConfig`] | dns-01; `kind` is the feature of any DNS provider |
//! | `[[deployers]]` | [`DeployerConfig`] | `kind` is the feature of any deployer |
//! | `[[certificates]]`, `certificates_csv` | [`CertificateConfig`] | one certificate each |
//! | `[renewal]` | [`RenewalConfig`] | when they are renewed |
//!
//! A secret is written out (`key = …`), or in a file (`key_file = …`), or in an environment variable
//! (`key_env = …`): one of the three. Relative paths are relative to the configuration file.
//!
//! # Errors
//! Everything that is wrong is told at once: the first problem is the [`Error`] with the context
//! `file`, `line`, `column`, `key` and `value` (never of a secret), and each other one is an `also`.

mod check;
mod document;
#[cfg(test)]
#[cfg(feature = "plug-ins")]
mod fields;
#[doc(hidden)]
pub mod fuzzing;
mod plugins;
mod problem;
mod secret;
mod sections;
mod serving;
mod setup;
mod table;
#[cfg(test)]
#[cfg(feature = "plug-ins")]
mod tests;

use std::path::{Path, PathBuf};

use acmekit_core::{Error, ErrorKind, Result, Secret};

use self::document::{Document, Places, Section, missing, unknown_key};
use self::problem::Problem;

pub use self::plugins::{DeployerConfig, ProviderConfig, StoreConfig};
pub use self::sections::{
    AuthorityConfig, CertificateConfig, DnsConfig, EabConfig, HttpConfig, RenewalConfig, TimeoutsConfig,
};
pub use self::setup::{Setup, Wanted};

/// The sections there are, and the one value beside them.
const KEYS: [&str; 8] =
    ["authorities", "store", "http", "dns", "deployers", "certificates", "certificates_csv", "renewal"];

/// The operation that refuses a text.
const OP: &str = "config.parse";

/// A configuration that can be used, as far as that can be seen in its text. See the [module](self).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The authorities, the preferred one first; at least one.
    pub authorities: Vec<AuthorityConfig>,
    /// Where accounts, journals and certificates are kept.
    pub store: StoreConfig,
    /// How http-01 is answered. This or a DNS provider is there.
    pub http: Option<HttpConfig>,
    /// What dns-01 asks, beside its providers.
    pub dns: DnsConfig,
    /// Who changes DNS zones; the first one with a zone for a name is taken.
    pub providers: Vec<ProviderConfig>,
    /// Where certificates are brought.
    pub deployers: Vec<DeployerConfig>,
    /// The certificates that are written in the configuration itself.
    pub certificates: Vec<CertificateConfig>,
    /// The CSV file with more of them. One line each: names separated by spaces, and then, if need be,
    /// id, key type and group. `#` begins a comment; a first line that begins with `names` is a header.
    pub certificates_csv: Option<PathBuf>,
    /// When certificates are renewed.
    pub renewal: RenewalConfig,
    base: PathBuf,
    places: Places,
}

impl Config {
    /// Reads a file and checks what is in it. Files that it names are read by [`build`](Self::build).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] as the [module](self) tells.
    pub async fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = tokio::fs::read_to_string(path).await.map(Secret::new).map_err(|e| {
            Error::new(ErrorKind::Config, "config.load", format!("the configuration cannot be read: {e}"))
                .with("file", path.display())
                .with_hint("give the path of a TOML file in UTF-8 that this user may read")
                .with_source(e)
        })?;
        // What follows must not depend on a later change of the working directory.
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let base = whole.parent().map(Path::to_owned).unwrap_or_default();
        Self::read(text.expose(), base, Some(path.to_owned()))
    }

    /// Checks a configuration given as text. Relative paths are relative to `base`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] as the [module](self) tells, without a `file`.
    pub fn parse(text: &str, base: impl Into<PathBuf>) -> Result<Self> {
        Self::read(text, base.into(), None)
    }

    fn read(text: &str, base: PathBuf, file: Option<PathBuf>) -> Result<Self> {
        let (mut document, mut root) = Document::parse(text, file);
        let file = document.places.file.clone();
        // What seems to be missing after a mistake in the syntax may only be hidden by it.
        problem::error(OP, file.as_ref(), std::mem::take(&mut document.problems))?;
        for name in root.keys() {
            if !KEYS.contains(&name.as_str()) {
                let known = KEYS.iter().map(|key| (*key).to_owned()).collect();
                document.refuse(unknown_key(document::join("", &name), &name, known));
            }
        }
        let read = Self::sections(&mut document, &mut root, base);
        let mut problems = std::mem::take(&mut document.problems);
        let Some(mut config) = read else {
            problem::error(OP, file.as_ref(), problems)?;
            // Not reached: of each section that could not be read a problem tells why.
            return Err(Error::new(ErrorKind::Config, OP, "the configuration cannot be read"));
        };
        config.places = document.places;
        problems.extend(check::check(&config));
        problem::error(OP, file.as_ref(), problems).map(|()| config)
    }

    /// Reads each section; `None` if one that is needed is missing or wrong, after all have been read.
    fn sections<'t>(document: &mut Document<'t>, root: &mut Section<'t>, base: PathBuf) -> Option<Self> {
        let authorities = list(document, root.take("authorities"), Document::read);
        let store = match root.take("store") {
            Some(section) => StoreConfig::read(document, section),
            None => {
                let hint = "add `[store]` with `kind = \"files\"` and `path = …`";
                document.refuse(missing("store".to_owned(), None).hint(hint));
                None
            }
        };
        let http = root.take("http").map(|section| document.read(section));
        let mut dns = root.take("dns");
        let providers = dns.as_mut().and_then(|dns| dns.take("providers"));
        let providers = list(document, providers, ProviderConfig::read);
        let dns = dns.map(|section| document.read(section));
        let deployers = list(document, root.take("deployers"), DeployerConfig::read);
        let certificates = list(document, root.take("certificates"), Document::read);
        let certificates_csv = root.take("certificates_csv").map(|section| document.read(section));
        let renewal = root.take("renewal").map(|section| document.read(section));
        Some(Self {
            authorities: authorities?,
            store: store?,
            http: flat(http)?,
            dns: flat(dns)?.unwrap_or_default(),
            providers: providers?,
            deployers: deployers?,
            certificates: certificates?,
            certificates_csv: flat(certificates_csv)?,
            renewal: flat(renewal)?.unwrap_or_default(),
            base,
            places: Places::default(),
        })
    }

    /// Where a key stands in the text: its line and column, counted from one. For messages about
    /// something that the configuration asks for, such as `certificates[2]`.
    pub fn position(&self, key: &str) -> Option<(usize, usize)> {
        self.places.find(key).map(|place| (place.line, place.column))
    }
}

/// `Some(None)` for what is not there, `None` for what is wrong.
fn flat<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(None) => None,
        Some(value) => Some(value),
    }
}

/// Reads every element, also after one that is wrong; `None` if there is such a one.
fn list<'t, T>(
    document: &mut Document<'t>,
    section: Option<Section<'t>>,
    read: impl Fn(&mut Document<'t>, Section<'t>) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(section) = section else { return Some(Vec::new()) };
    let path = section.path.clone();
    let Some(elements) = section.elements() else {
        let problem = Problem::new(path.clone(), "this is a list of tables");
        document.refuse(problem.hint(format!("write `[[{path}]]`, with two brackets, above each of them")));
        return None;
    };
    let read: Vec<Option<T>> = elements.into_iter().map(|element| read(document, element)).collect();
    read.into_iter().collect()
}
