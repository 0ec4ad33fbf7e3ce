//! Certificates for names that are not known beforehand: got while the first client waits.

mod ask;
mod gate;
mod names;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use self::ask::Ask;
pub(super) use self::gate::Gate;
pub(super) use self::names::Names;
use crate::limits::Limit;
use crate::{DnsName, Result};

/// Decides which names get a certificate on demand.
#[async_trait]
pub trait Permission: fmt::Debug + Send + Sync {
    /// Whether this name may have a certificate. It is a valid name in its one spelling, and what the program must know
    /// better than anybody: its customers' domains, and those alone. Whoever says yes to all lets strangers spend the
    /// CA's limits.
    ///
    /// # Errors
    /// If it cannot be told now. A name that had a certificate before is served then nevertheless; any other is refused,
    /// and asked about again after 10 seconds.
    async fn allows(&self, name: &DnsName) -> Result<bool>;
}

#[async_trait]
impl<T: Permission + ?Sized> Permission for Arc<T> {
    async fn allows(&self, name: &DnsName) -> Result<bool> {
        (**self).allows(name).await
    }
}

/// Gets certificates during the first handshake for a name, if a [`Permission`] says so.
///
/// - **One order** for a name, however many handshakes wait for it. Each waits for [its time](Self::wait) at most and ends
///   with a TLS alert then; the order goes on, and the next client finds the certificate.
/// - **Bounds**, whatever strangers send: the [names](Self::names_at_most), the [orders](Self::orders) in a time, refusals
///   remembered (10,000, the oldest forgotten first), handshakes that wait (1024), permissions asked for at once (64).
/// - **Names** are normalised, and no question is asked about what is [no public name](Self::any_name).
/// - **Renewals** go on as for any other certificate, and after a restart, too. The permission is asked for
///   [again](Self::ask_again) now and then; a name that has lost it is served and renewed no longer.
/// - What fails is tried again as the manager does: after 1, 10 and 100 minutes, then once a day. Handshakes in between are
///   refused at once.
/// - **One service, one store**: what was got is noted in the store, for all processes on it. They are to give the same
///   permissions. A name that is got on demand is not to be added to the manager as well.
///
/// ```no_run
/// use acmekit_core::tls::{AutoTls, OnDemand};
///
/// # async fn example(customers: std::collections::BTreeSet<String>) -> acmekit_core::Result<()> {
/// let allowed = OnDemand::new(move |name: &acmekit_core::DnsName| {
///     let known = customers.contains(name.as_str()); // or a query to a database
///     async move { Ok(known) }
/// });
/// let tls = AutoTls::staging(["www.example.com"])
///     .on_demand(allowed)
///     .contact("ops@example.com")
///     .agree_to_terms()
///     .folder("/var/lib/service/acme")
///     .start()
///     .await?;
/// # drop(tls); Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct OnDemand {
    permission: Arc<dyn Permission>,
    names: usize,
    wait: Duration,
    refused_for: Duration,
    orders: Limit,
    any_name: bool,
    ask_again: Duration,
}

impl OnDemand {
    /// By what a function says of a name.
    pub fn new<F, A>(allows: F) -> Self
    where
        F: Fn(&DnsName) -> A + Send + Sync + 'static,
        A: Future<Output = Result<bool>> + Send + 'static,
    {
        Self::by(Function(allows))
    }

    /// By what a [`Permission`] says, such as [`Ask`].
    pub fn by(permission: impl Permission + 'static) -> Self {
        Self {
            permission: Arc::new(permission),
            names: 10_000,
            wait: Duration::from_secs(30),
            refused_for: Duration::from_secs(5 * 60),
            orders: Limit::new(150, Duration::from_secs(3 * 3600)),
            any_name: false,
            ask_again: Duration::from_secs(24 * 3600),
        }
    }

    /// How many names there are at most (default 10,000). Further ones are refused.
    #[must_use]
    pub fn names_at_most(mut self, count: usize) -> Self {
        self.names = count;
        self
    }

    /// How long a handshake waits for the permission and the certificate (default 30 s).
    #[must_use]
    pub fn wait(mut self, patience: Duration) -> Self {
        self.wait = patience;
        self
    }

    /// How long a refusal holds (default 5 min): how late a new customer may be served who was too early.
    #[must_use]
    pub fn refusals_last(mut self, time: Duration) -> Self {
        self.refused_for = time;
        self
    }

    /// How many new names this process orders for in a time, counted from its start (default 150 in 3 hours: half of what
    /// Let's Encrypt allows an account). Renewals do not count. The authority's own limits are kept to in any case, over
    /// all processes and restarts.
    #[must_use]
    pub fn orders(mut self, count: u32, per: Duration) -> Self {
        self.orders = Limit::new(count.max(1), per);
        self
    }

    /// Also names that are not below a suffix of the public suffix list, as in a company's own network. A single label
    /// never gets a certificate.
    #[must_use]
    pub fn any_name(mut self) -> Self {
        self.any_name = true;
        self
    }

    /// How often the permission of a name that has a certificate is asked for again (default once a day).
    #[must_use]
    pub fn ask_again(mut self, every: Duration) -> Self {
        self.ask_again = every;
        self
    }
}

/// A function as a permission.
struct Function<F>(F);

#[async_trait]
impl<F, A> Permission for Function<F>
where
    F: Fn(&DnsName) -> A + Send + Sync,
    A: Future<Output = Result<bool>> + Send,
{
    async fn allows(&self, name: &DnsName) -> Result<bool> {
        (self.0)(name).await
    }
}

impl<F> fmt::Debug for Function<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Function")
    }
}
