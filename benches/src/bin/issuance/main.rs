//! What a certificate costs from order to store: acmekit with all its durability, beside a loop that has none.
//!
//! ```text
//! cargo run --release -p acmekit-benches --bin issuance                # everybody at 1, 8 and 32 at a time
//! cargo run --release -p acmekit-benches --bin issuance -- alone       # where the time of one certificate goes
//! cargo run --release -p acmekit-benches --bin issuance -- growth      # names in an order; ten thousand certificates
//! ```
//!
//! The CA is a `TestCa` in this process, which takes every challenge for met; and Pebble, where there is one. Another
//! one is given by `--directory`, `--root` and, if it looks for TXT records, `--txt-api` (that of pebble-challtestsrv).
//! Each contender runs in a process of its own, whose names nobody had before, on a warm account.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program tells its user")]

mod child;
mod durable;
mod job;
mod raw;
mod txt;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use acmekit_benches::table::Table;
use acmekit_benches::{percentile, plot};
use acmekit_server::{Endpoint, TestCa};
use acmekit_testbed::Pebble;
use clap::{Parser, Subcommand};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use job::{Contender, Job, Report};

/// Longer than any run of one contender may take.
const PATIENCE: Duration = Duration::from_secs(3600);
/// More orders at once freeze Pebble.
const PEBBLE_AT_ONCE: usize = 8;

/// What a certificate costs from order to store, side by side.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = false)]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// How many certificates each contender gets, at each concurrency.
    #[arg(long, global = true, default_value_t = 400)]
    count: usize,
    /// How many at a time; may be repeated (default: 1, 8 and 32).
    #[arg(long, global = true)]
    concurrency: Vec<usize>,
    /// Names in each certificate.
    #[arg(long, global = true, default_value_t = 1)]
    names: usize,
    /// The directory URL of another CA.
    #[arg(long, global = true, requires = "root")]
    directory: Option<String>,
    /// The root of its HTTPS certificate, in PEM.
    #[arg(long, global = true)]
    root: Option<PathBuf>,
    /// Where TXT values are told, if it looks for them.
    #[arg(long, global = true)]
    txt_api: Option<String>,
    /// A folder for the stores (default: one in the system's temporary folder): what it costs to flush is the disk's.
    #[arg(long, global = true)]
    folder: Option<PathBuf>,
    /// A folder for plots.
    #[arg(long, global = true)]
    svg: Option<PathBuf>,
    /// Leaves Pebble out.
    #[arg(long, global = true)]
    no_pebble: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One certificate at a time: where its time goes.
    Alone,
    /// 1, 10 and 100 names in an order; then 10 to `--count` certificates.
    Growth,
    /// What a contender's process is started with.
    #[command(hide = true)]
    Contend { job: String },
}

/// A CA, and how its requests are counted.
enum Ca {
    Test(Box<TestCa>),
    Pebble(Box<Pebble>),
    Given(String),
}

impl Ca {
    fn name(&self) -> &'static str {
        match self {
            Self::Test(_) => "TestCa",
            Self::Pebble(_) => "Pebble",
            Self::Given(_) => "given CA",
        }
    }

    fn directory(&self) -> String {
        match self {
            Self::Test(ca) => ca.directory_url(),
            Self::Pebble(ca) => ca.directory_url(),
            Self::Given(url) => url.clone(),
        }
    }

    fn requests(&self) -> Option<u64> {
        match self {
            Self::Test(ca) => Some(Endpoint::ALL.iter().map(|endpoint| ca.requests(*endpoint)).sum()),
            _ => None,
        }
    }

    fn time_spent(&self) -> Option<Duration> {
        match self {
            Self::Test(ca) => Some(ca.time_spent()),
            _ => None,
        }
    }
}

/// What one contender came to.
struct Row {
    contender: Contender,
    report: Report,
    /// How many requests the CA had, and how long it took over them.
    requests: Option<u64>,
    at_the_ca: Option<Duration>,
}

impl Row {
    fn rate(&self) -> f64 {
        as_f64(self.report.latencies.len()) / self.report.seconds
    }

