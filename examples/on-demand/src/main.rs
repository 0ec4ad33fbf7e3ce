//! HTTPS for tenants whose names are not known beforehand: each gets its certificate when its first client comes.

mod args;

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use acmekit::tls::{Ask, AutoTls, OnDemand};
use acmekit::{DnsName, ErrorKind};
use axum::Router;
use axum::http::header::HOST;
use axum::http::{HeaderMap, Uri};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use args::Args;

/// How long requests may go on after the service was told to end.
const GRACE: Duration = Duration::from_secs(10);
/// How late a new tenant is served who was refused just before. It costs no more than a look into a file.
const REFUSED: Duration = Duration::from_secs(10);

async fn run(args: &Args) -> Result<(), Box<dyn Error + Send + Sync>> {
    let tls = AutoTls::at(args.authority()?, &args.names)
        .on_demand(tenants(args)?)
        .folder(&args.store)
        .start()
        .await?;
    // With names of its own, here the first start waits for their certificate.
    let listener = tls.listen(args.listen).await?;
    let (end, end_late) = (told_to_end()?, told_to_end()?);
    writeln!(io::stdout(), "serving {}", listener.local_addr()?)?;

    let app = Router::new().fallback(page);
    tokio::select! {
        served = axum::serve(listener, app).with_graceful_shutdown(end) => served?,
        // Clients that do not end keep nobody waiting.
        () = async { end_late.await; tokio::time::sleep(GRACE).await } => {}
    }
    tls.shutdown().await;
    Ok(())
}

/// Who gets a certificate. A service that has a database asks it here.
fn tenants(args: &Args) -> acmekit::Result<OnDemand> {
    let allowed = match &args.ask {
        Some(url) => OnDemand::by(Ask::new(url)?),
        None => {
            let file = args.tenants.clone().unwrap_or_default();
            OnDemand::new(move |name: &DnsName| {
                let (file, name) = (file.clone(), name.clone());
                async move { is_tenant(&file, &name).await }
            })
        }
    };
    let allowed = allowed.refusals_last(REFUSED);
    Ok(if args.any_name { allowed.any_name() } else { allowed })
}

/// Whether the name is in a file of one domain a line, however it is spelled there.
async fn is_tenant(file: &Path, name: &DnsName) -> acmekit::Result<bool> {
    // An error is neither yes nor no: who has a certificate keeps it, and nobody gets a new one.
    let text = tokio::fs::read_to_string(file).await.map_err(|e| {
        acmekit::Error::new(ErrorKind::Unavailable, "tenants", "the file of tenants cannot be read")
            .with("file", file.display())
            .with("reason", e)
    })?;
    Ok(text.lines().any(|line| line.trim().parse::<DnsName>().is_ok_and(|tenant| tenant == *name)))
}

/// Says whose page it is. HTTP/2 has the name in the URI, HTTP/1.1 in a header field.
async fn page(uri: Uri, headers: HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    let host = uri.authority().map(|authority| authority.as_str()).or(host);
    format!("This is {}.\n", host.unwrap_or("nobody"))
}

/// Ends at SIGINT or SIGTERM. They are listened for from this call on, and not only once somebody awaits it.
fn told_to_end() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    match run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let acme = error.downcast_ref::<acmekit::Error>();
            let text = acme.map_or_else(|| error.to_string(), acmekit::Error::report);
            // Nobody is left to tell if this cannot be written.
            writeln!(io::stderr(), "on-demand: {text}").ok();
            ExitCode::FAILURE
        }
    }
}
