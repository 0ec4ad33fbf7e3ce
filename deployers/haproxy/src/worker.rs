//! One HAProxy process, addressed directly or through its master: the commands, typed.

use acmekit_core::{Error, ErrorKind, Result};

use crate::answer::{self, Commit, Entry, Info, Listing, Shown, Version};
use crate::client::{Client, Lost, with_payload};
use crate::config::{CrtList, Instance};
use crate::material::Material;

/// One process that serves.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    client: Client,
    /// `@!PID ` through a master, else empty.
    prefix: String,
    pub(crate) info: Info,
    limits: Limits,
}

/// How long a command may be, in octets.
#[derive(Debug, Clone, Copy)]
struct Limits {
    bufsize: usize,
    max_payload: usize,
}

/// What came of `set ssl cert`.
#[derive(Debug)]
pub(crate) enum Set {
    /// The transaction holds our certificate.
    Taken,
    /// A transaction somebody else had open, on this path, holds our certificate now.
    Elsewhere(String),
    /// HAProxy said no.
    Refused(Error),
    /// It has not seen the command.
    Unsent(Error),
    /// It may have obeyed.
    Unanswered(Error),
}

/// The processes behind an instance's endpoint, and those of the master that are draining.
pub(crate) async fn workers(instance: &Instance) -> Result<(Vec<Worker>, Vec<u32>)> {
    let client = Client::new(instance.endpoint.clone(), instance.timeout, instance.commit_budget());
    let limits = Limits { bufsize: instance.bufsize, max_payload: instance.max_payload };
    if !instance.endpoint.is_master() {
        return Ok((vec![Worker::greet(client, String::new(), limits).await?], Vec::new()));
    }
    let text = client.ask("show proc\n").await.map_err(Lost::into_error)?;
    let found = answer::workers(&text).filter(|found| !found.current.is_empty()).ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, "haproxy.show_proc", "the master names no worker")
            .with("answer", answer::excerpt(&text, ""))
    })?;
    let mut workers = Vec::new();
    for pid in found.current {
        workers.push(Worker::greet(client.clone(), format!("@!{pid} "), limits).await?);
    }
    Ok((workers, found.old))
}

/// Asks a master to reload its configuration. Older ones close the connection without a word.
pub(crate) async fn reload(instance: &Instance) -> Result<()> {
    let client = Client::new(instance.endpoint.clone(), instance.timeout, instance.commit_budget());
    match client.ask("reload\n").await {
        Ok(text) if text.starts_with("Success=0") => {
            Err(Error::new(ErrorKind::Deploy, "haproxy.reload", "HAProxy could not reload")
                .with("answer", answer::excerpt(&text, "")))
        }
        Ok(_) | Err(Lost::Unanswered(_)) => Ok(()),
        Err(Lost::Unsent(error)) => Err(error),
    }
}

impl Worker {
    async fn greet(client: Client, prefix: String, limits: Limits) -> Result<Self> {
        let unknown = Info { version: Version(0, 0), process: String::new() };
        let mut worker = Self { client, prefix, info: unknown, limits };
        let text = worker.ask("show info").await?;
        worker.info = answer::info(&text).ok_or_else(|| strange("show info", &text, ""))?;
        Ok(worker)
    }

    /// Sends a command without a secret in it.
    #[tracing::instrument(level = "debug", skip(self), fields(process = self.info.process))]
    async fn ask(&self, command: &str) -> Result<String> {
        let text = self.client.ask(&format!("{}{command}\n", self.prefix)).await.map_err(Lost::into_error)?;
        answered(command, text)
    }

    pub(crate) async fn list(&self) -> Result<Listing> {
        let text = self.ask("show ssl cert").await?;
        answer::listing(&text).ok_or_else(|| strange("show ssl cert", &text, ""))
    }

    /// What is in a store, or with `*` before the path, in its transaction: never ask for that once
    /// a commit was sent.
    pub(crate) async fn show(&self, path: &str) -> Result<Option<Shown>> {
        Ok(answer::shown(&self.ask(&format!("show ssl cert {path}")).await?, path))
    }

