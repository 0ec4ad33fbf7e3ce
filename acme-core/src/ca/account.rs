//! The account at a CA: its key is on the disk before the CA hears of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Ca, JwsKey, Signer};
use crate::bundle::position;
use crate::effect::effect;
use crate::lease;
use crate::{
    Condition, Error, ErrorKind, Expected, KeyType, PrivateKey, Result, Store, StoreKey, Version, key, secret,
};

/// An account that can be used.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) key: JwsKey,
    pub(crate) url: String,
    pub(crate) thumbprint: String,
    /// Whether the CA made it in this run.
    pub(crate) created: bool,
}

/// The account as the store keeps it, under `accounts/<authority>`.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    format: u32,
    directory: String,
    #[serde(with = "key::stored")]
    key: Option<PrivateKey>,
    url: Option<String>,
}

/// Loads the account of this authority, or makes it.
///
/// The key is saved before newAccount is sent: after a crash the same key is registered again, and
/// the CA answers with the same account (RFC 8555 section 7.3.1). A lease keeps two processes that
/// start together from making two.
pub(crate) async fn ensure(ca: &Ca, store: &dyn Store) -> Result<Account> {
    let entry: StoreKey = format!("accounts/{}", ca.authority.id()).parse()?;
    if let Some((stored, _)) = load(ca, store, &entry).await?
        && let Some(account) = stored.into_account()?
    {
        return Ok(account);
    }
    let lease = lease::take(store, &entry, LEASE, ca.authority.timeouts().lease).await?;
    lease::holding(store, &lease, register(ca, store, &entry, &lease)).await
}

/// Forgets the account's URL, but not its key: the CA does not know it (any more).
pub(crate) async fn forget_url(ca: &Ca, store: &dyn Store, url: &str) -> Result<()> {
    let entry: StoreKey = format!("accounts/{}", ca.authority.id()).parse()?;
    let lease = lease::take(store, &entry, LEASE, ca.authority.timeouts().lease).await?;
    match load(ca, store, &entry).await? {
        Some((mut stored, version)) if stored.url.as_deref() == Some(url) => {
            stored.url = None;
            save(store, &entry, &stored, Condition::expecting(Expected::Version(version)).under(&lease))
                .await?;
            Ok(())
        }
        _ => Ok(()),
    }
}

const LEASE: Duration = Duration::from_secs(60);

async fn register(ca: &Ca, store: &dyn Store, entry: &StoreKey, lease: &crate::Lease) -> Result<Account> {
    let (mut stored, version) = match load(ca, store, entry).await? {
        Some((stored, version)) => match stored.url {
            // Somebody else was faster.
            Some(_) => return stored.into_account()?.ok_or_else(|| damaged(entry, "it has no key")),
            None => (stored, version),
        },
        None => {
            // A mistyped URL must not be written down: it would stand in the way of the right one.
            ca.directory().await?;
            let key = Some(PrivateKey::generate(KeyType::EcdsaP256).await?);
            let stored = Stored { format: 1, directory: ca.authority.directory().to_owned(), key, url: None };
            let condition = Condition::expecting(Expected::Absent).under(lease);
            let version = effect("account.key", save(store, entry, &stored, condition)).await?;
            (stored, version)
        }
    };
    let key = JwsKey::new(stored.key.as_ref().ok_or_else(|| damaged(entry, "it has no key"))?)?;
    let (url, created) = effect("account.new", new_account(ca, &key)).await?;
    stored.url = Some(url);
    let condition = Condition::expecting(Expected::Version(version)).under(lease);
    effect("account.url", save(store, entry, &stored, condition)).await?;
    let mut account = stored.into_account()?.ok_or_else(|| damaged(entry, "it has no key"))?;
    account.created = created;
    Ok(account)
}

