//! Start, watch, signal and end one server.
//!
//! Each server runs in a process group of its own, so that what it forks ends with it. A watcher, a shell that
//! reads from a pipe only this process writes to, kills the group when this process ends without running
//! destructors (a test runner's time limit, a panic that aborts): no server is ever left behind.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::{TestbedError, wait, wait_for};

/// What to run, and where it writes.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// The name in errors.
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// Added to a minimal environment: the caller's own (SSL_CERT_FILE and the like) is not passed on.
    pub(crate) env: Vec<(String, String)>,
    /// The working folder; the log is the file `server.log` in it.
    pub(crate) dir: PathBuf,
}

/// A server that can be started again; ended on drop.
#[derive(Debug)]
pub(crate) struct Process {
    spec: Spec,
    running: Mutex<Option<Running>>,
}

impl Process {
    pub(crate) fn spawn(spec: Spec) -> Result<Self, TestbedError> {
        crate::logs::keep();
        let running = Mutex::new(Some(Running::spawn(&spec)?));
        Ok(Self { spec, running })
    }

    /// Ends the server and starts it again, in the same folder; its log goes on.
    pub(crate) fn respawn(&self) -> Result<(), TestbedError> {
        let mut running = self.lock();
        // The old one must be gone before the new one binds the same ports.
        drop(running.take());
        *running = Some(Running::spawn(&self.spec)?);
        Ok(())
    }

    /// Ends the server; what it wrote stays readable.
    pub(crate) fn stop(&self) {
        drop(self.lock().take());
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.lock().as_ref().map(|running| running.child.id())
    }

    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.lock().as_mut().map(|running| running.child.try_wait()), Some(Ok(None)))
    }

    /// To the first process alone: a reload is the master's business.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), TestbedError> {
        let pid = self.lock().as_ref().map(|running| running.pid);
        let sent = pid.map_or(Err(rustix::io::Errno::SRCH), |pid| kill_process(pid, signal));
        sent.map_err(|errno| TestbedError::io(format!("signal {}", self.spec.name))(errno.into()))
    }

    /// Stops the whole group where it stands (SIGSTOP): sockets stay open and nobody answers.
    pub(crate) fn freeze(&self) -> Result<(), TestbedError> {
        let group = self.signal_group(Signal::STOP)?;
        // Stopping takes effect when the kernel next looks at each thread: until then one may still answer.
        for _ in 0..1_000 {
            if is_stopped(group) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(TestbedError::unexpected(format!("freeze {}", self.spec.name), "it still runs a second later"))
    }

    /// Lets a frozen server go on (SIGCONT).
    pub(crate) fn thaw(&self) -> Result<(), TestbedError> {
        self.signal_group(Signal::CONT).map(drop)
    }

    /// Everything the server wrote so far, over all its starts.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(self.spec.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until `check` finds what it looks for, or the server ends, or the deadline is over.
    pub(crate) async fn wait_until<T, F, Fut>(&self, what: &str, mut check: F) -> Result<T, TestbedError>
    where
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Option<T>> + Send,
        T: Send,
    {
        let found = wait_for(wait::START, what, || {
            let exited = self.exited();
            let asked = if exited.is_none() { Some(check()) } else { None };
            async move {
                match asked {
                    Some(asked) => asked.await.map(Ok),
                    None => exited.map(Err),
                }
            }
        });
        match found.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(status)) => Err(TestbedError::Exited { program: self.spec.name, status, log: self.log() }),
            Err(TestbedError::NotReady { what, waited, .. }) => {
                Err(TestbedError::NotReady { what, waited, log: self.log() })
            }
            Err(other) => Err(other),
        }
    }

    /// Waits until it ends by itself.
    pub(crate) async fn end(&self, within: Duration) -> Result<ExitStatus, TestbedError> {
        let what = format!("{} ends", self.spec.name);
        let ended = wait_for(within, &what, || std::future::ready(self.exited())).await;
        ended.map_err(|_| TestbedError::NotReady { what, waited: within, log: self.log() })
    }

    fn exited(&self) -> Option<ExitStatus> {
        self.lock().as_mut().and_then(|running| running.child.try_wait().ok().flatten())
    }

    fn signal_group(&self, signal: Signal) -> Result<Pid, TestbedError> {
        let pid = self.lock().as_ref().map(|running| running.pid);
        let sent =
            pid.map_or(Err(rustix::io::Errno::SRCH), |pid| kill_process_group(pid, signal).map(|()| pid));
        sent.map_err(|errno| TestbedError::io(format!("signal {}", self.spec.name))(errno.into()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spec {
    fn log_path(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    fn log_file(&self) -> Result<File, TestbedError> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .map_err(TestbedError::io(format!("open the log of {}", self.name)))
    }
}

#[derive(Debug)]
struct Running {
    child: Child,
    pid: Pid,
    watcher: Child,
}

impl Running {
    fn spawn(spec: &Spec) -> Result<Self, TestbedError> {
        let log = spec.log_file()?;
        let both = log.try_clone().map_err(TestbedError::io("share the log file"))?;
        let mut child = Command::new(&spec.program)
            .args(&spec.args)
            .current_dir(&spec.dir)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .env("HOME", &spec.dir)
            .env("TMPDIR", &spec.dir)
            .envs(spec.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(both)
            .process_group(0)
            .spawn()
            .map_err(TestbedError::io(format!("start {}", spec.program.display())))?;
        let pid = Pid::from_child(&child);
        match watch(pid, &spec.dir) {
            Ok(watcher) => Ok(Self { child, pid, watcher }),
            Err(error) => {
                kill_process_group(pid, Signal::KILL).ok();
                child.wait().ok();
                Err(error)
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The watcher first: later the group's number may belong to someone else.
        self.watcher.kill().ok();
        self.watcher.wait().ok();
        kill_process_group(self.pid, Signal::CONT).ok();
        kill_process_group(self.pid, Signal::KILL).ok();
        self.child.wait().ok();
    }
}

/// `read` returns when the pipe closes, which the kernel does for us however this process ends. Nobody is left then
/// to remove the server's temporary folder either.
fn watch(group: Pid, dir: &Path) -> Result<Child, TestbedError> {
    Command::new("/bin/sh")
        .args(["-c", r#"read -r _; kill -s KILL -- "-$1"; rm -rf -- "$2""#, "testbed-watcher"])
        .arg(group.to_string())
        .arg(dir)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(TestbedError::io("start the watcher"))
}

/// Whether every thread of every process in the group stands still. A system without /proc is believed.
fn is_stopped(group: Pid) -> bool {
    let group = group.to_string();
    entries("/proc").into_iter().filter(|process| in_group(process, &group)).all(|process| {
        // T is stopped, Z and X have ended.
        entries(process.join("task"))
            .iter()
            .all(|thread| stat(thread).is_none_or(|fields| fields.starts_with(['T', 'Z', 'X'])))
    })
}

fn in_group(process: &Path, group: &str) -> bool {
    stat(process).is_some_and(|fields| fields.split(' ').nth(2) == Some(group))
}

/// What follows the name in parentheses in a `stat` file: state, parent, process group, …
fn stat(dir: &Path) -> Option<String> {
    let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
    stat.rsplit_once(") ").map(|(_, fields)| fields.to_owned())
}

fn entries(dir: impl AsRef<Path>) -> Vec<PathBuf> {
    let found = std::fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    found.unwrap_or_default()
}
