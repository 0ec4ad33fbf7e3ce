//! One certificate's place below the root: its link, its versions, and what is known of them.
//!
//! ```text
//! ROOT/.lock                          held while anything below is changed
//! ROOT/ID -> .versions/ID/7-04AB…     what programs read
//! ROOT/.versions/ID/7-04AB…/*.pem     a version: never changed once it has its name
//! ROOT/.versions/ID/settled -> 7-…    the version a server is known to have taken up …
//! ROOT/.versions/ID/unsettled -> 6-…  … or, under this name, the one to go back to
//! ```
//!
//! Every name is resolved below an open folder and no link is ever followed, so that nobody can
//! lead the writer out of the root. Whoever calls holds the lock.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;

use acmekit_core::{CertificateId, Result};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, fstat, fsync, mkdirat, openat, readlinkat, renameat};
use rustix::fs::{symlinkat, unlinkat};
use rustix::io::Errno;

use crate::contents::{Contents, Ownership};
use crate::problem::{conflict, failed};
use crate::version::VersionName;

const VERSIONS: &str = ".versions";
/// A version that is still being written.
const UNFINISHED: &str = ".unfinished";
const SETTLED: &str = "settled";
const UNSETTLED: &str = "unsettled";

pub(crate) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What stands in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The version the link points to.
    pub(crate) current: Option<VersionName>,
    /// The version last known to be taken up: the one to go back to.
    pub(crate) good: Option<VersionName>,
    /// Whether the server is believed to use `good`.
    pub(crate) settled: bool,
}

/// An open place.
#[derive(Debug)]
pub(crate) struct Place {
    root: OwnedFd,
    versions: OwnedFd,
    id: String,
    ownership: Ownership,
}

impl Place {
    /// Opens the place; `None` if nothing was ever deployed there.
    pub(crate) fn open(root: OwnedFd, id: &CertificateId, ownership: Ownership) -> Result<Option<Self>> {
        let id = id.as_str().to_owned();
        let Some(all) = open_folder(&root, VERSIONS)? else { return Ok(None) };
        let Some(versions) = open_folder(&all, &id)? else { return Ok(None) };
        Ok(Some(Self { root, versions, id, ownership }))
    }

    /// Opens the place, and makes it first if need be.
    pub(crate) fn make(root: OwnedFd, id: &CertificateId, ownership: Ownership) -> Result<Self> {
        let id = id.as_str().to_owned();
        let all = make_folder(&root, VERSIONS, &root, ownership)?;
        let versions = make_folder(&all, &id, &root, ownership)?;
        Ok(Self { root, versions, id, ownership })
    }

    /// Looks at the links.
    pub(crate) fn standing(&self) -> Result<Standing> {
        let settled = self.mark(SETTLED)?;
        let good = match &settled {
            Some(name) => Some(name.clone()),
            None => self.mark(UNSETTLED)?,
        };
        let current = self.current()?;
        // Both marks: killed between the two steps of settling, before the sweep. Done again, that comes to its end.
        let ended = read_link(&self.versions, UNSETTLED)?.is_none();
        Ok(Standing { settled: ended && settled.is_some() && settled == current, current, good })
    }

    fn current(&self) -> Result<Option<VersionName>> {
        let Some(target) = read_link(&self.root, &self.id)? else { return Ok(None) };
        let inside = target.strip_prefix(VERSIONS).and_then(|rest| rest.strip_prefix('/'));
        let name = inside.and_then(|rest| rest.strip_prefix(&self.id)?.strip_prefix('/'));
        match name.and_then(VersionName::parse) {
            Some(name) => Ok(Some(name)),
            None => Err(conflict("the certificate's link is not one this deployer made")
                .with("link", &self.id)
                .with("points_to", target)),
        }
    }

    /// A mark whose version is gone, or that is no link of ours, says nothing.
    fn mark(&self, mark: &str) -> Result<Option<VersionName>> {
        let Some(name) = read_link(&self.versions, mark)?.and_then(|target| VersionName::parse(&target))
        else {
            return Ok(None);
        };
        Ok(self.open_version(&name)?.is_some().then_some(name))
    }

    fn open_version(&self, name: &VersionName) -> Result<Option<OwnedFd>> {
        open_folder(&self.versions, name.as_str())
    }

