use super::*;

const LONG: Duration = Duration::from_secs(20);

fn sh(script: &str) -> Run {
    let mut run = Run::new("test.run", "the script", "/bin/sh");
    run.args = ["-c", script].map(OsString::from).to_vec();
    run.timeout = LONG;
    run
}

/// Waits for a file with a process id in it.
async fn pid_in(file: &std::path::Path) -> String {
    for _ in 0..2000 {
        if let Some(pid) =
            std::fs::read_to_string(file).ok().and_then(|t| t.strip_suffix('\n').map(str::to_owned))
        {
            return pid;
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("no process wrote {}", file.display());
}

async fn gone(pid: &str) {
    for _ in 0..2000 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z") {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("the process {pid} lives on");
}

#[tokio::test]
async fn the_end_of_the_output_is_told_and_never_the_arguments() {
    let ended = sh("seq 100000; echo out; echo bad >&2; exit 3 # hunter2").to_the_end().await.unwrap();
    assert_eq!(ended.status.code(), Some(3));
    assert!(ended.output.contains("out\nbad") && ended.output.len() < 2500, "{}", ended.output);
    assert!(!ended.output.contains("hunter2"));
    assert!(!format!("{:?} {ended:?}", sh("hunter2")).contains("hunter2"));
}

#[tokio::test]
async fn secrets_and_keys_are_blotted_out_of_the_output() {
    let mut run =
        sh("echo x c2VjcmV0c2VjcmV0 $TOKEN y; printf -- '-----BEGIN PRIVATE KEY-----\\nb3RoZXI=\\n'");
    run.secrets = vec![Zeroizing::new("c2VjcmV0c2VjcmV0".to_owned())];
    run.env = vec![("TOKEN".to_owned(), Secret::from("hunter2"))];
    run.keep = 100;
    let ended = run.to_the_end().await.unwrap();
    assert_eq!(ended.output, "x … … y\n(a private key)");
    // Whoever asks for the standard output gets it as it is.
    assert!(ended.stdout.starts_with(b"x c2VjcmV0c2VjcmV0 hunter2 y\n") && !ended.cut);
}

#[tokio::test]
async fn at_the_deadline_the_whole_group_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let mut run = sh(&format!("sleep 300 & echo $! > {}; wait", file.display()));
    run.timeout = Duration::from_millis(500);
    let error = run.to_the_end().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    gone(&pid_in(&file).await).await;
}

#[tokio::test]
async fn with_a_grace_it_may_tidy_up_and_what_does_not_end_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, mark) = (folder.path().join("pid"), folder.path().join("mark"));
    // The child of the child hears nothing of SIGTERM.
    let script = format!(
        "trap 'echo tidy > {}; exit' TERM; (trap '' TERM; sleep 300) & echo $! > {}; wait",
        mark.display(),
        file.display()
    );
    let mut run = sh(&script);
    (run.timeout, run.grace) = (Duration::from_millis(500), LONG);
    let error = run.to_the_end().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(std::fs::read_to_string(mark).unwrap(), "tidy\n");
    gone(&pid_in(&file).await).await;
}

#[tokio::test]
async fn a_dropped_future_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!("trap '' TERM; (trap '' TERM; sleep 300) & echo $! > {}; wait", file.display());
    let pid = tokio::select! {
        _ = sh(&script).to_the_end() => panic!("it ended"),
        pid = pid_in(&file) => pid,
    };
    gone(&pid).await;
}

#[tokio::test]
async fn a_server_it_leaves_behind_neither_holds_it_up_nor_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (fifo, mark) = (folder.path().join("fifo"), folder.path().join("mark"));
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    // It ends once something comes out of the pipe: so it lives when the program has ended.
    sh(&format!("(read x < {}; echo $$ > {}) &", fifo.display(), mark.display())).to_the_end().await.unwrap();
    let writing = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(fifo));
    drop(tokio::time::timeout(LONG, writing).await.unwrap().unwrap().unwrap());
    pid_in(&mark).await;
}

#[tokio::test]
async fn the_environment_is_a_short_list_and_stdin_is_empty() {
    // CARGO_MANIFEST_DIR stands for the tokens a service is started with.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let script = "test -z \"$CARGO_MANIFEST_DIR\" && test -n \"$PATH\" && ! read x";
    assert!(sh(script).to_the_end().await.unwrap().status.success());
    let mut run = sh("test -n \"$CARGO_MANIFEST_DIR\"");
    run.handed_on = vec!["CARGO_MANIFEST_DIR"];
    assert!(run.to_the_end().await.unwrap().status.success());
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let mut run = Run::new("test.run", "the script", "/nonexistent/program");
    run.env = vec![("TOKEN".to_owned(), Secret::from("hunter2"))];
    let error = run.to_the_end().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("/nonexistent/program"), "{error}");
    assert!(!error.report().contains("hunter2"));
}
