//! The change on one instance, step by step, and the way back if a step fails.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use acmekit_core::atomic::FileAttributes;
use acmekit_core::{Bundle, Deadline, Error, ErrorKind, Result};

use crate::config::{CrtList, Instance, refuse};
use crate::disk::{self, Disk};
use crate::mark::Marks;
use crate::material::Material;
use crate::served;
use crate::survey::{self, Seat, Transaction};
use crate::transaction::{Failure, replace};

/// One instance, one certificate.
pub(crate) struct Attempt<'a> {
    pub(crate) instance: &'a Instance,
    pub(crate) seats: &'a [Seat],
    pub(crate) bundle: &'a Bundle,
    pub(crate) material: &'a Material,
    pub(crate) marks: &'a Marks,
    pub(crate) disk: &'a mut Disk,
}

/// A step that was taken, to be taken back.
enum Step<'a> {
    Created(&'a Seat),
    Replaced(&'a Seat),
    Listed(&'a Seat, &'a CrtList),
}

impl<'a> Attempt<'a> {
    /// Puts the certificate on the disk and into each process, and sees that it is served. On an
    /// answered failure everything is as it was, or the error says what is not.
    /// After an unanswered commit, HAProxy reloads from the file, if it may.
    pub(crate) async fn run(&mut self) -> Result<()> {
        let mut steps = Vec::new();
        match self.change(&mut steps).await {
            Ok(()) => {
                disk::remove(&keepsake(&self.file())).await?;
                self.disk.settle(&self.file());
                if let Some(list) = &self.instance.crt_list {
                    self.disk.settle(&list.file());
                }
                Ok(())
            }
            Err(Failure::Answered(error)) => Err(self.undo(steps, error).await),
            Err(Failure::Unanswered(error)) => {
                self.disk.settle(&self.file());
                if self.instance.reload { self.reload().await } else { Err(error) }
            }
        }
    }

    async fn change(&mut self, steps: &mut Vec<Step<'a>>) -> Result<(), Failure> {
        let (seats, list) = (self.seats, self.instance.crt_list.as_ref());
        for seat in seats {
            if seat.store.is_none() && list.is_none() {
                return Err(unknown(self.instance, seat).into());
            }
            if let Transaction::Ours(path) = &seat.transaction {
                seat.worker.abort(path).await?;
                self.marks.clear(&seat.worker.info.process).await?;
            }
        }
        self.keep_old().await?;
        let attributes = self.attributes();
        self.disk.write(&self.file(), self.material.text().as_bytes(), attributes).await?;
        for seat in seats.iter().filter(|seat| !seat.has(self.material)) {
            if seat.store.is_none() {
                seat.worker.create(&seat.path).await?;
                steps.push(Step::Created(seat));
            }
            replace(&seat.worker, &seat.path, self.material, self.marks).await?;
            steps.push(Step::Replaced(seat));
        }
        for seat in seats {
            if let Some(list) = list {
                self.list(seat, list, steps).await?;
            }
            self.check(seat).await?;
        }
        served::verify(self.instance, self.bundle).await?;
        Ok(())
    }

    /// Has a crt-list take the certificate up: first its file, so that a reload keeps it.
    async fn list(&mut self, seat: &'a Seat, list: &'a CrtList, steps: &mut Vec<Step<'a>>) -> Result<()> {
        let entries = seat.worker.entries(&list.name, &seat.path).await?;
        if entries.is_empty() && seat.is_used() {
            return Ok(());
        }
        let file = list.file();
        if !disk::is_folder(&file).await {
            let found = disk::read_with_attributes(&file).await?;
            let (content, attributes) =
                found.unwrap_or_else(|| (Vec::new().into(), FileAttributes::mode(0o644)));
            let text = String::from_utf8(content.to_vec())
                .map_err(|_| refuse("the crt-list is not UTF-8 text").with("path", file.display()))?;
            if let Some(longer) = disk::with_line(&text, &seat.path, &list.line(&seat.path)) {
                self.disk.write(&file, longer.as_bytes(), attributes).await?;
            }
        }
        if entries.is_empty() {
            seat.worker.add_entry(list, &seat.path).await?;
            steps.push(Step::Listed(seat, list));
        }
        Ok(())
    }

    /// What HAProxy says it serves.
    async fn check(&self, seat: &Seat) -> Result<()> {
        let shown = seat.worker.show(&seat.path).await?.unwrap_or_default();
        let wrong = |why: &str| {
            Error::new(ErrorKind::Deploy, "haproxy.check", why)
                .with("path", &seat.path)
                .with("status", &shown.status)
                .with("held_serial", &shown.serial)
                .with("wanted_serial", &self.material.leaf.serial)
        };
        if !self.material.leaf.is(&shown) {
            return Err(wrong("HAProxy holds another certificate after the commit"));
        }
        if shown.status != "Used" {
            return Err(wrong("HAProxy holds the certificate, but nothing there uses it")
                .with_hint("name it in a bind line or a crt-list; or set `crt_list`"));
        }
        Ok(())
    }

    /// Takes the steps back, last one first, and says in the error what is served now.
    async fn undo(&mut self, steps: Vec<Step<'a>>, error: Error) -> Error {
        let before = match self.disk.before(&self.file()).await {
            Ok(bytes) => bytes.and_then(|bytes| Material::read(&bytes)),
            Err(_) => None,
        };
        let mut complaints = Vec::new();
        // With no step taken, what is served is what was served: perhaps the new one already.
        let had = steps.is_empty() && self.seats.iter().all(|seat| seat.has(self.material));
        let mut served = if had { "new" } else { "previous" };
        for step in steps.into_iter().rev() {
            let (undone, seat) = match step {
                Step::Listed(seat, list) => (unlist(seat, list).await.map_err(Failure::from), seat),
                Step::Created(seat) => (seat.worker.delete(&seat.path).await.map_err(Failure::from), seat),
                // Nobody used the store before: there is nothing to serve again.
                Step::Replaced(seat) if !seat.is_used() => continue,
                Step::Replaced(seat) => (self.put_back(seat, before.as_ref()).await, seat),
            };
            match undone {
                Ok(()) => {}
                Err(Failure::Answered(failed)) => {
                    served = "new";
                    complaints.push(format!("{}: {failed}", seat.path));
                }
                Err(Failure::Unanswered(failed)) => {
                    served = "unknown";
                    complaints.push(format!("{}: {failed}; reload HAProxy", seat.path));
                    break;
                }
            }
        }
        // A file must hold what is served: a reload would bring a surprise else.
        let mut file = "new";
        if served != "new" {
            let mut restored = self.disk.restore(&self.file()).await;
            if let (Ok(true), Some(list)) = (&restored, &self.instance.crt_list) {
                restored = self.disk.restore(&list.file()).await;
            }
            match restored {
                Ok(true) => {
                    file = "previous";
                    disk::remove(&keepsake(&self.file())).await.ok();
                }
                Ok(false) => {}
                Err(failed) => complaints.push(failed.to_string()),
            }
        }
        let mut error = error.with("served", served);
        // After an unanswered commit HAProxy must not be asked about the certificate any more.
        error = match served {
            "unknown" => error,
            "new" if !had => error.with("serial_now", self.serials_now().await),
            _ => self.untouched(error),
        };
        error = error.with("file", file);
        for complaint in complaints {
            error = error.with("not_undone", complaint);
        }
        error
    }

    /// Nothing was changed, or all was put back and seen to be: what is served is what was seen at first.
    pub(crate) fn untouched(&self, error: Error) -> Error {
        let serials = self.seats.iter().map(|seat| survey::serial(seat.store.as_ref()));
        error.with("serial_now", either(serials.collect()))
    }

    /// What each process holds now, by its own word.
    async fn serials_now(&self) -> String {
        let mut serials = BTreeSet::new();
        for seat in self.seats {
            serials.insert(match seat.worker.show(&seat.path).await {
                Ok(held) => survey::serial(held.as_ref()),
                Err(_) => "unknown".to_owned(),
            });
        }
        either(serials)
    }

    /// Puts the old certificate back into a process.
    async fn put_back(&self, seat: &Seat, before: Option<&Material>) -> Result<(), Failure> {
        let lost = || {
            Error::new(
                ErrorKind::Deploy,
                "haproxy.rollback",
                "the file did not hold what HAProxy served before",
            )
        };
        let (Some(before), Some(held)) = (before, seat.store.as_ref()) else { return Err(lost().into()) };
        if before.leaf.serial != held.serial {
            return Err(lost().into());
        }
        seat.worker.check_size(&seat.path, before)?;
        replace(&seat.worker, &seat.path, before, self.marks).await?;
        let shown = seat.worker.show(&seat.path).await?.unwrap_or_default();
        if shown.serial == before.leaf.serial { Ok(()) } else { Err(lost().into()) }
    }

    /// Keeps what HAProxy serves beside the file until the change is through: if we are killed after
    /// the file is written, the next attempt can still put it back.
    async fn keep_old(&mut self) -> Result<()> {
        let file = self.file();
        let keepsake = keepsake(&file);
        let Some((bytes, attributes)) = disk::read_with_attributes(&file).await? else { return Ok(()) };
        let served = |material: &Material| {
            self.seats
                .iter()
                .filter_map(|seat| seat.store.as_ref())
                .any(|held| material.leaf.serial == held.serial)
        };
        if bytes.as_slice() != self.material.text().as_bytes() {
            if Material::read(&bytes).as_ref().is_some_and(served) {
                disk::write(&keepsake, bytes.to_vec(), FileAttributes::default()).await?;
            }
        } else if let Some(old) = disk::read(&keepsake).await?
            && Material::read(&old).as_ref().is_some_and(served)
        {
            self.disk.adopt(&file, old, attributes);
        }
        Ok(())
    }

    fn file(&self) -> PathBuf {
        self.instance.file_for(self.bundle.id())
    }

    fn attributes(&self) -> FileAttributes {
        FileAttributes::mode(self.instance.mode).owned_by(self.instance.uid, self.instance.gid)
    }

    /// Whether nothing is left to do: memory, file and list have it, and it is served.
    pub(crate) async fn is_done(&self) -> Result<bool> {
        let nothing_open = self.seats.iter().all(|seat| !matches!(seat.transaction, Transaction::Ours(_)));
        if !nothing_open || !self.seats.iter().all(|seat| seat.has(self.material)) {
            return Ok(false);
        }
        let on_disk = disk::read(&self.file()).await?;
        if on_disk.is_none_or(|bytes| bytes.as_slice() != self.material.text().as_bytes()) {
            return Ok(false);
        }
        Ok(served::once(self.instance, self.bundle).await)
    }

    /// After a commit that was never answered: the file is put right, HAProxy reloads from it.
    pub(crate) async fn reload(&mut self) -> Result<()> {
        let attributes = self.attributes();
        self.disk.write(&self.file(), self.material.text().as_bytes(), attributes).await?;
        self.disk.settle(&self.file());
        let before: Vec<String> = self.seats.iter().map(|seat| seat.worker.info.process.clone()).collect();
        crate::worker::reload(self.instance).await?;
        let deadline = Deadline::after(self.instance.commit_budget());
        loop {
            let seen = survey::survey(self.instance, self.bundle.id(), Some(self.bundle), self.marks).await;
            let fresh = |seat: &Seat| !before.contains(&seat.worker.info.process) && seat.has(self.material);
            if let Ok(seats) = &seen
                && !seats.is_empty()
                && seats.iter().all(fresh)
            {
                let alive: Vec<&str> = seats.iter().map(|seat| seat.worker.info.process.as_str()).collect();
                self.marks.keep_only(&alive).await?;
                break;
            }
            if !deadline.sleep(std::time::Duration::from_millis(200)).await {
                let missed = deadline.missed("haproxy.reload", "new worker with the new certificate");
                return Err(seen.err().map_or(missed, |error| error.with("phase", "reload")));
            }
        }
        served::verify(self.instance, self.bundle).await
    }
}

/// Takes away what attempts that were cut off have left beside the file, once all instances serve the new certificate
/// and nothing is to be put back any more: the old one, and what was written by halves.
pub(crate) async fn tidy(file: &Path) -> Result<()> {
    disk::remove(&keepsake(file)).await?;
    disk::remove_unfinished(file).await
}

/// Where the old certificate is kept until the change is through.
fn keepsake(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.acmekit-previous"))
}

/// Usually one: all processes hold the same.
fn either(serials: BTreeSet<String>) -> String {
    serials.into_iter().collect::<Vec<_>>().join(" and ")
}

async fn unlist(seat: &Seat, list: &CrtList) -> Result<()> {
    for entry in seat.worker.entries(&list.name, &seat.path).await?.iter().rev() {
        seat.worker.delete_entry(&list.name, &seat.path, entry.line).await?;
    }
    Ok(())
}

fn unknown(instance: &Instance, seat: &Seat) -> Error {
    refuse("HAProxy does not know this certificate")
        .with("instance", instance.label())
        .with("path", &seat.path)
        .with_hint(
            "name it in HAProxy's configuration, say HAProxy's spelling in `haproxy_path`, or set `crt_list` for new ones",
        )
}
