//! From nothing to a renewed certificate in a running server, with nothing installed.
//!
//! `cargo run -p quickstart` starts a CA, a DNS server and an HTTPS server in this process, on free
//! loopback ports, and then does what a service would do. The part to copy is [`pipeline`] and
//! [`story`]; `zone.rs` is a DNS provider to copy, `server.rs` a deployer.

mod client;
mod output;
mod real;
mod server;
mod stage;
mod zone;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use acmekit::stores::FileStore;
use acmekit::{CertificateSpec, Error, ErrorKind, Pipeline, Result};
use clap::Parser;

use crate::client::Client;
use crate::output::Output;
use crate::stage::Stage;

/// Gets a certificate, serves it from a running server, renews it, and shows that no client noticed.
///
/// Needs nothing but this program: the CA, the DNS server and the HTTPS server run inside it.
#[derive(Debug, Parser)]
#[command(name = "quickstart", after_help = AFTER_HELP)]
struct Args {
    /// The directory URL of a real CA [default: a CA and a DNS server are started here]
    #[arg(long, value_name = "URL", requires = "names")]
    directory: Option<String>,

    /// Where the CA can write to
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,

    /// A name for the certificate; may be given more than once [default: example.test, *.example.test]
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,

    /// Agree to the CA's terms of service
    #[arg(long)]
    agree_to_terms: bool,

    /// The folder to keep account and certificates in [default: a new temporary one]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,

    /// Do not renew; a real CA counts certificates
    #[arg(long)]
    once: bool,

    /// Start Pebble, BIND and HAProxy, as `dev/setup` installs them, instead of servers in this process
    #[arg(long)]
    real_servers: bool,
}

const AFTER_HELP: &str = "\
With a real CA the names are proved by dns-01 if ACME_RFC2136_SERVER, ACME_RFC2136_KEY_NAME and
ACME_RFC2136_KEY_SECRET (or the RFC2136_* variables of lego) are set, and else by http-01: the CA
must then reach port 80 of this machine.

RUST_LOG=acmekit=debug shows every step.

Examples:
  cargo run -p quickstart
  cargo run -p quickstart -- --name www.example.test
  cargo run -p quickstart -- --real-servers
  cargo run -p quickstart -- --directory https://acme-staging-v02.api.letsencrypt.org/directory \\
      --email you@example.com --name www.example.com --agree-to-terms --store ./acme --once";

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let out = Output::new();
    match story(&args, &out).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out.failed(&error.report());
            ExitCode::FAILURE
        }
    }
}

/// What a service does, from its first start to its first renewal.
async fn story(args: &Args, out: &Output) -> Result<()> {
    let names = if args.names.is_empty() {
        vec!["example.test".to_owned(), "*.example.test".to_owned()]
    } else {
        args.names.clone()
    };
    let spec = CertificateSpec::new(&names)?;
    let folder = match &args.store {
        Some(folder) => folder.clone(),
        None => tempfile::Builder::new()
            .prefix("quickstart-")
            .tempdir()
            .map_err(|e| Error::new(ErrorKind::Storage, "quickstart", "no temporary folder").with_source(e))?
            .keep()
            .join("store"),
    };

    out.title(if args.real_servers {
        "Starting servers on this machine"
    } else {
        "Starting servers in this process"
    });
    let stage = Stage::start(&spec, args, out).await?;
    let pipeline = pipeline(&stage, &folder, out).await?;
    let client = Client::start(&stage.addresses(), &spec);

    out.title(&format!("Getting a certificate for {}", names.join(", ")));
    pipeline.sweep().await?;
    let first = pipeline.obtain(&spec).await?.served()?;
    let first_serial = first.bundle.facts().serial.clone();
    client.sees(&first.bundle).await?;
    out.step(&format!("a client sees serial {first_serial}"));

    let mut last = first;
    if !args.once {
        out.title("Renewing it, although it is not due");
        last = pipeline.renew(&spec).await?.served()?;
        client.sees(&last.bundle).await?;
        let serial = &last.bundle.facts().serial;
        out.step(&format!("a client sees serial {serial}, and no longer {first_serial}"));
    }

    let seen = client.stop().await?;
    out.title("What the client saw");
    out.step(&format!(
        "{} handshakes, {} failed, {} certificates, {}",
        seen.handshakes,
        seen.failures,
        seen.certificates(),
        stage.remark()
    ));
    if seen.failures > 0 {
        return Err(Error::new(ErrorKind::Deploy, "quickstart", "a client was turned away")
            .with("failed", seen.failures)
            .with("last", seen.last_failure.unwrap_or_default()));
    }
    out.what_next(&folder, stage.reload_path(), &last);
    stage.end().await
}

/// The parts put together: this is all a service needs.
async fn pipeline(stage: &Stage, folder: &Path, out: &Output) -> Result<Pipeline> {
    let store = Arc::new(FileStore::open(folder).await?);
    Pipeline::builder(stage.authority.clone(), store)
        .solver(Arc::clone(&stage.solver))
        .deployer(Arc::clone(&stage.deployer))
        .observer(out.observer())
        .build()
}
