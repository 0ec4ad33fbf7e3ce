//! Our own note beside the certificate about a transaction we have open in HAProxy.
//!
//! HAProxy has one transaction per process, and nobody's name is on it. After a crash of ours, the
//! note tells a transaction that may be aborted (`set`) from one that must not be touched, because
//! its commit was sent and the store it points to may be freed (`commit`). Whatever has no note is
//! somebody else's.

use std::path::{Path, PathBuf};

use acmekit_core::Result;
use acmekit_core::atomic::FileAttributes;

use crate::disk;

/// How far a transaction of ours has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// `set` may have been obeyed; `commit` has not been sent. Aborting is safe.
    Set,
    /// `commit` has been sent and not answered. Nothing may be sent for it any more.
    Commit,
}

/// The file `.NAME.acmekit-txn` beside the certificate NAME: a line for each process with an open
/// transaction.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    file: PathBuf,
    endpoint: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) state: State,
    endpoint: String,
    process: String,
    pub(crate) path: String,
}

impl Marks {
    pub(crate) fn beside(certificate: &Path, endpoint: String) -> Self {
        let name = certificate.file_name().unwrap_or_default().to_string_lossy();
        Self { file: certificate.with_file_name(format!(".{name}.acmekit-txn")), endpoint }
    }

    /// Our transaction in this process, if there is one.
    pub(crate) async fn of(&self, process: &str) -> Result<Option<Mark>> {
        let all = self.read().await?;
        Ok(all.into_iter().find(|mark| mark.endpoint == self.endpoint && mark.process == process))
    }

    /// Notes a transaction, durably, before what it notes is done.
    pub(crate) async fn note(&self, process: &str, path: &str, state: State) -> Result<()> {
        let mut all = self.others(process).await?;
        let (endpoint, process, path) = (self.endpoint.clone(), process.to_owned(), path.to_owned());
        all.push(Mark { state, endpoint, process, path });
        self.write(all).await
    }

    /// There is no transaction of ours in this process any more.
    pub(crate) async fn clear(&self, process: &str) -> Result<()> {
        let others = self.others(process).await?;
        self.write(others).await
    }

    /// Forgets processes that have ended: their transactions ended with them.
    pub(crate) async fn keep_only(&self, processes: &[&str]) -> Result<()> {
        let all = self.read().await?;
        let count = all.len();
        let lives =
            |mark: &Mark| mark.endpoint != self.endpoint || processes.contains(&mark.process.as_str());
        let kept: Vec<_> = all.into_iter().filter(lives).collect();
        if kept.len() == count { Ok(()) } else { self.write(kept).await }
    }

    async fn others(&self, process: &str) -> Result<Vec<Mark>> {
        let mut all = self.read().await?;
        all.retain(|mark| mark.endpoint != self.endpoint || mark.process != process);
        Ok(all)
    }

    async fn read(&self) -> Result<Vec<Mark>> {
        let text = disk::read(&self.file).await?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&text).lines().filter_map(Mark::parse).collect())
    }

    async fn write(&self, marks: Vec<Mark>) -> Result<()> {
        if marks.is_empty() {
            return disk::remove(&self.file).await;
        }
        let text: String = marks.iter().map(Mark::line).collect();
        disk::write(&self.file, text.into_bytes(), FileAttributes::default()).await
    }
}

impl Mark {
    fn line(&self) -> String {
        let state = match self.state {
            State::Set => "set",
            State::Commit => "commit",
        };
        format!("{state}\t{}\t{}\t{}\n", self.endpoint, self.process, self.path)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t').map(str::to_owned);
        let state = match fields.next()?.as_str() {
            "set" => State::Set,
            "commit" => State::Commit,
            _ => return None,
        };
        Some(Self { state, endpoint: fields.next()?, process: fields.next()?, path: fields.next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mark_is_kept_per_process_and_the_file_goes_with_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let certificate = folder.path().join("site.pem");
        let one = Marks::beside(&certificate, "unix:/one".to_owned());
        let two = Marks::beside(&certificate, "unix:/two".to_owned());
        one.note("1@9", "site.pem", State::Set).await.unwrap();
        two.note("1@9", "site.pem", State::Commit).await.unwrap();
        one.note("1@9", "site.pem", State::Commit).await.unwrap();
        assert_eq!(one.of("1@9").await.unwrap().unwrap().state, State::Commit);
        assert_eq!(one.of("2@9").await.unwrap(), None);
        one.keep_only(&["2@9"]).await.unwrap();
        assert_eq!(one.of("1@9").await.unwrap(), None);
        assert!(two.of("1@9").await.unwrap().is_some());
        two.clear("1@9").await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
