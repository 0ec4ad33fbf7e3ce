//! The files of one version: what is in them, whose they are, and writing and comparing them.
//!
//! Everything goes by an open folder: no name is resolved through a link.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::fchown;

use acmekit_core::{Bundle, Result};
use rustix::fs::{Mode, OFlags, fchmod, fstat, openat};
use zeroize::Zeroizing;

use crate::Config;
use crate::config::refuse;

/// Owner, group and mode, resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

impl Attributes {
    /// Gives them to something open, the owner first: a mode is never open to the wrong group.
    pub(crate) fn give(self, to: impl AsFd) -> io::Result<()> {
        if self.are_of(&to)? {
            return Ok(());
        }
        if self.uid.is_some() || self.gid.is_some() {
            fchown(&to, self.uid, self.gid)?;
        }
        Ok(fchmod(&to, Mode::from_raw_mode(self.mode))?)
    }

    pub(crate) fn are_of(self, of: impl AsFd) -> io::Result<bool> {
        let stat = fstat(&of)?;
        Ok(stat.st_mode & 0o7777 == self.mode
            && self.uid.is_none_or(|uid| uid == stat.st_uid)
            && self.gid.is_none_or(|gid| gid == stat.st_gid))
    }
}

/// The attributes of all that is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ownership {
    pub(crate) folder: Attributes,
    pub(crate) file: Attributes,
    pub(crate) key: Attributes,
}

/// One version, ready to be written.
pub(crate) struct Contents {
    pub(crate) serial: String,
    files: Vec<Piece>,
}

struct Piece {
    name: &'static str,
    bytes: Zeroizing<Vec<u8>>,
    attributes: Attributes,
}

impl Contents {
    pub(crate) fn of(bundle: &Bundle, config: &Config, ownership: &Ownership) -> Result<Self> {
        let key = bundle.key_pem();
        if key.is_none() && !config.without_key {
            return Err(refuse("the bundle has no private key: the caller brought a CSR")
                .with_hint("set `without_key` if the server has the key already, and point it to that key"));
        }
        let public = |name, text: String| Piece {
            name,
            bytes: Zeroizing::new(text.into_bytes()),
            attributes: ownership.file,
        };
        let mut files = vec![
            public("fullchain.pem", bundle.fullchain_pem()),
            public("chain.pem", bundle.chain_pem()),
            public("cert.pem", bundle.leaf_pem()),
        ];
        if let Some(key) = &key {
            let key = key.expose().as_bytes();
            let secret =
                |name, bytes| Piece { name, bytes: Zeroizing::new(bytes), attributes: ownership.key };
            files.push(secret("privkey.pem", key.to_vec()));
            if config.combined {
                files.push(secret("combined.pem", [bundle.fullchain_pem().as_bytes(), key].concat()));
            }
        }
        // A folder's name has room for 255 octets; a serial number has 20 at most (RFC 5280).
        let serial = bundle.facts().serial.chars().take(64).collect();
        Ok(Self { serial, files })
    }

    /// Writes all files into an empty folder and flushes them and it to the disk.
    pub(crate) fn write_into(&self, folder: &OwnedFd) -> Result<(), (&'static str, io::Error)> {
        for piece in &self.files {
            piece.write_into(folder).map_err(|e| (piece.name, e))?;
        }
        rustix::fs::fsync(folder).map_err(|e| ("the folder", e.into()))
    }

    /// Whether the folder holds exactly these files, to the octet, as who they are for.
    pub(crate) fn are_in(&self, folder: &OwnedFd) -> io::Result<bool> {
        let mut names = crate::place::names_in(folder)?;
        for piece in &self.files {
            if !names.remove(piece.name) || !piece.is_in(folder)? {
                return Ok(false);
            }
        }
        Ok(names.is_empty())
    }

    /// The key's lines, to be blotted out wherever foreign text is shown.
    pub(crate) fn key_lines(&self) -> Vec<Zeroizing<String>> {
        let key = self.files.iter().find(|piece| piece.name == "privkey.pem");
        let text = key.map(|piece| String::from_utf8_lossy(&piece.bytes)).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with('-') && line.len() >= 8);
        lines.map(|line| Zeroizing::new(line.to_owned())).collect()
    }
}

impl Piece {
    fn write_into(&self, folder: &OwnedFd) -> io::Result<()> {
        // Nobody else's to read until owner and mode are right; empty until then too.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(folder, self.name, flags, Mode::from_raw_mode(0o600))?);
        self.attributes.give(&file)?;
        file.write_all(&self.bytes)?;
        file.sync_all()
    }

    fn is_in(&self, folder: &OwnedFd) -> io::Result<bool> {
        let Some(mut file) = open_file(folder, self.name)? else { return Ok(false) };
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.bytes.len() + 1));
        // One octet more than wanted tells a longer file without reading all of it.
        (&mut file).take(self.bytes.len() as u64 + 1).read_to_end(&mut bytes)?;
        Ok(*bytes == *self.bytes && self.attributes.are_of(&file)?)
    }
}

/// Opens a plain file for reading; `None` if there is none of this name, or a link.
pub(crate) fn open_file(folder: &OwnedFd, name: &str) -> io::Result<Option<File>> {
    // NONBLOCK: a FIFO somebody left there must not hold us up.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => {
            let file = File::from(file);
            Ok(file.metadata()?.is_file().then_some(file))
        }
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
