use super::*;
use crate::MovableClock;
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);

struct World {
    clock: MovableClock,
    limits: RateLimits,
    account: AccountId,
}

impl World {
    fn new(limits: Limits) -> Self {
        let clock = MovableClock::new();
        let limits = RateLimits::new(limits, Arc::new(clock.clone()));
        Self { clock, limits, account: AccountId::new("1") }
    }

    async fn order(&self, names: &[&str]) -> Result<(), Problem> {
        let identifiers = set(names);
        self.limits.new_order(&NewOrder::new(&self.account, &identifiers)).await
    }

    async fn suggested(&self, names: &[&str]) -> Result<(), Problem> {
        let identifiers = set(names);
        self.limits
            .new_order(&NewOrder::new(&self.account, &identifiers).with_renewal(Renewal::Suggested))
            .await
    }

    async fn issued(&self, names: &[&str]) {
        self.limits.issued(&self.account, &set(names)).await;
    }

    async fn failed(&self, name: &str) {
        self.limits.validation_failed(&self.account, &name.parse().unwrap()).await;
    }

    /// The refusal names an instant; a moment before it nothing has changed, and then it is allowed.
    async fn lasts(&self, refused: &Problem, names: &[&str]) {
        let until = refused.retry_at().unwrap();
        let left = until.duration_since(self.clock.now()).unwrap();
        self.clock.advance(left.saturating_sub(Duration::from_millis(1500)));
        let again = self.order(names).await.unwrap_err();
        assert_eq!(again.detail(), refused.detail());
        self.clock.advance(Duration::from_millis(1600));
        self.order(names).await.unwrap();
    }
}

fn set(names: &[&str]) -> Vec<Identifier> {
    let mut identifiers: Vec<Identifier> = names.iter().map(|name| name.parse().unwrap()).collect();
    identifiers.sort();
    identifiers
}

fn only(change: impl FnOnce(&mut Limits)) -> World {
    let mut limits = Limits::none();
    change(&mut limits);
    World::new(limits)
}

fn is(problem: &Problem, begins: &str, ends: &str) {
    assert_eq!((problem.kind(), problem.status()), (ProblemType::RateLimited, 429));
    let text = problem.detail();
    assert!(text.starts_with(begins) && text.ends_with(ends), "{text}");
    let at = problem.retry_at().unwrap();
    let at =
        jiff::Timestamp::try_from(at).unwrap().strftime("retry after %Y-%m-%d %H:%M:%S UTC: ").to_string();
    assert!(text.contains(&at), "{text}: not {at}");
}

#[tokio::test]
async fn orders_of_one_account_are_limited_and_come_back_one_by_one() {
    let world = World::new(Limits::lets_encrypt());
    for number in 0..300 {
        world.order(&[&format!("n{number}.example{number}.test")]).await.unwrap();
    }
    let names = ["more.example.test"];
    let refused = world.order(&names).await.unwrap_err();
    is(
        &refused,
        "too many new orders (300) from this account in the last 3h0m0s, retry after ",
        ": see https://letsencrypt.org/docs/rate-limits/#new-orders-per-account",
    );
    let wait = refused.retry_at().unwrap().duration_since(world.clock.now()).unwrap();
    assert!(wait <= Duration::from_secs(37), "one comes back each 36 s: {wait:?}");
    world.lasts(&refused, &names).await;
    let other = AccountId::new("2");
    world.limits.new_order(&NewOrder::new(&other, &set(&names))).await.unwrap();
}

#[tokio::test]
async fn an_order_that_is_refused_after_all_costs_nothing() {
    let world = only(|limits| limits.orders_per_account = Some(Limit::new(1, HOUR)));
    let identifiers = set(&["a.example.test"]);
    let order = NewOrder::new(&world.account, &identifiers);
    for _ in 0..5 {
        world.limits.new_order(&order).await.unwrap();
        world.limits.order_refused(&order).await;
    }
    world.limits.new_order(&order).await.unwrap();
    assert!(world.limits.new_order(&order).await.is_err());
    // What was exempt had cost nothing, so nothing comes back.
    world.limits.order_refused(&order.with_renewal(Renewal::Suggested)).await;
    assert!(world.limits.new_order(&order).await.is_err());
}

