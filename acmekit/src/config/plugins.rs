//! The registry: which kinds of store, DNS provider and deployer there are, and how each is read.
//!
//! A new one is a struct with its keys and its `impl` in a file of its own here, and a line each for `mod` and in the
//! table of its trait.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use acmekit_core::dns::Resolver;
use acmekit_core::{Deployer, DnsProvider, Error, ErrorKind, Result, Store, async_trait};

use super::document::{Document, Section, missing, one_of};
use super::problem::Problem;

#[cfg(feature = "acme-dns")]
mod acme_dns;
#[cfg(feature = "cloudflare")]
mod cloudflare;
#[cfg(feature = "desec")]
mod desec;
#[cfg(feature = "dns-update")]
mod dns_update;
#[cfg(feature = "exec")]
mod exec;
mod file_store;
#[cfg(feature = "files")]
mod files;
#[cfg(feature = "haproxy")]
mod haproxy;
#[cfg(feature = "httpreq")]
mod httpreq;
#[cfg(feature = "responder")]
mod responder;
#[cfg(feature = "rfc2136")]
mod rfc2136;
#[cfg(feature = "route53")]
mod route53;

/// What a plug-in refuses: which of its keys, and why.
#[derive(Debug)]
pub(super) struct Flaw {
    /// Its key, or nothing if it is about the whole.
    pub(super) key: String,
    pub(super) error: Error,
}

impl Flaw {
    pub(super) fn at(key: impl Into<String>) -> impl FnOnce(Error) -> Self {
        let key = key.into();
        move |error| Self { key, error }
    }
}

impl From<Error> for Flaw {
    fn from(error: Error) -> Self {
        Self { key: String::new(), error }
    }
}

/// Connections for an API that these roots, too, may vouch for.
#[cfg_attr(not(feature = "plug-ins"), allow(dead_code, reason = "not every plug-in speaks HTTPS"))]
async fn pool(extra_roots: Option<&Path>, base: &Path) -> Result<acmekit_core::rest::Pool, Flaw> {
    use acmekit_core::rest::Pool;
    let Some(file) = extra_roots else { return Ok(Pool::new()?) };
    let text = super::secret::read_text(&base.join(file)).await.map_err(Flaw::at("extra_roots"))?;
    Pool::with_extra_roots_pem(&text).map_err(Flaw::at("extra_roots"))
}

/// The configuration of a store.
#[async_trait]
pub(super) trait StorePlugin: fmt::Debug + Send + Sync {
    /// Opens it.
    async fn build(&self, base: &Path) -> Result<Arc<dyn Store>, Flaw>;
}

/// The configuration of a DNS provider.
#[async_trait]
pub(super) trait ProviderPlugin: fmt::Debug + Send + Sync {
    /// Refuses what cannot work, as far as that can be seen without reading anything else.
    fn check(&self) -> Result<(), Flaw>;

    /// Reads its secrets, and makes it. Nothing is sent. Who needs the DNS itself gets `[dns]`'s resolver; there
    /// is none where `[dns]` is wrong, and then that is told.
    async fn build(&self, base: &Path, resolver: Option<&Resolver>) -> Result<Arc<dyn DnsProvider>, Flaw> {
        let _ = (base, resolver);
        let why = "this provider is a server: it is made when the store is open";
        Err(Error::new(ErrorKind::Other, "config.provider", why).into())
    }

    /// What makes it instead of `build`, if it is a server in this program: it keeps its records in the store, which
    /// is opened only once nothing is wrong any more.
    fn server(&self) -> Option<&dyn ServerPlugin> {
        None
    }
}

/// The configuration of a DNS provider that is a server in this program.
pub(super) trait ServerPlugin: Send + Sync {
    /// Makes it; nothing is bound yet.
    fn build(&self, store: &Arc<dyn Store>) -> Result<Arc<dyn Server>, Flaw>;
}

/// A DNS provider that is a server in this program.
#[async_trait]
pub(super) trait Server: DnsProvider {
    /// Answers from now on; nothing happens if it does so already.
    fn listen(&self) -> Result<()>;

    /// Stops it; its addresses are free then.
    async fn end(&self);
}

/// The configuration of a deployer.
pub(super) trait DeployerPlugin: fmt::Debug + Send + Sync {
    /// Makes it under this id; nothing is written or sent.
    fn build(&self, id: &str, base: &Path) -> Result<Arc<dyn Ending>, Flaw>;
}

/// A deployer that may have work left when the program ends.
#[async_trait]
pub(super) trait Ending: Deployer {
    /// Waits for that work.
    async fn end(&self) {}
}

/// A kind of plug-in, and how its section is read.
pub(super) struct Kind<P: ?Sized> {
    /// What `kind` says: the name of the folder and of the feature.
    pub(super) name: &'static str,
    read: for<'t> fn(&mut Document<'t>, Section<'t>) -> Option<Arc<P>>,
    /// Its keys.
    #[cfg(all(test, feature = "plug-ins"))]
    pub(super) fields: fn() -> Vec<&'static str>,
}

