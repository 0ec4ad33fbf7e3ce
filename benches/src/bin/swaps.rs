//! HAProxy gets one certificate after the other while clients shake hands without a pause: by acmekit's deployer, which
//! swaps it in the running process, and by what scripts do, a file and a reload.
//!
//! ```text
//! cargo run --release -p acmekit-benches --bin swaps -- [--swaps 1000] [--reloads 200] [--clients 4]
//! ```
//!
//! A change counts as done when a client has seen the new certificate.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program tells its user")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use acmekit_benches::percentile;
use acmekit_benches::table::Table;
use acmekit_conformance::test_bundle;
use acmekit_core::{Bundle, Deployer, atomic};
use acmekit_haproxy::{Config, Endpoint, HaProxy, Instance};
use acmekit_testbed::{HaProxy as Server, handshake};
use clap::Parser;
use tokio::task::JoinSet;
use tokio::time::Instant;

const NAME: &str = "www.example.test";
/// How long a client may wait for its handshake, and a change for its first client.
const PATIENCE: Duration = Duration::from_secs(10);

/// Certificates swapped under load, beside reloads.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many certificates the deployer brings.
    #[arg(long, default_value_t = 1000)]
    swaps: usize,
    /// How many are brought by a file and a reload.
    #[arg(long, default_value_t = 200)]
    reloads: usize,
    /// How many clients shake hands without a pause.
    #[arg(long, default_value_t = 4)]
    clients: usize,
}

/// What the clients saw: how long each handshake took in milliseconds, and what failed.
#[derive(Default)]
struct Seen {
    milliseconds: Vec<f64>,
    failures: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("swaps: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<Table, String> {
    let mut table = Table::new(&[
        "",
        "changes",
        "until served: p50 ms",
        "p99 ms",
        "handshakes",
        "failed",
        "handshake: p50 ms",
        "p99 ms",
        "slowest ms",
    ]);
    let bundles = [bundle()?, bundle()?];
    let by_deployer = under_load(arguments, arguments.swaps, &bundles, true).await?;
    row(&mut table, "acmekit's deployer", &by_deployer);
    let by_reload = under_load(arguments, arguments.reloads, &bundles, false).await?;
    row(&mut table, "file and reload", &by_reload);
    Ok(table)
}

fn bundle() -> Result<Bundle, String> {
    test_bundle(&[NAME]).map_err(|error| error.report())
}

async fn under_load(
    arguments: &Arguments,
    changes: usize,
    bundles: &[Bundle; 2],
    swapped: bool,
) -> Result<(Vec<f64>, Seen), String> {
    let server = Server::builder().names(&[NAME]).master_worker(true).start().await;
    let server = server.map_err(|error| error.to_string())?;
    let address = *server.tls_addrs().first().ok_or("HAProxy listens nowhere")?;
    let socket = server.master_socket_path().ok_or("HAProxy has no master")?;
    let mut instance = Instance::new(Endpoint::master(socket), server.cert_path());
    instance.addresses = vec![address];
    let deployer = HaProxy::new(Config::new(instance)).map_err(|error| error.report())?;

    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..arguments.clients {
        clients.spawn(client(address, Arc::clone(&over)));
    }
    let mut taken = Vec::new();
    let mut failed = None;
    for (number, bundle) in (0..changes).zip(bundles.iter().cycle()) {
        let begun = Instant::now();
        let changed = match swapped {
            true => swap(&deployer, bundle).await,
            false => reload(&server, address, bundle).await,
        };
        if let Err(why) = changed {
            failed = Some(format!("change {number}: {why}"));
            break;
        }
        taken.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    over.store(true, Ordering::SeqCst);
    let mut seen = Seen::default();
    while let Some(ended) = clients.join_next().await {
        let one = ended.map_err(|error| error.to_string())?;
        seen.milliseconds.extend(one.milliseconds);
        seen.failures.extend(one.failures);
    }
    if let Some(why) = failed {
        return Err(why);
    }
    if let Some(first) = seen.failures.first() {
        eprintln!("the first handshake that failed: {first}");
    }
    taken.sort_by(f64::total_cmp);
    seen.milliseconds.sort_by(f64::total_cmp);
    Ok((taken, seen))
}

/// As a pipeline does it.
async fn swap(deployer: &HaProxy, bundle: &Bundle) -> Result<(), String> {
    let told = |error: acmekit_core::Error| error.report();
    deployer.deploy(bundle).await.map_err(told)?;
    deployer.verify(bundle).await.map_err(told)
}

/// As a hook does it: the file, a reload, and a look.
async fn reload(server: &Server, address: SocketAddr, bundle: &Bundle) -> Result<(), String> {
    let key = bundle.key_pem().ok_or("a bundle without a key")?;
    let pem = bundle.fullchain_pem() + key.expose();
    let file = (server.cert_path().to_owned(), pem);
    let written = tokio::task::spawn_blocking(move || {
        atomic::write_file(&file.0, file.1.as_bytes(), atomic::FileAttributes::default())
    });
    written.await.map_err(|error| error.to_string())?.map_err(|error| error.report())?;
    server.reload().await.map_err(|error| error.to_string())?;
    let deadline = Instant::now() + PATIENCE;
    let wanted = bundle.chain_der().first().ok_or("a bundle without a certificate")?.as_slice();
    while Instant::now() < deadline {
        match handshake(address, NAME).await {
            Ok(shown) if shown.leaf() == wanted => return Ok(()),
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    Err("the new certificate is not served after a reload".to_owned())
}

async fn client(address: SocketAddr, over: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    while !over.load(Ordering::SeqCst) {
        let begun = Instant::now();
        match tokio::time::timeout(PATIENCE, handshake(address, NAME)).await {
            Ok(Ok(_)) => seen.milliseconds.push(begun.elapsed().as_secs_f64() * 1000.0),
            Ok(Err(error)) => seen.failures.push(error.to_string()),
            Err(_) => seen.failures.push(format!("no handshake within {PATIENCE:?}")),
        }
    }
    seen
}

fn row(table: &mut Table, name: &str, (taken, seen): &(Vec<f64>, Seen)) {
    let slowest = seen.milliseconds.last().copied().unwrap_or_default();
    table.row(&[
        name.to_owned(),
        taken.len().to_string(),
        format!("{:.1}", percentile(taken, 50)),
        format!("{:.1}", percentile(taken, 99)),
        (seen.milliseconds.len() + seen.failures.len()).to_string(),
        seen.failures.len().to_string(),
        format!("{:.2}", percentile(&seen.milliseconds, 50)),
        format!("{:.2}", percentile(&seen.milliseconds, 99)),
        format!("{slowest:.0}"),
    ]);
}
