use std::time::UNIX_EPOCH;

use super::*;

/// 2025-06-01 00:00:00 UTC.
const START: u64 = 1_748_736_000;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const NANO: Duration = Duration::from_nanos(1);

#[derive(Debug)]
struct TestClock(Mutex<SystemTime>);

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

struct Ca {
    limits: RateLimits,
    clock: Arc<TestClock>,
}

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(START)
}

fn ca(limits: Limits) -> Ca {
    let clock = Arc::new(TestClock(Mutex::new(start())));
    Ca { limits: RateLimits::new(limits, clock.clone()), clock }
}

fn names(names: &[&str]) -> Vec<Identifier> {
    let mut names: Vec<Identifier> = names.iter().map(|name| name.parse().unwrap()).collect();
    names.sort();
    names
}

fn account(id: &str) -> AccountId {
    AccountId::new(id)
}

impl Ca {
    fn set(&self, now: SystemTime) {
        *self.clock.0.lock().unwrap() = now;
    }

    fn pass(&self, time: Duration) {
        self.set(self.clock.now() + time);
    }

    async fn register(&self, from: &str) -> Result<(), Problem> {
        self.limits.new_account(Some(from.parse().unwrap())).await
    }

    async fn order(&self, who: &str, of: &[&str]) -> Result<(), Problem> {
        self.limits.new_order(&NewOrder::new(&account(who), &names(of))).await
    }

    async fn renew(&self, who: &str, of: &[&str]) -> Result<(), Problem> {
        let (who, of) = (account(who), names(of));
        self.limits.new_order(&NewOrder::new(&who, &of).with_renewal(Renewal::Suggested)).await
    }

    async fn refuse(&self, who: &str, of: &[&str], renewal: Renewal) {
        let (who, of) = (account(who), names(of));
        self.limits.order_refused(&NewOrder::new(&who, &of).with_renewal(renewal)).await;
    }

    async fn issue(&self, of: &[&str]) {
        self.limits.issued(&account("1"), &names(of)).await;
    }

    async fn fail(&self, who: &str, name: &str) {
        self.limits.validation_failed(&account(who), &name.parse().unwrap()).await;
    }

    async fn succeed(&self, who: &str, name: &str) {
        self.limits.validation_succeeded(&account(who), &name.parse().unwrap()).await;
    }
}

/// The refusal is one of this text and instant, stands until the nanosecond before it, and no longer.
async fn assert_refused_until(ca: &Ca, who: &str, of: &[&str], retry_at: SystemTime, detail: &str) {
    let problem = ca.order(who, of).await.unwrap_err();
    assert_limited(&problem, retry_at, detail);
    ca.set(retry_at - NANO);
    assert_eq!(ca.order(who, of).await.unwrap_err(), problem);
    ca.set(retry_at);
    ca.order(who, of).await.unwrap();
}

#[track_caller]
fn assert_limited(problem: &Problem, retry_at: SystemTime, detail: &str) {
    assert_eq!(problem.detail(), detail);
    assert_eq!(problem.kind(), ProblemType::RateLimited);
    assert_eq!(problem.status(), 429);
    assert_eq!(problem.retry_at(), Some(retry_at));
}

#[tokio::test]
async fn no_limits_allow_everything() {
    let ca = ca(Limits::none());
    for _ in 0..3000 {
        ca.register("192.0.2.1").await.unwrap();
        ca.order("1", &["example.com"]).await.unwrap();
        ca.issue(&["example.com"]).await;
        ca.fail("1", "example.com").await;
    }
    assert_eq!(ca.limits.state().buckets.len(), 0);
}

#[tokio::test]
async fn an_address_registers_10_accounts_and_then_one_each_18_minutes() {
    let ca = ca(Limits::lets_encrypt());
    for _ in 0..10 {
        ca.register("192.0.2.1").await.unwrap();
    }
    let problem = ca.register("192.0.2.1").await.unwrap_err();
    assert_limited(
        &problem,
        start() + 18 * MINUTE,
        "too many new registrations (10) from this IP address in the last 3h0m0s, retry after \
         2025-06-01 00:18:00 UTC: see https://letsencrypt.org/docs/rate-limits/#new-registrations-per-ip-address",
    );
    assert_eq!(ca.register("::ffff:192.0.2.1").await.unwrap_err(), problem);
    ca.register("192.0.2.2").await.unwrap();
    ca.pass(18 * MINUTE - NANO);
    assert_eq!(ca.register("192.0.2.1").await.unwrap_err(), problem);
    ca.pass(NANO);
    ca.register("192.0.2.1").await.unwrap();
    ca.register("192.0.2.1").await.unwrap_err();
    ca.limits.new_account(None).await.unwrap();
}

