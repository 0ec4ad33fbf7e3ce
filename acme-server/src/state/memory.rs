//! A [`State`] in memory: it ends with the process.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use acmekit_core::Identifier;
use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use sha2::{Digest, Sha256};

use super::{Change, State};
use crate::{Account, AccountId, Authorization, Certificate, Jwk, Order, Problem};

/// How many nonces are kept. The oldest go first: a client that comes later asks again (`badNonce`).
const NONCES: usize = 100_000;

/// Keeps everything in memory. Clones share it: one serves, another looks.
#[derive(Debug, Clone, Default)]
pub struct MemoryState(Arc<Mutex<Records>>);

#[derive(Debug, Default)]
struct Records {
    nonces: HashSet<String>,
    nonces_by_age: VecDeque<String>,
    accounts: HashMap<AccountId, Account>,
    account_of_key: HashMap<Jwk, AccountId>,
    orders: HashMap<String, Order>,
    /// By account and the order's place: how many there were before it.
    orders_of: HashMap<AccountId, BTreeMap<usize, String>>,
    order_for: HashMap<(AccountId, Vec<Identifier>), String>,
    authorizations: HashMap<String, Authorization>,
    authorization_for: HashMap<(AccountId, Identifier), String>,
    certificates: HashMap<String, Certificate>,
    certificate_of_renewal_id: HashMap<String, String>,
    certificate_of_leaf: HashMap<[u8; 32], String>,
    made: usize,
}

impl MemoryState {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// All orders as they are stored, the oldest first.
    pub fn orders(&self) -> Vec<Order> {
        let mut orders: Vec<Order> = self.records().orders.values().cloned().collect();
        orders.sort_by_key(|order| order.created);
        orders
    }

