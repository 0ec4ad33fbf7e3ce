//! Looks after a fleet until it is killed: the file named by its one argument says which; see
//! `acmekit_scenarios::fleet`.

use std::process::ExitCode;

#[tokio::main]
#[expect(clippy::print_stderr, reason = "this is how it answers the test")]
async fn main() -> ExitCode {
    let task = match acmekit_scenarios::task() {
        Ok(task) => task,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    match acmekit_scenarios::fleet::run(&task).await {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("{}", error.report());
            ExitCode::FAILURE
        }
    }
}
