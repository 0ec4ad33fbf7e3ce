//! Puts certificates into a running HAProxy, without a reload and without a lost connection.
//!
//! ```no_run
//! use acmekit_core::{Bundle, Deployer, Result};
//! use acmekit_haproxy::{Config, CrtList, Endpoint, HaProxy, Instance};
//!
//! # async fn example(bundle: Bundle) -> Result<()> {
//! let mut lb1 = Instance::new(Endpoint::unix("/run/haproxy/admin.sock"), "/etc/haproxy/certs/{id}.pem");
//! lb1.crt_list = Some(CrtList::new("/etc/haproxy/crt-list.txt")); // takes up new certificates
//! lb1.addresses = vec![([192, 0, 2, 10], 443).into()]; // each name is asked for here
//!
//! let haproxy = HaProxy::new(Config::new(lb1))?;
//! haproxy.deploy(&bundle).await?;
//! haproxy.close().await; // before the program ends: nothing is left half done
//! # Ok(()) }
//! ```
//!
//! HAProxy needs `stats socket /run/haproxy/admin.sock mode 600 level admin`, or a master socket
//! (`haproxy -W -S …`), and 2.2 or later. Until it has been started for the first time with a
//! certificate there is nothing to talk to: have the `files` deployer write that one.
//!
//! # What a deployment does
//! 1. Looks: version, stores, an open transaction, sizes. Whatever is wrong is refused here,
//!    before anything is written or sent.
//! 2. Writes the file (whole, 0600), so that the next reload serves the new certificate as well.
//! 3. `new` if need be, `set`, a look at what was set, `commit`; a crt-list takes up new ones, in
//!    memory and in its file.
//! 4. Asks HAProxy what it serves, and then, at each of the addresses, for each name, as a client.
//!
//! If HAProxy refuses a step or the check fails, the steps are taken back in reverse: the error's
//! context says what is `served` now (`previous`, `new`, `unknown`) with its serial number
//! (`serial_now`), what the `file` holds, and what could `not_undone` be. Instances are changed one after the other; a failed check stops the
//! rest, an unreachable one does not. One error tells the fate of each.
//!
//! # Cancelling
//! HAProxy can crash when a client leaves in the middle of a commit (use after free; 3.0 to 3.5 as
//! of this writing, with more than ten users of a certificate). So the work of
//! [`deploy`](Deployer::deploy) belongs to the [`HaProxy`] value, not to the future: a dropped
//! future lets it go on to its end, the next call waits for it, and [`HaProxy::close`] waits for
//! all of it. A process that is killed in between leaves two files beside the certificate NAME:
//! `.NAME.acmekit-txn`, from which the next call knows whether the open transaction may be aborted,
//! and `.NAME.acmekit-previous`, what was served before, to be put back if the next call fails.
//!
//! # Versions
//! | HAProxy | |
//! |---|---|
//! | 2.6 to 3.0 | `set` can change *another* open transaction: noticed, and undone |
//! | before 2.9 | an empty line ends a payload: none is ever sent |
//! | before 3.4 | command and certificate must be shorter than `tune.bufsize`: [`Instance::bufsize`] |
//! | 3.4 on | the limit is `tune.cli.max-payload-size`: [`Instance::max_payload`] |

mod answer;
mod apply;
mod client;
mod config;
mod disk;
mod endpoint;
#[doc(hidden)]
pub mod fuzzing;
mod mark;
mod material;
mod removal;
mod served;
mod summary;
mod survey;
mod tasks;
mod transaction;
mod turns;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use acmekit_core::{Bundle, CertificateId, Deployer, Error, ErrorKind, Outcome, Result};
use async_trait::async_trait;

pub use config::{Config, CrtList, Instance};
pub use endpoint::Endpoint;

use apply::Attempt;
use disk::Disk;
use mark::Marks;
use material::Material;
use summary::{Fate, summarise};
use survey::{Seat, Transaction, survey};
use tasks::Tasks;

/// The id of this deployer, its folder and its feature.
pub const ID: &str = "haproxy";

/// Puts certificates into running HAProxy processes. See the [crate](self).
#[derive(Debug)]
pub struct HaProxy {
    instances: Arc<[Instance]>,
    tasks: Tasks,
}

impl HaProxy {
    /// Checks the configuration; talks to nobody.
    ///
    /// # Errors
    /// `Config` if there is no instance, a path that HAProxy's command line cannot name, or a
    /// `reload` without a master.
    pub fn new(config: Config) -> Result<Self> {
        if config.instances.is_empty() {
            return Err(config::refuse("there is no HAProxy instance to deploy to"));
        }
        config.instances.iter().try_for_each(Instance::check)?;
        Ok(Self { instances: config.instances.into(), tasks: Tasks::default() })
    }

    /// Waits for the deployments that are still at work although nobody waits for them any more.
    ///
    /// Call it before the runtime ends. It takes no longer than the deployments may.
    pub async fn close(&self) {
        self.tasks.close().await;
    }
}

#[async_trait]
impl Deployer for HaProxy {
    fn id(&self) -> &str {
        ID
    }

