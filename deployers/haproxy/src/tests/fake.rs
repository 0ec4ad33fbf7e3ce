//! A HAProxy made of its own answers: one transaction, stores, crt-lists; scripted to misbehave.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use acmekit_core::Bundle;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::material::Material;
use crate::{Config, Endpoint, HaProxy, Instance};

/// What is done instead of, or before, the answer that would be right.
pub(crate) enum Rule {
    /// This text.
    Say(String),
    /// These pieces, each after a pause.
    Slowly(Vec<String>, Duration),
    /// Close without a word.
    Close,
    /// Somebody else opens a transaction on this path first.
    Foreign(String),
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) version: &'static str,
    pub(crate) process: u32,
    pub(crate) stores: BTreeMap<String, Option<Material>>,
    pub(crate) transaction: Option<(String, Material)>,
    pub(crate) lists: BTreeMap<String, Vec<String>>,
    /// Used whatever the lists say: named in a bind line.
    pub(crate) bound: Vec<String>,
    /// For the next command that starts so.
    pub(crate) rules: Vec<(&'static str, Rule)>,
    /// The first line of each command.
    pub(crate) commands: Vec<String>,
    /// What was watched for and must not happen.
    pub(crate) faults: Vec<String>,
    /// `(current, old)` makes it a master.
    pub(crate) master: Option<(Vec<u32>, Vec<u32>)>,
    /// This file's content when `set` came.
    pub(crate) watched: Option<PathBuf>,
    pub(crate) seen_at_set: Option<Vec<u8>>,
    /// What a reload reads.
    pub(crate) reload_from: Option<PathBuf>,
}