/// The kind of this name, whose keys are those of a struct.
macro_rules! kind {
    ($name:literal => $keys:ty) => {
        Kind {
            name: $name,
            read: |document, section| document.read::<$keys>(section).map(|keys| Arc::new(keys) as _),
            #[cfg(all(test, feature = "plug-ins"))]
            fields: super::fields::fields_of::<$keys>,
        }
    };
}

/// The plug-ins of one trait that are in this program, and those that could be.
macro_rules! kinds {
    ($kinds:ident, $all:ident: $plugin:ty; $($name:literal => $keys:ty,)+) => {
        pub(super) const $kinds: &[Kind<$plugin>] = &[$(
            #[cfg(feature = $name)]
            kind!($name => $keys),
        )+];
        pub(super) const $all: &[&str] = &[$($name),+];
    };
}

pub(super) const STORES: &[Kind<dyn StorePlugin>] = &[kind!("files" => file_store::Keys)];

kinds! { PROVIDERS, ALL_PROVIDERS: dyn ProviderPlugin;
    "acme-dns" => acme_dns::Keys,
    "cloudflare" => cloudflare::Keys,
    "desec" => desec::Keys,
    "dns-update" => dns_update::Keys,
    "exec" => exec::Keys,
    "httpreq" => httpreq::Keys,
    "responder" => acmekit_responder::Config,
    "rfc2136" => rfc2136::Keys,
    "route53" => route53::Keys,
}

kinds! { DEPLOYERS, ALL_DEPLOYERS: dyn DeployerPlugin;
    "files" => acmekit_files::Config,
    "haproxy" => acmekit_haproxy::Config,
}

/// `[store]`: where accounts, journals and certificates are kept. `kind` says which one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreConfig {
    /// Which store: `files`.
    pub kind: String,
    pub(super) plugin: Arc<dyn StorePlugin>,
}

/// `[[dns.providers]]`: who changes a DNS zone. `kind` says which one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProviderConfig {
    /// Which provider: the name of its feature.
    pub kind: String,
    pub(super) plugin: Arc<dyn ProviderPlugin>,
}

/// `[[deployers]]`: where certificates are brought. `kind` says which one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeployerConfig {
    /// Which deployer: the name of its feature.
    pub kind: String,
    /// What certificates call it. Default: its kind.
    pub id: String,
    pub(super) plugin: Arc<dyn DeployerPlugin>,
}

impl StoreConfig {
    pub(super) fn read<'t>(document: &mut Document<'t>, section: Section<'t>) -> Option<Self> {
        let (kind, plugin) = read(document, section, STORES, "store", &[])?;
        Some(Self { kind, plugin })
    }
}

impl ProviderConfig {
    pub(super) fn read<'t>(document: &mut Document<'t>, section: Section<'t>) -> Option<Self> {
        let (kind, plugin) = read(document, section, PROVIDERS, "DNS provider", ALL_PROVIDERS)?;
        Some(Self { kind, plugin })
    }
}

impl DeployerConfig {
    pub(super) fn read<'t>(document: &mut Document<'t>, mut section: Section<'t>) -> Option<Self> {
        // Of a section that is no table nothing can be taken, and its kind will be missed.
        let id = match section.take("id") {
            Some(id) => Some(document.read::<String>(id)?),
            None => None,
        };
        let (kind, plugin) = read(document, section, DEPLOYERS, "deployer", ALL_DEPLOYERS)?;
        Some(Self { id: id.unwrap_or_else(|| kind.clone()), kind, plugin })
    }
}

/// Reads the section as its `kind` says.
fn read<'t, P: ?Sized>(
    document: &mut Document<'t>,
    mut section: Section<'t>,
    kinds: &[Kind<P>],
    what: &str,
    all: &[&str],
) -> Option<(String, Arc<P>)> {
    let key = format!("{}.kind", section.path);
    let Some(kind) = section.take("kind") else {
        let place = document.places.find(&section.path);
        let known: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
        let hint = format!("say which {what}: `kind = \"…\"`, one of: {}", known.join(", "));
        document.refuse(missing(key, place).hint(hint));
        return None;
    };
    let kind: String = document.read(kind)?;
    if let Some(found) = kinds.iter().find(|known| known.name == kind) {
        return Some((kind, (found.read)(document, section)?));
    }
    let problem = match all.contains(&kind.as_str()) {
        true => Problem::new(key, format!("this program was built without the {what} `{kind}`"))
            .hint(format!("build it with acmekit's feature `{kind}`")),
        false => {
            let known: Vec<String> = kinds.iter().map(|kind| kind.name.to_owned()).collect();
            Problem::new(key, format!("there is no such {what}")).hint(one_of(&kind, &known))
        }
    };
    document.refuse(problem.value(kind));
    None
}
