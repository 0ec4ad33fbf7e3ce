//! Start, watch, signal and end one server.
//!
//! Each server runs in a process group of its own, so that what it forks ends with it. A watcher, a shell that
//! reads from a pipe only this process writes to, kills the group when this process ends without running
//! destructors (a test runner's time limit, a panic that aborts): no server is ever left behind.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
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
        // Stopping takes effect when the kernel next looks at each process.
        for _ in 0..500 {
            if is_stopped(group) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
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

    fn exited(&self) -> Option<std::process::ExitStatus> {
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
        match watch(pid) {
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

/// `read` returns when the pipe closes, which the kernel does for us however this process ends.
fn watch(group: Pid) -> Result<Child, TestbedError> {
    Command::new("/bin/sh")
        .args(["-c", r#"read -r _; kill -s KILL -- "-$1""#, "testbed-watcher"])
        .arg(group.to_string())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(TestbedError::io("start the watcher"))
}

/// The third field of /proc/PID/stat, after the name in parentheses; a system without /proc is believed.
fn is_stopped(pid: Pid) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 'Z']))
}
