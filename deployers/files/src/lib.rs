//! The deployer everybody needs: PEM files in a folder, all switched at once, a reload command,
//! and a look at what is served.
//!
//! ```
//! use acmekit_core::Deployer;
//! use acmekit_files::{Config, Files};
//!
//! let mut config = Config::new("/etc/acmekit/live");
//! config.reload = ["nginx", "-s", "reload"].map(str::to_owned).to_vec();
//! config.verify_addresses = vec!["127.0.0.1:443".parse().unwrap()];
//! let files = Files::new(config)?;
//! assert_eq!(files.id(), acmekit_files::ID);
//! # Ok::<(), acmekit_core::Error>(())
//! ```
//!
//! # What programs read
//! For the certificate `web` (see [`CertificateSpec::named`](acmekit_core::CertificateSpec::named)):
//!
//! | path | content | mode |
//! |---|---|---|
//! | `ROOT/web/fullchain.pem` | leaf and intermediates | 0644 |
//! | `ROOT/web/chain.pem` | intermediates alone; empty if there are none | 0644 |
//! | `ROOT/web/cert.pem` | leaf alone | 0644 |
//! | `ROOT/web/privkey.pem` | key, PKCS#8 | 0600 |
//! | `ROOT/web/combined.pem` | full chain, then key; by choice | 0600 |
//!
//! ```text
//! ssl_certificate     /etc/acmekit/live/web/fullchain.pem;
//! ssl_certificate_key /etc/acmekit/live/web/privkey.pem;
//! ```
//!
//! `ROOT/web` is a link to `.versions/web/NUMBER-SERIAL/`. A version is written and flushed to the
//! disk beside the others, and is never changed afterwards; then the link is replaced by one
//! rename, and all files are the new ones at once. A crash leaves one of the two whole versions,
//! and the next deployment reloads and looks again, because it is noted on the disk until which
//! version the server is known to have followed.
//!
//! # Readers that open two files
//! A program that opens `fullchain.pem` and then `privkey.pem` by path, while the link is switched
//! between the two, still sees one of each. Servers are told to read *after* the switch, and nginx
//! and Apache check the pair; for programs that read whenever they like there are two ways that
//! never mix: read `combined.pem`, or open the folder `ROOT/web` once and both files below that
//! handle (`openat`).
//!
//! # When it fails
//! A reload that fails, takes too long, or is not followed by the new certificate in a handshake at
//! every one of [`verify_addresses`](Config::verify_addresses), brings the previous version back:
//! link, reload, look. The error says what is served now. Without a previous version the link is
//! taken away again.
//!
//! Apache exits on a reload with a key that is not the certificate's. It cannot happen here: a
//! [`Bundle`] is a checked pair, unless the key is the caller's ([`Config::without_key`]).
//!
//! # Who else may write
//! The root is this deployer's own, shared with other deployers of this kind; it waits for those
//! in other processes by a lock on `ROOT/.lock`. Below the root no link is followed.

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("acmekit-files needs one crypto provider: enable the feature `aws-lc-rs` or `ring`");

mod account;
mod config;
mod contents;
mod deploy;
mod lock;
mod place;
mod problem;
mod reload;
mod served;
mod version;

use std::sync::Arc;

use acmekit_core::{Bundle, CertificateId, Deployer, Outcome, Result, async_trait};
use tokio::sync::Mutex;

pub use config::{Config, Mode};

use crate::contents::{Attributes, Ownership};

/// The id of this kind of deployer, and the default of [`Config::id`].
pub const ID: &str = "files";

/// Delivers certificates as PEM files. See the [crate](self).
///
/// Calls on one value are served one after the other; several values, also in other processes,
/// may share a root.
#[derive(Debug)]
pub struct Files {
    config: Config,
    ownership: Ownership,
    turn: Arc<Mutex<()>>,
}

impl Files {
    /// A deployer with this configuration. Nothing is written yet, and the root need not exist.
    ///
    /// # Errors
    /// [`Config`](acmekit_core::ErrorKind::Config) if a value cannot be used, or if this machine
    /// does not know the owner or the group.
    pub fn new(config: Config) -> Result<Self> {
        config.check()?;
        let uid = config.owner.as_deref().map(account::user).transpose()?;
        let gid = config.group.as_deref().map(account::group).transpose()?;
        let with = |mode: Mode| Attributes { mode: mode.bits(), uid, gid };
        let ownership = Ownership {
            folder: with(config.folder_mode),
            file: with(config.file_mode),
            key: with(config.key_mode),
        };
        Ok(Self { config, ownership, turn: Arc::default() })
    }
}

#[async_trait]
impl Deployer for Files {
    fn id(&self) -> &str {
        &self.config.id
    }

    async fn deploy(&self, bundle: &Bundle) -> Result<Outcome> {
        self.put(bundle).await
    }

    async fn verify(&self, bundle: &Bundle) -> Result<()> {
        self.look(bundle).await
    }

    /// Takes the link away, reloads, sees that no address shows it any more, then removes all
    /// versions. If the server does not do without it, the files are put back and the error is
    /// `Conflict`.
    async fn remove(&self, id: &CertificateId) -> Result<()> {
        self.take_away(id).await
    }
}
