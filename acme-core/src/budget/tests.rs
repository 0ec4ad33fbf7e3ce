use std::time::UNIX_EPOCH;

use super::*;
use crate::limits::Limit;
use crate::stores::MemoryStore;
use crate::{CertificateId, Problem};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn wish(names: &[&str]) -> Wish {
    Wish::new(&names.iter().map(|name| name.parse().unwrap()).collect())
}

fn budget(limits: Limits) -> Budget {
    Budget::new(Arc::new(MemoryStore::new()), "test", limits)
}

fn limited(detail: &str, wait: Option<Duration>) -> Error {
    let problem = Problem {
        kind: "urn:ietf:params:acme:error:rateLimited".into(),
        detail: detail.into(),
        status: Some(429),
        ..Problem::default()
    };
    Error::new(ErrorKind::RateLimited, "ca.http", "newOrder: the CA refuses")
        .with_retry(wait.map_or(Retry::Backoff, Retry::After))
        .with_problem(problem)
}

async fn wait_of(budget: &Budget, wish: &Wish, now: SystemTime) -> Option<Duration> {
    match budget.charge_order(wish, now).await {
        Ok(()) => None,
        Err(error) => match error.retry() {
            Retry::After(wait) => Some(wait),
            other => panic!("{other:?}: {error}"),
        },
    }
}

#[tokio::test]
async fn orders_are_spent_before_they_are_made_and_survive_a_restart() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let limits = Limits::none().with_orders_per_account(Limit::new(3, HOUR));
    for round in 0..3 {
        let fresh = Budget::new(Arc::clone(&store), "test", limits.clone());
        let name = format!("a{round}.example");
        fresh.charge_order(&wish(&[&name]), start()).await.unwrap();
    }
    let fresh = Budget::new(Arc::clone(&store), "test", limits.clone());
    assert_eq!(fresh.left(start()).await.unwrap().orders, Some(0));
    let error = fresh.charge_order(&wish(&["b.example"]), start()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert!(error.to_string().contains("nothing was sent"), "{error}");
    // One in twenty minutes, and the margin.
    assert_eq!(error.retry(), Retry::After(Duration::from_secs(1212)));
    let other = Budget::new(store, "other", limits);
    other.charge_order(&wish(&["b.example"]), start()).await.unwrap();
}

#[tokio::test]
async fn an_order_the_ca_refuses_is_not_spent_and_one_it_says_nothing_of_is() {
    let budget = budget(Limits::none().with_orders_per_account(Limit::new(1, HOUR)));
    let names = wish(&["a.example"]);
    budget.charge_order(&names, start()).await.unwrap();
    let silent = Error::new(ErrorKind::Timeout, "ca.http", "no answer");
    budget.order_refused(&names, &silent, start()).await.unwrap();
    assert!(wait_of(&budget, &names, start()).await.is_some());
    let problem = Problem { status: Some(400), kind: "x".into(), ..Problem::default() };
    let refused = Error::new(ErrorKind::Rejected, "ca.http", "no").with_problem(problem);
    budget.order_refused(&names, &refused, start()).await.unwrap();
    assert_eq!(wait_of(&budget, &names, start()).await, None);
}

#[tokio::test]
async fn a_csr_that_is_sent_again_is_charged_once() {
    let budget = budget(Limits::none().with_certificates_per_set(Limit::new(2, 168 * HOUR)));
    let names = wish(&["a.example", "b.example"]);
    for _ in 0..5 {
        budget.charge_issuance(&names, "https://ca/order/1", start()).await.unwrap();
    }
    assert_eq!(wait_of(&budget, &names, start()).await, None);
    budget.charge_issuance(&names, "https://ca/order/2", start()).await.unwrap();
    assert!(wait_of(&budget, &names, start()).await.is_some());
    assert_eq!(wait_of(&budget, &wish(&["a.example"]), start()).await, None, "another set");
}