    /// Refuses what is longer than HAProxy takes, before any of it is sent.
    pub(crate) fn check_size(&self, path: &str, material: &Material) -> Result<()> {
        let own_terminator = self.info.version >= Version::OWN_TERMINATOR;
        let line = with_payload(&self.set_command(path), material.text(), own_terminator);
        let (limit, option) = if self.info.version >= Version::LARGE_PAYLOAD {
            (self.limits.max_payload, "tune.cli.max-payload-size")
        } else {
            (self.limits.bufsize, "tune.bufsize")
        };
        if line.len() < limit {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Config, "haproxy.size", "the certificate is too large for HAProxy's command line")
            .with("size", line.len())
            .with("limit", limit)
            .with_hint(format!(
                "raise `{option}` in HAProxy's configuration and tell the deployer, or order an ECDSA key or fewer names"
            )))
    }

    fn set_command(&self, path: &str) -> String {
        format!("{}set ssl cert {path}", self.prefix)
    }

    #[tracing::instrument(level = "debug", skip(self, material), fields(process = self.info.process))]
    pub(crate) async fn set(&self, path: &str, material: &Material) -> Set {
        let own_terminator = self.info.version >= Version::OWN_TERMINATOR;
        let line = with_payload(&self.set_command(path), material.text(), own_terminator);
        let text = match self.client.ask(&line).await {
            Ok(text) if text.is_empty() => return Set::Unanswered(strange("set ssl cert", "", path)),
            Ok(text) => text,
            Err(Lost::Unsent(error)) => return Set::Unsent(error),
            Err(Lost::Unanswered(error)) => return Set::Unanswered(error),
        };
        match answer::set(&text) {
            Some(changed) if changed == path => Set::Taken,
            Some(other) => Set::Elsewhere(other.to_owned()),
            None => Set::Refused(strange("set ssl cert", &text, path)),
        }
    }

    /// Commits. [`Lost::Unanswered`] means that nothing may be sent for this path any more.
    #[tracing::instrument(level = "debug", skip(self), fields(process = self.info.process))]
    pub(crate) async fn commit(&self, path: &str) -> Result<Result<()>, Lost> {
        let text = self.client.commit(format!("{}commit ssl cert {path}\n", self.prefix)).await?;
        match answer::commit(&text, path) {
            Commit::Done => Ok(Ok(())),
            Commit::Refused => Ok(Err(strange("commit ssl cert", &text, path))),
            Commit::Unanswered => Err(Lost::Unanswered(strange("commit ssl cert", &text, path))),
        }
    }

    pub(crate) async fn abort(&self, path: &str) -> Result<()> {
        let text = self.ask(&format!("abort ssl cert {path}")).await?;
        if answer::is_aborted(&text, path) { Ok(()) } else { Err(strange("abort ssl cert", &text, path)) }
    }

    pub(crate) async fn create(&self, path: &str) -> Result<()> {
        let text = self.ask(&format!("new ssl cert {path}")).await?;
        if answer::is_created(&text, path) { Ok(()) } else { Err(strange("new ssl cert", &text, path)) }
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        let text = self.ask(&format!("del ssl cert {path}")).await?;
        if answer::is_deleted(&text, path) { Ok(()) } else { Err(strange("del ssl cert", &text, path)) }
    }

    pub(crate) async fn lists(&self) -> Result<Vec<String>> {
        Ok(answer::lists(&self.ask("show ssl crt-list").await?))
    }

    pub(crate) async fn entries(&self, list: &str, path: &str) -> Result<Vec<Entry>> {
        let text = self.ask(&format!("show ssl crt-list -n {list}")).await?;
        answer::entries(&text, path).ok_or_else(|| strange("show ssl crt-list", &text, list))
    }

    pub(crate) async fn add_entry(&self, list: &CrtList, path: &str) -> Result<()> {
        self.add_line(&list.name, path, &list.line(path)).await
    }

    pub(crate) async fn add_line(&self, list: &str, path: &str, line: &str) -> Result<()> {
        let command = if line == path {
            format!("add ssl crt-list {list} {path}")
        } else {
            format!("add ssl crt-list {list} <<\n{line}\n")
        };
        let text = self.ask(&command).await?;
        if answer::is_listed(&text, list, path) {
            Ok(())
        } else {
            Err(strange("add ssl crt-list", &text, path))
        }
    }

    pub(crate) async fn delete_entry(&self, list: &str, path: &str, line: u32) -> Result<()> {
        let text = self.ask(&format!("del ssl crt-list {list} {path}:{line}")).await?;
        // Some versions repeat the line number, some do not.
        let done = answer::is_unlisted(&text, list, path)
            || answer::is_unlisted(&text, list, &format!("{path}:{line}"));
        if done { Ok(()) } else { Err(strange("del ssl crt-list", &text, path)) }
    }
}

/// An answer that is none of those that mean success, as an error. What it says decides the kind.
fn strange(command: &'static str, text: &str, path: &str) -> Error {
    let says = |words: &str| text.contains(words);
    let (kind, why) = if says("Permission denied") {
        (ErrorKind::Auth, "HAProxy does not allow it on this socket")
    } else if says("Can't find the target PID") {
        (ErrorKind::Unavailable, "the worker has ended")
    } else if says("currently locked") || says("ongoing transaction is about") {
        (ErrorKind::Conflict, "somebody else is changing certificates in HAProxy")
    } else if says("in use, can't be deleted") || says("used as default certificate") {
        (ErrorKind::Conflict, "HAProxy still uses the certificate")
    } else if says("ongoing transaction for the certificate") {
        (ErrorKind::Conflict, "the certificate is being changed")
    } else {
        (ErrorKind::Deploy, "HAProxy refused")
    };
    let error = Error::new(kind, "haproxy.command", why)
        .with("command", command)
        .with("path", path)
        .with("answer", answer::excerpt(text, path));
    if kind == ErrorKind::Auth { error.with_hint("the socket needs `level admin`") } else { error }
}

fn answered(command: &str, text: String) -> Result<String> {
    let refused = ["Permission denied", "Can't find the target PID"];
    if refused.iter().any(|words| text.starts_with(words)) {
        return Err(strange("", &text, "").with("sent", command.lines().next().unwrap_or_default()));
    }
    if text.is_empty() {
        return Err(Error::new(
            ErrorKind::Unavailable,
            "haproxy.command",
            "HAProxy closed the connection without an answer",
        )
        .with("sent", command.lines().next().unwrap_or_default()));
    }
    Ok(text)
}
