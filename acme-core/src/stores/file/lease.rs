//! Leases: a record that says until when, and a lock that says whether its holder lives.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::disk::{Disk, file_name, io_error, make_folder, remove_stray};
use super::lock::try_flock;
use super::{OwnedCondition, entry};
use crate::atomic::{FileAttributes, Flush, Staged};
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
    /// For how long it was taken or renewed, in milliseconds; 0 in records of older programs.
    #[serde(default)]
    ttl_ms: u64,
}

impl Record {
    /// Whether its time has not passed. By a clock that was set back since by more than its time, it has: its holder would
    /// have renewed it, and who hangs would keep it for as long as the clock was ahead.
    fn is_good(&self, now: SystemTime) -> bool {
        let ttl = Duration::from_millis(self.ttl_ms);
        let left = self.expires.duration_since(now).unwrap_or_default();
        !left.is_zero() && (ttl.is_zero() || left <= ttl * 2)
    }
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
            make_folder(&folder)?;
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
        Ok(read_record(folder, token)?.is_good(self.clock.now()))
    }

    fn write_record(&self, folder: &Path, token: u64, ttl: Duration) -> Result<()> {
        let ttl = ttl.min(MAX_TTL);
        let expires = self.clock.now() + ttl;
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let record = Record { owner: format!("process {}", std::process::id()), expires, ttl_ms };
        let text = serde_json::to_vec(&record).map_err(|e| {
            Error::new(ErrorKind::Other, "file_store.lease", "the clock is out of range").with_source(e)
        })?;
        let content = entry::encode(token, &text);
        let path = folder.join(token.to_string());
        // Not flushed: when the power fails all holders are gone, and with them their locks.
        Staged::write(&self.tmp(), &path, &content, FileAttributes::default(), Flush::No)?.place(&path)
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

/// For the fuzz targets only: octets as the record of a lease.
pub(crate) fn fuzz(octets: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<Record>(octets) {
        let again = serde_json::to_vec(&record).ok().and_then(|octets| serde_json::from_slice(&octets).ok());
        let is_same = |again: Record| (again.owner, again.expires) == (record.owner, record.expires);
        assert!(again.is_some_and(is_same), "the record of a lease does not survive being written");
    }
}
