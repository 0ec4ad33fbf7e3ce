//! Programs that plug-ins run: with a deadline, in a process group that ends with them, in a small
//! environment, and with no secret in what is told of their output.

mod tail;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

pub use self::tail::without_secrets;
use self::tail::{Head, Tail, shown};
use crate::{Deadline, Error, ErrorKind, Result, Retry, Secret};

/// How long output may still come once the program has ended. A server it started may hold the
/// pipes for ever.
const GRACE: Duration = Duration::from_millis(100);
/// How long a killed program may take to be gone; then it is left to the runtime.
const GONE: Duration = Duration::from_secs(2);
/// How often a program that was asked to end is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// What every program gets of this process's environment; anything else might hold a token.
const KEPT: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// A program to be run to its end.
///
/// It has no input, is the leader of a process group, and gets `PATH`, `HOME`, `USER`, `LOGNAME`,
/// `SHELL`, `LANG`, `LC_ALL`, `TZ` and `TMPDIR` of this process's environment, and what it is given.
/// At the deadline the whole group is ended; when the future is dropped, the group is killed. What
/// a program leaves running when it ends by itself is left alone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> acmekit_core::Result<()> {
/// use acmekit_core::{Secret, child::Run};
///
/// let mut run = Run::new("example.run", "the script", "/bin/sh");
/// run.args = ["-c", "echo password $TOKEN; exit 3"].map(Into::into).to_vec();
/// run.env = vec![("TOKEN".to_owned(), Secret::from("hunter2"))];
/// let ended = run.to_the_end().await?;
/// assert_eq!(ended.status.code(), Some(3));
/// assert_eq!(ended.output, "password …");
/// # Ok(()) }
/// ```
#[non_exhaustive]
pub struct Run {
    op: &'static str,
    what: &'static str,
    /// The program: a path, or a name that is looked for in `PATH`.
    pub program: OsString,
    /// Its arguments: everybody on the machine can read them.
    pub args: Vec<OsString>,
    /// Names of further variables that are handed on.
    pub handed_on: Vec<&'static str>,
    /// Variables for this program alone that are no secrets.
    pub plain_env: Vec<(&'static str, OsString)>,
    /// Variables for this program alone. The values are blotted out of the output.
    pub env: Vec<(String, Secret<String>)>,
    /// What else is blotted out of the output. Texts of less than four octets never are.
    pub secrets: Vec<Zeroizing<String>>,
    /// How long it may take (default 30 s).
    pub timeout: Duration,
    /// How long the group has, after SIGTERM at the deadline, until SIGKILL (default: none).
    pub grace: Duration,
    /// How much of the standard output is kept (default: nothing), in octets.
    pub keep: usize,
    /// What kind of error it is if it cannot be started (default [`ErrorKind::Config`]).
    pub kind: ErrorKind,
}

/// How a program has ended.
#[non_exhaustive]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// The end of what it wrote, standard output first, without secrets and private keys.
    pub output: String,
    /// The beginning of its standard output, as much as was to be kept.
    pub stdout: Zeroizing<Vec<u8>>,
    /// Whether there was more than that.
    pub cut: bool,
}

impl Run {
    /// This program, without arguments. `op` and `what` (`"the reload command"`) are for errors.
    pub fn new(op: &'static str, what: &'static str, program: impl Into<OsString>) -> Self {
        Self {
            op,
            what,
            program: program.into(),
            args: Vec::new(),
            handed_on: Vec::new(),
            plain_env: Vec::new(),
            env: Vec::new(),
            secrets: Vec::new(),
            timeout: Duration::from_secs(30),
            grace: Duration::ZERO,
            keep: 0,
            kind: ErrorKind::Config,
        }
    }

