//! The way of one deployment: write, switch, reload, look; and back again if it fails.

use std::sync::Arc;

use acmekit_core::{Bundle, CertificateId, Error, ErrorKind, Origin, Outcome, Result, Retry};
use zeroize::Zeroizing;

use crate::contents::Contents;
use crate::lock::{Lock, blocking, open_root};
use crate::place::{Place, Standing};
use crate::version::VersionName;
use crate::{Files, reload, served};

/// A locked place: the file work of one deployment.
struct Site {
    place: Place,
    _lock: Lock,
}

impl Site {
    /// Runs file work; it keeps the lock even if nobody waits for it any more.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Place) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let site = Arc::clone(self);
        blocking(move || work(&site.place)).await
    }
}

impl Files {
    pub(crate) async fn put(&self, bundle: &Bundle) -> Result<Outcome> {
        let contents = Arc::new(Contents::of(bundle, &self.config, &self.ownership)?);
        let secrets = contents.key_lines();
        let make = Some(self.ownership.folder);
        let lock = Lock::take(&self.turn, &self.config.root, make, self.config.lock_timeout).await?;
        let Some(lock) = lock else {
            return Err(Error::new(
                ErrorKind::Deploy,
                "files.deploy",
                "the root folder was removed meanwhile",
            ));
        };
        let (root, id, ownership) = (lock.root()?, bundle.id().clone(), self.ownership);
        let place = blocking(move || Place::make(root, &id, ownership)).await?;
        let site = Arc::new(Site { place, _lock: lock });

        let wanted = Arc::clone(&contents);
        let (before, in_place) = site
            .run(move |place| {
                let standing = place.standing()?;
                let in_place = match &standing.current {
                    Some(current) => place.holds(current, &wanted)?,
                    None => false,
                };
                Ok((standing, in_place))
            })
            .await?;
        let served =
            in_place && before.settled && served::look(&self.config.verify_addresses, bundle).await.is_ok();
        if served {
            return Ok(Outcome::AlreadyCurrent);
        }
        let current = match before.current.clone().filter(|_| in_place) {
            Some(current) => current,
            None => {
                let written = site.run(move |place| place.write(&contents)).await;
                written.map_err(|e| match &before.current {
                    Some(name) => e.with("still_in_place", format!("serial {}", name.serial())),
                    None => e.with("still_in_place", "nothing"),
                })?
            }
        };
        let taken_up = match self.switch(&site, &before, &current).await {
            Ok(()) => self.take_up(bundle, &secrets).await,
            Err(e) => Err(e),
        };
        if let Err(cause) = taken_up {
            return Err(self.go_back(&site, bundle.id(), &before, &current, cause, &secrets).await);
        }
        let keep = self.config.keep;
        let noted = site.run(move |place| {
            place.settle(&current)?;
            place.sweep(keep, &current);
            Ok(())
        });
        if let Err(error) = noted.await {
            // Served it is; without the note the next deployment of it only reloads once more.
            tracing::warn!(%error, "could not note that the certificate is served");
        }
        Ok(Outcome::Applied)
    }

    async fn switch(&self, site: &Arc<Site>, before: &Standing, to: &VersionName) -> Result<()> {
        if before.current.as_ref() == Some(to) {
            return Ok(());
        }
        let to = to.clone();
        site.run(move |place| {
            place.unsettle()?;
            place.point(Some(&to))
        })
        .await
    }

    async fn take_up(&self, bundle: &Bundle, secrets: &[Zeroizing<String>]) -> Result<()> {
        self.reload(secrets).await?;
        served::wait(&self.config.verify_addresses, bundle, self.config.verify_timeout).await
    }

    async fn reload(&self, secrets: &[Zeroizing<String>]) -> Result<()> {
        reload::run(&self.config.reload, self.config.reload_timeout, secrets).await
    }

    /// The link is gone: has the server do without, and sees that it does.
    async fn let_go(&self, site: &Arc<Site>, id: &CertificateId, before: &Standing) -> Result<()> {
        self.reload(&[]).await?;
        let Some(name) = before.current.clone() else { return Ok(()) };
        let chain = site.run(move |place| Ok(place.fullchain(&name))).await?;
        let bundle = chain.and_then(|pem| Bundle::new(id.clone(), &pem, None, Origin::default()).ok());
        let Some(bundle) = bundle else { return Ok(()) };
        served::wait_gone(&self.config.verify_addresses, &bundle, self.config.verify_timeout).await
    }

    /// Puts the version back that was good before, and answers the error that says how it stands.
    async fn go_back(
        &self,
        site: &Arc<Site>,
        id: &CertificateId,
        before: &Standing,
        failed: &VersionName,
        cause: Error,
        secrets: &[Zeroizing<String>],
    ) -> Error {
        let good = before.good.clone();
        let now = if good.as_ref() == Some(failed) {
            "the files in place are the right ones, but the server does not use them".to_owned()
        } else {
            match site.run(back_to(good.clone())).await {
                Ok(()) => match good {
                    None => "there was no version before it, so the files were taken away again; \
                             no certificate of this deployer is in place, and the server was not told"
                        .to_owned(),
                    Some(good) => self.restore(site, id, good, secrets).await,
                },
                Err(e) => format!(
                    "going back failed too, so the new files stay in place and what is served is unknown: {e}"
                ),
            }
        };
        let shown = cause.to_string();
        let error = Error::new(
            ErrorKind::Deploy,
            "files.deploy",
            format!("the new certificate was not taken up; {now}"),
        )
        .with("certificate", id)
        .with("cause", shown)
        .with_retry(Retry::Backoff);
        let error = match cause.hint() {
            Some(hint) => error.with_hint(hint.to_owned()),
            None => error,
        };
        error.with_source(cause)
    }

