//! Which certificate a handshake gets.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::ACME_TLS;
use super::certified::Served;
use super::table::Table;
use crate::{Bundle, CertificateId, CertificateSpec, Challenge, DnsName, Identifier, Result};

/// Chooses the certificate of each handshake. Clones share what they serve.
///
/// - By name: the certificate for exactly this name, else the wildcard's. Of several, one with a key that the client can
///   verify, ECDSA before RSA, and of two of a kind the newer one.
/// - Without a name, as clients send none to an IP address: the certificate of the address where the connection came
///   in, if the acceptor tells it; else the one [chosen](Self::default_to) for this, else the newest one of any address.
/// - A name that nothing is served for gets no certificate: the handshake ends with an alert.
/// - A client that speaks `acme-tls/1` and nothing else is a CA that validates tls-alpn-01 (RFC 8737), and gets the
///   challenge's certificate or none.
///
/// A handshake takes no lock and allocates nothing here; [`serve`](Self::serve) swaps a certificate between two of
/// them. Which certificates are served at all is up to others.
#[derive(Clone, Default)]
pub struct CertResolver(Arc<Shared>);

#[derive(Default)]
struct Shared {
    served: Table,
    challenges: Table,
    nameless: ArcSwapOption<Served>,
    /// Told of whatever changes, for those who wait for it.
    changes: watch::Sender<()>,
    /// What is under which names, for whoever changes it.
    changing: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    certificates: HashMap<CertificateId, (Arc<Served>, BTreeSet<Identifier>)>,
    /// Those of addresses.
    of_addresses: BTreeSet<CertificateId>,
    /// The one that was chosen for clients without a name.
    chosen: Option<CertificateId>,
}

impl Known {
    /// What clients without a name get: what was chosen for them, else the newest certificate of an address, since they
    /// have mostly connected to one.
    fn nameless(&self) -> Option<Arc<Served>> {
        let of = |id| self.certificates.get(id).map(|(served, _)| Arc::clone(served));
        match &self.chosen {
            Some(chosen) => of(chosen),
            None => self.of_addresses.iter().filter_map(of).min_by_key(|served| served.rank()),
        }
    }
}

impl CertResolver {
    /// One that serves nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves a certificate for all of its names from now on, instead of the one with the same id.
    ///
    /// Handshakes that have begun before end with the old one.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) if its key is not here, or of a type that TLS has no use for; the old one
    /// stays then.
    pub fn serve(&self, bundle: &Bundle) -> Result<()> {
        let served = Arc::new(Served::new(bundle)?);
        self.put(self.changing(), bundle.id(), served, bundle.facts().identifiers.clone());
        Ok(())
    }

    /// As [`serve`](Self::serve), unless something else than `before` is served by now. Says whether it is.
    pub(super) fn serve_after(&self, before: Option<&Arc<Served>>, bundle: &Bundle) -> Result<bool> {
        let served = Arc::new(Served::new(bundle)?);
        let known = self.changing();
        let now = known.certificates.get(bundle.id()).map(|(served, _)| Arc::as_ptr(served));
        let unchanged = now == before.map(Arc::as_ptr);
        if unchanged {
            self.put(known, bundle.id(), served, bundle.facts().identifiers.clone());
        }
        Ok(unchanged)
    }

    /// Serves a certificate that nobody has signed, until there is another one.
    pub(super) fn stand_in(&self, spec: &CertificateSpec) -> Result<()> {
        let served = Arc::new(Served::placeholder(spec)?);
        self.put(self.changing(), spec.id(), served, spec.identifiers().clone());
        Ok(())
    }

    fn put(
        &self,
        mut known: MutexGuard<'_, Known>,
        id: &CertificateId,
        served: Arc<Served>,
        names: BTreeSet<Identifier>,
    ) {
        for name in &names {
            self.0.served.put(name, &served);
        }
        // Names that only the old one has: after the others, so that no handshake in between finds nothing.
        let before = known.certificates.insert(id.clone(), (served, names.clone()));
        for name in before.iter().flat_map(|(_, before)| before.difference(&names)) {
            self.0.served.take_away(name, id.as_str());
        }
        match names.iter().any(|name| matches!(name, Identifier::Ip(_))) {
            true => known.of_addresses.insert(id.clone()),
            false => known.of_addresses.remove(id),
        };
        self.0.nameless.store(known.nameless());
        drop(known);
        self.tell();
    }