#[tokio::test]
async fn renewals_spend_no_order_and_nothing_of_the_domain() {
    let limits = Limits::none()
        .with_orders_per_account(Limit::new(1, 1000 * DAY))
        .with_certificates_per_domain(Limit::new(1, 1000 * DAY))
        .with_certificates_per_set(Limit::new(5, 7 * DAY));
    let budget = budget(limits);
    let names = wish(&["www.example.com"]);
    for (round, days) in [0u32, 60, 120, 200].into_iter().enumerate() {
        let now = start() + DAY * days;
        assert_eq!(wait_of(&budget, &names, now).await, None, "after {days} days");
        budget.charge_issuance(&names, &format!("order-{round}"), now).await.unwrap();
    }
    // Of another set of the domain both are spent.
    assert!(wait_of(&budget, &wish(&["new.example.com"]), start() + DAY).await.unwrap() > 100 * DAY);
    // One that is 120 days old is as new.
    assert!(wait_of(&budget, &names, start() + 320 * DAY).await.is_some());
}

#[tokio::test]
async fn a_renewal_in_its_window_is_exempt_from_everything_but_pays_for_its_set() {
    let limits = Limits::none()
        .with_orders_per_account(Limit::new(1, HOUR))
        .with_certificates_per_set(Limit::new(2, 168 * HOUR));
    let budget = budget(limits);
    let names = wish(&["a.example"]).exempt(true);
    for order in ["1", "2", "3"] {
        assert_eq!(wait_of(&budget, &names, start()).await, None);
        budget.charge_issuance(&names, order, start()).await.unwrap();
    }
    assert_eq!(budget.left(start()).await.unwrap().orders, Some(1));
    assert!(wait_of(&budget, &wish(&["a.example"]), start()).await.is_some());
}

#[tokio::test]
async fn a_name_that_fails_waits_alone() {
    let budget = budget(Limits::none().with_failures(Limit::new(2, HOUR)));
    let failed: Identifier = "bad.example.com".parse().unwrap();
    budget.charge_failures(std::slice::from_ref(&failed), start()).await.unwrap();
    budget.charge_failures(&[failed], start()).await.unwrap();
    assert!(wait_of(&budget, &wish(&["good.example.com", "bad.example.com"]), start()).await.is_some());
    assert_eq!(wait_of(&budget, &wish(&["good.example.com"]), start()).await, None);
    assert_eq!(wait_of(&budget, &wish(&["bad.example.com"]), start() + HOUR).await, None);
}