    /// Whether the version is there and holds exactly this.
    pub(crate) fn holds(&self, name: &VersionName, contents: &Contents) -> Result<bool> {
        let Some(folder) = self.open_version(name)? else { return Ok(false) };
        contents.are_in(&folder).map_err(|e| failed("read the version in place", e))
    }

    /// The full chain of a version, if it can be read.
    pub(crate) fn fullchain(&self, name: &VersionName) -> Option<String> {
        use std::io::Read;
        let folder = self.open_version(name).ok()??;
        let mut text = String::new();
        let file = crate::contents::open_file(&folder, "fullchain.pem").ok()??;
        file.take(1 << 20).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Brings the contents into a version folder of their own, whole and on the disk. One that is
    /// there already, from an attempt that failed, is taken again.
    pub(crate) fn write(&self, contents: &Contents) -> Result<VersionName> {
        self.clear_leftovers();
        let known = self.list()?;
        for name in known.iter().rev().filter(|name| name.is_of(&contents.serial)) {
            if self.holds(name, contents)? {
                return Ok(name.clone());
            }
        }
        let name = VersionName::after(known.last(), &contents.serial);
        let written = self.write_as(&name, contents);
        if written.is_err() {
            self.clear_leftovers();
        }
        written.map(|()| name)
    }

    fn write_as(&self, name: &VersionName, contents: &Contents) -> Result<()> {
        let step = |step: &'static str| move |e: Errno| failed(step, e.into());
        mkdirat(&self.versions, UNFINISHED, Mode::from_raw_mode(0o700))
            .map_err(step("create a version's folder"))?;
        let folder = openat(&self.versions, UNFINISHED, FOLDER, Mode::empty())
            .map_err(step("open a version's folder"))?;
        contents
            .write_into(&folder)
            .map_err(|(file, e)| failed("write a version's files", e).with("file", file))?;
        self.ownership
            .folder
            .give(&folder)
            .map_err(|e| failed("set owner and mode of a version's folder", e))?;
        fsync(&folder).map_err(step("flush a version's folder to the disk"))?;
        renameat(&self.versions, UNFINISHED, &self.versions, name.as_str())
            .map_err(step("name a version's folder"))?;
        fsync(&self.versions).map_err(step("flush the versions to the disk"))
    }

    /// Notes that from here on the server may use something else than the version marked good.
    pub(crate) fn unsettle(&self) -> Result<()> {
        match renameat(&self.versions, SETTLED, &self.versions, UNSETTLED) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(failed("mark the deployment as under way", e.into())),
        }
        fsync(&self.versions).map_err(|e| failed("flush the versions to the disk", e.into()))
    }

    /// Notes that the server uses this version.
    pub(crate) fn settle(&self, name: &VersionName) -> Result<()> {
        self.link(&self.versions, SETTLED, name.as_str())?;
        unlink(&self.versions, UNSETTLED)
    }

    /// Switches what programs read, all files at once; `None` takes it away.
    pub(crate) fn point(&self, to: Option<&VersionName>) -> Result<()> {
        match to {
            Some(name) => self.link(&self.root, &self.id, &format!("{VERSIONS}/{}/{name}", self.id)),
            None => unlink(&self.root, &self.id),
        }
    }

    /// A link that is replaced by one rename, and on the disk when this returns.
    fn link(&self, folder: &OwnedFd, name: &str, target: &str) -> Result<()> {
        let step = |step: &'static str| move |e: Errno| failed(step, e.into()).with("link", name);
        let temporary = format!(".{name}.new");
        symlinkat(target, folder, &temporary)
            .or_else(|e| match e {
                // Left by a crash; under the lock it is nobody's.
                Errno::EXIST => {
                    unlinkat(folder, &temporary, AtFlags::empty())?;
                    symlinkat(target, folder, &temporary)
                }
                other => Err(other),
            })
            .map_err(step("create a link"))?;
        renameat(folder, &temporary, folder, name).map_err(step("switch a link"))?;
        fsync(folder).map_err(step("flush a link to the disk"))
    }

    /// Removes what a crash may have left, and older versions beyond `keep`. What cannot be
    /// removed is logged: it is in nobody's way.
    pub(crate) fn sweep(&self, keep: usize, current: &VersionName) {
        self.clear_leftovers();
        let Ok(mut older) = self.list() else { return };
        older.retain(|name| name != current);
        let surplus = older.len().saturating_sub(keep);
        for name in older.iter().take(surplus) {
            self.remove_folder(name.as_str());
        }
    }

