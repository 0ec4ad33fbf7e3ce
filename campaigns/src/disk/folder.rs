//! What happens to the folder of a file store behind its back.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use acmekit::Error;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::world::Dice;

/// The newest files of an entry's folder come first in what a disk destroys.
const NEWEST: u64 = 60;

/// A disk of its own for a store, small enough to be filled; unmounted when dropped.
#[derive(Debug)]
pub(super) struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounted here, if this machine lets anybody mount.
    pub(super) fn mount(at: &Path, kilobytes: u64) -> Result<Self, String> {
        std::fs::create_dir(at).map_err(|error| error.to_string())?;
        let options = format!("size={kilobytes}k,mode=0700");
        run("mount", &["-t", "tmpfs", "-o", &options, "acmekit-disk"], at)?;
        Ok(Self { at: at.to_owned() })
    }

    /// Fills it up to so many free octets: a tmpfs counts in pages.
    pub(super) fn fill(&self, free: u64) -> io::Result<()> {
        let mut ballast = File::create(self.ballast())?;
        let page = [0; 4096];
        let mut written = 0;
        while ballast.write_all(&page).is_ok() {
            written += 4096;
        }
        ballast.set_len(written - free.min(written))
    }

    pub(super) fn free(&self) -> io::Result<()> {
        std::fs::remove_file(self.ballast())
    }

    pub(super) fn read_only(&self, read_only: bool) -> Result<(), String> {
        let mode = if read_only { "remount,ro" } else { "remount,rw" };
        run("mount", &["-o", mode], &self.at)
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is left mounted stands in nobody's way, but for its folder.
        run("umount", &["-l"], &self.at).ok();
    }
}

fn run(program: &str, arguments: &[&str], at: &Path) -> Result<(), String> {
    let child = Command::new(program)
        .args(arguments)
        .arg(at)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    match child.status.success() {
        true => Ok(()),
        false => {
            // Without the folder, which is another one each time.
            let why = String::from_utf8_lossy(&child.stderr);
            let why = why.lines().next().unwrap_or_default().replace(&at.display().to_string(), "the folder");
            Err(format!("{program}: {why}"))
        }
    }
}

/// No file of this process can grow beyond so many octets (`ulimit -f`), until this is dropped.
#[derive(Debug)]
pub(super) struct SizeLimit {
    before: Rlimit,
}

impl SizeLimit {
    pub(super) fn set(octets: u64) -> io::Result<Self> {
        let before = getrlimit(Resource::Fsize);
        setrlimit(Resource::Fsize, Rlimit { current: Some(octets), maximum: before.maximum })?;
        Ok(Self { before })
    }
}

impl Drop for SizeLimit {
    fn drop(&mut self) {
        // To raise it to what it was is always allowed.
        setrlimit(Resource::Fsize, Rlimit { current: self.before.current, maximum: self.before.maximum })
            .ok();
    }
}

/// A file that was destroyed, and what it was the newest version of.
#[derive(Debug)]
pub(super) struct Loss {
    /// The key, if the file was the newest version of an entry.
    pub(super) newest_of: Option<String>,
    /// What was done to which file.
    pub(super) what: String,
}

/// Destroys one file of the store, as a dying disk does: cut, emptied, overwritten, a bit flipped, or gone.
pub(super) fn destroy(store: &Path, dice: &Dice) -> io::Result<Option<Loss>> {
    let mut files = Vec::new();
    for part in ["entries", "leases", "floor"] {
        files_below(&store.join(part), &mut files)?;
    }
    files.sort();
    let newest: Vec<PathBuf> = files.iter().filter(|file| is_newest_entry(store, file)).cloned().collect();
    let from = if dice.percent(NEWEST) && !newest.is_empty() { &newest } else { &files };
    let Some(path) = dice.pick(from) else { return Ok(None) };
    let newest_of = newest.contains(path).then(|| key_of(path)).flatten();
    let length = std::fs::metadata(path)?.len();
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let what = match dice.below(5) {
        0 => {
            file.set_len(dice.below(length))?;
            "cut"
        }
        1 => {
            file.set_len(0)?;
            "emptied"
        }
        2 => {
            file.seek(SeekFrom::Start(dice.below(length)))?;
            let noise: Vec<u8> = (0..40).map(|_| u8::try_from(dice.below(256)).unwrap_or_default()).collect();
            file.write_all(&noise)?;
            "overwritten"
        }
        3 if length > 0 => {
            let at = SeekFrom::Start(dice.below(length));
            let mut octet = [0];
            file.seek(at)?;
            file.read_exact(&mut octet)?;
            file.seek(at)?;
            file.write_all(&[octet[0] ^ (1 << dice.below(8))])?;
            "changed by a bit"
        }
        _ => {
            std::fs::remove_file(path)?;
            "removed"
        }
    };
    let shown = path.strip_prefix(store).unwrap_or(path).display();
    Ok(Some(Loss { newest_of, what: format!("{shown} {what}") }))
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for item in std::fs::read_dir(folder)? {
        let item = item?;
        match item.file_type()?.is_dir() {
            true => files_below(&item.path(), files)?,
            false => files.push(item.path()),
        }
    }
    Ok(())
}

fn is_newest_entry(store: &Path, file: &Path) -> bool {
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u64>().ok();
    let (Some(folder), Some(own)) = (file.parent(), number(file)) else { return false };
    let Ok(items) = std::fs::read_dir(folder) else { return false };
    let newest = items.flatten().filter_map(|item| number(&item.path())).max();
    folder.starts_with(store.join("entries")) && newest == Some(own)
}

fn key_of(file: &Path) -> Option<String> {
    Some(file.parent()?.file_name()?.to_str()?.replace('+', "/"))
}

/// What a person does whom an error tells to move a damaged file aside. Says whether it told so.
pub(super) fn as_told(error: &Error) -> io::Result<bool> {
    let path = error.context().find(|(name, _)| *name == "path").map(|(_, path)| PathBuf::from(path));
    let (Some(path), Some(hint)) = (path, error.hint()) else { return Ok(false) };
    let aside = format!("{}.damaged", path.display());
    if !hint.contains(&format!("mv '{}' '{aside}'", path.display())) || !path.is_file() {
        return Ok(false);
    }
    std::fs::rename(&path, aside)?;
    Ok(true)
}

/// What writers have left in the store's folder for temporary files.
pub(super) fn temporary_files(store: &Path) -> io::Result<BTreeSet<PathBuf>> {
    std::fs::read_dir(store.join("tmp"))?.map(|item| Ok(item?.path())).collect()
}