    /// Serves the certificate of this id no longer. Nothing happens if there is none.
    pub fn withdraw(&self, id: &CertificateId) {
        let mut known = self.changing();
        let Some((_, names)) = known.certificates.remove(id) else { return };
        for name in &names {
            self.0.served.take_away(name, id.as_str());
        }
        known.of_addresses.remove(id);
        self.0.nameless.store(known.nameless());
        drop(known);
        self.tell();
    }

    /// Gives the certificate of this id to clients that name nothing, now or once it is served.
    pub fn default_to(&self, id: &CertificateId) {
        let mut known = self.changing();
        known.chosen = Some(id.clone());
        self.0.nameless.store(known.nameless());
    }

    /// The ids of what is served.
    pub fn served(&self) -> BTreeSet<CertificateId> {
        self.changing().certificates.keys().cloned().collect()
    }

    /// What is served, as it is now.
    pub(super) fn snapshot(&self) -> HashMap<CertificateId, Arc<Served>> {
        let known = self.changing();
        known.certificates.iter().map(|(id, (served, _))| (id.clone(), Arc::clone(served))).collect()
    }

    /// What a client gets that has connected to this address.
    pub fn resolve_at(&self, hello: &ClientHello<'_>, address: Option<IpAddr>) -> Option<Arc<CertifiedKey>> {
        let (name, offered) = (hello.server_name(), hello.signature_schemes());
        let served = match name {
            // RFC 8737 section 3.
            name if is_challenge(hello) => self.0.challenges.for_name(name?, offered),
            Some(name) => self.0.served.for_name(name, offered),
            None => address
                .and_then(|address| self.0.served.for_address(address, offered))
                .or_else(|| self.0.nameless.load_full()),
        };
        served.map(|served| Arc::clone(&served.certified))
    }

    /// What a client gets that has connected to this address and names nothing, if it is that address's own.
    pub(super) fn of_address(
        &self,
        address: IpAddr,
        offered: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.0.served.for_address(address, offered).map(|served| Arc::clone(&served.certified))
    }

    /// Whether clients of this name get a certificate.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.served.for_name(name, &[]).is_some()
    }

    /// Tells of changes, also of those that [`tell`](Self::tell) is called for.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    /// Has those who wait look again.
    pub(super) fn tell(&self) {
        self.0.changes.send_replace(());
    }

    /// Whether a CA that asks for this name is answered.
    pub(super) fn answers_for(&self, name: &str) -> bool {
        self.0.challenges.for_name(name, &[]).is_some()
    }

    /// Answers a CA that asks for this name from now on.
    pub(crate) fn answer(&self, name: &DnsName, challenge: &Challenge) -> Result<()> {
        let answer = Arc::new(Served::answering(challenge)?);
        let _changing = self.changing();
        self.0.challenges.put(&Identifier::Dns(name.clone()), &answer);
        Ok(())
    }

    /// Whether it is this challenge that is answered.
    pub(crate) fn answers(&self, name: &DnsName, token: &str) -> bool {
        self.0.challenges.for_name(name.as_str(), &[]).is_some_and(|served| *served.id == *token)
    }

    /// Answers no longer.
    pub(crate) fn forget_answer(&self, name: &DnsName, token: &str) {
        let _changing = self.changing();
        self.0.challenges.take_away(&Identifier::Dns(name.clone()), token);
    }

    /// What is served under this identifier to clients that take these signatures.
    pub(super) fn under(&self, name: &Identifier, offered: &[SignatureScheme]) -> Option<Arc<Served>> {
        match name {
            Identifier::Dns(name) => self.0.served.for_name(name.as_str(), offered),
            // No name begins with a hyphen, so nothing else stands there.
            Identifier::Wildcard(name) => self.0.served.for_name(&format!("-.{name}"), offered),
            Identifier::Ip(address) => self.0.served.for_address(*address, offered),
        }
    }

    /// What is served under this id.
    pub(super) fn of(&self, id: &CertificateId) -> Option<Arc<Served>> {
        self.changing().certificates.get(id).map(|(served, _)| Arc::clone(served))
    }

    fn changing(&self) -> MutexGuard<'_, Known> {
        self.0.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the client speaks `acme-tls/1` and nothing else (RFC 8737 section 3).
pub(super) fn is_challenge(hello: &ClientHello<'_>) -> bool {
    let Some(mut protocols) = hello.alpn() else { return false };
    protocols.next() == Some(ACME_TLS) && protocols.next().is_none()
}

impl ResolvesServerCert for CertResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.resolve_at(&hello, None)
    }
}

impl fmt::Debug for CertResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertResolver").field("served", &self.served()).finish_non_exhaustive()
    }
}
