//! Looks after a fleet until it is killed: the file named by its one argument says which; see
//! `acmekit_scenarios::fleet`.

use std::process::ExitCode;

#[tokio::main]
#[expect(clippy::print_stderr, reason = "this is how it answers the test")]
async fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: acmekit-fleet TASK.json");
        return ExitCode::from(2);
    };
    let read = std::fs::read(&path).map_err(|e| e.to_string());
    let task = match read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string())) {
        Ok(task) => task,
        Err(error) => {
            eprintln!("{path}: {error}");
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
