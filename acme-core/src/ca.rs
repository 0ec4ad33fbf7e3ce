//! The CA as typed calls. Nothing outside this folder knows of JWS, nonces or HTTP.

pub(crate) mod account;
pub(crate) mod fuzzing;
pub(crate) mod http;
mod jws;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ::http::Method;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use self::account::Account;
use self::http::{Reply, Transport};
use self::jws::{JwsKey, Signer};
use self::wire::Directory;
use crate::order::{AuthorizationSnapshot, OrderSnapshot, OrderStatus};
use crate::renewal::Window;
use crate::{
    Authority, CertificateSpec, Clock, Csr, Deadline, Error, ErrorKind, Identifier, PrivateKey, Problem,
    Result, Retry,
};

/// How often a request is signed anew after `badNonce`. RFC 8555 section 6.5 wants retries; even
/// a CA that rejects every second nonce gets through within these.
const NONCE_ATTEMPTS: usize = 32;
/// How many times the time of one request all these attempts may take together.
const NONCE_PATIENCE: u32 = 4;
/// How often a read is repeated when the CA is unavailable.
const READ_ATTEMPTS: u32 = 3;
/// How many authorizations are asked for at once.
const PARALLEL_READS: usize = 8;
/// How many an order may have. One for each name is usual; a CA that lists more than this costs time and memory alone.
const MAX_AUTHORIZATIONS: usize = 4 * CertificateSpec::MAX_IDENTIFIERS;
/// How many challenges one may have: there are five kinds.
const MAX_CHALLENGES: usize = 64;

/// One authority, connected when it is first needed.
#[derive(Debug)]
pub(crate) struct Ca {
    pub(crate) authority: Authority,
    transport: Transport,
    directory: OnceCell<Directory>,
}

/// An order, and when the CA wants to be asked again.
#[derive(Debug)]
pub(crate) struct Polled {
    pub(crate) order: OrderSnapshot,
    pub(crate) retry_after: Option<Duration>,
}

/// An order the CA has just made, of which no more than its URL has been looked at.
#[derive(Debug)]
pub(crate) struct NewOrder {
    pub(crate) url: String,
    reply: Reply,
}

impl Ca {
    pub(crate) fn new(authority: Authority, clock: Arc<dyn Clock>) -> Result<Self> {
        let transport = Transport::new(&authority, clock)?;
        Ok(Self { authority, transport, directory: OnceCell::new() })
    }

    async fn directory(&self) -> Result<&Directory> {
        let fetch = || async {
            let url = self.authority.directory();
            let reply = self.transport.exchange("directory", Method::GET, url, None).await?;
            // What answers may be anything but a CA: a web page, a proxy's login, another path.
            reply.json("directory", url).map_err(|error| match error.hint() {
                Some(_) => error,
                None => error.with_hint(
                    "check the directory URL: something answers there, but it is no ACME directory",
                ),
            })
        };
        // One at a time fetches it. Who waits behind others that a silent CA costs their time has an end, too.
        let patience = self.authority.timeouts().lease;
        Deadline::after(patience)
            .run("ca.directory", "directory", self.directory.get_or_try_init(fetch))
            .await
    }

    /// The names the CA goes by in CAA records (RFC 8555 section 9.7.6); none where it does not say.
    pub(crate) async fn caa_identities(&self) -> Result<&[String]> {
        Ok(&self.directory().await?.meta.caa_identities)
    }

    /// A signed request (RFC 8555 section 6.2). A rejected nonce costs a new signature, never a
    /// second sending of the same one.
    async fn post(
        &self,
        phase: &'static str,
        key: &JwsKey,
        signer: Signer<'_>,
        url: &str,
        payload: Option<&Value>,
    ) -> Result<Reply> {
        let new_nonce = &self.directory().await?.new_nonce;
        let deadline = Deadline::after(self.authority.timeouts().request * NONCE_PATIENCE);
        let mut attempt = 1;
        loop {
            if deadline.is_over() {
                return Err(deadline
                    .missed("ca.post", phase)
                    .with("url", url)
                    .with("rejected_nonces", attempt - 1));
            }
            let nonce = self.transport.nonce(new_nonce).await?;
            let body = key.sign(signer, &nonce, url, payload)?;
            let reply = self.transport.exchange(phase, Method::POST, url, Some(body)).await?;
            let rejected = reply.problem().as_ref().map(Problem::acme_type) == Some("badNonce");
            if !rejected || attempt == NONCE_ATTEMPTS {
                return Ok(reply);
            }
            self.transport.distrust_nonces();
            attempt += 1;
        }
    }

