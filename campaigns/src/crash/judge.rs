//! What no crash excuses, counted when all is over.

use std::path::{Path, PathBuf};
use std::time::Duration;

use acmekit::stores::FileStore;
use acmekit::{Bundle, CertificateSpec, Clock, Store};
use acmekit_testbed::{Bind, HaProxy, handshake, wait_for};

use super::child::{Task, pipeline, specs};
use super::plan::Plan;
use super::process::naming;
use super::world::{SetUp, World, ZONE};
use crate::Counts;

/// How long what a killed process had started may take to end by itself.
const ORPHANS: Duration = Duration::from_secs(10);

/// The five numbers, and what is behind each that is not zero.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) counts: Counts,
    pub(super) told: Vec<String>,
}

impl Verdict {
    fn lost(&mut self, what: String) {
        self.counts.lost += 1;
        self.told.push(format!("lost: {what}"));
    }

    fn leftover(&mut self, what: &str) {
        self.counts.leftovers += 1;
        self.told.push(format!("left over: {what}"));
    }

    pub(super) fn late(&mut self, what: &str) {
        self.counts.deadline_misses += 1;
        self.told.push(format!("late: {what}"));
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.counts.wrong += 1;
        self.told.push(format!("wrong: {what}"));
    }
}

/// Looks at everything a round leaves. `before` are the serial numbers of what was to be renewed.
pub(super) async fn judge(
    world: &World,
    plan: &Plan,
    dns: &Bind,
    haproxy: Option<&HaProxy>,
    before: &[String],
    verdict: &mut Verdict,
) -> SetUp<()> {
    let text = |error: acmekit::Error| error.report();
    let task = &world.task;
    // Before the store is opened: that sweeps.
    for left in left_in(&task.store, &|name| name.ends_with(".tmp")) {
        verdict.leftover(&left);
    }
    if !left_in(&task.store.join("tmp"), &|_| true).is_empty() {
        verdict.leftover("something in the store's tmp");
    }
    let store = FileStore::open(&task.store).await.map_err(text)?;
    let acme = pipeline(task).await.map_err(text)?;
    verdict.counts.certificates += u64::try_from(plan.certificates.len()).unwrap_or(u64::MAX);
    for spec in specs(&task.certificates).map_err(text)? {
        let bundle = match acme.load(spec.id()).await {
            Ok(Some(bundle)) => bundle,
            Ok(None) => {
                verdict.lost(format!("{} is not in the store", spec.id()));
                continue;
            }
            Err(error) => {
                verdict.lost(error.report());
                continue;
            }
        };
        match whole(world, &spec, &bundle, before).await {
            Ok(()) => {}
            Err(why) => verdict.lost(format!("{}: {why}", spec.id())),
        }
        let lease = format!("certificates/{}", spec.id()).parse().map_err(text)?;
        if store.lease(&lease, Duration::from_secs(1)).await.map_err(text)?.is_none() {
            verdict.leftover("a lease is held");
        }
    }
    for journal in store.list(&"journals".parse().map_err(text)?).await.map_err(text)? {
        verdict.leftover(&format!("the open journal {journal}"));
    }
    let wished = plan.certificates.len() * if plan.sort.renewal { 2 } else { 1 };
    let wished = u64::try_from(wished).unwrap_or(u64::MAX);
    let issued = world.ca.certificates_issued();
    if issued > wished {
        verdict.counts.duplicated += issued - wished;
        verdict.told.push(format!("duplicated: {issued} certificates for {wished} wishes"));
    }
    let accounts = world.ca.state().accounts().len();
    if accounts > 1 {
        verdict.wrong(format!("{accounts} accounts were made"));
    }
    for left in places_left(world, plan, dns, haproxy).await? {
        verdict.leftover(&left);
    }
    let folder = world.folder.path();
    let ended = wait_for(ORPHANS, "processes end", || {
        let gone = naming(folder).is_empty();
        async move { gone.then_some(()) }
    });
    if ended.await.is_err() {
        for process in naming(folder) {
            verdict.leftover(&process);
        }
    }
    Ok(())
}

