//! The command that has the files taken up.

use std::time::Duration;

use acmekit_core::child::Run;
use acmekit_core::{Error, ErrorKind, Result, Retry};
use zeroize::Zeroizing;

/// Runs the command, at most for `timeout`; then its whole process group is killed. Dropping the
/// future kills it too. `secrets` are blotted out of what the error shows of its output.
pub(crate) async fn run(command: &[String], timeout: Duration, secrets: &[Zeroizing<String>]) -> Result<()> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let mut run = Run::new("files.reload", "the reload command", program);
    run.args = arguments.iter().map(Into::into).collect();
    // A user's service manager is found by these.
    run.handed_on = vec!["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];
    run.secrets = secrets.to_vec();
    run.timeout = timeout;
    run.kind = ErrorKind::Deploy;
    let ended = run.to_the_end().await?;
    if ended.status.success() {
        return Ok(());
    }
    let why = format!("the reload command failed with {}", ended.status);
    // The arguments may hold a password: only the program is named.
    Err(Error::new(ErrorKind::Deploy, "files.reload", why)
        .with_retry(Retry::Backoff)
        .with("program", program)
        .with("output", ended.output))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_failure_shows_the_end_of_the_output_and_no_secret() {
        let script = "echo out c2VjcmV0c2VjcmV0; echo bad >&2; exit 3 # hunter2";
        let lines = [Zeroizing::new("c2VjcmV0c2VjcmV0".to_owned())];
        let error = run(&sh(script), LONG, &lines).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Deploy, Retry::Backoff));
        let shown = error.report();
        assert!(shown.contains("out …") && shown.contains("bad") && shown.contains("status: 3"), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("c2VjcmV0"), "{shown}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_or_is_not_there_is_named() {
        let error = run(&sh("echo busy; sleep 300"), Duration::from_millis(300), &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("/bin/sh") && error.to_string().contains("busy"), "{error}");
        let error = run(&["/nonexistent/reload".to_owned()], LONG, &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deploy);
        assert!(error.to_string().contains("/nonexistent/reload"), "{error}");
    }
}
