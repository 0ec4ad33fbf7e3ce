//! A program under test that goes on until it is told to end.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{TestbedError, wait_for};

/// A program and what it has said, by lines. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    said: Said,
    logged: Said,
    _reading: JoinSet<()>,
}

type Said = Arc<Mutex<Vec<String>>>;

impl Running {
    /// Starts a program with these arguments.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(program: impl AsRef<Path>, arguments: &[&str]) -> Result<Self, TestbedError> {
        let name = program.as_ref().display().to_string();
        let spawned = Command::new(program.as_ref())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = spawned.map_err(TestbedError::io(format!("start {name}")))?;
        let (said, logged, mut reading) = (Said::default(), Said::default(), JoinSet::new());
        if let Some(out) = child.stdout.take() {
            reading.spawn(read(out, Arc::clone(&said)));
        }
        if let Some(log) = child.stderr.take() {
            reading.spawn(read(log, Arc::clone(&logged)));
        }
        Ok(Self { name, child, said, logged, _reading: reading })
    }

    /// Waits until it has printed a line with this text, and answers the line.
    ///
    /// # Errors
    /// If it does not in time; with all that it has logged.
    pub async fn says(&self, text: &str, within: Duration) -> Result<String, TestbedError> {
        let find = || async { self.said().into_iter().find(|line| line.contains(text)) };
        let what = format!("{} says `{text}`", self.name);
        wait_for(within, &what, find).await.map_err(|error| match error {
            TestbedError::NotReady { what, waited, .. } => {
                TestbedError::NotReady { what, waited, log: self.log() }
            }
            other => other,
        })
    }

    /// All it has printed so far.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All it has printed and logged so far, to be shown.
    pub fn log(&self) -> String {
        let logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
        format!("{}\n{logged}", self.said().join("\n"))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), TestbedError> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| TestbedError::unexpected(&self.name, "it has ended"))?;
        kill_process(pid, signal)
            .map_err(|error| TestbedError::io(format!("signal {}", self.name))(error.into()))
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn kill(&mut self) -> Result<(), TestbedError> {
        self.child.kill().await.map_err(TestbedError::io(format!("kill {}", self.name)))
    }

    /// Asks it to end (SIGTERM), and answers how it did.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn end(&mut self, within: Duration) -> Result<ExitStatus, TestbedError> {
        self.signal(Signal::TERM)?;
        match timeout(within, self.child.wait()).await {
            Ok(ended) => ended.map_err(TestbedError::io(format!("wait for {}", self.name))),
            Err(_) => Err(TestbedError::NotReady {
                what: format!("{} ends", self.name),
                waited: within,
                log: self.log(),
            }),
        }
    }
}

async fn read(from: impl AsyncRead + Unpin, into: Said) {
    let mut lines = BufReader::new(from).lines();
    // What is no text ends it, like the end.
    while let Ok(Some(line)) = lines.next_line().await {
        into.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}
