//! Leases: a record that says until when, and a lock that says whether its holder lives.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::disk::{Disk, file_name, io_error, remove_stray};
use super::lock::try_flock;
use super::{OwnedCondition, entry};
use crate::atomic::{FileAttributes, write_file_via};
use crate::stores::lease_lost;
use crate::{Error, ErrorKind, Guard, Lease, Result, StoreKey};

/// Longer than any lease makes sense; keeps expiries within what a calendar can say.
const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the file `leases/<name>/<token>` says.
#[derive(Serialize, Deserialize)]
struct Record {
    owner: String,
    #[serde(with = "crate::clock::rfc3339")]
    expires: SystemTime,
}

/// The open, locked file that shows that the holder lives. Closing it gives the lease back.
#[derive(Debug)]
struct Alive {
    _file: File,
}

impl Guard for Alive {}

impl Disk {
    pub(super) fn take_lease(&self, name: &StoreKey, ttl: Duration) -> Result<Option<Lease>> {
        let folder = self.leases().join(file_name(name));
        let seen = self.numbers(&folder)?;
        if let Some(token) = seen.latest()
            && self.is_held(&folder, token)?
        {
            return Ok(None);
        }
        let token = seen.next()?;
        if seen.is_new() {
            self.create_folder(&folder)?;
        }
        let alive = alive_file(&folder, token);
        let failed = |e| io_error("file_store.lease", "could not take the lease", &alive, e);
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&alive).map_err(failed)?;
        if !try_flock(&file).map_err(failed)? {
            return Err(failed(io::ErrorKind::WouldBlock.into()));
        }
        self.write_record(&folder, token, ttl)?;
        for old in seen.files {
            remove_stray(&folder.join(old));
        }
        Ok(Some(Lease::new(name.clone(), token, ttl, Some(Box::new(Alive { _file: file })))))
    }

    pub(super) fn renew_lease(&self, name: &StoreKey, token: u64, ttl: Duration) -> Result<()> {
        self.check_lease("file_store.renew", name, token)?;
        self.write_record(&self.leases().join(file_name(name)), token, ttl)
    }

    /// That nobody else has taken over what this write works under.
    pub(super) fn check_fence(&self, op: &'static str, condition: &OwnedCondition) -> Result<()> {
        condition.fence.as_ref().map_or(Ok(()), |(name, token)| self.check_lease(op, name, *token))
    }

    fn check_lease(&self, op: &'static str, name: &StoreKey, token: u64) -> Result<()> {
        let current = self.numbers(&self.leases().join(file_name(name)))?.latest();
        if current == Some(token) { Ok(()) } else { Err(lease_lost(op, name, token)) }
    }

    /// Whether the holder of this token lives and its time has not passed.
    fn is_held(&self, folder: &Path, token: u64) -> Result<bool> {
        let alive = alive_file(folder, token);
        let failed = |e| io_error("file_store.lease", "could not see whether the holder lives", &alive, e);
        let file = match OpenOptions::new().write(true).open(&alive) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(failed(e)),
        };
        if try_flock(&file).map_err(failed)? {
            return Ok(false);
        }
        Ok(read_record(folder, token)?.expires > self.clock.now())
    }

    fn write_record(&self, folder: &Path, token: u64, ttl: Duration) -> Result<()> {
        let expires = self.clock.now() + ttl.min(MAX_TTL);
        let record = Record { owner: format!("process {}", std::process::id()), expires };
        let text = serde_json::to_vec(&record).map_err(|e| {
            Error::new(ErrorKind::Other, "file_store.lease", "the clock is out of range").with_source(e)
        })?;
        let content = entry::encode(token, &text);
        write_file_via(&self.tmp(), &folder.join(token.to_string()), &content, FileAttributes::default())
    }
}

fn alive_file(folder: &Path, token: u64) -> PathBuf {
    folder.join(format!("{token}.alive"))
}

fn read_record(folder: &Path, token: u64) -> Result<Record> {
    let path = folder.join(token.to_string());
    let content = std::fs::read(&path)
        .map_err(|e| io_error("file_store.lease", "could not read who has the lease", &path, e))?;
    let damaged = |why: String| {
        Error::new(ErrorKind::Storage, "file_store.lease", format!("the lease is damaged: {why}"))
            .with("path", path.display())
            .with_hint("it is free again as soon as the process that holds it ends")
    };
    let value = entry::decode(token, &content).map_err(damaged)?;
    serde_json::from_slice(value.expose()).map_err(|_| damaged("its text is of another form".to_owned()))
}
