use std::time::{Duration, UNIX_EPOCH};

use super::*;

fn order(status: OrderStatus, authorizations: Vec<AuthorizationSnapshot>) -> OrderSnapshot {
    OrderSnapshot {
        url: "https://ca.test/order/1".into(),
        status,
        expires: Some(UNIX_EPOCH + Duration::from_secs(1000)),
        identifiers: BTreeSet::new(),
        authorizations,
        finalize: "https://ca.test/finalize/1".into(),
        certificate: None,
        error: None,
    }
}

fn authorization(name: &str, status: AuthorizationStatus, error: Option<&str>) -> AuthorizationSnapshot {
    AuthorizationSnapshot {
        url: format!("https://ca.test/authz/{name}"),
        status,
        identifier: name.parse().unwrap(),
        challenges: vec![ChallengeSnapshot {
            kind: ChallengeKind::Dns01,
            url: format!("https://ca.test/chall/{name}"),
            token: Some("t".into()),
            issuers: Vec::new(),
            status: ChallengeStatus::Pending,
            error: error.map(|detail| Problem {
                kind: "urn:ietf:params:acme:error:dns".into(),
                detail: detail.into(),
                ..Problem::default()
            }),
        }],
    }
}

fn decide(order: &OrderSnapshot, answered: &[&str]) -> Step {
    let answered = answered.iter().map(|name| format!("https://ca.test/authz/{name}")).collect();
    next_step(order, &answered, UNIX_EPOCH + Duration::from_secs(500))
}

#[test]
fn only_what_is_pending_and_unanswered_is_proved() {
    let order = order(
        OrderStatus::Pending,
        vec![
            authorization("a.test.example", AuthorizationStatus::Valid, None),
            authorization("b.test.example", AuthorizationStatus::Pending, None),
            authorization("c.test.example", AuthorizationStatus::Pending, None),
        ],
    );
    assert!(matches!(decide(&order, &["c.test.example"]), Step::Prove(list) if list == [1]));
    assert!(matches!(decide(&order, &["b.test.example", "c.test.example"]), Step::Wait));
}

#[test]
fn each_state_has_its_step() {
    assert!(matches!(decide(&order(OrderStatus::Ready, vec![]), &[]), Step::Finalize));
    assert!(matches!(decide(&order(OrderStatus::Processing, vec![]), &[]), Step::Wait));
    assert!(matches!(decide(&order(OrderStatus::Unknown, vec![]), &[]), Step::Wait));
    assert!(matches!(decide(&order(OrderStatus::Valid, vec![]), &[]), Step::Wait));
    let mut valid = order(OrderStatus::Valid, vec![]);
    valid.certificate = Some("https://ca.test/cert/1".into());
    valid.expires = Some(UNIX_EPOCH);
    assert!(matches!(decide(&valid, &[]), Step::Download(url) if url.ends_with("/cert/1")));
}

#[test]
fn an_expired_order_starts_over() {
    for status in [OrderStatus::Pending, OrderStatus::Ready, OrderStatus::Processing] {
        let mut old = order(status, vec![]);
        old.expires = Some(UNIX_EPOCH + Duration::from_secs(500));
        assert!(matches!(decide(&old, &[]), Step::StartOver(_)));
    }
    // Invalid because it expired is not refused; with a reason it is.
    let mut old = order(OrderStatus::Invalid, vec![]);
    assert!(matches!(decide(&old, &[]), Step::Failed(_)));
    old.expires = Some(UNIX_EPOCH + Duration::from_secs(500));
    assert!(matches!(decide(&old, &[]), Step::StartOver(_)));
    old.error = Some(Problem::default());
    assert!(matches!(decide(&old, &[]), Step::Failed(_)));
    let gone = order(OrderStatus::Pending, vec![authorization("a.example", AuthorizationStatus::Gone, None)]);
    assert!(matches!(decide(&gone, &[]), Step::StartOver(_)));
}

#[test]
fn the_reasons_of_every_authorization_are_in_the_error() {
    let failed = order(
        OrderStatus::Invalid,
        vec![
            authorization("a.example.com", AuthorizationStatus::Invalid, Some("no TXT found")),
            authorization("b.example.com", AuthorizationStatus::Valid, None),
            authorization("c.example.com", AuthorizationStatus::Invalid, Some("SERVFAIL")),
        ],
    );
    let Step::Failed(error) = decide(&failed, &[]) else { panic!("not failed") };
    let text = error.to_string();
    assert!(text.contains("a.example.com by dns-01: no TXT found (dns)"), "{text}");
    assert!(text.contains("c.example.com by dns-01: SERVFAIL (dns)"), "{text}");
    assert!(error.hint().unwrap().contains("look the name up"));
}

#[test]
fn a_pending_order_with_a_failed_authorization_does_not_wait() {
    let failed =
        order(OrderStatus::Pending, vec![authorization("a.example.com", AuthorizationStatus::Invalid, None)]);
    assert!(matches!(decide(&failed, &[]), Step::Failed(_)));
}

fn any_status() -> impl proptest::strategy::Strategy<Value = OrderStatus> {
    proptest::sample::select(vec![
        OrderStatus::Pending,
        OrderStatus::Ready,
        OrderStatus::Processing,
        OrderStatus::Valid,
        OrderStatus::Invalid,
        OrderStatus::Unknown,
    ])
}

fn any_authorization() -> impl proptest::strategy::Strategy<Value = AuthorizationStatus> {
    proptest::sample::select(vec![
        AuthorizationStatus::Pending,
        AuthorizationStatus::Valid,
        AuthorizationStatus::Invalid,
        AuthorizationStatus::Gone,
        AuthorizationStatus::Unknown,
    ])
}

proptest::proptest! {
    /// Whatever a CA tells: the CSR goes out only when the order is ready, a download only with a
    /// URL, and proof is given only for what is pending and has not been answered.
    #[test]
    fn no_story_of_a_ca_leads_to_a_wrong_step(
        status in any_status(),
        authorizations in proptest::collection::vec(any_authorization(), 0..6),
        answered in proptest::collection::vec(0usize..6, 0..6),
        has_certificate: bool,
        now in 0u64..2000,
    ) {
        let list = authorizations.iter().enumerate()
            .map(|(i, status)| authorization(&format!("h{i}.example"), *status, None)).collect();
        let mut order = order(status, list);
        order.certificate = has_certificate.then(|| "https://ca.test/cert/1".to_owned());
        let answered: BTreeSet<String> =
            answered.iter().map(|i| format!("https://ca.test/authz/h{i}.example")).collect();
        match next_step(&order, &answered, UNIX_EPOCH + Duration::from_secs(now)) {
            Step::Finalize => proptest::prop_assert!(status == OrderStatus::Ready && now < 1000),
            Step::Download(_) => proptest::prop_assert!(status == OrderStatus::Valid && has_certificate),
            Step::Prove(list) => {
                proptest::prop_assert!(!list.is_empty() && status == OrderStatus::Pending);
                for position in list {
                    let authz = &order.authorizations[position];
                    proptest::prop_assert!(authz.status == AuthorizationStatus::Pending && !answered.contains(&authz.url));
                }
            }
            Step::StartOver(_) => {
                proptest::prop_assert!(status != OrderStatus::Valid);
                proptest::prop_assert!(status != OrderStatus::Invalid || now >= 1000);
            }
            Step::Failed(_) | Step::Wait => {}
        }
    }
}
