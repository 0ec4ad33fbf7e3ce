//! An internal tool out of parts of its own: where certificates are asked for, where they are brought, who is told.

mod args;
mod folder;
mod table;
mod wanted;
mod webhook;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use acmekit::manager::Managed;
use acmekit::solvers::Http01;
use acmekit::stores::FileStore;
use acmekit::{Manager, Pipeline};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use args::Args;
use folder::Folder;
use webhook::Webhook;

/// How long the webhook may take for the last events.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Whether all is well.
async fn run(args: &Args) -> Result<bool, Box<dyn Error + Send + Sync>> {
    // Mistakes are told before anything is done.
    let wanted = wanted::read(&args.certificates)?;
    let webhook = args.webhook.as_deref().map(Webhook::new).transpose()?;
    let pipeline = Pipeline::builder(args.authority()?, Arc::new(FileStore::open(&args.store).await?))
        .solver(Http01::standalone(args.http))
        .deployer(Folder::new(&args.out))
        .build()?;

    // What a crash has left behind. If it cannot be taken away now, the certificates are not worse off.
    if let Err(error) = pipeline.sweep().await {
        tracing::warn!(%error, "what a crash has left behind stays for now");
    }
    // What somebody has changed in the folder since the last run is put right, too.
    let manager = Manager::builder(pipeline).deploy_when_added().start();
    let mut telling = JoinSet::new();
    if let Some(webhook) = webhook {
        telling.spawn(webhook.tell(manager.events()));
    }
    for one in wanted {
        // Owners take turns where there is more to do than can be done.
        manager.add(Managed::new(one.spec).group(one.owner)).await?;
    }

    let work = async {
        manager.settled().await?;
        let status = manager.status().await?;
        write!(io::stdout(), "{}", table::table(&status))?;
        if args.watch {
            std::future::pending::<()>().await;
        }
        Ok::<bool, Box<dyn Error + Send + Sync>>(status.certificates.iter().all(table::is_well))
    };
    // At any time: what is under way is in the journal, and the next run goes on with it.
    let end = told_to_end()?;
    let well = tokio::select! {
        done = work => done?,
        // That is how a watch ends; a run has not been to its end then.
        () = end => args.watch,
    };

    manager.shutdown().await;
    // The events end with it; whoever is behind is told the last ones.
    let told = async { while telling.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_WORDS, told).await.is_err() {
        tracing::warn!("the webhook was not told everything");
    }
    Ok(well)
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
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let acme = error.downcast_ref::<acmekit::Error>();
            let text = acme.map_or_else(|| error.to_string(), acmekit::Error::report);
            // Nobody is left to tell if this cannot be written.
            writeln!(io::stderr(), "custom-pipeline: {text}").ok();
            ExitCode::FAILURE
        }
    }
}