    fn clear_leftovers(&self) {
        self.remove_folder(UNFINISHED);
        for (folder, name) in [(&self.versions, SETTLED), (&self.root, self.id.as_str())] {
            unlinkat(folder, format!(".{name}.new"), AtFlags::empty()).ok();
        }
    }

    /// Takes all versions away, and the place itself. The link is gone before.
    pub(crate) fn delete(self) -> Result<()> {
        for name in [SETTLED, UNSETTLED] {
            unlink(&self.versions, name)?;
        }
        self.clear_leftovers();
        for name in self.list()? {
            self.remove_folder(name.as_str());
        }
        let Some(all) = open_folder(&self.root, VERSIONS)? else { return Ok(()) };
        match unlinkat(&all, &self.id, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(failed("remove the certificate's folder", e.into()).with("id", &self.id)),
        }
        fsync(&all).map_err(|e| failed("flush the versions to the disk", e.into()))
    }

    /// Removes a folder of plain files; links in it are removed, never followed.
    fn remove_folder(&self, name: &str) {
        let removed = (|| -> io::Result<()> {
            let folder = openat(&self.versions, name, FOLDER, Mode::empty())?;
            for file in names_in(&folder)? {
                unlinkat(&folder, file, AtFlags::empty())?;
            }
            Ok(unlinkat(&self.versions, name, AtFlags::REMOVEDIR)?)
        })();
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(id = self.id, version = name, %error, "could not remove an old version");
        }
    }

    /// All versions, oldest first.
    fn list(&self) -> Result<Vec<VersionName>> {
        let names = names_in(&self.versions).map_err(|e| failed("list the versions", e))?;
        let mut found: Vec<VersionName> = names.iter().filter_map(|name| VersionName::parse(name)).collect();
        found.sort();
        Ok(found)
    }
}

/// The names in a folder; one that is not UTF-8 is none of ours.
pub(crate) fn names_in(folder: &OwnedFd) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.insert(name);
        }
    }
    Ok(names)
}

fn read_link(folder: &OwnedFd, name: &str) -> Result<Option<String>> {
    match readlinkat(folder, name, Vec::new()) {
        Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::INVAL) => {
            Err(conflict("something that is no link stands where the link belongs").with("link", name))
        }
        Err(e) => Err(failed("read a link", e.into()).with("link", name)),
    }
}

fn unlink(folder: &OwnedFd, name: &str) -> Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) => fsync(folder).map_err(|e| failed("flush a folder to the disk", e.into())),
        Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(failed("remove a link", e.into()).with("link", name)),
    }
}

fn open_folder(parent: &OwnedFd, name: &str) -> Result<Option<OwnedFd>> {
    match openat(parent, name, FOLDER, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP | Errno::NOTDIR) => {
            Err(conflict("something that is no folder stands where a folder belongs").with("name", name))
        }
        Err(e) => Err(failed("open a folder", e.into()).with("name", name)),
    }
}

/// Opens or makes a folder of ours. One that belongs to a stranger would let them swap its content.
fn make_folder(parent: &OwnedFd, name: &str, root: &OwnedFd, ownership: Ownership) -> Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => fsync(parent).map_err(|e| failed("flush a folder to the disk", e.into()))?,
        Err(Errno::EXIST) => {}
        Err(e) => return Err(failed("create a folder", e.into()).with("name", name)),
    }
    let gone = || conflict("a folder was removed under our hands").with("name", name);
    let folder = open_folder(parent, name)?.ok_or_else(gone)?;
    let owner = |of: &OwnedFd| fstat(of).map(|stat| stat.st_uid);
    let owner_of = |of| owner(of).map_err(|e| failed("look at a folder", e.into()).with("name", name));
    let (uid, root_uid) = (owner_of(&folder)?, owner_of(root)?);
    let trusted = [Some(rustix::process::geteuid().as_raw()), Some(0), Some(root_uid), ownership.folder.uid];
    if !trusted.contains(&Some(uid)) {
        return Err(conflict("a folder belongs to somebody else").with("name", name).with("uid", uid));
    }
    ownership
        .folder
        .give(&folder)
        .map_err(|e| failed("set owner and mode of a folder", e).with("name", name))?;
    Ok(folder)
}