    /// All accounts.
    pub fn accounts(&self) -> Vec<Account> {
        self.records().accounts.values().cloned().collect()
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes a copy, so that a change that refuses midway leaves the record as it was.
fn change<T: Clone>(record: Option<&mut T>, what: &str, change: Change<'_, T>) -> Result<T, Problem> {
    let record = record.ok_or_else(|| Problem::not_found(format!("there is no such {what}")))?;
    let mut changed = record.clone();
    change(&mut changed)?;
    record.clone_from(&changed);
    Ok(changed)
}

fn digest(leaf_der: &[u8]) -> [u8; 32] {
    Sha256::digest(leaf_der).into()
}

#[async_trait]
impl State for MemoryState {
    async fn new_nonce(&self) -> Result<String, Problem> {
        let nonce = BASE64.encode(rand::random::<[u8; 16]>());
        let mut records = self.records();
        records.nonces.insert(nonce.clone());
        records.nonces_by_age.push_back(nonce.clone());
        while records.nonces_by_age.len() > NONCES {
            if let Some(oldest) = records.nonces_by_age.pop_front() {
                records.nonces.remove(&oldest);
            }
        }
        Ok(nonce)
    }

    async fn spend_nonce(&self, nonce: &str) -> Result<bool, Problem> {
        Ok(self.records().nonces.remove(nonce))
    }

    async fn create_account(&self, account: Account) -> Result<Account, Problem> {
        let mut records = self.records();
        let existing = records.account_of_key.get(&account.key).and_then(|id| records.accounts.get(id));
        if let Some(existing) = existing {
            return Ok(existing.clone());
        }
        records.account_of_key.insert(account.key.clone(), account.id.clone());
        records.accounts.insert(account.id.clone(), account.clone());
        Ok(account)
    }

    async fn account(&self, id: &AccountId) -> Result<Option<Account>, Problem> {
        Ok(self.records().accounts.get(id).cloned())
    }

    async fn account_of_key(&self, key: &Jwk) -> Result<Option<Account>, Problem> {
        let records = self.records();
        Ok(records.account_of_key.get(key).and_then(|id| records.accounts.get(id)).cloned())
    }

    async fn change_account(&self, id: &AccountId, by: Change<'_, Account>) -> Result<Account, Problem> {
        change(self.records().accounts.get_mut(id), "account", by)
    }

    async fn change_key(&self, id: &AccountId, old: &Jwk, new: &Jwk) -> Result<Option<AccountId>, Problem> {
        let mut records = self.records();
        if let Some(other) = records.account_of_key.get(new) {
            return Ok(Some(other.clone()));
        }
        let account = records.accounts.get_mut(id).filter(|account| account.key == *old);
        let account =
            account.ok_or_else(|| Problem::unauthorized("the old key is not the account's key any more"))?;
        account.key = new.clone();
        records.account_of_key.remove(old);
        records.account_of_key.insert(new.clone(), id.clone());
        Ok(None)
    }

    async fn create_order(&self, order: Order, authorizations: Vec<Authorization>) -> Result<(), Problem> {
        let mut records = self.records();
        for authorization in authorizations {
            let of = (authorization.account.clone(), authorization.identifier.clone());
            records.authorization_for.insert(of, authorization.id.clone());
            records.authorizations.insert(authorization.id.clone(), authorization);
        }
        let place = records.made;
        records.made += 1;
        records.orders_of.entry(order.account.clone()).or_default().insert(place, order.id.clone());
        records.order_for.insert((order.account.clone(), order.identifiers.clone()), order.id.clone());
        records.orders.insert(order.id.clone(), order);
        Ok(())
    }

    async fn order(&self, id: &str) -> Result<Option<Order>, Problem> {
        Ok(self.records().orders.get(id).cloned())
    }

    async fn change_order(&self, id: &str, by: Change<'_, Order>) -> Result<Order, Problem> {
        change(self.records().orders.get_mut(id), "order", by)
    }

    async fn orders_of(
        &self,
        account: &AccountId,
        after: Option<&str>,
        count: usize,
    ) -> Result<Vec<String>, Problem> {
        let records = self.records();
        let Some(all) = records.orders_of.get(account) else { return Ok(Vec::new()) };
        let mut ids = all.values();
        if let Some(after) = after {
            // A mark nobody knows any more: from the start, rather than nothing.
            if !ids.by_ref().any(|id| id == after) {
                ids = all.values();
            }
        }
        Ok(ids.take(count).cloned().collect())
    }

    async fn order_for(
        &self,
        account: &AccountId,
        identifiers: &[Identifier],
    ) -> Result<Option<Order>, Problem> {
        let records = self.records();
        let id = records.order_for.get(&(account.clone(), identifiers.to_vec()));
        Ok(id.and_then(|id| records.orders.get(id)).cloned())
    }

    async fn authorization(&self, id: &str) -> Result<Option<Authorization>, Problem> {
        Ok(self.records().authorizations.get(id).cloned())
    }

    async fn change_authorization(
        &self,
        id: &str,
        by: Change<'_, Authorization>,
    ) -> Result<Authorization, Problem> {
        change(self.records().authorizations.get_mut(id), "authorization", by)
    }

    async fn authorization_for(
        &self,
        account: &AccountId,
        identifier: &Identifier,
    ) -> Result<Option<Authorization>, Problem> {
        let records = self.records();
        let id = records.authorization_for.get(&(account.clone(), identifier.clone()));
        Ok(id.and_then(|id| records.authorizations.get(id)).cloned())
    }

    async fn create_certificate(&self, certificate: Certificate) -> Result<(), Problem> {
        let mut records = self.records();
        if let Some(name) = &certificate.renewal_id {
            records.certificate_of_renewal_id.insert(name.clone(), certificate.id.clone());
        }
        records.certificate_of_leaf.insert(digest(certificate.leaf_der()), certificate.id.clone());
        records.certificates.insert(certificate.id.clone(), certificate);
        Ok(())
    }

    async fn certificate(&self, id: &str) -> Result<Option<Certificate>, Problem> {
        Ok(self.records().certificates.get(id).cloned())
    }

    async fn certificate_of_renewal_id(&self, id: &str) -> Result<Option<Certificate>, Problem> {
        let records = self.records();
        Ok(records.certificate_of_renewal_id.get(id).and_then(|id| records.certificates.get(id)).cloned())
    }

    async fn certificate_of_leaf(&self, leaf_der: &[u8]) -> Result<Option<Certificate>, Problem> {
        let records = self.records();
        Ok(records
            .certificate_of_leaf
            .get(&digest(leaf_der))
            .and_then(|id| records.certificates.get(id))
            .cloned())
    }

    async fn change_certificate(
        &self,
        id: &str,
        by: Change<'_, Certificate>,
    ) -> Result<Certificate, Problem> {
        change(self.records().certificates.get_mut(id), "certificate", by)
    }
}
