//! Which limits there are, and how high.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// So many in a period, refilled evenly: one each `period / count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    count: u32,
    burst: u32,
    period: Duration,
}

impl Limit {
    /// `count` in each `period`, all of which may come at once. A count of 0 is taken as 1: a limit that lets
    /// nothing through would name no time to retry at.
    pub const fn new(count: u32, period: Duration) -> Self {
        let count = if count == 0 { 1 } else { count };
        Self { count, burst: count, period }
    }

    /// With a bucket that holds `burst` instead of `count`; 0 is taken as 1.
    #[must_use]
    pub const fn with_burst(mut self, burst: u32) -> Self {
        self.burst = if burst == 0 { 1 } else { burst };
        self
    }

    /// How many are refilled in a period.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// How many may come at once.
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// The period.
    pub const fn period(self) -> Duration {
        self.period
    }

    /// How long it takes to refill one.
    pub fn interval(self) -> Duration {
        self.period / self.count
    }
}

/// The limits to enforce; `None` is not enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// New accounts from one IP address.
    pub registrations_per_address: Option<Limit>,
    /// New accounts from one IPv6 /48.
    pub registrations_per_range: Option<Limit>,
    /// New orders of one account.
    pub orders_per_account: Option<Limit>,
    /// Certificates for one registered domain, IPv4 address or IPv6 /64.
    pub certificates_per_domain: Option<Limit>,
    /// Certificates for exactly the same identifiers.
    pub certificates_per_set: Option<Limit>,
    /// Failed authorizations for one identifier by one account.
    pub failures: Option<Limit>,
    /// Failed authorizations for one identifier by one account without a success between; beyond it the account is
    /// paused for the identifier.
    pub consecutive_failures: Option<Limit>,
    /// Where a paused account is sent: the portal's base URL, without a slash at the end.
    pub unpause_url: String,
}

impl Limits {
    /// No limits: to switch on one alone.
    pub fn none() -> Self {
        Self {
            registrations_per_address: None,
            registrations_per_range: None,
            orders_per_account: None,
            certificates_per_domain: None,
            certificates_per_set: None,
            failures: None,
            consecutive_failures: None,
            unpause_url: "https://portal.letsencrypt.org".to_owned(),
        }
    }

    /// Those of Let's Encrypt (<https://letsencrypt.org/docs/rate-limits/>, as of August 2026).
    pub fn lets_encrypt() -> Self {
        Self::none()
            .with_registrations_per_address(per(10, 3 * HOUR))
            .with_registrations_per_range(per(500, 3 * HOUR))
            .with_orders_per_account(per(300, 3 * HOUR))
            .with_certificates_per_domain(per(50, 7 * DAY))
            .with_certificates_per_set(per(5, 7 * DAY))
            .with_failures(per(5, HOUR))
            .with_consecutive_failures(per(1, DAY).with_burst(1152))
    }

    /// Those of its staging environment (<https://letsencrypt.org/docs/staging-environment/>, as of November 2025).
    pub fn lets_encrypt_staging() -> Self {
        Self::none()
            .with_registrations_per_address(per(50, 3 * HOUR))
            .with_registrations_per_range(per(500, 3 * HOUR))
            .with_orders_per_account(per(1500, 3 * HOUR))
            .with_certificates_per_domain(per(30_000, 1))
            .with_certificates_per_set(per(30_000, 7 * DAY))
            .with_failures(per(200, HOUR))
            .with_consecutive_failures(per(3600, 6 * HOUR))
    }

    /// With this limit on new accounts from one IP address.
    #[must_use]
    pub fn with_registrations_per_address(mut self, limit: impl Into<Option<Limit>>) -> Self {
        self.registrations_per_address = limit.into();
        self
    }

    /// With this limit on new accounts from one IPv6 /48.
    #[must_use]
    pub fn with_registrations_per_range(mut self, limit: impl Into<Option<Limit>>) -> Self {
        self.registrations_per_range = limit.into();
        self
    }

    /// With this limit on new orders of one account.
    #[must_use]
    pub fn with_orders_per_account(mut self, limit: impl Into<Option<Limit>>) -> Self {
        self.orders_per_account = limit.into();
        self
    }

    /// With this limit on certificates for one registered domain.
    #[must_use]
    pub fn with_certificates_per_domain(mut self, limit: impl Into<Option<Limit>>) -> Self {
        self.certificates_per_domain = limit.into();
        self
    }

    /// With this limit on certificates for exactly the same identifiers.
    #[must_use]
    pub fn with_certificates_per_set(mut self, limit: impl Into<Option<Limit>>) -> Self {
        self.certificates_per_set = limit.into();
        self
    }

    /// With this limit on failed authorizations for one identifier by one account.
    #[must_use]
    pub fn with_failures(mut self, limit: impl Into<Option<Limit>>) -> Self {
        self.failures = limit.into();
        self
    }

    /// With this limit on failed authorizations without a success between.
    #[must_use]
    pub fn with_consecutive_failures(mut self, limit: impl Into<Option<Limit>>) -> Self {
        self.consecutive_failures = limit.into();
        self
    }

    /// With this portal for paused accounts.
    #[must_use]
    pub fn with_unpause_url(mut self, url: impl Into<String>) -> Self {
        self.unpause_url = url.into();
        self
    }
}

const fn per(count: u32, seconds: u64) -> Limit {
    Limit::new(count, Duration::from_secs(seconds))
}
