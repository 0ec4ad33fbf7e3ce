//! What it is told on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use acmekit::{Authority, Error, ErrorKind, Result};
use clap::Parser;

/// Serves a page on HTTPS, with a certificate that it gets and renews by itself.
///
/// Names are proved by tls-alpn-01 on the port it serves: the CA connects to port 443 of each name.
/// SIGHUP renews at once; SIGINT and SIGTERM end it.
#[derive(Debug, Parser)]
#[command(name = "axum-https", verbatim_doc_comment)]
pub(crate) struct Args {
    /// The names to serve, all in one certificate
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// Where to serve HTTPS
    #[arg(long, value_name = "IP:PORT", default_value = "[::]:443")]
    pub(crate) listen: SocketAddr,

    /// Where to send HTTP clients to HTTPS, such as 0.0.0.0:80 [default: nowhere]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) http: Option<SocketAddr>,

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
