//! What it is told on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use acmekit::{Authority, Error, ErrorKind, Result};
use clap::Parser;

/// Serves each tenant on HTTPS, with a certificate that it gets when the tenant's first client comes.
///
/// Names are proved by tls-alpn-01 on the port it serves: the CA connects to port 443 of each name.
/// SIGINT and SIGTERM end it.
#[derive(Debug, Parser)]
#[command(name = "on-demand", verbatim_doc_comment)]
pub(crate) struct Args {
    /// Names of the service itself, all in one certificate that is got at the start
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// The tenants: a file with one domain a line, read again for each question
    #[arg(long, value_name = "FILE", required_unless_present = "ask", conflicts_with = "ask")]
    pub(crate) tenants: Option<PathBuf>,

    /// Ask this server who is a tenant, by GET URL?domain=NAME, as Caddy does
    #[arg(long, value_name = "URL")]
    pub(crate) ask: Option<String>,

    /// Also names that are below no public suffix, as in a company's own network or with a test CA
    #[arg(long)]
    pub(crate) any_name: bool,

    /// Where to serve HTTPS
    #[arg(long, value_name = "IP:PORT", default_value = "[::]:443")]
    pub(crate) listen: SocketAddr,

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