#[tokio::test]
async fn a_48_registers_500_accounts_and_a_refused_one_costs_the_address_nothing() {
    let ca = ca(Limits::lets_encrypt());
    for host in 0..500 {
        ca.register(&format!("2001:db8:1:{host:x}::1")).await.unwrap();
    }
    for _ in 0..20 {
        let problem = ca.register("2001:db8:1:ffff::1").await.unwrap_err();
        assert_limited(
            &problem,
            start() + Duration::from_millis(21_600),
            "too many new registrations (500) from this /48 subnet of IPv6 addresses in the last 3h0m0s, retry after \
             2025-06-01 00:00:22 UTC: see https://letsencrypt.org/docs/rate-limits/#new-registrations-per-ipv6-range",
        );
    }
    ca.register("2001:db8:2::1").await.unwrap();
    ca.pass(HOUR);
    for _ in 0..10 {
        ca.register("2001:db8:1:ffff::1").await.unwrap();
    }
}

#[tokio::test]
async fn an_account_orders_300_times_and_then_once_each_36_seconds() {
    let ca = ca(Limits::lets_encrypt());
    for n in 0..300 {
        ca.order("1", &[&format!("a{n}.example.com")]).await.unwrap();
    }
    ca.order("2", &["example.com"]).await.unwrap();
    assert_refused_until(
        &ca,
        "1",
        &["example.com"],
        start() + 36 * SECOND,
        "too many new orders (300) from this account in the last 3h0m0s, retry after 2025-06-01 00:00:36 UTC: see \
         https://letsencrypt.org/docs/rate-limits/#new-orders-per-account",
    )
    .await;
    ca.order("1", &["example.com"]).await.unwrap_err();
}

#[tokio::test]
async fn a_registered_domain_gets_50_certificates_whoever_asks_for_which_name() {
    let ca = ca(Limits::lets_encrypt());
    for n in 0..50 {
        // Orders alone spend nothing.
        ca.order("1", &["www.example.co.uk"]).await.unwrap();
        ca.issue(&[&format!("a{n}.example.co.uk"), &format!("*.b{n}.example.co.uk")]).await;
    }
    ca.order("2", &["other.co.uk"]).await.unwrap();
    let problem = ca.order("3", &["other.co.uk", "example.co.uk"]).await.unwrap_err();
    assert_eq!(problem, ca.order("2", &["*.example.co.uk"]).await.unwrap_err());
    assert_refused_until(
        &ca,
        "2",
        &["www.example.co.uk"],
        start() + Duration::from_secs(12_096),
        "too many certificates (50) already issued for \"example.co.uk\" in the last 168h0m0s, retry after \
         2025-06-01 03:21:36 UTC: see https://letsencrypt.org/docs/rate-limits/#new-certificates-per-registered-domain",
    )
    .await;
    ca.order("2", &["www.example.co.uk"]).await.unwrap();
    ca.issue(&["www.example.co.uk"]).await;
    ca.order("2", &["web.example.co.uk"]).await.unwrap_err();
}

#[tokio::test]
async fn a_certificate_beyond_the_limit_does_not_lengthen_the_wait() {
    let ca = ca(Limits::none().with_certificates_per_domain(Limit::new(1, HOUR)));
    for name in ["a.example.com", "b.example.com", "c.example.com"] {
        ca.issue(&[name]).await;
    }
    assert_eq!(ca.order("1", &["d.example.com"]).await.unwrap_err().retry_at(), Some(start() + HOUR));
}

#[tokio::test]
async fn names_below_a_private_suffix_do_not_share_a_limit() {
    let ca = ca(Limits::none().with_certificates_per_domain(Limit::new(1, HOUR)));
    ca.issue(&["one.github.io"]).await;
    ca.order("1", &["two.github.io"]).await.unwrap();
    ca.order("1", &["www.one.github.io"]).await.unwrap_err();
    ca.issue(&["one.co.uk"]).await;
    ca.order("1", &["two.co.uk"]).await.unwrap();
}

#[tokio::test]
async fn addresses_are_counted_alone_and_by_64() {
    let ca = ca(Limits::none().with_certificates_per_domain(Limit::new(1, HOUR)));
    ca.issue(&["192.0.2.1", "2001:db8::1"]).await;
    ca.order("1", &["192.0.2.2"]).await.unwrap();
    ca.order("1", &["2001:db8:0:1::1"]).await.unwrap();
    let retry_at = start() + HOUR;
    for (address, named) in [("192.0.2.1", "192.0.2.1/32"), ("2001:db8::2", "/64")] {
        let problem = ca.order("1", &[address]).await.unwrap_err();
        assert_limited(
            &problem,
            retry_at,
            &format!(
                "too many certificates (1) already issued for \"{named}\" in the last 1h0m0s, retry after 2025-06-01 \
                 01:00:00 UTC: see https://letsencrypt.org/docs/rate-limits/#new-certificates-per-registered-domain"
            ),
        );
    }
}

