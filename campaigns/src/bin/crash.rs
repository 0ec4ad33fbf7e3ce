//! Kills processes with SIGKILL at random, over the whole way of a certificate; see `acmekit_campaigns::crash`.

use std::path::PathBuf;
use std::process::ExitCode;

use acmekit_campaigns::Arguments;
use acmekit_campaigns::crash::{self, Options};
use clap::Parser;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    arguments: Arguments,
    /// How many rounds at once.
    #[arg(long, default_value_t = 2)]
    concurrency: usize,
    /// Keep the folders of broken rounds.
    #[arg(long)]
    keep: bool,
    /// Be the process that is killed: do the task in this file.
    #[arg(long, hide = true)]
    task: Option<PathBuf>,
}

#[tokio::main]
#[expect(clippy::print_stderr, reason = "this is how it tells that it cannot begin")]
async fn main() -> ExitCode {
    let command = Command::parse();
    if let Some(task) = &command.task {
        return crash::child(task).await;
    }
    let mut options = Options::new(command.arguments);
    (options.concurrency, options.keep) = (command.concurrency, command.keep);
    match crash::run(options).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("the campaign could not go on: {error}");
            ExitCode::from(2)
        }
    }
}