    fn per_certificate(&self, value: f64) -> f64 {
        value / as_f64(self.report.latencies.len())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    choose_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        runtime.block_on(async {
            match &arguments.what {
                Some(What::Contend { job }) => {
                    child::run(serde_json::from_str(job).map_err(|error| error.to_string())?).await
                }
                Some(What::Alone) => alone(&arguments).await,
                Some(What::Growth) => growth(&arguments).await,
                None => side_by_side(&arguments).await,
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("issuance: {why}");
            ExitCode::FAILURE
        }
    }
}

/// What both loops have as the process's own, where their HTTP clients ask for it.
fn choose_provider() {
    #[cfg(feature = "aws-lc-rs")]
    use rustls::crypto::aws_lc_rs as chosen;
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    use rustls::crypto::ring as chosen;
    // It is the first thing this process does: nobody else has chosen.
    chosen::default_provider().install_default().ok();
}

async fn side_by_side(arguments: &Arguments) -> Result<(), String> {
    let stage = Stage::new(arguments)?;
    let at_once = match arguments.concurrency.as_slice() {
        [] => vec![1, 8, 32],
        given => given.to_vec(),
    };
    for ca in cas(arguments).await? {
        let (mut speed, mut slow) = (Vec::new(), Vec::new());
        for &concurrency in &at_once {
            if matches!(ca, Ca::Pebble(_)) && concurrency > PEBBLE_AT_ONCE {
                continue;
            }
            let mut rows = Vec::new();
            for contender in Contender::ALL {
                let job = stage.job(&ca, contender, arguments.count, concurrency, arguments.names);
                rows.push(stage.contend(&ca, job).await?);
            }
            println!("## {}, {concurrency} at a time\n\n{}", ca.name(), compared(&rows));
            let named = |value: fn(&Row) -> f64| {
                rows.iter().map(|row| (row.contender.name().to_owned(), value(row))).collect()
            };
            speed.push((format!("{concurrency} at a time"), named(Row::rate)));
            slow.push((
                format!("{concurrency} at a time"),
                named(|row| percentile(&row.report.latencies, 99)),
            ));
        }
        let name = ca.name();
        stage.draw(
            &format!("issuance-{name}.svg"),
            &plot::bars(&format!("{name}: issuance"), "certificates/s", &speed),
        )?;
        stage.draw(
            &format!("issuance-{name}-p99.svg"),
            &plot::bars(&format!("{name}: 99 of 100 take no longer"), "ms", &slow),
        )?;
    }
    Ok(())
}

fn compared(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        "",
        "certificates/s",
        "acmekit beside it",
        "p50 ms",
        "p99 ms",
        "requests each",
        "CPU ms each",
        "peak MiB",
        "peak KiB each",
    ]);
    let ours = rows.iter().find(|row| row.contender == Contender::Acmekit).map(Row::rate).unwrap_or_default();
    for row in rows {
        let report = &row.report;
        let grown = report.peak_kib.saturating_sub(report.first_kib);
        table.row(&[
            row.contender.name().to_owned(),
            format!("{:.1}", row.rate()),
            format!("{:.2}×", ours / row.rate()),
            format!("{:.1}", percentile(&report.latencies, 50)),
            format!("{:.1}", percentile(&report.latencies, 99)),
            row.requests.map_or("–".to_owned(), |all| format!("{:.2}", row.per_certificate(all as f64))),
            format!("{:.2}", row.per_certificate(report.cpu_seconds * 1000.0)),
            format!("{:.1}", report.peak_kib as f64 / 1024.0),
            format!("{:.1}", row.per_certificate(grown as f64)),
        ]);
    }
    table
}

