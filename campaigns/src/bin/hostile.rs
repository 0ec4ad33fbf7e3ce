//! Has CAs misbehave at random, and puts them right again; see `acmekit_campaigns::hostile`.

use std::process::ExitCode;

use acmekit_campaigns::Arguments;
use acmekit_campaigns::hostile::{self, Options};
use clap::Parser;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    arguments: Arguments,
    /// How many rounds at once.
    #[arg(long, default_value_t = 2)]
    concurrency: usize,
}

#[expect(clippy::print_stderr, reason = "this is how it tells that it cannot begin")]
fn main() -> ExitCode {
    let command = Command::parse();
    let mut options = Options::new(command.arguments);
    options.concurrency = command.concurrency;
    match hostile::run(&options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("the campaign could not go on: {error}");
            ExitCode::from(2)
        }
    }
}