    /// A POST-as-GET (section 6.3): has no effect, so it is repeated when the CA is unavailable.
    async fn read(&self, phase: &'static str, account: &Account, url: &str) -> Result<Reply> {
        let mut attempt = 1;
        loop {
            let reply = self.post(phase, &account.key, Signer::Account(&account.url), url, None).await;
            let error = match reply.and_then(|reply| reply.of_ca(phase, url)?.success(phase, url)) {
                Err(error) if error.kind() == ErrorKind::Unavailable && attempt < READ_ATTEMPTS => error,
                done => return done,
            };
            let pause = match error.retry() {
                // A CA that wants more than this is better left alone until the next run.
                Retry::After(wait) if wait > Duration::from_secs(10) => return Err(error),
                Retry::After(wait) => wait,
                _ => Duration::from_millis(250) * 2u32.pow(attempt),
            };
            tracing::debug!(%error, ?pause, "asking again");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// Section 7.4: a new order, which may name the certificate it `replaces` (RFC 9773 section 5). Not repeated here:
    /// the caller has a journal and a budget.
    pub(crate) async fn new_order(
        &self,
        account: &Account,
        identifiers: &BTreeSet<Identifier>,
        profile: Option<&str>,
        replaces: Option<&str>,
    ) -> Result<NewOrder> {
        let directory = self.directory().await?;
        let mut payload = json!({ "identifiers": wire::identifiers(identifiers) });
        if let Some(profile) = profile {
            check_profile(directory, profile)?;
            payload["profile"] = json!(profile);
        }
        if let Some(replaces) = replaces.filter(|_| directory.renewal_info.is_some()) {
            payload["replaces"] = json!(replaces);
        }
        let url = &directory.new_order;
        let signer = Signer::Account(&account.url);
        let reply = self.post("newOrder", &account.key, signer, url, Some(&payload)).await?;
        let reply = reply.success("newOrder", url)?;
        Ok(NewOrder { url: reply.location("newOrder", url)?, reply })
    }

    /// The order just made, with its authorizations. Its URL is to be written down before.
    pub(crate) async fn opened(&self, account: &Account, order: NewOrder) -> Result<OrderSnapshot> {
        Ok(self.snapshot(account, order.reply, order.url, true).await?.order)
    }

    /// When the CA suggests to renew a certificate (RFC 9773), and when it wants to be asked again; `None` if it has no
    /// renewal information. The one request that is not signed.
    pub(crate) async fn renewal_info(&self, id: &str) -> Result<Option<(Window, Option<Duration>)>> {
        let Some(base) = &self.directory().await?.renewal_info else { return Ok(None) };
        let url = format!("{}/{id}", base.trim_end_matches('/'));
        let reply = self.transport.exchange("renewalInfo", Method::GET, &url, None).await?;
        let reply = reply.success("renewalInfo", &url)?;
        let retry_after = reply.retry_after;
        let info: wire::RenewalInfo = reply.json("renewalInfo", &url)?;
        let window = info.into_window().ok_or_else(|| {
            Error::new(ErrorKind::Protocol, "ca.renewal_info", "the CA suggests a window that is none")
                .with("url", &url)
        })?;
        Ok(Some((window, retry_after)))
    }

    /// The order as it is now, with its authorizations; `None` if the CA says that there is no such thing, or not for
    /// this account.
    pub(crate) async fn order(&self, account: &Account, url: &str) -> Result<Option<OrderSnapshot>> {
        let new_nonce = &self.directory().await?.new_nonce;
        let known = async {
            let reply = self.read("order", account, url).await?;
            Ok(self.snapshot(account, reply, url.to_owned(), true).await?.order)
        };
        match known.await {
            Ok(order) => Ok(Some(order)),
            // Where there is no nonce to be had, nothing has been asked.
            Err(error) if is_gone(&error) && !error.context().any(|(_, url)| url == new_nonce) => {
                tracing::info!(%error, "the CA does not know the order any more");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Section 7.6: revokes a certificate whose key is compromised (RFC 5280 section 5.3.1, reason 1), signed by that
    /// key: the CA then knows that it is, and whose request it is does not matter. One that is revoked already is.
    pub(crate) async fn revoke_compromised(&self, leaf_der: &[u8], key: &PrivateKey) -> Result<()> {
        let url = self.directory().await?.revoke_cert.as_deref().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "ca.revoke", "the CA's directory has no revokeCert")
        })?;
        let key = JwsKey::of_certificate(key)?;
        let payload = json!({ "certificate": BASE64_URL_SAFE_NO_PAD.encode(leaf_der), "reason": 1 });
        let reply = self.post("revokeCert", &key, Signer::Key, url, Some(&payload)).await?;
        match reply.success("revokeCert", url) {
            Err(error) if error.problem().map(Problem::acme_type) == Some("alreadyRevoked") => Ok(()),
            done => done.map(drop),
        }
    }

    /// The order as it is now; its authorizations only where they say why it failed.
    pub(crate) async fn poll(&self, phase: &'static str, account: &Account, url: &str) -> Result<Polled> {
        let reply = self.read(phase, account, url).await?;
        self.snapshot(account, reply, url.to_owned(), false).await
    }

    async fn snapshot(&self, account: &Account, reply: Reply, url: String, deep: bool) -> Result<Polled> {
        let retry_after = reply.retry_after;
        let wire: wire::Order = reply.json("order", &url)?;
        let authorizations = wire.authorizations.clone();
        let mut order = wire.into_snapshot(url);
        let wanted = match order.status {
            OrderStatus::Pending => deep,
            OrderStatus::Invalid => true,
            _ => false,
        };
        if wanted {
            let failed = order.status == OrderStatus::Invalid;
            order.authorizations = match self.authorizations(account, &authorizations).await {
                // What says why the order failed must not hide that it failed.
                Err(error) if failed => {
                    tracing::debug!(%error, "the reasons of a failed order could not be read");
                    Vec::new()
                }
                read => read?,
            };
        }
        Ok(Polled { order, retry_after })
    }

    async fn authorizations(&self, account: &Account, urls: &[String]) -> Result<Vec<AuthorizationSnapshot>> {
        if urls.len() > MAX_AUTHORIZATIONS {
            return Err(Error::new(ErrorKind::Protocol, "ca.order", "the order has too many authorizations")
                .with("authorizations", urls.len())
                .with("at_most", MAX_AUTHORIZATIONS));
        }
        let reads: Vec<_> = urls.iter().map(|url| self.authorization(account, url).boxed()).collect();
        let reads = stream::iter(reads).buffered(PARALLEL_READS).try_collect();
        // Each has its own time; a CA that takes all of it for each shall not have hours.
        Deadline::after(self.authority.timeouts().poll)
            .run("ca.authorizations", "reading the order", reads)
            .await
    }

    async fn authorization(&self, account: &Account, url: &str) -> Result<AuthorizationSnapshot> {
        let wire: wire::Authorization =
            self.read("authorization", account, url).await?.json("authorization", url)?;
        let mut authorization = wire.into_snapshot(url.to_owned())?;
        authorization.challenges.truncate(MAX_CHALLENGES);
        Ok(authorization)
    }

    /// Section 7.5.1: tells the CA that the answer stands.
    pub(crate) async fn respond(&self, account: &Account, challenge: &str) -> Result<()> {
        let signer = Signer::Account(&account.url);
        let reply = self.post("challenge", &account.key, signer, challenge, Some(&json!({}))).await?;
        reply.success("challenge", challenge).map(drop)
    }

    /// Section 7.4: sends the CSR.
    pub(crate) async fn finalize(
        &self,
        account: &Account,
        order: &OrderSnapshot,
        csr: &Csr,
    ) -> Result<Polled> {
        let payload = json!({ "csr": BASE64_URL_SAFE_NO_PAD.encode(csr.as_der()) });
        let signer = Signer::Account(&account.url);
        let reply = self.post("finalize", &account.key, signer, &order.finalize, Some(&payload)).await?;
        self.snapshot(account, reply.success("finalize", &order.finalize)?, order.url.clone(), false).await
    }

    /// Section 7.4.2: downloads the chain; with a preference, the one whose topmost certificate was
    /// signed by that root, if the CA offers it.
    pub(crate) async fn certificate(
        &self,
        account: &Account,
        url: &str,
        preferred: Option<&str>,
    ) -> Result<String> {
        let reply = self.read("certificate", account, url).await?;
        let default = text(&reply)?;
        let Some(root) = preferred.filter(|root| !topped_by(&default, root)) else { return Ok(default) };
        for alternate in reply.links("alternate") {
            let chain = text(&self.read("certificate", account, &alternate).await?)?;
            if topped_by(&chain, root) {
                return Ok(chain);
            }
        }
        tracing::warn!(root, "the CA offers no chain to the preferred root; its default is taken");
        Ok(default)
    }
}

fn text(reply: &Reply) -> Result<String> {
    String::from_utf8(reply.body.to_vec()).map_err(|_| {
        Error::new(ErrorKind::Protocol, "ca.certificate", "the CA's certificate chain is not text")
    })
}

/// Whether the last certificate of a PEM chain was issued by this common name.
fn topped_by(chain: &str, root: &str) -> bool {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let last = pem::parse_many(chain).ok().and_then(|mut blocks| blocks.pop());
    last.is_some_and(|block| {
        X509Certificate::from_der(block.contents())
            .is_ok_and(|(_, top)| top.issuer().iter_common_name().any(|cn| cn.as_str() == Ok(root)))
    })
}

fn check_profile(directory: &Directory, profile: &str) -> Result<()> {
    let refuse = |why: &str| Error::new(ErrorKind::Config, "ca.profile", why).with("profile", profile);
    match &directory.meta.profiles {
        None => Err(refuse("this CA offers no profiles").with_hint("leave the profile out")),
        Some(offered) if offered.contains_key(profile) => Ok(()),
        Some(offered) => {
            let names: Vec<&str> = offered.keys().map(String::as_str).collect();
            Err(refuse("this CA does not offer the profile")
                .with_hint(format!("it offers: {}", names.join(", ").escape_debug())))
        }
    }
}

/// The CA says that there is no such thing, or that it is not this account's.
fn is_gone(error: &Error) -> bool {
    // A refusal without ACME's own words is a proxy's, and one that a person must act on is no end.
    let refused = error.problem().is_some_and(|problem| {
        error.kind() == ErrorKind::Auth && problem.acme_type() != "userActionRequired"
    });
    error.kind() == ErrorKind::NotFound || refused
}
