//! An axum service on HTTPS: its certificate is got when it first starts, and renewed while it serves.

mod args;
mod pages;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use acmekit::tls::AutoTls;
use axum::Router;
use axum::routing::get;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use args::Args;

/// How long requests may go on after the service was told to end. Without it, one client in the middle of a request would
/// keep the service for ever.
const GRACE: Duration = Duration::from_secs(10);

/// All of the service. With names that are known beforehand, its first lines are:
///
/// ```text
/// let tls = AutoTls::staging(["www.example.com"]) // once it works: AutoTls::lets_encrypt
///     .contact("you@example.com")
///     .agree_to_terms()
///     .folder("/var/lib/my-service/acme")
///     .start()
///     .await?;
/// ```
async fn run(args: &Args) -> Result<(), Box<dyn Error + Send + Sync>> {
    let tls = AutoTls::at(args.authority()?, &args.names).folder(&args.store).start().await?;

    let app = Router::new()
        .route("/", get(pages::hello))
        .route("/health", get(pages::health))
        .with_state(tls.clone());

    // Port 80, if it is wanted: everything there is sent to HTTPS. For port 443, `tls.http_router()` says the same.
    let mut redirecting = JoinSet::new();
    if let Some(address) = args.http {
        let http = TcpListener::bind(address).await;
        let http = http.map_err(|error| format!("--http {address}: {error}"))?;
        let router = Router::new().fallback_service(tls.http().https_port(args.listen.port()));
        redirecting.spawn(axum::serve(http, router).into_future());
    }

    // Here the first start waits for its certificate. Later ones find it in the folder.
    let listener = tls.listen(args.listen).await?;
    let (end, end_late) = (told_to_end()?, told_to_end()?);
    let hangup = signal(SignalKind::hangup())?;
    let (name, port) = (args.names.first().map_or("", String::as_str), listener.local_addr()?.port());
    writeln!(io::stdout(), "serving https://{name}:{port}/")?;

    tokio::select! {
        served = axum::serve(listener, app).with_graceful_shutdown(end) => served?,
        () = renew_at(hangup, &tls) => {}
        // Clients that do not end keep nobody waiting.
        () = async { end_late.await; tokio::time::sleep(GRACE).await } => {}
    }

    tls.shutdown().await;
    Ok(())
}

/// Renews all certificates at each signal, however young they are.
async fn renew_at(mut signal: Signal, tls: &AutoTls) {
    while signal.recv().await.is_some() {
        if let Err(error) = tls.renew_all().await {
            tracing::warn!(%error, "not all certificates are renewed");
        }
    }
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
            writeln!(io::stderr(), "axum-https: {text}").ok();
            ExitCode::FAILURE
        }
    }
}