    /// The link is back: has the server take that up, looks, and says what is served now.
    async fn restore(
        &self,
        site: &Arc<Site>,
        id: &CertificateId,
        good: VersionName,
        secrets: &[Zeroizing<String>],
    ) -> String {
        let back = format!("the previous version (serial {}) is back in place", good.serial());
        let reloaded = self.reload(secrets).await;
        // Not settled if that failed: the next deployment reloads, whatever it puts in place.
        let settle = reloaded.is_ok();
        let chain = site.run(move |place| {
            if settle {
                place.settle(&good)?;
            }
            Ok(place.fullchain(&good))
        });
        let chain = chain.await.ok().flatten();
        let previous = chain.and_then(|pem| Bundle::new(id.clone(), &pem, None, Origin::default()).ok());
        let addresses = &self.config.verify_addresses;
        let served = match previous {
            _ if addresses.is_empty() => "; nobody looked what is served".to_owned(),
            None => ", but cannot be read; what is served is unknown".to_owned(),
            Some(previous) => match served::wait(addresses, &previous, self.config.verify_timeout).await {
                Ok(()) => " and served".to_owned(),
                Err(e) => format!(", but served is {}", served::seen(&e)),
            },
        };
        match reloaded {
            Ok(()) => format!("{back}{served}"),
            Err(e) => format!("{back}{served}; the reload after going back failed too ({e})"),
        }
    }

    pub(crate) async fn look(&self, bundle: &Bundle) -> Result<()> {
        let contents = Contents::of(bundle, &self.config, &self.ownership)?;
        let (path, id, ownership) = (self.config.root.clone(), bundle.id().clone(), self.ownership);
        let (current, in_place) = blocking(move || {
            let Some(root) = open_root(&path)? else { return Ok((None, false)) };
            let Some(place) = Place::open(root, &id, ownership)? else { return Ok((None, false)) };
            let current = place.standing()?.current;
            let in_place = match &current {
                Some(name) => place.holds(name, &contents)?,
                None => false,
            };
            Ok((current, in_place))
        })
        .await?;
        if in_place {
            return served::look(&self.config.verify_addresses, bundle).await;
        }
        let found = current.map_or_else(|| "nothing".to_owned(), |name| format!("serial {}", name.serial()));
        Err(Error::new(ErrorKind::Deploy, "files.verify", "the files in place are not this certificate's")
            .with("certificate", bundle.id())
            .with("in_place", found)
            .with("wanted_serial", &bundle.facts().serial))
    }

    pub(crate) async fn take_away(&self, id: &CertificateId) -> Result<()> {
        let lock = Lock::take(&self.turn, &self.config.root, None, self.config.lock_timeout).await?;
        let Some(lock) = lock else { return Ok(()) };
        let (root, wanted, ownership) = (lock.root()?, id.clone(), self.ownership);
        let opened = blocking(move || {
            let Some(place) = Place::open(root, &wanted, ownership)? else { return Ok(None) };
            let standing = place.standing()?;
            place.unsettle()?;
            place.point(None)?;
            Ok(Some((place, standing)))
        });
        let Some((place, before)) = opened.await? else { return Ok(()) };
        let site = Arc::new(Site { place, _lock: lock });
        if let Err(cause) = self.let_go(&site, id, &before).await {
            let back = before.current.or(before.good);
            let restored = site.run(back_to(back.clone())).await;
            let now = match (restored, self.reload(&[]).await) {
                (Err(e), _) => format!("its files could not be put back: {e}"),
                (Ok(()), Err(e)) => format!("its files are back, but the reload after that failed too: {e}"),
                (Ok(()), Ok(())) => {
                    // Without the note the next deployment of it only reloads once more.
                    if let Some(name) = back.filter(|_| before.settled) {
                        site.run(move |place| place.settle(&name)).await.ok();
                    }
                    "its files are back as before".to_owned()
                }
            };
            return Err(Error::new(
                ErrorKind::Conflict,
                "files.remove",
                format!("the server still needs the certificate; {now}"),
            )
            .with("certificate", id)
            .with("cause", cause.to_string())
            .with_hint("take it out of the server's configuration first")
            .with_source(cause));
        }
        blocking(move || match Arc::try_unwrap(site) {
            Ok(site) => site.place.delete(),
            Err(_) => Ok(()),
        })
        .await
    }
}

/// Has the link point to this version, if it does not do so already.
fn back_to(good: Option<VersionName>) -> impl FnOnce(&Place) -> Result<()> + Send + 'static {
    move |place| match place.standing()?.current == good {
        true => Ok(()),
        false => place.point(good.as_ref()),
    }
}