/// The sum that one certificate alone is made of.
async fn alone(arguments: &Arguments) -> Result<(), String> {
    let stage = Stage::new(arguments)?;
    for ca in cas(arguments).await? {
        let mut table = Table::new(&["one certificate alone", "times", "ms in all", "ms each"]);
        let job = stage.job(&ca, Contender::Acmekit, arguments.count, 1, arguments.names);
        let plain = stage.contend(&ca, job.clone()).await?;
        let dissected =
            stage.contend(&ca, Job { dissect: true, prefix: format!("{}d", job.prefix), ..job }).await?;
        let raw = stage.job(&ca, Contender::NodelayEager, arguments.count, 1, arguments.names);
        let raw = stage.contend(&ca, raw).await?;
        let mut sum = 0.0;
        for part in &dissected.report.parts {
            let (times, each) =
                (dissected.per_certificate(part.times as f64), part.milliseconds / part.times as f64);
            let all = dissected.per_certificate(part.milliseconds);
            sum += all;
            table.row(&[part.name.clone(), format!("{times:.2}"), format!("{all:.2}"), format!("{each:.3}")]);
            if let (true, Some(spent)) = (part.name.starts_with("request"), dissected.at_the_ca) {
                let spent = dissected.per_certificate(spent.as_secs_f64() * 1000.0);
                table.row(&["– of it inside the CA".to_owned(), String::new(), format!("{spent:.2}")]);
            }
        }
        let whole = mean(&dissected.report.latencies);
        table.row(&[
            "keys, signatures, checks: the rest".to_owned(),
            String::new(),
            format!("{:.2}", whole - sum),
        ]);
        table.row(&["a certificate, noting this".to_owned(), String::new(), format!("{whole:.2}")]);
        table.row(&[
            "a certificate".to_owned(),
            String::new(),
            format!("{:.2}", mean(&plain.report.latencies)),
        ]);
        table.row(&[
            "for comparison: nodelay loop without pauses".to_owned(),
            String::new(),
            format!("{:.2}", mean(&raw.report.latencies)),
        ]);
        println!("## {}: one certificate alone\n\n{table}", ca.name());
    }
    Ok(())
}

async fn growth(arguments: &Arguments) -> Result<(), String> {
    let stage = Stage::new(arguments)?;
    let ca = match &arguments.directory {
        Some(_) => cas(arguments).await?.remove(0),
        None => test_ca().await?,
    };
    let mut table = Table::new(&[
        "names in an order",
        "certificates/s",
        "names/s",
        "p50 ms",
        "ms a name",
        "requests each",
        "requests a name",
    ]);
    for names in [1, 10, 100] {
        let job = stage.job(&ca, Contender::Acmekit, (400 / names).max(8), 8, names);
        let row = stage.contend(&ca, job).await?;
        let p50 = percentile(&row.report.latencies, 50);
        let requests = row.requests.map(|all| row.per_certificate(all as f64));
        table.row(&[
            names.to_string(),
            format!("{:.1}", row.rate()),
            format!("{:.1}", row.rate() * as_f64(names)),
            format!("{p50:.1}"),
            format!("{:.2}", p50 / as_f64(names)),
            requests.map_or("–".to_owned(), |each| format!("{each:.2}")),
            requests.map_or("–".to_owned(), |each| format!("{:.2}", each / as_f64(names))),
        ]);
    }
    println!("## {}: names in an order, 8 orders at a time\n\n{table}", ca.name());

    let block = 10;
    let job = Job { block, ..stage.job(&ca, Contender::Acmekit, arguments.count, 8, 1) };
    let row = stage.contend(&ca, job).await?;
    let mut table =
        Table::new(&["certificates", "of the last: certificates/s", "CPU ms each", "MiB in the process"]);
    let (mut before, mut points) = (job::Block::default(), Vec::new());
    for at in marks(arguments.count) {
        let Some(now) = row.report.blocks.iter().find(|one| one.certificates == at) else { continue };
        let count = as_f64(now.certificates - before.certificates);
        let rate = count / (now.seconds - before.seconds);
        table.row(&[
            at.to_string(),
            format!("{rate:.1}"),
            format!("{:.2}", (now.cpu_seconds - before.cpu_seconds) * 1000.0 / count),
            format!("{:.1}", now.kib as f64 / 1024.0),
        ]);
        points.push((at.to_string(), rate));
        before = now.clone();
    }
    println!("## {}: one store that grows, 8 at a time\n\n{table}", ca.name());
    stage.draw("growth.svg", &plot::line("A store that grows, certificates in it", "certificates/s", &points))
}

/// 10, 100, then each thousand.
fn marks(count: usize) -> Vec<usize> {
    [10, 100]
        .into_iter()
        .chain((1..=count / 1000).map(|thousand| thousand * 1000))
        .filter(|at| *at <= count)
        .collect()
}

