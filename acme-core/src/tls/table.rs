//! Which certificates there are for a name: read by every handshake without a lock, written by one at a time.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;

use super::certified::Served;
use crate::Identifier;

/// In how many parts the names are: a change copies one part, and not all names there are.
const SHARDS: usize = 256;

/// Certificates by name. Wildcards stand under what follows the asterisk, with its dot.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[ArcSwap<Shard>]>,
    hasher: RandomState,
    addresses: ArcSwap<HashMap<IpAddr, Choice>>,
}

/// Its keys are shared with the copy that a change makes.
type Shard = HashMap<Arc<str>, Choice>;

/// The certificates for one name, the best first.
#[derive(Debug, Clone, Default)]
struct Choice(Arc<[Arc<Served>]>);

impl Choice {
    /// The first that fits the client; if none does, the first: the handshake then fails with the right alert.
    fn take(&self, offered: &[SignatureScheme]) -> Option<Arc<Served>> {
        let fitting = self.0.iter().find(|served| served.fits(offered));
        fitting.or(self.0.first()).cloned()
    }

    fn without(&self, id: &str) -> impl Iterator<Item = Arc<Served>> {
        self.0.iter().filter(move |served| *served.id != *id).cloned()
    }

    fn of(served: impl Iterator<Item = Arc<Served>>) -> Self {
        let mut all: Vec<_> = served.collect();
        all.sort_by_key(|served| served.rank());
        Self(all.into())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Table {
    fn default() -> Self {
        let shards = std::iter::repeat_with(ArcSwap::default).take(SHARDS).collect();
        Self { shards, hasher: RandomState::new(), addresses: ArcSwap::default() }
    }
}

impl Table {
    /// The certificate for a name of a ClientHello: its own, else that of the wildcard above it.
    pub(super) fn for_name(&self, name: &str, offered: &[SignatureScheme]) -> Option<Arc<Served>> {
        self.find(name, offered).or_else(|| self.find(name.get(name.find('.')?..)?, offered))
    }

    /// The certificate for an address that a client has connected to.
    pub(super) fn for_address(&self, address: IpAddr, offered: &[SignatureScheme]) -> Option<Arc<Served>> {
        self.addresses.load().get(&address.to_canonical())?.take(offered)
    }

    fn find(&self, key: &str, offered: &[SignatureScheme]) -> Option<Arc<Served>> {
        self.shard(key)?.load().get(key)?.take(offered)
    }

    fn shard(&self, key: &str) -> Option<&ArcSwap<Shard>> {
        // A remainder of 256 fits everywhere.
        #[expect(clippy::cast_possible_truncation, reason = "the lowest bits are all that is wanted")]
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards.get(at)
    }

    /// Has the certificate under this identifier, instead of one with the same id. Only one thread may write.
    pub(super) fn put(&self, identifier: &Identifier, served: &Arc<Served>) {
        let new = |old: Option<&Choice>| {
            let others = old.into_iter().flat_map(|choice| choice.without(&served.id));
            Choice::of(others.chain([Arc::clone(served)]))
        };
        self.change(identifier, new);
    }

    /// Has the certificate of this id no longer under this identifier. Only one thread may write.
    pub(super) fn take_away(&self, identifier: &Identifier, id: &str) {
        self.change(identifier, |old| Choice::of(old.into_iter().flat_map(|choice| choice.without(id))));
    }

    fn change(&self, identifier: &Identifier, change: impl FnOnce(Option<&Choice>) -> Choice) {
        if let Identifier::Ip(address) = identifier {
            let address = address.to_canonical();
            let mut all = HashMap::clone(&self.addresses.load());
            let new = change(all.get(&address));
            match new.is_empty() {
                true => all.remove(&address),
                false => all.insert(address, new),
            };
            return self.addresses.store(Arc::new(all));
        }
        let name = match identifier {
            Identifier::Wildcard(name) => format!(".{name}"),
            other => other.to_string(),
        };
        let Some(shard) = self.shard(&name) else { return };
        let mut names = Shard::clone(&shard.load());
        let new = change(names.get(name.as_str()));
        match new.is_empty() {
            true => names.remove(name.as_str()),
            false => names.insert(name.into(), new),
        };
        shard.store(Arc::new(names));
    }
}
