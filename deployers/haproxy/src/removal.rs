//! Taking a certificate away from one instance.

use acmekit_core::{CertificateId, Error, ErrorKind, Result};

use crate::config::{CrtList, Instance};
use crate::disk;
use crate::mark::Marks;
use crate::survey::{Seat, Transaction, survey};
use crate::transaction::foreign;

/// Entries of crt-lists, the store, the line in the list's file, the file: in this order, so that
/// HAProxy never reads a list that names a file which is gone.
#[tracing::instrument(level = "debug", skip_all, fields(instance = instance.label()))]
pub(crate) async fn remove(instance: &Instance, id: &CertificateId, marks: &Marks) -> Result<()> {
    let seats = survey(instance, id, None, marks).await?;
    for seat in &seats {
        match &seat.transaction {
            Transaction::None => {}
            Transaction::Ours(path) => {
                seat.worker.abort(path).await?;
                marks.clear(&seat.worker.info.process).await?;
            }
            Transaction::Dangling(_) => {
                return Err(seat.transaction.obstacle().unwrap_or_else(|| foreign(&seat.path)));
            }
            Transaction::Foreign(path) => return Err(foreign(path)),
        }
    }
    for seat in seats.iter().filter(|seat| seat.store.is_some()) {
        elsewhere(instance.crt_list.as_ref(), seat).await?;
        from_memory(instance.crt_list.as_ref(), seat).await?;
    }
    if let Some(list) = &instance.crt_list {
        for seat in &seats {
            from_list_file(list, &seat.path).await?;
        }
    }
    disk::remove(&instance.file_for(id)).await
}

/// A list that is not ours to change still names it: then nothing is touched.
async fn elsewhere(ours: Option<&CrtList>, seat: &Seat) -> Result<()> {
    for list in seat.worker.lists().await? {
        let own = ours.is_some_and(|ours| ours.name == list);
        if !own && !seat.worker.entries(&list, &seat.path).await?.is_empty() {
            return Err(Error::new(
                ErrorKind::Conflict,
                "haproxy.remove",
                "a crt-list still names the certificate",
            )
            .with("crt_list", list)
            .with("path", &seat.path));
        }
    }
    Ok(())
}

async fn from_memory(list: Option<&CrtList>, seat: &Seat) -> Result<()> {
    let mut taken = Vec::new();
    let done = async {
        if let Some(list) = list {
            for entry in seat.worker.entries(&list.name, &seat.path).await?.into_iter().rev() {
                seat.worker.delete_entry(&list.name, &seat.path, entry.line).await?;
                taken.push(entry);
            }
        }
        seat.worker.delete(&seat.path).await
    }
    .await;
    let Err(mut error) = done else { return Ok(()) };
    let Some(list) = list else { return Err(error) };
    // Something else needs it: it must go on being served by the list, too.
    for entry in taken.into_iter().rev() {
        let line = format!("{} {}", seat.path, entry.options).trim_end().to_owned();
        if let Err(failed) = seat.worker.add_line(&list.name, &seat.path, &line).await {
            error = error.with("not_undone", failed);
        }
    }
    Err(error)
}

async fn from_list_file(list: &CrtList, path: &str) -> Result<()> {
    let file = list.file();
    if disk::is_folder(&file).await {
        return Ok(());
    }
    let Some((content, attributes)) = disk::read_with_attributes(&file).await? else { return Ok(()) };
    match std::str::from_utf8(&content).ok().and_then(|text| disk::without_lines(text, path)) {
        Some(shorter) => disk::write(&file, shorter.into_bytes(), attributes).await,
        None => Ok(()),
    }
}