    /// Runs it. An exit status other than 0 is no error here.
    ///
    /// # Errors
    /// [`kind`](Self::kind) if it cannot be started, [`ErrorKind::Timeout`] with the end of its
    /// output. Both name the program, and never its arguments.
    pub async fn to_the_end(self) -> Result<Ended> {
        let mut child = self.start()?;
        let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        let (out, err, head) = (Tail::default(), Tail::default(), Head::new(self.keep));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = {
            let reading = async { tokio::join!(out.fill(stdout, Some(&head)), err.fill(stderr, None)) };
            let mut reading = std::pin::pin!(reading);
            let running = async {
                let status = tokio::select! {
                    status = child.wait() => {
                        tokio::time::timeout(GRACE, reading.as_mut()).await.ok();
                        status
                    }
                    _ = reading.as_mut() => child.wait().await,
                };
                status.map_err(|e| self.wrong("was lost sight of").with_source(e))
            };
            Deadline::after(self.timeout).run(self.op, self.what, running).await
        };
        match ended {
            Ok(status) => {
                // What it started and left behind, a server perhaps, is meant to stay.
                group.0 = None;
                let (stdout, cut) = head.take();
                Ok(Ended { status, output: self.output(&out, &err), stdout, cut })
            }
            Err(error) => {
                group.end(&mut child, self.grace).await;
                let error = error.with("program", self.program.display());
                Err(error.with("output", self.output(&out, &err)))
            }
        }
    }

    fn start(&self) -> Result<Child> {
        let kept = KEPT.iter().chain(&self.handed_on);
        Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .envs(kept.filter_map(|name| Some((name, std::env::var_os(name)?))))
            .envs(self.env.iter().map(|(name, value)| (name, value.expose())))
            .envs(self.plain_env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| {
                let error = self.wrong("could not be started").with("program", self.program.display());
                error.with("reason", &e).with_source(e)
            })
    }

    fn wrong(&self, how: &str) -> Error {
        Error::new(self.kind, self.op, format!("{} {how}", self.what)).with_retry(Retry::Backoff)
    }

    fn output(&self, out: &Tail, err: &Tail) -> String {
        let given = self.env.iter().map(|(_, value)| value.expose().as_str());
        let secrets: Vec<&str> = given.chain(self.secrets.iter().map(|secret| secret.as_str())).collect();
        shown(&[out, err], &secrets)
    }
}

/// For the fuzz targets only.
pub(crate) mod fuzzing {
    use std::os::unix::process::ExitStatusExt;

    use futures_util::FutureExt;

    use super::*;

    /// What a program has said that has ended well: these octets, of which so many are kept.
    pub(crate) fn ended(stdout: &[u8], stderr: &[u8], keep: usize, secrets: &[&str]) -> Ended {
        let (out, err, head) = (Tail::default(), Tail::default(), Head::new(keep));
        out.fill(Some(stdout), Some(&head)).now_or_never();
        err.fill(Some(stderr), None).now_or_never();
        let (stdout, cut) = head.take();
        Ended { status: ExitStatus::from_raw(0), output: shown(&[&out, &err], secrets), stdout, cut }
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The arguments may hold a password, whatever the documentation says.
        f.debug_struct("Run").field("op", &self.op).field("program", &self.program).finish_non_exhaustive()
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ended").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Kills a process group on drop, unless it was taken out.
struct Group(Option<Pid>);

impl Group {
    /// Asks it to end, and kills what is left of it after `grace`.
    async fn end(mut self, child: &mut Child, grace: Duration) {
        if let Some(pid) = self.0
            && !grace.is_zero()
            && kill_process_group(pid, Signal::TERM).is_ok()
        {
            let deadline = Deadline::after(grace);
            // The leader is looked at and not waited for: until then its number is nobody else's.
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
            while matches!(waitid(WaitId::Pid(pid), look), Ok(None)) && deadline.sleep(LOOK).await {}
        }
        self.kill();
        tokio::time::timeout(GONE, child.wait()).await.ok();
    }

    fn kill(&mut self) {
        if let Some(group) = self.0.take()
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            tracing::debug!(%error, "the program's group was gone already");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
