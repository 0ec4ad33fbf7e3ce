//! Several processes of one service on one store: one orders, any of them answers the CA, all of them serve.

mod args;
mod pages;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use acmekit::manager::{Events, Heard};
use acmekit::stores::FileStore;
use acmekit::tls::AutoTls;
use axum::Router;
use axum::routing::get;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use args::Args;
use pages::Replica;

/// How long requests may go on after the service was told to end.
const GRACE: Duration = Duration::from_secs(10);

async fn run(args: &Args) -> Result<(), Box<dyn Error + Send + Sync>> {
    // All that the replicas share. Whoever comes first orders, under a lease; the others serve what comes of it.
    let store = Arc::new(FileStore::open(&args.store).await?);
    let tls = AutoTls::at(args.authority()?, &args.names).store(store);
    let tls = if args.by_http { tls.by_http() } else { tls };
    let tls = tls.start().await?;

    let mut beside = JoinSet::new();
    beside.spawn(tell(tls.manager().events()));
    // Before the certificate is waited for: by http-01 the CA asks here, whichever replica has ordered.
    if let Some(address) = args.http {
        let http = TcpListener::bind(address).await;
        let http = http.map_err(|error| format!("--http {address}: {error}"))?;
        let router = Router::new().fallback_service(tls.http().https_port(args.listen.port()));
        beside.spawn(axum::serve(http, router).into_future());
    }

    let listener = tls.listen(args.listen).await?;
    let (end, end_late) = (told_to_end()?, told_to_end()?);
    let hangup = signal(SignalKind::hangup())?;
    let (name, port) = (args.names.first().map_or("", String::as_str), listener.local_addr()?.port());
    writeln!(io::stdout(), "serving https://{name}:{port}/")?;

    let app = Router::new()
        .route("/", get(pages::hello))
        .route("/health", get(pages::health))
        .with_state(Replica { name: args.replica.as_str().into(), tls: tls.clone() });
    tokio::select! {
        served = axum::serve(listener, app).with_graceful_shutdown(end) => served?,
        () = renew_at(hangup, &tls) => {}
        // Clients that do not end keep nobody waiting.
        () = async { end_late.await; tokio::time::sleep(GRACE).await } => {}
    }

    tls.shutdown().await;
    Ok(())
}

/// Prints what this replica does, one line of JSON for each event. What the others do is told by them.
async fn tell(mut events: Events) -> io::Result<()> {
    while let Some(heard) = events.next().await {
        let line = match heard {
            Heard::Event(event) => serde_json::to_string(&event)?,
            Heard::Missed(count) => format!("{{\"missed\":{count}}}"),
            _ => continue,
        };
        writeln!(io::stdout(), "{line}")?;
    }
    Ok(())
}

/// Renews all certificates at each signal, however young they are: once, though all replicas serve what comes of it.
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
            writeln!(io::stderr(), "replicas: {text}").ok();
            ExitCode::FAILURE
        }
    }
}
