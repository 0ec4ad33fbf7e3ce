//! One authority as a pipeline has it: the CA, the account there, and the budget.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use crate::budget::Budget;
use crate::ca::Ca;
use crate::ca::account::{self, Account};
use crate::{Authority, Clock, Deadline, Result, Store, Timeouts};

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) ca: Ca,
    pub(crate) budget: Budget,
    /// The authority's staging directory, where a certificate that failed is tried first.
    pub(crate) staging: Option<Box<Self>>,
    store: Arc<dyn Store>,
    account: Mutex<Option<Arc<Account>>>,
}

impl Connection {
    pub(crate) fn new(authority: Authority, store: &Arc<dyn Store>, clock: &Arc<dyn Clock>) -> Result<Self> {
        let staging = authority.staging();
        let staging = staging.map(|staging| Self::new(staging, store, clock).map(Box::new)).transpose()?;
        let budget = Budget::new(Arc::clone(store), authority.id(), authority.limits().clone());
        Ok(Self {
            ca: Ca::new(authority, Arc::clone(clock))?,
            budget,
            staging,
            store: Arc::clone(store),
            account: Mutex::new(None),
        })
    }

    pub(crate) fn id(&self) -> &str {
        self.ca.authority.id()
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        self.ca.authority.timeouts()
    }

    /// The account, loaded or made once. Says whether that was now.
    pub(crate) async fn account(&self) -> Result<(Arc<Account>, bool)> {
        let mut slot = self.account_slot().await?;
        if let Some(account) = &*slot {
            return Ok((Arc::clone(account), false));
        }
        let account = Arc::new(account::ensure(&self.ca, &*self.store).await?);
        *slot = Some(Arc::clone(&account));
        Ok((account, true))
    }

    /// The CA does not know the account any more: the same key is registered again.
    pub(crate) async fn account_again(&self, lost: &Account) -> Result<(Arc<Account>, bool)> {
        account::forget_url(&self.ca, &*self.store, &lost.url).await?;
        let mut slot = self.account_slot().await?;
        if slot.as_ref().is_some_and(|account| account.url == lost.url) {
            *slot = None;
        }
        drop(slot);
        self.account().await
    }

    /// One at a time asks for the account. Who waits behind others that a silent CA costs their time has an end, too.
    async fn account_slot(&self) -> Result<MutexGuard<'_, Option<Arc<Account>>>> {
        let turn = async { Ok(self.account.lock().await) };
        Deadline::after(self.timeouts().lease).run("pipeline.account", "waiting for the account", turn).await
    }
}