#[tokio::test]
async fn the_texts_of_the_ca_say_which_bucket_is_empty() {
    let at = |text: &str| {
        format!("{text}, retry after 2027-01-16 09:00:00 UTC: see https://letsencrypt.org/docs/rate-limits/")
    };
    let until: SystemTime = "2027-01-16T09:00:00Z".parse::<jiff::Timestamp>().unwrap().into();
    let wait = until.duration_since(start()).unwrap();
    let (mine, other, elsewhere) =
        (wish(&["www.example.com"]), wish(&["other.example.com"]), wish(&["www.example.org"]));
    for (detail, waits) in [
        (at("too many new orders (300) from this account in the last 3h0m0s"), [true, true, true]),
        (
            at("too many certificates (50) already issued for \"example.com\" in the last 168h0m0s"),
            [true, true, false],
        ),
        (
            at(
                "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s",
            ),
            [true, false, false],
        ),
        (
            at("too many failed authorizations (5) for \"www.example.com\" in the last 1h0m0s"),
            [true, false, false],
        ),
    ] {
        let budget = budget(Limits::lets_encrypt());
        budget.order_refused(&mine, &limited(&detail, None), start()).await.unwrap();
        for (wish, waits) in [&mine, &other, &elsewhere].into_iter().zip(waits) {
            let told = wait_of(&budget, wish, start()).await;
            assert_eq!(told.is_some(), waits, "{detail}");
            if let Some(told) = told {
                assert!(told >= wait && told < wait + HOUR, "{detail}: {told:?}, not {wait:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_without_a_reason_has_the_set_wait_as_it_says_and_all_others_an_hour() {
    for (wait, want) in [(Some(7 * DAY), 7 * DAY), (None, HOUR)] {
        let budget = budget(Limits::none());
        let refused = wish(&["a.example"]);
        budget.order_refused(&refused, &limited("no", wait), start()).await.unwrap();
        assert_eq!(wait_of(&budget, &wish(&["b.example"]), start()).await, Some(HOUR));
        assert_eq!(budget.left(start()).await.unwrap().blocked_until, Some(start() + HOUR));
        assert_eq!(wait_of(&budget, &wish(&["b.example"]), start() + HOUR).await, None);
        assert_eq!(wait_of(&budget, &refused, start()).await, Some(want));
        assert_eq!(wait_of(&budget, &refused.clone().exempt(true), start()).await, None);
    }
}

#[tokio::test]
async fn many_at_once_and_from_several_processes_spend_no_more_than_there_is() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let limits = Limits::none().with_orders_per_account(Limit::new(10, DAY));
    let budgets: Vec<_> = (0..4).map(|_| Budget::new(Arc::clone(&store), "test", limits.clone())).collect();
    let charges = (0..40).map(|n| {
        let budget = &budgets[n % 4];
        async move { budget.charge_order(&wish(&[&format!("n{n}.example")]), start()).await.is_ok() }
    });
    let done = futures_util::future::join_all(charges).await;
    assert_eq!(done.into_iter().filter(|ok| *ok).count(), 10);
}

#[tokio::test]
async fn a_page_that_cannot_be_read_begins_anew_and_full_buckets_are_forgotten() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let key: StoreKey = "budgets/test/account".parse().unwrap();
    store.save(&key, &Secret::new(b"[".to_vec()), &Condition::ANY).await.unwrap();
    let limits =
        Limits::none().with_orders_per_account(Limit::new(3, HOUR)).with_failures(Limit::new(2, HOUR));
    let budget = Budget::new(Arc::clone(&store), "test", limits);
    budget.charge_order(&wish(&["a.example"]), start()).await.unwrap();
    let failed: Vec<Identifier> = vec!["a.example".parse().unwrap()];
    budget.charge_failures(&failed, start()).await.unwrap();
    budget.charge_failures(&["b.a.example".parse().unwrap()], start() + 2 * HOUR).await.unwrap();
    let page = store.load(&"budgets/test/names/a.example".parse().unwrap()).await.unwrap().unwrap();
    let text = String::from_utf8(page.value.expose().clone()).unwrap();
    assert!(text.contains("b.a.example") && !text.contains("\"a.example\""), "{text}");
}

fn planned(names: &[String], limits: &Limits) -> plan::Plan {
    let wishes: Vec<(CertificateId, Wish)> =
        names.iter().enumerate().map(|(n, name)| (format!("c{n}").parse().unwrap(), wish(&[name]))).collect();
    plan::plan(Ledger::default(), limits, &wishes, start())
}

#[test]
fn a_plan_follows_the_account_and_each_domain() {
    let limits = Limits::lets_encrypt();
    let names: Vec<String> = (0..1000).map(|n| format!("www.n{n}.example")).collect();
    let plan = planned(&names, &limits);
    let after = |n: usize| plan.orders[n].at.duration_since(start()).unwrap();
    assert_eq!((after(0), after(299)), (Duration::ZERO, Duration::ZERO));
    assert_eq!((after(300), after(301)), (Duration::from_secs(38), Duration::from_secs(74)));
    assert!(plan.orders[301].waits_for.as_deref().unwrap().contains("300 new orders"));
    assert_eq!(plan.done_at, start() + Duration::from_secs(36 * 700 + 2));

    // Those of one domain wait for it, and let the others by.
    let mut names: Vec<String> = (0..60).map(|n| format!("n{n}.example.com")).collect();
    names.extend((0..60).map(|n| format!("n{n}.example.org")));
    let plan = planned(&names, &limits);
    let after = |n: usize| plan.orders[n].at.duration_since(start()).unwrap();
    assert_eq!((after(49), after(109)), (Duration::ZERO, Duration::ZERO));
    assert!(after(50) > 3 * HOUR && after(110) == after(50));
    assert!(plan.orders[50].waits_for.as_deref().unwrap().contains("`example.com`"));
}

#[test]
fn a_large_plan_does_not_grow_out_of_proportion() {
    let same: Vec<String> = (0..20_000).map(|n| format!("n{n}.example.com")).collect();
    let apart: Vec<String> = (0..20_000).map(|n| format!("n{n}.example")).collect();
    for names in [same, apart] {
        let plan = planned(&names, &Limits::lets_encrypt());
        let mut times: Vec<SystemTime> = plan.orders.iter().map(|planned| planned.at).collect();
        let told = times.clone();
        times.sort();
        assert_eq!(told, times, "who comes first is served first");
    }
}
