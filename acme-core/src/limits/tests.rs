use super::*;

#[test]
fn what_is_compiled_in_is_what_is_published() {
    let limits = Limits::lets_encrypt();
    assert_eq!(limits.as_of, "2026-08-01");
    let shown =
        |limit: Option<Limit>| limit.map(|limit| (limit.count(), limit.period().as_secs(), limit.burst()));
    assert_eq!(shown(limits.registrations_per_address), Some((10, 10_800, 10)));
    assert_eq!(shown(limits.registrations_per_range), Some((500, 10_800, 500)));
    assert_eq!(shown(limits.orders_per_account), Some((300, 10_800, 300)));
    assert_eq!(shown(limits.certificates_per_domain), Some((50, 604_800, 50)));
    assert_eq!(shown(limits.certificates_per_set), Some((5, 604_800, 5)));
    assert_eq!(shown(limits.failures), Some((5, 3_600, 5)));
    assert_eq!(shown(limits.consecutive_failures), Some((1, 86_400, 1152)));
    assert_eq!(shown(Limits::lets_encrypt_staging().orders_per_account), Some((1500, 10_800, 1500)));
}

#[test]
fn limits_survive_being_written_and_read() {
    for limits in [Limits::none(), Limits::lets_encrypt(), Limits::lets_encrypt_staging()] {
        let limits = limits.with_override("example.com", Limit::new(2000, Duration::from_secs(604_800)));
        let text = serde_json::to_string(&limits).unwrap();
        assert_eq!(Limits::from_json(&text).unwrap(), limits, "{text}");
    }
}

#[test]
fn what_is_no_limit_is_told() {
    for (text, why) in [
        ("", "EOF"),
        ("{\"orders\": 7}", "unknown field `orders`"),
        (r#"{"failures": {"count": 0, "period": "1h"}}"#, "lets nothing through"),
        (r#"{"failures": {"count": 5, "burst": 0, "period": "1h"}}"#, "lets nothing through"),
        (r#"{"failures": {"count": 5, "period": "0s"}}"#, "leave it out"),
        (r#"{"failures": {"count": 5, "period": "-1h"}}"#, "no time to wait for"),
        (r#"{"failures": {"count": 5, "period": "an hour"}}"#, "no time to wait for"),
        (r#"{"failures": {"count": 5}}"#, "missing field `period`"),
    ] {
        let error = Limits::from_json(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(why), "{text}: {error}");
    }
}

#[test]
fn a_name_is_counted_under_its_registered_domain() {
    for (identifier, want) in [
        ("example.com", "example.com"),
        ("a.b.example.com", "example.com"),
        ("*.example.com", "example.com"),
        ("www.example.co.uk", "example.co.uk"),
        ("example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("someone.github.io", "someone.github.io"),
        ("www.someone.github.io", "someone.github.io"),
        ("github.io", "github.io"),
        ("*.github.io", "*.github.io"),
        ("a.city.kawasaki.jp", "city.kawasaki.jp"),
        ("a.b.unknown-suffix", "b.unknown-suffix"),
        ("www.xn--85x722f.xn--55qx5d.cn", "xn--85x722f.xn--55qx5d.cn"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ] {
        assert_eq!(covering(&identifier.parse().unwrap()), want, "{identifier}");
    }
}
