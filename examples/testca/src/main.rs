//! A CA to point any ACME client at: `TestCa` as a program.
//!
//! It prints its directory URL when it is ready, and ends on SIGINT or SIGTERM.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use acmekit_core::atomic::{FileAttributes, write_file};
use acmekit_core::{Error, ErrorKind, Result};
use acmekit_server::TestCa;
use acmekit_server::faults::Faults;
use acmekit_server::limits::Limits;
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs a CA for tests until it is told to end, and prints its directory URL when it is ready.
///
/// It speaks ACME (RFC 8555) by HTTPS and checks challenges on this machine: every name that its DNS
/// server does not know is looked for at 127.0.0.1. Its roots are made when it starts; nobody trusts
/// them.
#[derive(Debug, Parser)]
#[command(name = "testca", after_help = AFTER_HELP, verbatim_doc_comment)]
struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:14000")]
    listen: SocketAddr,

    /// Write here, in PEM, the root that a client must trust to talk to this CA
    #[arg(long, value_name = "FILE")]
    root_out: Option<PathBuf>,

    /// Write here, in PEM, the roots of the certificates it issues: what clients of your server trust
    #[arg(long, value_name = "FILE")]
    issuing_roots_out: Option<PathBuf>,

    /// The DNS server to ask about TXT, CAA and addresses [default: the system's]
    #[arg(long, value_name = "IP:PORT")]
    dns: Option<SocketAddr>,

    /// Look for http-01 answers at this port [default: 80]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    http_port: Option<u16>,

    /// Look for tls-alpn-01 answers at this port [default: 443]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    tls_port: Option<u16>,

    /// Let only accounts in that are bound to this external one; may be given more than once
    ///
    /// KEY is in base64url. Anybody can see it in the list of processes: give a value made up for tests.
    #[arg(long, value_name = "KID:KEY", value_parser = external_account)]
    eab: Vec<ExternalAccount>,

    /// Limit clients as a real CA does
    #[arg(long, value_name = "WHOSE")]
    limits: Option<Whose>,

    /// Misbehave as this file says
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,

    /// Take every challenge for met, without looking
    #[arg(long, conflicts_with_all = ["dns", "http_port", "tls_port"])]
    always_valid: bool,
}

const AFTER_HELP: &str = "\
The URL is the only line on standard output. By then requests are answered, and the roots are written.
RUST_LOG=acmekit_server=debug shows what happens.

certbot, with http-01 answered at port 5002:
  testca --root-out /tmp/root.pem --http-port 5002
  REQUESTS_CA_BUNDLE=/tmp/root.pem certbot certonly --standalone --http-01-port 5002 \\
      --server https://127.0.0.1:14000/directory --register-unsafely-without-email --agree-tos \\
      --config-dir /tmp/le --work-dir /tmp/le --logs-dir /tmp/le -d www.example.test

lego, with tls-alpn-01 answered at port 5001:
  testca --root-out /tmp/root.pem --tls-port 5001
  LEGO_CA_CERTIFICATES=/tmp/root.pem lego --server https://127.0.0.1:14000/directory \\
      --path /tmp/lego --email you@example.test --accept-tos --tls --tls.port 127.0.0.1:5001 \\
      -d www.example.test run";

#[derive(Debug, Clone)]
struct ExternalAccount {
    kid: String,
    key: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Whose {
    /// Those of Let's Encrypt
    Letsencrypt,
    /// Those of its staging environment
    LetsencryptStaging,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if this cannot be written.
            writeln!(std::io::stderr(), "testca: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    // First of all: one that comes while the CA starts must not be lost.
    let mut ends = Ends::listen()?;
    let (root_out, issuing_roots_out) = (args.root_out.clone(), args.issuing_roots_out.clone());
    let ca = start(args).await?;
    write_out("--root-out", root_out, ca.root_pem())?;
    write_out("--issuing-roots-out", issuing_roots_out, &ca.issuing_roots_pem().concat())?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", ca.directory_url()).and_then(|()| out.flush()).map_err(|e| {
        Error::new(ErrorKind::Other, "testca.ready", "the URL could not be printed").with("reason", e)
    })?;
    ends.wait().await;
    ca.shutdown().await;
    Ok(())
}

fn write_out(option: &str, path: Option<PathBuf>, text: &str) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    // A bare file name has an empty parent, which no file system knows.
    let path = std::path::absolute(&path).unwrap_or(path);
    write_file(&path, text.as_bytes(), FileAttributes::mode(0o644)).map_err(|e| e.with("option", option))
}

/// What the options say, as [`TestCa`] takes it.
async fn start(args: Args) -> Result<TestCa> {
    let mut builder = TestCa::builder().listen(args.listen);
    if let Some(server) = args.dns {
        builder = builder.dns_server(server);
    }
    if let Some(port) = args.http_port {
        builder = builder.http_port(port);
    }
    if let Some(port) = args.tls_port {
        builder = builder.tls_port(port);
    }
    for account in &args.eab {
        builder =
            builder.external_account(&account.kid, &account.key).map_err(|e| e.with("option", "--eab"))?;
    }
    if let Some(whose) = args.limits {
        builder = builder.limits(limits(whose));
    }
    if let Some(path) = &args.faults {
        builder = builder.faults(faults(path)?);
    }
    if args.always_valid {
        builder = builder.always_valid();
    }
    builder.start().await.map_err(|e| match e.kind() {
        ErrorKind::Unavailable => e.with("option", "--listen"),
        _ => e,
    })
}

fn limits(whose: Whose) -> Limits {
    match whose {
        Whose::Letsencrypt => Limits::lets_encrypt(),
        Whose::LetsencryptStaging => Limits::lets_encrypt_staging(),
    }
}

/// A script in JSON, as `acmekit_server::faults::Faults::from_json` documents it.
fn faults(path: &Path) -> Result<Faults> {
    let refused = |why: String| {
        Error::new(ErrorKind::Config, "testca.faults", why)
            .with("option", "--faults")
            .with("file", path.display())
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| refused(format!("the file cannot be read: {error}")))?;
    Faults::from_json(&text).map_err(|error| refused(error.to_string()))
}

fn external_account(text: &str) -> std::result::Result<ExternalAccount, String> {
    match text.split_once(':') {
        Some((kid, key)) if !kid.is_empty() && !key.is_empty() => {
            Ok(ExternalAccount { kid: kid.to_owned(), key: key.to_owned() })
        }
        _ => Err("a key id, a colon and the key in base64url are needed".to_owned()),
    }
}

/// The signals that end it.
struct Ends {
    interrupt: Signal,
    terminate: Signal,
}

impl Ends {
    fn listen() -> Result<Self> {
        let listen = |kind| {
            signal(kind).map_err(|e| {
                Error::new(ErrorKind::Other, "testca.signals", "signals cannot be listened for")
                    .with("reason", e)
            })
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