#[tokio::test]
async fn an_exact_set_gets_5_certificates_in_any_order_of_its_names() {
    let ca = ca(Limits::lets_encrypt());
    let (one, other) = ("example.com", "www.example.com");
    for _ in 0..5 {
        ca.order("1", &[one, other]).await.unwrap();
        ca.limits.issued(&account("1"), &[other.parse().unwrap(), one.parse().unwrap()]).await;
    }
    ca.order("2", &[one]).await.unwrap();
    assert_refused_until(
        &ca,
        "2",
        &[one, other],
        start() + Duration::from_secs(120_960),
        "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after \
         2025-06-02 09:36:00 UTC: see \
         https://letsencrypt.org/docs/rate-limits/#new-certificates-per-exact-set-of-identifiers",
    )
    .await;
}

#[tokio::test]
async fn five_failures_for_a_name_refuse_that_name_to_that_account() {
    let ca = ca(Limits::lets_encrypt());
    for _ in 0..5 {
        ca.order("1", &["www.example.com"]).await.unwrap();
        ca.fail("1", "www.example.com").await;
    }
    ca.order("2", &["www.example.com"]).await.unwrap();
    ca.order("1", &["example.com"]).await.unwrap();
    // A success does not help here.
    ca.succeed("1", "www.example.com").await;
    ca.order("1", &["example.com", "www.example.com"]).await.unwrap_err();
    assert_refused_until(
        &ca,
        "1",
        &["www.example.com"],
        start() + 12 * MINUTE,
        "too many failed authorizations (5) for \"www.example.com\" in the last 1h0m0s, retry after \
         2025-06-01 00:12:00 UTC: see \
         https://letsencrypt.org/docs/rate-limits/#authorization-failures-per-identifier-per-account",
    )
    .await;
    ca.order("1", &["www.example.com"]).await.unwrap();
    ca.fail("1", "www.example.com").await;
    ca.order("1", &["www.example.com"]).await.unwrap_err();
}

#[tokio::test]
async fn a_refused_order_spends_nothing() {
    let limits =
        Limits::none().with_orders_per_account(Limit::new(2, HOUR)).with_failures(Limit::new(1, HOUR));
    let ca = ca(limits);
    ca.fail("1", "bad.example.com").await;
    for _ in 0..5 {
        ca.order("1", &["bad.example.com"]).await.unwrap_err();
    }
    ca.order("1", &["good.example.com"]).await.unwrap();
    ca.order("1", &["good.example.com"]).await.unwrap();
    ca.order("1", &["good.example.com"]).await.unwrap_err();
}

#[tokio::test]
async fn of_several_limits_the_one_with_the_longest_wait_is_named() {
    let limits = Limits::none()
        .with_orders_per_account(Limit::new(1, HOUR))
        .with_failures(Limit::new(1, 3 * HOUR))
        .with_certificates_per_domain(Limit::new(1, 2 * HOUR));
    let ca = ca(limits);
    ca.order("1", &["example.com"]).await.unwrap();
    ca.issue(&["example.com"]).await;
    let waits = |problem: Problem| problem.retry_at().unwrap().duration_since(start()).unwrap();
    assert_eq!(waits(ca.order("1", &["example.net"]).await.unwrap_err()), HOUR);
    assert_eq!(waits(ca.order("1", &["example.net", "a.example.com"]).await.unwrap_err()), 2 * HOUR);
    ca.fail("1", "example.net").await;
    let problem = ca.order("1", &["a.example.com", "example.net"]).await.unwrap_err();
    assert!(problem.detail().starts_with("too many failed authorizations (1) for \"example.net\""));
    assert_eq!(waits(problem), 3 * HOUR);
}

#[tokio::test]
async fn an_order_that_was_not_stored_is_given_back_if_it_was_spent() {
    let ca = ca(Limits::none().with_orders_per_account(Limit::new(2, HOUR)));
    ca.issue(&["renewed.example.com"]).await;
    for _ in 0..5 {
        ca.order("1", &["example.com"]).await.unwrap();
        ca.refuse("1", &["example.com"], Renewal::No).await;
    }
    for _ in 0..2 {
        ca.order("1", &["example.com"]).await.unwrap();
    }
    // These have spent nothing.
    ca.refuse("1", &["example.com"], Renewal::Suggested).await;
    ca.refuse("1", &["renewed.example.com"], Renewal::No).await;
    ca.refuse("2", &["example.com"], Renewal::No).await;
    ca.order("1", &["example.com"]).await.unwrap_err();
}

