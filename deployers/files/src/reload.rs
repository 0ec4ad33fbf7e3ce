//! The command that has the files taken up.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use acmekit_core::{Deadline, Error, ErrorKind, Result, Retry};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use zeroize::Zeroizing;

/// What of its output an error shows: the end, where the reason usually stands.
const SHOWN: usize = 1500;
/// How long output may still come once the command has ended. A server it started may hold the
/// pipes for ever.
const GRACE: Duration = Duration::from_millis(100);
/// What the command gets of the environment; anything else might hold a token.
const KEPT: [&str; 11] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
];

/// Runs the command, at most for `timeout`; then its whole process group is killed. Dropping the
/// future kills it too. `secrets` are blotted out of what the error shows of its output.
pub(crate) async fn run(command: &[String], timeout: Duration, secrets: &[Zeroizing<String>]) -> Result<()> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let wrong = |why: String| {
        // The arguments may hold a password: only the program is named.
        Error::new(ErrorKind::Deploy, "files.reload", why).with_retry(Retry::Backoff).with("program", program)
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| {
            wrong("the reload command could not be started".to_owned()).with("reason", &e).with_source(e)
        })?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let tail = Tail::default();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ended = {
        let mut reading = std::pin::pin!(async { tokio::join!(tail.fill(out), tail.fill(err)) });
        let running = async {
            let status = tokio::select! {
                status = child.wait() => {
                    tokio::time::timeout(GRACE, reading.as_mut()).await.ok();
                    status
                }
                _ = reading.as_mut() => child.wait().await,
            };
            status.map_err(|e| wrong("the reload command was lost sight of".to_owned()).with_source(e))
        };
        Deadline::after(timeout).run("files.reload", "the reload command", running).await
    };
    match ended {
        Ok(status) => {
            // What it started and left behind, a server perhaps, is meant to stay.
            group.0 = None;
            if status.success() {
                return Ok(());
            }
            Err(wrong(format!("the reload command failed with {status}")).with("output", tail.shown(secrets)))
        }
        Err(error) => {
            drop(group);
            child.wait().await.ok();
            Err(error.with("program", program).with("output", tail.shown(secrets)))
        }
    }
}

/// Kills a process group on drop, unless it was taken out.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            tracing::debug!(%error, "the reload command's group was gone already");
        }
    }
}

/// The end of what a command writes, both streams as they come.
#[derive(Default)]
struct Tail(Mutex<VecDeque<u8>>);

impl Tail {
    /// Reads to the end, however much there is, and keeps the last part.
    async fn fill(&self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut piece).await {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend(piece.iter().take(length));
            // Twice as much as is shown, so that blotting out has whole lines to look at.
            let surplus = kept.len().saturating_sub(2 * SHOWN);
            kept.drain(..surplus);
        }
    }

    fn shown(&self, secrets: &[Zeroizing<String>]) -> String {
        let kept: Vec<u8> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let mut text = String::from_utf8_lossy(&kept).into_owned();
        for secret in secrets {
            text = text.replace(secret.as_str(), "…");
        }
        let text = without_keys(text.trim());
        let surplus = text.chars().count().saturating_sub(SHOWN);
        text.chars().skip(surplus).collect()
    }
}

/// Leaves out every PEM private key, even one whose beginning was cut off.
fn without_keys(text: &str) -> String {
    let mut shown: Vec<&str> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.contains("PRIVATE KEY-----") {
            if line.contains("-----END") && !inside {
                shown.clear();
            }
            inside = line.contains("-----BEGIN") && !line.contains("-----END");
            shown.push("(a private key)");
        } else if !inside {
            shown.push(line);
        }
    }
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_failure_shows_the_end_of_the_output_and_never_the_arguments() {
        let script = "seq 100000; echo out; echo bad >&2; exit 3 # hunter2";
        let error = run(&sh(script), LONG, &[]).await.unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains("out") && shown.contains("bad") && shown.contains("status: 3"), "{shown}");
        assert!(!shown.contains("hunter2") && shown.len() < 2500, "{shown}");
    }

    #[tokio::test]
    async fn keys_are_blotted_out_of_the_output() {
        let lines = [Zeroizing::new("c2VjcmV0c2VjcmV0".to_owned())];
        let script =
            "echo x c2VjcmV0c2VjcmV0 y; printf -- '-----BEGIN PRIVATE KEY-----\\nb3RoZXI=\\n'; false";
        let shown = run(&sh(script), LONG, &lines).await.unwrap_err().report();
        assert!(!shown.contains("c2VjcmV0") && !shown.contains("b3RoZXI"), "{shown}");
        let cut = without_keys("b3RoZXI=\n-----END PRIVATE KEY-----\nafter");
        assert_eq!(cut, "(a private key)\nafter");
    }

    #[tokio::test]
    async fn at_the_deadline_the_whole_group_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("pid");
        let script = format!("sleep 300 & echo $! > {}; wait", pid_file.display());
        let error = run(&sh(&script), Duration::from_millis(300), &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let pid = std::fs::read_to_string(pid_file).unwrap();
        for _ in 0..200 {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the command's child {pid} lives on");
    }

    #[tokio::test]
    async fn a_server_it_leaves_behind_neither_holds_it_up_nor_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let script = format!("(sleep 0.5; echo alive > {}) &", mark.display());
        tokio::time::timeout(Duration::from_millis(450), run(&sh(&script), LONG, &[]))
            .await
            .unwrap()
            .unwrap();
        for _ in 0..200 {
            if mark.exists() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("what the command left running was killed");
    }

    #[tokio::test]
    async fn the_environment_is_a_short_list_and_stdin_is_empty() {
        // CARGO_MANIFEST_DIR stands for the tokens a service is started with.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        run(&sh("test -z \"$CARGO_MANIFEST_DIR\" && test -n \"$PATH\" && ! read x"), LONG, &[])
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = run(&["/nonexistent/reload".to_owned()], LONG, &[]).await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/reload"), "{error}");
    }
}
