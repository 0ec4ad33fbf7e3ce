//! What it is told on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use acmekit::{Authority, Error, ErrorKind, Result};
use clap::Parser;

/// Gets, renews and delivers the certificates of a JSON file, and ends when nothing is left to do for now.
///
/// Run it from time to time, twice a day or more often; or once, with --watch. Names are proved by
/// http-01: the CA connects to port 80 of each name.
#[derive(Debug, Parser)]
#[command(name = "custom-pipeline", verbatim_doc_comment)]
pub(crate) struct Args {
    /// What is wanted: { "certificates": [ { "names": ["www.example.com"], "owner": "web" } ] }
    #[arg(value_name = "FILE.json")]
    pub(crate) certificates: PathBuf,

    /// Bring each certificate to DIR/ID/combined.pem
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Where to answer http-01, while there is something to answer
    #[arg(long, value_name = "IP:PORT", default_value = "[::]:80")]
    pub(crate) http: SocketAddr,

    /// Post each event there, as JSON; http:// is for this machine only
    #[arg(long, value_name = "URL")]
    pub(crate) webhook: Option<String>,

    /// Go on renewing until a signal ends it
    #[arg(long)]
    pub(crate) watch: bool,

    /// Keep account, keys and certificates in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) store: PathBuf,

    /// Where the CA can write to, such as you@example.com
    #[arg(long, value_name = "ADDRESS")]
    contact: Option<String>,

    /// Agree to the CA's terms of service
    #[arg(long)]
    agree_to_terms: bool,

    /// Get certificates that browsers trust, from Let's Encrypt [default: from its staging environment]
    #[arg(long, conflicts_with = "directory")]
    production: bool,

    /// Get them from another CA
    #[arg(long, value_name = "URL")]
    directory: Option<String>,

    /// Trust this root (PEM) when talking to that CA
    #[arg(long, value_name = "FILE", requires = "directory")]
    root: Option<PathBuf>,
}

impl Args {
    /// Which CA, as whom, on what terms.
    pub(crate) fn authority(&self) -> Result<Authority> {
        let mut authority = match &self.directory {
            Some(url) => Authority::custom(url)?,
            None if self.production => Authority::lets_encrypt(),
            None => Authority::lets_encrypt_staging(),
        };
        if let Some(file) = &self.root {
            let text = std::fs::read_to_string(file).map_err(|e| {
                Error::new(ErrorKind::Config, "args.root", "the file cannot be read")
                    .with("file", file.display())
                    .with("reason", e)
            })?;
            authority = authority.extra_roots_pem(&text)?;
        }
        if let Some(contact) = &self.contact {
            authority = authority.contact(contact);
        }
        Ok(if self.agree_to_terms { authority.agree_to_terms() } else { authority })
    }
}