/// Every limit is exhausted for account 1 and `www.example.com`, which has had certificates.
async fn exhausted() -> Ca {
    let limit = Limit::new(1, 300 * DAY);
    let limits = Limits::none()
        .with_orders_per_account(limit)
        .with_certificates_per_domain(limit)
        .with_certificates_per_set(limit)
        .with_failures(limit);
    let ca = ca(limits);
    ca.order("1", &["other.example"]).await.unwrap();
    ca.issue(&["www.example.com"]).await;
    ca.fail("1", "www.example.com").await;
    ca
}

#[tokio::test]
async fn a_renewal_the_ca_has_asked_for_is_exempt_from_all_limits() {
    let ca = exhausted().await;
    ca.order("1", &["www.example.com"]).await.unwrap_err();
    for _ in 0..3 {
        ca.renew("1", &["www.example.com"]).await.unwrap();
        ca.renew("1", &["www.example.com", "new.example.com"]).await.unwrap();
    }
}

#[tokio::test]
async fn another_renewal_is_exempt_from_orders_and_domains_but_not_from_the_set_and_failures() {
    let limit = Limit::new(1, 300 * DAY);
    let base = Limits::none().with_orders_per_account(limit).with_certificates_per_domain(limit);
    let set = ["www.example.com"];

    let exempt = ca(base.clone());
    exempt.order("1", &["other.example"]).await.unwrap();
    exempt.issue(&set).await;
    for _ in 0..3 {
        exempt.order("1", &set).await.unwrap();
        exempt.issue(&set).await;
    }
    // The exemption is the set's, not the account's; and another set has none.
    exempt.order("2", &set).await.unwrap();
    exempt.order("2", &["example.com", "www.example.com"]).await.unwrap_err();

    let of_set = ca(base.clone().with_certificates_per_set(limit));
    of_set.issue(&set).await;
    let problem = of_set.order("1", &set).await.unwrap_err();
    assert!(problem.detail().contains("this exact set of identifiers"), "{problem}");

    let of_failures = ca(base.with_failures(limit));
    of_failures.issue(&set).await;
    of_failures.fail("1", set[0]).await;
    let problem = of_failures.order("1", &set).await.unwrap_err();
    assert!(problem.detail().contains("too many failed authorizations"), "{problem}");
}

#[tokio::test]
async fn after_120_days_a_set_is_new_again() {
    let ca = ca(Limits::none().with_orders_per_account(Limit::new(1, 3000 * DAY)));
    ca.order("1", &["other.example"]).await.unwrap();
    ca.issue(&["example.com"]).await;
    ca.pass(120 * DAY - NANO);
    ca.order("1", &["example.com"]).await.unwrap();
    ca.pass(NANO);
    ca.order("1", &["example.com"]).await.unwrap_err();
}

#[tokio::test]
async fn a_renewal_that_adds_a_name_is_exempt_as_an_order_and_spends_as_a_certificate() {
    let ca = ca(Limits::none().with_certificates_per_domain(Limit::new(2, 7 * DAY)));
    let (old, new) = (["example.com"], ["example.com", "www.example.com"]);
    ca.issue(&old).await;
    // The same set again spends nothing.
    ca.renew("1", &old).await.unwrap();
    ca.issue(&old).await;
    ca.order("1", &["probe.example.com"]).await.unwrap();
    ca.renew("1", &new).await.unwrap();
    ca.issue(&new).await;
    let problem = ca.order("1", &["probe.example.com"]).await.unwrap_err();
    assert!(problem.detail().starts_with("too many certificates (2) already issued for \"example.com\""));
}

#[tokio::test]
async fn an_exempt_renewal_still_spends_its_exact_set() {
    let ca = ca(Limits::none().with_certificates_per_set(Limit::new(5, 7 * DAY)));
    for _ in 0..5 {
        ca.renew("1", &["example.com"]).await.unwrap();
        ca.issue(&["example.com"]).await;
    }
    ca.renew("1", &["example.com"]).await.unwrap();
    let problem = ca.order("1", &["example.com"]).await.unwrap_err();
    assert_eq!(problem.retry_at(), Some(start() + Duration::from_secs(120_960)));
}

