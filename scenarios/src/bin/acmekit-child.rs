//! Runs the task in the file named by its one argument; see `acmekit_scenarios::child`.

use std::process::ExitCode;

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is how it answers the test")]
async fn main() -> ExitCode {
    let task = match acmekit_scenarios::task() {
        Ok(task) => task,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    match acmekit_scenarios::child::run(&task).await {
        Ok(serial) => {
            println!("{serial}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", error.report());
            ExitCode::FAILURE
        }
    }
}