pub(crate) struct Fake {
    pub(crate) folder: TempDir,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Fake {
    /// A process of this version that serves `old` from `site.pem`, bound, with the file beside it.
    pub(crate) fn start(version: &'static str, old: Option<&Bundle>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State { version, process: 100, ..State::default() };
        let path = folder.path().join("site.pem");
        if let Some(old) = old {
            let material = Material::of(old).unwrap();
            let mut file = std::fs::File::create(&path).unwrap();
            std::io::Write::write_all(&mut file, material.text().as_bytes()).unwrap();
            let name = path.to_string_lossy().into_owned();
            state.bound.push(name.clone());
            state.stores.insert(name, Some(material));
        }
        state.watched = Some(path);
        let state = Arc::new(Mutex::new(state));
        let listener = UnixListener::bind(folder.path().join("sock")).unwrap();
        let shared = Arc::clone(&state);
        #[expect(clippy::disallowed_methods, reason = "ended when the fake is dropped")]
        let server = tokio::spawn(async move {
            let mut clients = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                clients.spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { folder, state, server }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn rule(&self, command: &'static str, rule: Rule) {
        self.state().rules.push((command, rule));
    }

    pub(crate) fn path(&self) -> String {
        self.file().to_string_lossy().into_owned()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("site.pem")
    }

    pub(crate) fn instance(&self) -> Instance {
        let socket = self.folder.path().join("sock");
        let endpoint =
            if self.state().master.is_some() { Endpoint::master(socket) } else { Endpoint::unix(socket) };
        let mut instance = Instance::new(endpoint, self.file());
        instance.timeout = Duration::from_secs(1);
        instance
    }

    pub(crate) fn deployer(&self) -> HaProxy {
        HaProxy::new(Config::new(self.instance())).unwrap()
    }

    pub(crate) fn commands(&self) -> Vec<String> {
        self.state().commands.clone()
    }

    /// The commands that change something, without their arguments.
    pub(crate) fn changes(&self) -> Vec<String> {
        let verb = |c: &String| c.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        self.commands().iter().filter(|c| !c.starts_with("show") && *c != "quit").map(verb).collect()
    }

    /// Whether the process holds this bundle, and the file too.
    pub(crate) fn holds(&self, bundle: &Bundle) -> (bool, bool) {
        let want = Material::of(bundle).unwrap();
        let state = self.state();
        let memory =
            state.stores.get(&self.path()).and_then(Option::as_ref).is_some_and(|m| m.leaf == want.leaf);
        (memory, std::fs::read(self.file()).is_ok_and(|bytes| bytes == want.text().as_bytes()))
    }

    pub(crate) fn no_faults(&self) {
        assert_eq!(self.state().faults, Vec::<String>::new());
    }
}

async fn serve(stream: UnixStream, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    let (mut line, mut payload) = (String::new(), String::new());
    if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
        return;
    }
    let mut line = line.trim_end().to_owned();
    if let Some((command, pattern)) = line.clone().split_once(" <<") {
        command.clone_into(&mut line);
        let mut next = String::new();
        while stream.read_line(&mut next).await.unwrap_or(0) > 0 && next.trim_end() != pattern {
            payload.push_str(&next);
            next.clear();
        }
        if !pattern.is_empty() && state.lock().unwrap().version.starts_with("2.6") {
            state.lock().unwrap().faults.push("2.6 knows no payload pattern".to_owned());
        }
    }
    let mut byte = [0];
    let left = tokio::time::timeout(Duration::from_millis(5), stream.read(&mut byte)).await;
    match left {
        Ok(Ok(0)) => state.lock().unwrap().faults.push(format!("half-closed: {line}")),
        Ok(Ok(_)) => state.lock().unwrap().faults.push(format!("more than one command: {line}")),
        _ => {}
    }
    let (pieces, pause) = {
        let mut state = state.lock().unwrap();
        let bare =
            line.strip_prefix("@!").and_then(|rest| rest.split_once(' ')).map_or(line.as_str(), |(_, c)| c);
        let bare = bare.to_owned();
        let said = if state.master.is_some() { line.clone() } else { bare.clone() };
        state.commands.push(said);
        let rule = state.rules.iter().position(|(start, _)| bare.starts_with(start));
        match rule.map(|at| state.rules.remove(at).1) {
            Some(Rule::Close) => return,
            Some(Rule::Say(text)) => (vec![text], Duration::ZERO),
            Some(Rule::Slowly(pieces, pause)) => {
                state.answer(&bare, &payload);
                (pieces, pause)
            }
            Some(Rule::Foreign(path)) => {
                let theirs = Material::of(&super::certificate(&["foreign.test"])).unwrap();
                state.transaction = Some((path, theirs));
                (vec![state.answer(&bare, &payload)], Duration::ZERO)
            }
            None => (vec![state.answer(&bare, &payload)], Duration::ZERO),
        }
    };
    let whole = pieces.last().is_some_and(|piece| piece.ends_with("\n\n"));
    for piece in pieces {
        // Whoever leaves during this would leave HAProxy with a dangling pointer.
        let left = tokio::time::timeout(pause, stream.read(&mut byte)).await;
        if matches!(left, Ok(Ok(0))) && !pause.is_zero() {
            state.lock().unwrap().faults.push(format!("left during: {line}"));
            return;
        }
        stream.write_all(piece.as_bytes()).await.ok();
    }
    // A master keeps the connection, except where it could not find the worker.
    if state.lock().unwrap().master.is_some() && whole {
        let mut quit = String::new();
        stream.read_line(&mut quit).await.ok();
    }
}

impl State {
    fn is_used(&self, path: &str) -> bool {
        self.bound.iter().any(|p| p == path)
            || self.lists.values().flatten().any(|line| line.split(' ').next() == Some(path))
    }

    fn answer(&mut self, line: &str, payload: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["show", "info"] => format!(
                "Name: HAProxy\nVersion: {}\nPid: {}\nStart_time_sec: 5\n\n",
                self.version, self.process
            ),
            ["show", "proc"] => self.show_proc(),
            ["reload"] => {
                self.process += 1;
                self.master = Some((vec![self.process], Vec::new()));
                self.transaction = None;
                if let Some(file) = self.reload_from.clone() {
                    let material = Material::read(&std::fs::read(&file).unwrap());
                    self.stores.insert(file.to_string_lossy().into_owned(), material);
                }
                "Success=1\n--\n\n".to_owned()
            }
            ["show", "ssl", "cert"] => {
                let mut text = String::new();
                if let Some((path, _)) = &self.transaction {
                    writeln!(text, "# transaction\n*{path}").unwrap();
                }
                text.push_str("# filename\n");
                self.stores.keys().for_each(|path| writeln!(text, "{path}").unwrap());
                text + "\n"
            }
            ["show", "ssl", "cert", path] => self.show(path),
            ["set", "ssl", "cert", path] => self.set(path, payload),
            ["commit", "ssl", "cert", path] => match self.transaction.take() {
                Some((open, material)) if open == *path => {
                    self.stores.insert(open, Some(material));
                    format!("Committing {path}{}\nSuccess!\n\n", if self.is_used(path) { "." } else { "" })
                }
                other => {
                    self.transaction = other;
                    format!("No ongoing transaction! !\nCan't commit {path}!\n\n")
                }
            },
            ["abort", "ssl", "cert", path] => match self.transaction.take() {
                Some((open, _)) if open == *path => {
                    format!("Transaction aborted for certificate '{path}'!\n\n")
                }
                None => "No ongoing transaction!\n\n".to_owned(),
                other => {
                    self.transaction = other;
                    "The ongoing transaction is about 'A' but you are trying to abort a transaction for 'B'\n\n".to_owned()
                }
            },
            ["new", "ssl", "cert", path] => {
                self.stores.insert((*path).to_owned(), None);
                format!("New empty certificate store '{path}'!\n\n")
            }
            ["del", "ssl", "cert", path] if self.is_used(path) => {
                format!("Can't remove the certificate: certificate '{path}' in use, can't be deleted!\n\n")
            }
            ["del", "ssl", "cert", path] => {
                self.stores.remove(*path);
                format!("Certificate '{path}' deleted!\n\n")
            }
            ["show", "ssl", "crt-list"] => {
                self.lists.keys().fold(String::new(), |text, list| text + list + "\n") + "\n"
            }
            ["show", "ssl", "crt-list", "-n", list] => {
                let mut text = format!("# {list}\n");
                for (number, line) in self.lists.get(*list).into_iter().flatten().enumerate() {
                    let (path, options) = line.split_once(' ').unwrap_or((line, ""));
                    writeln!(text, "{}", format!("{path}:{} {options}", number + 1).trim_end()).unwrap();
                }
                text + "\n"
            }
            ["add", "ssl", "crt-list", list, rest @ ..] => {
                let entry = rest.first().map_or(payload.trim_end(), |path| path).to_owned();
                let path = entry.split(' ').next().unwrap_or_default().to_owned();
                self.lists.entry((*list).to_owned()).or_default().push(entry);
                format!("Inserting certificate '{path}' in crt-list '{list}'.\nSuccess!\n\n")
            }
            ["del", "ssl", "crt-list", list, entry] => {
                let (path, number) = entry.rsplit_once(':').unwrap();
                self.lists.get_mut(*list).unwrap().remove(number.parse::<usize>().unwrap() - 1);
                format!("Entry '{path}' deleted in crtlist '{list}'!\n\n")
            }
            _ => "Unknown command. Please enter one of the following commands only:\n\n".to_owned(),
        }
    }

    fn set(&mut self, path: &str, payload: &str) -> String {
        self.seen_at_set = self.watched.as_ref().and_then(|file| std::fs::read(file).ok());
        if !self.stores.contains_key(path) {
            return format!(
                "Can't replace a certificate which is not referenced by the configuration!\nCan't update {path}!\n\n"
            );
        }
        let Some(material) = Material::read(payload.as_bytes()) else {
            return format!(
                "unable to load certificate from file '{path}': no start line.\nCan't load the payload\nCan't update {path}!\n\n"
            );
        };
        let fixed = !self.version.starts_with("2.") && !self.version.starts_with("3.0");
        match &mut self.transaction {
            Some((open, _)) if open != path && fixed => {
                format!(
                    "The ongoing transaction is about '{open}' but you are trying to set '{path}'\nCan't update {path}!\n\n"
                )
            }
            Some((open, held)) => {
                *held = material;
                format!("Transaction updated for certificate {open}!\n\n")
            }
            none => {
                *none = Some((path.to_owned(), material));
                format!("Transaction created for certificate {path}!\n\n")
            }
        }
    }

    fn show(&self, path: &str) -> String {
        let store = match path.strip_prefix('*') {
            Some(bare) => self.transaction.as_ref().filter(|(open, _)| open == bare).map(|(_, m)| Some(m)),
            None => self.stores.get(path).map(Option::as_ref),
        };
        match store {
            None => "Can't display the certificate: Not found or the certificate is a bundle!\n\n".to_owned(),
            Some(None) => format!("Filename: {path}\nStatus: Empty\nOCSP Response Key: \n\n"),
            Some(Some(material)) => {
                let status = if self.is_used(path) { "Used" } else { "Unused" };
                let leaf = &material.leaf;
                let chain = "Chain Subject: /CN=ca\nChain Issuer: /CN=root\n".repeat(leaf.chain);
                format!(
                    "Filename: {path}\nStatus: {status}\nSerial: {}\nSubject Alternative Name: DNS:a.test\nSHA1 FingerPrint: {}\n{chain}\n",
                    leaf.serial, leaf.sha1
                )
            }
        }
    }

    fn show_proc(&self) -> String {
        let (current, old) = self.master.clone().unwrap_or_default();
        let mut text =
            "#<PID>          <type>          <reloads>\n1               master          0\n# workers\n"
                .to_owned();
        let line =
            |text: &mut String, pid: &u32| writeln!(text, "{pid}             worker          0").unwrap();
        current.iter().for_each(|pid| line(&mut text, pid));
        text.push_str("# old workers\n");
        old.iter().for_each(|pid| line(&mut text, pid));
        text + "# programs\n\n"
    }
}