async fn paused() -> Ca {
    let ca = ca(Limits::none().with_consecutive_failures(Limit::new(1, DAY).with_burst(1152)));
    for _ in 0..1152 {
        ca.fail("1", "www.example.com").await;
    }
    ca.order("1", &["www.example.com"]).await.unwrap();
    ca.fail("1", "www.example.com").await;
    ca
}

#[tokio::test]
async fn the_failure_after_1152_in_a_row_pauses_until_the_account_is_unpaused() {
    let ca = paused().await;
    let problem = ca.order("1", &["example.com", "www.example.com"]).await.unwrap_err();
    assert_eq!(
        problem.detail(),
        "Your account is temporarily prevented from requesting certificates for www.example.com and possibly others. \
         Please visit: https://portal.letsencrypt.org/sfe/v1/unpause?jwt=1"
    );
    assert_eq!((problem.kind(), problem.status()), (ProblemType::RateLimited, 429));
    assert_eq!(problem.retry_at(), None);

    ca.order("1", &["example.com"]).await.unwrap();
    ca.order("2", &["www.example.com"]).await.unwrap();
    // Neither time, nor a renewal the CA has asked for, nor a success lifts it.
    ca.pass(3000 * DAY);
    ca.succeed("1", "www.example.com").await;
    assert_eq!(ca.renew("1", &["www.example.com"]).await.unwrap_err().detail(), problem.detail());

    assert_eq!(ca.limits.unpause(&account("2")), 0);
    assert_eq!(ca.limits.unpause(&account("1")), 1);
    assert_eq!(ca.limits.unpause(&account("1")), 0);
    ca.order("1", &["www.example.com"]).await.unwrap();
}

#[tokio::test]
async fn an_unpaused_account_is_not_paused_again_for_two_weeks() {
    let ca = paused().await;
    ca.limits.unpause(&account("1"));
    ca.fail("1", "www.example.com").await;
    ca.order("1", &["www.example.com"]).await.unwrap();
    ca.pass(14 * DAY);
    // The bucket has refilled by one a day.
    for _ in 0..14 {
        ca.fail("1", "www.example.com").await;
    }
    ca.order("1", &["www.example.com"]).await.unwrap();
    ca.fail("1", "www.example.com").await;
    ca.order("1", &["www.example.com"]).await.unwrap_err();
}

#[tokio::test]
async fn a_success_resets_the_count_of_consecutive_failures() {
    let ca = ca(Limits::none().with_consecutive_failures(Limit::new(3, 365 * DAY)));
    for _ in 0..10 {
        for _ in 0..3 {
            ca.fail("1", "example.com").await;
        }
        ca.succeed("1", "example.com").await;
        ca.order("1", &["example.com"]).await.unwrap();
    }
}

#[tokio::test]
async fn the_staging_limits_are_higher() {
    let ca = ca(Limits::lets_encrypt_staging());
    for _ in 0..50 {
        ca.register("192.0.2.1").await.unwrap();
        ca.order("1", &["example.com"]).await.unwrap();
        ca.fail("1", "example.com").await;
        ca.issue(&["example.com"]).await;
    }
    let problem = ca.register("192.0.2.1").await.unwrap_err();
    assert_eq!(problem.retry_at(), Some(start() + Duration::from_secs(216)));
    ca.order("1", &["example.com"]).await.unwrap();
}

#[tokio::test]
async fn full_buckets_are_forgotten() {
    let ca = ca(Limits::lets_encrypt());
    for n in 0..10_000u32 {
        ca.register(&std::net::Ipv4Addr::from(n).to_string()).await.unwrap();
        ca.fail(&n.to_string(), "example.com").await;
        ca.succeed(&n.to_string(), "example.com").await;
        ca.issue(&[&format!("a{n}.example")]).await;
        ca.pass(8 * DAY);
    }
    let state = ca.limits.state();
    assert!(state.buckets.len() <= 65, "{}", state.buckets.len());
    assert!(state.issued.len() <= 65, "{}", state.issued.len());
}

#[tokio::test]
async fn no_time_overflows() {
    let ca = ca(Limits::lets_encrypt());
    let far = Duration::from_secs(u64::MAX / 2 - 1);
    let (early, late) = (UNIX_EPOCH.checked_sub(far), UNIX_EPOCH.checked_add(far));
    for now in [early, late, early, Some(start())].into_iter().flatten() {
        ca.set(now);
        for _ in 0..12 {
            let _ = ca.register("2001:db8::1").await;
            let _ = ca.order("1", &["example.com"]).await;
            ca.issue(&["example.com"]).await;
            ca.fail("1", "example.com").await;
            ca.refuse("1", &["example.com"], Renewal::No).await;
        }
        ca.limits.unpause(&account("1"));
    }
}
