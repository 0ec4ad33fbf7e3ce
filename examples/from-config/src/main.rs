//! Gets, renews and delivers all certificates of a configuration file, for cron or a systemd timer.

mod plan;
mod progress;
mod report;
mod run;
mod seen;
mod standing;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use acmekit::config::{Config, Setup, Wanted};
use acmekit::{Error, ErrorKind, Result};
use clap::Parser;

use progress::Progress;
use report::Report;
use seen::Seen;

/// Gets, renews and delivers all certificates of a configuration file.
///
/// Run it from time to time, twice a day or more often: it orders what is missing or due, and has the
/// rest served. Killed at any moment, the next run goes on where it was.
#[derive(Debug, Parser)]
#[command(name = "from-config", after_help = AFTER_HELP, verbatim_doc_comment)]
struct Args {
    /// The configuration: see full.toml beside this program's source
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,

    /// Say what would be done; nothing is ordered, deployed or written to the store
    #[arg(long, conflicts_with_all = ["force", "status"])]
    dry_run: bool,

    /// Say when each certificate that is missing or due can be ordered under the CA's limits, and when all are done
    #[arg(long, conflicts_with_all = ["dry_run", "force", "status"])]
    plan: bool,

    /// Print the TXT records to set, once, where names are proved by dns-persist-01; an account is made if there is none
    #[arg(long, conflicts_with_all = ["dry_run", "force", "json", "plan", "status"])]
    standing_records: bool,

    /// Order this certificate anew although it is not due, and leave the others alone; may be given more than once
    #[arg(long, value_name = "ID", conflicts_with = "status")]
    force: Vec<String>,

    /// Show what is in the store; nobody is asked
    #[arg(long)]
    status: bool,

    /// Print the result as JSON, not as a table
    #[arg(long)]
    json: bool,

    /// How many certificates are worked on at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
}

const AFTER_HELP: &str = "\
Exit status: 0 all is well; 1 something failed and may need a person; 2 wrong usage or configuration.
The result goes to standard output, progress to standard error. RUST_LOG=acmekit=debug shows more.";

/// All is well, or something needs a person.
const NEEDS_A_PERSON: u8 = 1;
/// As a wrong option, which clap ends with.
const WRONG_CONFIGURATION: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(&args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NEEDS_A_PERSON),
        Err(error) => {
            // Nobody is left to tell if this cannot be written.
            write!(std::io::stderr(), "from-config: {}", report::complaint(&error)).ok();
            ExitCode::from(match error.kind() {
                ErrorKind::Config => WRONG_CONFIGURATION,
                _ => NEEDS_A_PERSON,
            })
        }
    }
}

/// Whether all is well.
async fn run(args: &Args) -> Result<bool> {
    let setup = Config::load(&args.file).await?.build().await?;
    let progress = Progress::new(args.json || args.status || args.dry_run || args.plan);
    let seen = Seen::default();
    let setup = setup.observer(progress.observer()).observer(seen.observer());
    if args.standing_records {
        return write(&standing::records(&setup).await?).map(|()| true);
    }
    if args.plan {
        let plan = plan::plan(&setup).await?;
        progress.finish();
        let text = if args.json { plan.json()? } else { plan.table() };
        return write(&text).map(|()| true);
    }
    let report = if args.status || args.dry_run {
        run::look(&setup, &setup.certificates().iter().collect::<Vec<_>>(), args.dry_run).await?
    } else {
        let (certificates, force) = (chosen(args, &setup)?, !args.force.is_empty());
        run::keep_up(&setup, &certificates, force, usize::from(args.jobs), (&progress, &seen)).await?
    };
    progress.finish();
    print(args, &report)?;
    Ok(report.is_well())
}

/// The certificates named; all, if none is.
fn chosen<'s>(args: &Args, setup: &'s Setup) -> Result<Vec<&'s Wanted>> {
    let all = setup.certificates();
    let find = |id: &String| {
        all.iter().find(|wanted| wanted.spec.id().as_str() == id).ok_or_else(|| {
            Error::new(ErrorKind::Config, "from-config", "there is no certificate of this id")
                .with("option", "--force")
                .with("id", id.escape_debug())
                .with_hint("`--status` shows the ids")
        })
    };
    // One that is named twice is meant once.
    let ids: BTreeSet<&String> = args.force.iter().collect();
    match ids.is_empty() {
        true => Ok(all.iter().collect()),
        false => ids.into_iter().map(find).collect(),
    }
}

fn print(args: &Args, report: &Report) -> Result<()> {
    let text = match args.json {
        true => report.json()?,
        false => report.table(),
    };
    write(&text)
}

fn write(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| {
        Error::new(ErrorKind::Other, "from-config", "the result could not be printed").with("reason", e)
    })
}
