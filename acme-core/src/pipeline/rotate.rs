//! A key that others know: a new certificate first, then the old one is revoked.
//!
//! | written | before |
//! |---|---|
//! | `blocked-keys/<hash>`: the key is never certified again | anything else |
//! | `compromised/<certificate>`: certificate and key, which will sign the revocation | the new certificate is ordered |
//! | the latter disappears | once the CA has revoked it |

use sha2::{Digest, Sha256};
use tracing::Instrument;

use super::{Issuance, LEASE, Order, Pipeline, certificate_key};
use crate::bundle::hex;
use crate::effect::effect;
use crate::{
    Bundle, CertificateId, CertificateSpec, Condition, Error, ErrorKind, Expected, Result, Secret, StoreKey,
    What, lease,
};

impl Pipeline {
    /// Replaces a certificate whose private key is compromised: blocks the key for good, gets a certificate with a new
    /// one, has it served everywhere, and only then revokes the old one, for reason keyCompromise and signed by its key
    /// (RFC 8555 section 7.6). Called again, after a failure or a crash, it goes on where it was.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if no certificate is stored; [`ErrorKind::Config`] if its key is not acmekit's, or a CSR for
    /// the same key is all there is to order with; else what kept the new one from being issued or served: the old one
    /// is not revoked then.
    pub async fn rotate_compromised(&self, spec: &CertificateSpec) -> Result<Issuance> {
        let order = Order::of(self.connection_for(spec)?);
        self.rotate(spec, &order).instrument(order.span(spec.id())).await
    }

    pub(crate) async fn rotate(&self, spec: &CertificateSpec, order: &Order<'_>) -> Result<Issuance> {
        let old = self.mark_compromised(spec.id()).await?;
        let stored = self.stored(spec.id()).await?;
        let same = stored.is_some_and(|(bundle, _)| bundle.public_key_info() == old.public_key_info());
        let issuance = self.run(spec, &Order { force: same, ..*order }).await?.served()?;
        if issuance.bundle.public_key_info() == old.public_key_info() {
            return Err(Error::new(
                ErrorKind::Conflict,
                "pipeline.rotate",
                "the certificate still has the same key",
            ));
        }
        self.revoke(&old).await?;
        self.store.delete(&compromised_key(spec.id())?, &Condition::ANY).await?;
        Ok(issuance)
    }

    /// Blocks the key of what is stored, and keeps what is needed to revoke it; or finds that this was done before.
    async fn mark_compromised(&self, id: &CertificateId) -> Result<Bundle> {
        let entry = compromised_key(id)?;
        let lease = lease::take(&*self.store, &certificate_key(id)?, LEASE, self.timeouts().lease).await?;
        if let Some(known) = self.store.load(&entry).await? {
            return Bundle::from_stored(known.value.expose());
        }
        let Some((bundle, _)) = self.stored(id).await? else {
            return Err(Error::new(
                ErrorKind::NotFound,
                "pipeline.rotate",
                "no certificate of this id is stored",
            )
            .with("certificate", id));
        };
        if bundle.key().is_none() {
            let why = "the key is the caller's: only who has it can sign the revocation";
            return Err(Error::new(ErrorKind::Config, "pipeline.rotate", why)
                .with("certificate", id)
                .with_hint("bring a CSR with a new key, and revoke the old certificate with the old one"));
        }
        let blocked = blocked_key(bundle.public_key_info())?;
        let mark = Secret::new(bundle.facts().serial.clone().into_bytes());
        effect("key.block", self.store.save(&blocked, &mark, &Condition::ANY.under(&lease))).await?;
        let kept = bundle.to_stored()?;
        let condition = Condition::expecting(Expected::Absent).under(&lease);
        effect("key.compromised", self.store.save(&entry, &kept, &condition)).await?;
        self.tell(id, What::KeyBlocked { serial: bundle.facts().serial.clone() });
        Ok(bundle)
    }

    async fn revoke(&self, old: &Bundle) -> Result<()> {
        let authority = &old.origin().authority;
        let connection = self.connections.iter().find(|one| one.id() == authority).ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "pipeline.rotate",
                "this pipeline does not have the authority to revoke at",
            )
            .with("authority", authority)
        })?;
        let (Some(leaf), Some(key)) = (old.chain_der().first(), old.key()) else { return Ok(()) };
        effect("certificate.revoke", connection.ca.revoke_compromised(leaf, key)).await?;
        self.tell(old.id(), What::Revoked { serial: old.facts().serial.clone() });
        Ok(())
    }

    /// Whether a key was blocked: it is never certified again.
    pub(crate) async fn is_blocked(&self, public_key_info: &[u8]) -> Result<bool> {
        Ok(self.store.load(&blocked_key(public_key_info)?).await?.is_some())
    }
}

fn compromised_key(id: &CertificateId) -> Result<StoreKey> {
    format!("compromised/{id}").parse()
}

fn blocked_key(public_key_info: &[u8]) -> Result<StoreKey> {
    format!("blocked-keys/{}", hex(&Sha256::digest(public_key_info))).parse()
}