/// Whether a certificate is what was wished for, and served.
async fn whole(
    world: &World,
    spec: &CertificateSpec,
    bundle: &Bundle,
    before: &[String],
) -> Result<(), String> {
    let facts = bundle.facts();
    bundle.check_against(spec.identifiers(), world.clock.now()).map_err(|error| error.report())?;
    if before.contains(&facts.serial) {
        return Err("it was not renewed".to_owned());
    }
    let key = bundle.key_pem().ok_or("it has no key")?;
    let Task { files, haproxy, .. } = &world.task;
    if let Some((root, _)) = files {
        let read = |name: &str| {
            let path = root.join(spec.id().as_str()).join(name);
            std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        if read("fullchain.pem")? != bundle.fullchain_pem() || read("privkey.pem")? != *key.expose() {
            return Err("the files are another certificate's".to_owned());
        }
        let taken_up = std::fs::read_to_string(world.folder.path().join("reloads")).unwrap_or_default();
        if !taken_up.contains(&bundle.leaf_pem()) {
            return Err("nobody was told to reload since it is in its files".to_owned());
        }
    }
    if let Some(proxy) = haproxy {
        let wanted = facts.serial.to_lowercase();
        let wanted = wanted.trim_start_matches('0');
        for name in spec.identifiers() {
            let name = name.to_string().replace('*', "any");
            let shown = handshake(proxy.address, &name).await.map_err(|error| error.to_string())?;
            let served = shown.serial().map_err(|error| error.to_string())?;
            if served != wanted {
                return Err(format!("HAProxy serves {served} for {name}, not {wanted}"));
            }
        }
        let on_disk = std::fs::read_to_string(&proxy.file).map_err(|error| error.to_string())?;
        if !on_disk.contains(&bundle.leaf_pem()) {
            return Err("HAProxy would start with another one".to_owned());
        }
    }
    Ok(())
}

/// What is left outside the store.
async fn places_left(
    world: &World,
    plan: &Plan,
    dns: &Bind,
    haproxy: Option<&HaProxy>,
) -> SetUp<Vec<String>> {
    let text = |error: acmekit_testbed::TestbedError| error.to_string();
    let mut left = Vec::new();
    if world.task.dns.is_some() {
        let ours: Vec<&str> =
            plan.certificates.iter().flatten().map(|name| name.trim_start_matches("*.")).collect();
        for (name, _) in dns.txt_records(ZONE).await.map_err(text)? {
            if ours.iter().any(|one| name.ends_with(one)) {
                left.push(format!("a TXT record at {name}"));
            }
        }
    }
    if let Some(web) = &world.task.webroot {
        left.extend(left_in(web, &|_| true));
    }
    if let Some((root, _)) = &world.task.files {
        let unfinished = |name: &str| {
            name.ends_with(".new") || name.ends_with(".tmp") || name == ".unfinished" || name == "unsettled"
        };
        left.extend(left_in(root, &unfinished));
    }
    if let (Some(haproxy), Some(_)) = (haproxy, &world.task.haproxy) {
        let known: Vec<_> = haproxy.cert_paths().iter().filter_map(|path| path.file_name()).collect();
        let known = |name: &str| known.iter().any(|known| known.to_str() == Some(name));
        left.extend(left_in(&haproxy.cert_dir(), &|name| !known(name)));
        let listed = haproxy.command("show ssl cert").await.map_err(text)?;
        if listed.lines().any(|line| line.starts_with('*')) {
            left.push("an open transaction in HAProxy".to_owned());
        }
    }
    Ok(left)
}

/// The files below a folder whose names are of this kind, and folders too.
fn left_in(folder: &Path, is_left: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // One that is not there has nothing in it.
        let Ok(items) = std::fs::read_dir(&folder) else { continue };
        for item in items.flatten() {
            let is_folder = item.file_type().is_ok_and(|kind| kind.is_dir());
            let name = item.file_name().to_string_lossy().into_owned();
            let is_well_known = is_folder && (name == ".well-known" || name == "acme-challenge");
            if is_left(&name) && !is_well_known {
                found.push(item.path().display().to_string());
            } else if is_folder {
                folders.push(item.path());
            }
        }
    }
    found
}