/// What all runs have in common.
struct Stage {
    folder: tempfile::TempDir,
    svg: Option<PathBuf>,
    given_root: Option<PathBuf>,
    txt_api: Option<String>,
    runs: std::sync::atomic::AtomicUsize,
}

impl Stage {
    fn new(arguments: &Arguments) -> Result<Self, String> {
        let folder = match &arguments.folder {
            Some(folder) => tempfile::tempdir_in(folder),
            None => tempfile::tempdir(),
        };
        Ok(Self {
            folder: folder.map_err(|error| format!("a folder for the stores: {error}"))?,
            svg: arguments.svg.clone(),
            given_root: arguments.root.clone(),
            txt_api: arguments.txt_api.clone(),
            runs: std::sync::atomic::AtomicUsize::new(0),
        })
    }

    fn job(&self, ca: &Ca, contender: Contender, count: usize, concurrency: usize, names: usize) -> Job {
        let run = self.runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // The process's number keeps names of one invocation from being those of another at a CA that stays.
        let prefix = format!("b{}r{run}", std::process::id());
        Job {
            contender,
            directory: ca.directory(),
            root: self.given_root.clone().unwrap_or_else(|| self.folder.path().join("root.pem")),
            txt_api: self.txt_api.clone(),
            folder: self.folder.path().join(&prefix),
            count,
            concurrency,
            names,
            prefix,
            block: 0,
            dissect: false,
        }
    }

    async fn contend(&self, ca: &Ca, job: Job) -> Result<Row, String> {
        let text = |error: std::io::Error| error.to_string();
        let root = match ca {
            Ca::Test(ca) => Some(ca.root_pem()),
            Ca::Pebble(ca) => Some(ca.root_pem()),
            Ca::Given(_) => None,
        };
        if let Some(root) = root {
            write(&job.root, root)?;
        }
        let program = std::env::current_exe().map_err(text)?;
        let mut child = Command::new(program)
            .arg("contend")
            .arg(serde_json::to_string(&job).map_err(|error| error.to_string())?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(text)?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a contender without pipes".to_owned());
        };
        let mut stdout = BufReader::new(stdout);
        let work = async {
            let mut line = String::new();
            stdout.read_line(&mut line).await.map_err(text)?;
            if line.trim() != "ready" {
                return Err(format!("{} did not get ready", job.contender.name()));
            }
            let (requests, spent) = (ca.requests(), ca.time_spent());
            stdin.write_all(b"go\n").await.map_err(text)?;
            let mut answer = String::new();
            stdout.read_to_string(&mut answer).await.map_err(text)?;
            let report = serde_json::from_str(&answer)
                .map_err(|error| format!("{} failed: {error}", job.contender.name()))?;
            let requests = ca.requests().zip(requests).map(|(after, before)| after - before);
            let at_the_ca = ca.time_spent().zip(spent).map(|(after, before)| after - before);
            Ok(Row { contender: job.contender, report, requests, at_the_ca })
        };
        let row =
            tokio::time::timeout(PATIENCE, work).await.map_err(|_| "a contender does not end".to_owned())?;
        child.wait().await.map_err(text)?;
        row
    }

    fn draw(&self, name: &str, svg: &str) -> Result<(), String> {
        match &self.svg {
            Some(folder) => write(&folder.join(name.to_lowercase()), svg),
            None => Ok(()),
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let attributes = acmekit_core::atomic::FileAttributes::mode(0o644);
    acmekit_core::atomic::write_file(path, text.as_bytes(), attributes).map_err(|error| error.report())
}

async fn test_ca() -> Result<Ca, String> {
    let ca = TestCa::builder().always_valid().start().await;
    ca.map(|ca| Ca::Test(Box::new(ca))).map_err(|error| error.report())
}

async fn cas(arguments: &Arguments) -> Result<Vec<Ca>, String> {
    if let Some(directory) = &arguments.directory {
        return Ok(vec![Ca::Given(directory.clone())]);
    }
    let mut cas = vec![test_ca().await?];
    if !arguments.no_pebble {
        match Pebble::builder().always_valid(true).start().await {
            Ok(pebble) => cas.push(Ca::Pebble(Box::new(pebble))),
            Err(error) => eprintln!("issuance: without Pebble: {error}"),
        }
    }
    Ok(cas)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / as_f64(values.len())
}

#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
