//! Processes that are started, killed and waited for.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::Instant;

use super::child::{Task, limit};
use super::plan::Kill;
use super::world::{SetUp, World, write};

/// What an unhurt run of one sort takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    pub(super) took: Duration,
    pub(super) points: u64,
}

/// How a process ended.
#[derive(Debug)]
pub(super) enum Ended {
    Killed,
    Well,
    /// By itself, with this on its standard error.
    Badly(String),
    /// It had to be ended: it was past all its deadlines.
    Late,
}

/// One process, from its start to its end.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) ended: Ended,
    pub(super) took: Duration,
    /// The points it passed.
    pub(super) points: Vec<String>,
}

/// When to kill it, and how.
#[derive(Debug, Clone, Copy)]
enum Death {
    After(Duration),
    At(u64),
}

impl Death {
    #[expect(clippy::cast_possible_truncation, reason = "a few dozen points")]
    fn of(kill: Kill, measured: Measured) -> Self {
        match kill {
            Kill::After(share) => Self::After(measured.took.mul_f64(share)),
            Kill::At(share) => Self::At(1 + (share * measured.points as f64) as u64),
        }
    }
}

/// Runs a process on the world's task; `name` tells it from others of the round.
pub(super) async fn run(world: &World, name: &str, kill: Option<(Kill, Measured)>) -> SetUp<Run> {
    let at = |kind: &str| world.folder.path().join(format!("{kind}-{name}"));
    let death = kill.map(|(kill, measured)| Death::of(kill, measured));
    let die_at = match death {
        Some(Death::At(point)) => Some(point),
        _ => None,
    };
    let task = Task { die_at, points: at("points"), ..world.task.clone() };
    let text = serde_json::to_string(&task).map_err(|error| error.to_string())?;
    write(&at("task"), &text)?;
    let failed = |error: std::io::Error| format!("a process could not be run: {error}");
    let stderr = std::fs::File::create(at("stderr")).map_err(failed)?;
    let begun = Instant::now();
    let mut child = Command::new(std::env::current_exe().map_err(failed)?)
        .arg("--task")
        .arg(at("task"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let patience = match death {
        Some(Death::After(pause)) => pause,
        _ => limit(),
    };
    let (status, cut) = match tokio::time::timeout_at(begun + patience, child.wait()).await {
        Ok(status) => (status.map_err(failed)?, false),
        Err(_) => {
            // SIGKILL, to this one process.
            child.start_kill().map_err(failed)?;
            (child.wait().await.map_err(failed)?, !matches!(death, Some(Death::After(_))))
        }
    };
    let ended = match status.signal() {
        Some(9) if cut => Ended::Late,
        Some(9) if death.is_some() => Ended::Killed,
        _ if status.success() => Ended::Well,
        _ => Ended::Badly(format!("{status}: {}", read(&at("stderr")))),
    };
    let points = read(&at("points")).lines().map(str::to_owned).collect();
    Ok(Run { ended, took: begun.elapsed(), points })
}

/// What is in a file; nothing if there is none.
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The processes whose command line names this folder.
pub(super) fn naming(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for process in all.flatten() {
        let Ok(line) = std::fs::read(process.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&folder) {
            found.push(format!("process {}: {line}", process.file_name().to_string_lossy()));
        }
    }
    found
}