#[tokio::test]
async fn certificates_of_one_registered_domain_are_counted_when_issued() {
    let world = World::new(Limits::lets_encrypt());
    for number in 0..50 {
        world.order(&[&format!("n{number}.example.co.uk")]).await.unwrap();
    }
    world.order(&["an.order.example.co.uk"]).await.unwrap();
    for number in 0..50 {
        // Several names below one domain are one certificate of it.
        world.issued(&[&format!("n{number}.example.co.uk"), &format!("*.n{number}.example.co.uk")]).await;
    }
    let names = ["other.example.test", "more.example.co.uk"];
    let refused = world.order(&names).await.unwrap_err();
    is(
        &refused,
        "too many certificates (50) already issued for \"example.co.uk\" in the last 168h0m0s, retry after ",
        "#new-certificates-per-registered-domain",
    );
    world.order(&["www.another.co.uk"]).await.unwrap();
    // Customers below a private suffix do not count for one another.
    world.order(&["someone.github.io"]).await.unwrap();
    world.lasts(&refused, &names).await;
}

#[test]
fn what_counts_as_a_registered_domain() {
    let of = |name: &str| domains(&set(&[name])).pop_first().unwrap();
    assert_eq!(of("a.b.example.co.uk"), "example.co.uk");
    assert_eq!(of("*.example.com"), "example.com");
    assert_eq!(of("x.someone.github.io"), "someone.github.io");
    assert_eq!(of("github.io"), "github.io");
    assert_eq!(of("192.0.2.7"), "192.0.2.7");
    assert_eq!(of("2001:db8:1:2:3::4"), "2001:db8:1:2::/64");
}

#[tokio::test]
async fn a_renewal_is_exempt_from_some_and_one_at_the_suggested_time_from_all() {
    let world = only(|limits| {
        limits.orders_per_account = Some(Limit::new(1, 3 * HOUR));
        limits.certificates_per_domain = Some(Limit::new(1, 7 * DAY));
        limits.certificates_per_set = Some(Limit::new(2, 7 * DAY));
    });
    let names = ["www.example.test", "example.test"];
    world.order(&names).await.unwrap();
    world.issued(&names).await;
    // Neither the account nor the domain has any left, but this is a renewal.
    world.order(&names).await.unwrap();
    world.issued(&names).await;
    let refused = world.order(&names).await.unwrap_err();
    is(
        &refused,
        "too many certificates (2) already issued for this exact set of identifiers in the last 168h0m0s, retry after ",
        "#new-certificates-per-exact-set-of-identifiers",
    );
    world.suggested(&names).await.unwrap();
    assert!(world.order(&["new.example.test"]).await.is_err());
    world.suggested(&["new.example.test"]).await.unwrap();
    // It costs the domain and the set all the same when it is issued: what is exempt is exempt from being asked.
    world.clock.advance(8 * DAY);
    world.order(&["fresh.example.test"]).await.unwrap();
    world.issued(&["new.example.test"]).await;
    assert!(world.order(&["fresh.example.test"]).await.unwrap_err().detail().contains("\"example.test\""));
    // After 120 days a set is new again.
    world.clock.advance(121 * DAY);
    world.order(&names).await.unwrap();
    assert!(world.order(&names).await.unwrap_err().detail().starts_with("too many new orders (1)"));
}

#[tokio::test]
async fn failed_validations_hold_back_the_name_for_this_account() {
    let world = World::new(Limits::lets_encrypt());
    for _ in 0..5 {
        world.order(&["*.example.test"]).await.unwrap();
        world.failed("*.example.test").await;
    }
    let names = ["example.test", "www.example.test"];
    let refused = world.order(&names).await.unwrap_err();
    is(
        &refused,
        "too many failed authorizations (5) for \"example.test\" in the last 1h0m0s, retry after ",
        "#authorization-failures-per-identifier-per-account",
    );
    let wait = refused.retry_at().unwrap().duration_since(world.clock.now()).unwrap();
    assert!(wait <= 12 * MINUTE + Duration::from_secs(1) && wait > 11 * MINUTE, "{wait:?}");
    world.order(&["www.example.test"]).await.unwrap();
    world.lasts(&refused, &names).await;
}

#[tokio::test]
async fn failures_in_a_row_pause_a_name_until_one_succeeds() {
    let world = only(|limits| limits.failures_in_a_row = Some(Limit::new(3, 3 * DAY)));
    let name: Identifier = "example.test".parse().unwrap();
    for _ in 0..2 {
        world.failed("example.test").await;
    }
    world.limits.validation_succeeded(&world.account, &name).await;
    for _ in 0..3 {
        world.order(&["example.test"]).await.unwrap();
        world.failed("example.test").await;
    }
    let refused = world.order(&["example.test"]).await.unwrap_err();
    assert!(refused.detail().starts_with("Your account is temporarily prevented"), "{refused}");
    assert_eq!(refused.retry_at(), None, "a person must act");
    assert!(world.suggested(&["example.test"]).await.is_err());
    world.limits.validation_succeeded(&world.account, &name).await;
    world.order(&["example.test"]).await.unwrap();
}