    async fn deploy(&self, bundle: &Bundle) -> Result<Outcome> {
        let material = Material::of(bundle)?;
        let turn = turns::take(&self.instances).await;
        let (instances, bundle) = (Arc::clone(&self.instances), bundle.clone());
        self.tasks
            .run(async move {
                let done = deploy(&instances, &bundle, &material).await;
                drop(turn);
                done
            })
            .await
    }

    async fn verify(&self, bundle: &Bundle) -> Result<()> {
        let material = Material::of(bundle)?;
        let mut fates = Vec::new();
        for instance in self.instances.iter() {
            let fate = verify(instance, bundle, &material).await;
            fates.push((instance.label(), fate.map_or_else(Fate::Failed, |()| Fate::Current)));
        }
        summarise("haproxy.verify", fates).map(drop)
    }

    async fn remove(&self, id: &CertificateId) -> Result<()> {
        let turn = turns::take(&self.instances).await;
        let (instances, id) = (Arc::clone(&self.instances), id.clone());
        self.tasks
            .run(async move {
                let mut fates = Vec::new();
                for instance in instances.iter() {
                    let removed = removal::remove(instance, &id, &marks(instance, &id)).await;
                    fates.push((instance.label(), removed.map_or_else(Fate::Failed, |()| Fate::Applied)));
                }
                drop(turn);
                summarise("haproxy.remove", fates).map(drop)
            })
            .await
    }
}

/// All instances: look at each, refuse what cannot work anywhere, then change one after the other.
async fn deploy(instances: &[Instance], bundle: &Bundle, material: &Material) -> Result<Outcome> {
    let mut views = Vec::new();
    for instance in instances {
        let marks = marks(instance, bundle.id());
        let seats = survey(instance, bundle.id(), Some(bundle), &marks).await;
        for seat in seats.iter().flatten() {
            seat.worker
                .check_size(&seat.path, material)
                .map_err(|error| error.with("instance", instance.label()))?;
        }
        views.push((instance, marks, seats));
    }
    let mut disk = Disk::default();
    let mut fates = Vec::new();
    let mut stopped = false;
    for (instance, marks, seats) in views {
        let fate = match seats {
            _ if stopped => Fate::NotTried,
            Ok(seats) => deploy_to(instance, bundle, material, &seats, &marks, &mut disk).await,
            Err(error) => Fate::Failed(error),
        };
        // What one of them could not serve, the next one must not be tried with.
        stopped |= matches!(&fate, Fate::Failed(error) if error.kind() == ErrorKind::Deploy);
        fates.push((instance.label(), fate));
    }
    if fates.iter().all(|(_, fate)| matches!(fate, Fate::Applied | Fate::Current)) {
        for instance in instances {
            // Served it is. What is left here is looked for by the next deployment again.
            if let Err(error) = apply::tidy(&instance.file_for(bundle.id())).await {
                tracing::warn!(%error, "what a crash has left could not be removed");
            }
        }
    }
    summarise("haproxy.deploy", fates)
}

/// One instance: nothing to do, or reload after an unanswered commit, or the change.
#[tracing::instrument(level = "debug", skip_all, fields(instance = instance.label(), certificate = %bundle.id()))]
async fn deploy_to(
    instance: &Instance,
    bundle: &Bundle,
    material: &Material,
    seats: &[Seat],
    marks: &Marks,
    disk: &mut Disk,
) -> Fate {
    let mut attempt = Attempt { instance, seats, bundle, material, marks, disk };
    let dangling = seats.iter().any(|seat| matches!(seat.transaction, Transaction::Dangling(_)));
    let done = async {
        if dangling && instance.reload {
            return attempt.reload().await.map(|()| Fate::Applied);
        }
        if let Some(obstacle) = seats.iter().find_map(|seat| seat.transaction.obstacle()) {
            return Err(if dangling { obstacle } else { attempt.untouched(obstacle) });
        }
        let alive: Vec<&str> = seats.iter().map(|seat| seat.worker.info.process.as_str()).collect();
        marks.keep_only(&alive).await?;
        if attempt.is_done().await? {
            // Nothing is open: a note of a commit is from before a crash, which fell behind its answer.
            for seat in seats {
                marks.clear(&seat.worker.info.process).await?;
            }
            return Ok(Fate::Current);
        }
        attempt.run().await.map(|()| Fate::Applied)
    };
    done.await.unwrap_or_else(Fate::Failed)
}

async fn verify(instance: &Instance, bundle: &Bundle, material: &Material) -> Result<()> {
    let seats = survey(instance, bundle.id(), Some(bundle), &marks(instance, bundle.id())).await?;
    for seat in &seats {
        if !seat.has(material) {
            let held = seat.store.clone().unwrap_or_default();
            return Err(Error::new(
                ErrorKind::Deploy,
                "haproxy.verify",
                "HAProxy does not serve this certificate",
            )
            .with("path", &seat.path)
            .with("status", if seat.store.is_some() { &held.status } else { "absent" })
            .with("held_serial", held.serial)
            .with("wanted_serial", &material.leaf.serial));
        }
    }
    served::verify(instance, bundle).await
}

fn marks(instance: &Instance, id: &CertificateId) -> Marks {
    Marks::beside(&instance.file_for(id), instance.endpoint.to_string())
}