/// RFC 8555 section 7.3. Answers the account's URL, and whether it is new.
async fn new_account(ca: &Ca, key: &JwsKey) -> Result<(String, bool)> {
    let authority = &ca.authority;
    let directory = ca.directory().await?;
    if let (Some(terms), false) = (&directory.meta.terms_of_service, authority.terms_agreed()) {
        return Err(Error::new(
            ErrorKind::Config,
            "ca.new_account",
            "the CA's terms of service have not been agreed to",
        )
        .with("authority", authority.id())
        .with("terms", terms)
        .with_hint("read them, then call `agree_to_terms()` on the authority"));
    }
    let mut payload = json!({});
    if authority.terms_agreed() {
        payload["termsOfServiceAgreed"] = json!(true);
    }
    if !authority.contacts().is_empty() {
        payload["contact"] = json!(authority.contacts());
    }
    match authority.eab() {
        Some(eab) => {
            payload["externalAccountBinding"] =
                key.external_binding(&eab.kid, &eab.key, &directory.new_account)?;
        }
        None if directory.meta.external_account_required => {
            return Err(Error::new(
                ErrorKind::Config,
                "ca.new_account",
                "this CA wants an external account binding",
            )
            .with("authority", authority.id())
            .with_hint(
                "get a key id and HMAC key from its web site, then call `external_account(kid, key)`",
            ));
        }
        None => {}
    }
    let url = &directory.new_account;
    let reply = ca.post("newAccount", key, Signer::Key, url, Some(&payload)).await?;
    let reply = reply.success("newAccount", url).map_err(|e| match authority.eab() {
        Some(eab) if matches!(e.kind(), ErrorKind::Auth | ErrorKind::Protocol) => {
            e.with("eab_kid", &eab.kid).with_hint("check the external account binding: key id and HMAC key belong together, and some CAs let a pair be used only once")
        }
        _ => e,
    })?;
    let created = reply.status == ::http::StatusCode::CREATED;
    Ok((reply.location("newAccount", url)?, created))
}

impl Stored {
    /// The account, if it is complete.
    fn into_account(self) -> Result<Option<Account>> {
        let (Some(key), Some(url)) = (self.key, self.url) else { return Ok(None) };
        let key = JwsKey::new(&key)?;
        let thumbprint = key.thumbprint()?;
        Ok(Some(Account { key, url, thumbprint, created: false }))
    }
}

async fn load(ca: &Ca, store: &dyn Store, entry: &StoreKey) -> Result<Option<(Stored, Version)>> {
    let Some(found) = store.load(entry).await? else { return Ok(None) };
    let stored = decode(entry, found.value.expose())?;
    if stored.directory != ca.authority.directory() {
        return Err(Error::new(
            ErrorKind::Config,
            "ca.account",
            "the stored account belongs to another directory URL",
        )
        .with("entry", entry)
        .with("stored", stored.directory)
        .with("wanted", ca.authority.directory())
        .with_hint("give one of the two authorities another id with `with_id`"));
    }
    Ok(Some((stored, found.version)))
}

fn decode(entry: &StoreKey, bytes: &[u8]) -> Result<Stored> {
    serde_json::from_slice(bytes)
        .map_err(|e| damaged(entry, &format!("not JSON of its form, {}", position(&e))))
}

async fn save(
    store: &dyn Store,
    entry: &StoreKey,
    stored: &Stored,
    condition: Condition<'_>,
) -> Result<Version> {
    let value = secret::json(stored).map_err(|e| {
        Error::new(ErrorKind::Storage, "ca.account", "could not encode the account").with_source(e)
    })?;
    store.save(entry, &value, &condition).await
}

/// For the fuzz targets only.
pub(crate) mod fuzzing {
    /// Reads octets as a stored account.
    pub(crate) fn stored(octets: &[u8]) {
        let Ok(entry) = "accounts/fuzz".parse() else { return };
        let _ = super::decode(&entry, octets).and_then(super::Stored::into_account);
    }
}

fn damaged(entry: &StoreKey, why: &str) -> Error {
    Error::new(ErrorKind::Storage, "ca.account", format!("the stored account is damaged: {why}"))
        .with("entry", entry)
        .with_hint("restore it from a backup; deleting it makes a new account")
}