#[tokio::test]
async fn of_several_limits_the_longest_is_told() {
    let world = only(|limits| {
        limits.orders_per_account = Some(Limit::new(1, HOUR));
        limits.certificates_per_set = Some(Limit::new(1, DAY));
    });
    let names = ["www.example.test"];
    world.order(&["other.example.test"]).await.unwrap();
    world.issued(&names).await;
    assert!(world.order(&names).await.unwrap_err().detail().contains("exact set"));
    assert!(world.order(&["third.example.test"]).await.unwrap_err().detail().contains("new orders"));
}

#[tokio::test]
async fn registrations_are_limited_by_address_and_network() {
    let world = World::new(Limits::lets_encrypt());
    let from = |text: &str| Some(text.parse().unwrap());
    for _ in 0..10 {
        world.limits.new_account(from("192.0.2.1")).await.unwrap();
    }
    let refused = world.limits.new_account(from("192.0.2.1")).await.unwrap_err();
    is(
        &refused,
        "too many new registrations (10) from this IP address in the last 3h0m0s",
        "#new-registrations-per-ip-address",
    );
    world.limits.new_account(from("192.0.2.2")).await.unwrap();
    for number in 0..500 {
        world.limits.new_account(from(&format!("2001:db8:1:{number:x}::1"))).await.unwrap();
    }
    let refused = world.limits.new_account(from("2001:db8:1:ffff::1")).await.unwrap_err();
    is(
        &refused,
        "too many new registrations (500) from this /48 subnet of IPv6 addresses",
        "#new-registrations-per-ipv6-range",
    );
    world.limits.new_account(from("2001:db8:2::1")).await.unwrap();
    world.limits.new_account(None).await.unwrap();
}

#[tokio::test]
async fn buckets_that_are_full_again_are_forgotten() {
    let world = only(|limits| limits.certificates_per_set = Some(Limit::new(5, HOUR)));
    for number in 0..SWEEP {
        world.issued(&[&format!("n{number}.example.test")]).await;
    }
    world.clock.advance(200 * DAY);
    for number in 0..SWEEP {
        world.issued(&[&format!("m{number}.example.test")]).await;
    }
    let counts = world.limits.counts();
    assert!(
        counts.full_at.len() + counts.issued.len() <= 3 * SWEEP,
        "{} {}",
        counts.full_at.len(),
        counts.issued.len()
    );
}

proptest! {
    /// Whatever the times between, never more than the count and what came back meanwhile.
    #[test]
    fn no_more_is_taken_than_there_is(count in 1u32..20, gaps in proptest::collection::vec(0u64..4000, 1..80)) {
        let limit = Limit::new(count, HOUR);
        let start = SystemTime::UNIX_EPOCH + 1000 * DAY;
        let (mut now, mut full, mut taken) = (start, None, 0u32);
        for gap in gaps {
            now += Duration::from_millis(gap * 100);
            match gcra::take(&limit, full, now) {
                Decision::Allowed(next) => { taken += 1; full = Some(next); }
                Decision::Denied(until) => {
                    prop_assert!(until > now);
                    prop_assert!(matches!(gcra::take(&limit, full, until), Decision::Allowed(_)));
                }
            }
            let back = now.duration_since(start).unwrap().as_secs_f64() / limit.interval().as_secs_f64();
            prop_assert!(f64::from(taken) <= f64::from(count) + back + 1e-6);
        }
    }

    /// Given back, a bucket is as before.
    #[test]
    fn what_is_given_back_can_be_taken_again(count in 1u32..20, takes in 0u32..30) {
        let limit = Limit::new(count, HOUR);
        let now = SystemTime::UNIX_EPOCH + 1000 * DAY;
        let mut full = None;
        for _ in 0..takes {
            full = gcra::take_at_most(&limit, full, now);
        }
        if let Decision::Allowed(next) = gcra::take(&limit, full, now) {
            prop_assert_eq!(gcra::give_back(&limit, Some(next), now), full);
        }
        prop_assert_eq!(gcra::give_back(&limit, None, now), None);
    }
}
