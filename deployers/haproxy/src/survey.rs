//! What there is before anything is changed: processes, stores, open transactions.

use acmekit_core::{Bundle, CertificateId, Error, ErrorKind, Result};

use crate::answer::{Listing, Shown};
use crate::config::{Instance, check_path, refuse};
use crate::disk;
use crate::mark::{Marks, State};
use crate::material::{self, Material};
use crate::transaction::{foreign, unanswered};
use crate::worker::{self, Worker};

/// One process, and what it has of the certificate.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) worker: Worker,
    /// HAProxy's spelling.
    pub(crate) path: String,
    /// `None` if it does not know the certificate.
    pub(crate) store: Option<Shown>,
    pub(crate) transaction: Transaction,
}

/// The transaction that is open in a process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Transaction {
    None,
    /// Left over by ourselves, its commit never sent.
    Ours(String),
    /// Left over by ourselves, its commit sent and never answered.
    Dangling(String),
    /// Anybody's.
    Foreign(String),
}

impl Transaction {
    /// Whether it stands in the way, and how.
    pub(crate) fn obstacle(&self) -> Option<Error> {
        match self {
            Self::None | Self::Ours(_) => None,
            Self::Dangling(path) => Some(unanswered(path)),
            Self::Foreign(path) => Some(foreign(path)),
        }
    }
}

impl Seat {
    /// Whether this process serves the certificate and needs nothing.
    pub(crate) fn has(&self, material: &Material) -> bool {
        self.store.as_ref().is_some_and(|shown| shown.status == "Used" && material.leaf.is(shown))
    }

    /// Whether a bind line, a crt-list or a server line uses the store.
    pub(crate) fn is_used(&self) -> bool {
        self.store.as_ref().is_some_and(|shown| shown.status == "Used")
    }
}

/// A store's serial number, for a person: a store can be missing, or have nothing in it.
pub(crate) fn serial(held: Option<&Shown>) -> String {
    held.map(|held| held.serial.as_str()).filter(|serial| !serial.is_empty()).unwrap_or("none").to_owned()
}

/// Looks at each process of an instance, without changing anything.
#[tracing::instrument(level = "debug", skip_all, fields(instance = instance.label()))]
pub(crate) async fn survey(
    instance: &Instance,
    id: &CertificateId,
    bundle: Option<&Bundle>,
    marks: &Marks,
) -> Result<Vec<Seat>> {
    let (workers, old) = worker::workers(instance).await?;
    if !old.is_empty() {
        tracing::info!(
            instance = instance.label(),
            ?old,
            "old workers keep the old certificate until they end"
        );
    }
    let file = instance.file_for(id);
    let before = disk::read(&file).await?.and_then(|bytes| Material::read(&bytes));
    let mut seats = Vec::new();
    for worker in workers {
        let listing = worker.list().await?;
        let transaction = transaction(&worker, &listing, marks).await?;
        let path = match instance.path_for(id) {
            Some(path) => path,
            None => find(instance, id, &worker, &listing, bundle, before.as_ref()).await?,
        };
        check_path(&path)?;
        let store = if listing.stores.contains(&path) { worker.show(&path).await? } else { None };
        if listing.stores.contains(&path) && store.is_none() {
            return Err(Error::new(
                ErrorKind::Protocol,
                "haproxy.show",
                "HAProxy lists a certificate but does not show it",
            )
            .with("path", path));
        }
        seats.push(Seat { worker, path, store, transaction });
    }
    Ok(seats)
}

async fn transaction(worker: &Worker, listing: &Listing, marks: &Marks) -> Result<Transaction> {
    let Some(open) = &listing.transaction else { return Ok(Transaction::None) };
    let mark = marks.of(&worker.info.process).await?.filter(|mark| mark.path == *open);
    Ok(match mark.map(|mark| mark.state) {
        Some(State::Set) => Transaction::Ours(open.clone()),
        Some(State::Commit) => Transaction::Dangling(open.clone()),
        None => Transaction::Foreign(open.clone()),
    })
}

/// HAProxy's spelling of our file: the same path, or the one store of the same file name that
/// holds what the file holds, what it shall hold, or a certificate for the same names. A file name
/// alone proves nothing: it may be another site's.
async fn find(
    instance: &Instance,
    id: &CertificateId,
    worker: &Worker,
    listing: &Listing,
    bundle: Option<&Bundle>,
    before: Option<&Material>,
) -> Result<String> {
    let file = instance.file_for(id);
    let ours = file.to_string_lossy().into_owned();
    if listing.stores.contains(&ours) {
        return Ok(ours);
    }
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let candidates: Vec<&String> =
        listing.stores.iter().filter(|store| store.rsplit('/').next() == Some(name.as_str())).collect();
    let after = bundle.map(Material::of).transpose()?;
    let names = bundle.map(material::names);
    let mut matching = Vec::new();
    for store in &candidates {
        let Some(shown) = worker.show(store).await? else { continue };
        let known =
            [before, after.as_ref()].into_iter().flatten().any(|known| known.leaf.serial == shown.serial);
        if known || names.as_ref() == Some(&shown.names) {
            matching.push((*store).clone());
        }
    }
    match (matching.pop(), matching.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) if candidates.is_empty() || instance.crt_list.is_some() || bundle.is_none() => Ok(ours),
        _ => {
            Err(refuse("HAProxy has certificates of this file name, and it is not clear which one is meant")
                .with("instance", instance.label())
                .with("candidates", candidates.iter().map(|c| c.as_str()).collect::<Vec<_>>().join(" "))
                .with_hint("say HAProxy's spelling of the path in `haproxy_path`"))
        }
    }
}
