//! Where a program is, and running one to its end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::TestbedError;

/// Folders with servers that are not on everybody's `PATH`.
const SYSTEM: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// `chosen` if given (and there), else `name` on `PATH` and in the system's folders.
pub(crate) fn find(
    chosen: Option<&Path>,
    name: &str,
    package: &'static str,
) -> Result<PathBuf, TestbedError> {
    let missing = |program: String| TestbedError::MissingBinary { program, package };
    if let Some(path) = chosen {
        return if path.is_file() { Ok(path.to_owned()) } else { Err(missing(path.display().to_string())) };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM.iter().map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| missing(name.to_owned()))
}

/// Where `dev/setup` has unpacked acme.sh: the program, with its folder `dnsapi` beside it.
///
/// # Errors
/// If it is not there; the error says what to do.
pub fn acme_sh() -> Result<PathBuf, TestbedError> {
    find(Some(&workspace_root().join(".testbed/acme.sh/acme.sh")), "acme.sh", "acme.sh")
}

/// The workspace this crate was built in.
pub(crate) fn workspace_root() -> &'static Path {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().unwrap_or(crate_dir)
}

/// What a helper program wrote, and whether it ended well.
#[derive(Debug)]
#[non_exhaustive]
pub struct Output {
    /// Whether it ended well.
    pub success: bool,
    /// What it has printed.
    pub stdout: String,
    /// What it has printed to standard error.
    pub stderr: String,
}

/// Runs a program of this machine, such as `curl`, to its end; it is killed after half a minute.
///
/// # Errors
/// If it is not there, or does not end.
pub async fn run_program(
    name: &str,
    package: &'static str,
    arguments: &[&str],
) -> Result<Output, TestbedError> {
    run(&find(None, name, package)?, arguments, "").await
}

/// Runs a helper program with `input` on its standard input; it is killed after half a minute.
pub(crate) async fn run<S: AsRef<OsStr> + Sync>(
    program: &Path,
    args: &[S],
    input: &str,
) -> Result<Output, TestbedError> {
    let shown = program.display().to_string();
    let run = async {
        let mut child = Command::new(program)
            .args(args)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read its input may close it first: its exit status tells the rest.
            stdin.write_all(input.as_bytes()).await.ok();
        }
        child.wait_with_output().await
    };
    let within = Duration::from_secs(30);
    let output = timeout(within, run)
        .await
        .map_err(|_| TestbedError::NotReady {
            what: format!("{shown} ends"),
            waited: within,
            log: String::new(),
        })?
        .map_err(TestbedError::io(format!("run {shown}")))?;
    Ok(Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
