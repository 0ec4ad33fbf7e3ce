//! The documented example: what is tested is what people copy.

use std::collections::BTreeSet;

use acmekit_core::ErrorKind;
use acmekit_core::limits::Limits;
use proptest::prelude::*;
use toml::de::{DeTable, DeValue};

use super::super::document::SECRET;
use super::super::fields::fields_of;
use super::*;

const FULL: &str = include_str!("../../../../examples/from-config/full.toml");

/// What stands behind the keys of secrets.
fn secrets() -> Vec<&'static str> {
    let values = FULL.lines().filter_map(|line| line.split_once(" = "));
    let values: Vec<&str> = values
        .filter(|(key, value)| SECRET.contains(key) && value.starts_with('"'))
        .map(|(_, value)| value.trim_matches('"'))
        .collect();
    assert!(values.len() >= 3, "{values:?}");
    values
}

#[test]
fn the_full_example_is_read() {
    let config = Config::parse(FULL, "/etc/acme").map_err(|error| error.report()).unwrap();
    let ids: Vec<&str> = config.authorities.iter().filter_map(|authority| authority.id.as_deref()).collect();
    assert_eq!(ids, ["le", "internal"]);
    assert_eq!(
        config.deployers.iter().map(|deployer| deployer.id.as_str()).collect::<Vec<_>>(),
        ["nginx", "edge"]
    );
    assert_eq!(config.certificates.len(), 2);
    assert_eq!(config.renewal.renew_at_life_share, Some(0.66));
    assert_eq!(
        config.authorities[0].timeouts.timeouts(),
        acmekit_core::Timeouts::default(),
        "they are the defaults"
    );
    let (line, _) = config.position("certificates[0].names[1]").unwrap();
    assert!(FULL.lines().nth(line - 1).unwrap().contains("*.example.com"));
}

/// The keys of all tables at a path without indices, such as `deployers.instances`; with `kind`, of those of that kind.
fn keys_at(table: &DeTable<'_>, path: &[&str], kind: Option<&str>, keys: &mut BTreeSet<String>) {
    let Some((name, rest)) = path.split_first() else {
        if kind.is_none() || table.get("kind").and_then(|value| value.get_ref().as_str()) == kind {
            keys.extend(table.keys().map(|key| key.get_ref().to_string()));
        }
        return;
    };
    match table.get(*name).map(|value| value.get_ref()) {
        Some(DeValue::Table(inner)) => keys_at(inner, rest, kind, keys),
        Some(DeValue::Array(items)) => {
            for item in items.iter() {
                if let Some(inner) = item.get_ref().as_table() {
                    keys_at(inner, rest, kind, keys);
                }
            }
        }
        _ => {}
    }
}

#[test]
fn the_full_example_has_every_field_of_every_type() {
    // With the alternatives, which are comments.
    let is_alternative =
        |line: &str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(char::is_alphabetic));
    let lines = FULL.lines().map(|line| if is_alternative(line) { &line[1..] } else { line });
    let text = lines.collect::<Vec<_>>().join("\n");
    let root = DeTable::parse(&text).unwrap();
    let mut wanted: Vec<(&str, Option<&str>, Vec<&str>)> = vec![
        ("", None, KEYS.to_vec()),
        ("authorities", None, fields_of::<AuthorityConfig>()),
        ("authorities.eab", None, fields_of::<EabConfig>()),
        ("authorities.timeouts", None, fields_of::<TimeoutsConfig>()),
        ("authorities.limits", None, fields_of::<Limits>()),
        ("http", None, fields_of::<HttpConfig>()),
        ("dns", None, fields_of::<DnsConfig>()),
        ("deployers.instances", None, fields_of::<acmekit_haproxy::Instance>()),
        ("deployers.instances.crt_list", None, fields_of::<acmekit_haproxy::CrtList>()),
        ("certificates", None, fields_of::<CertificateConfig>()),
        ("renewal", None, fields_of::<RenewalConfig>()),
    ];
    wanted.extend(plugins::STORES.iter().map(|kind| ("store", Some(kind.name), (kind.fields)())));
    wanted.extend(plugins::PROVIDERS.iter().map(|kind| ("dns.providers", Some(kind.name), (kind.fields)())));
    wanted.extend(plugins::DEPLOYERS.iter().map(|kind| ("deployers", Some(kind.name), (kind.fields)())));
    for (path, kind, fields) in wanted {
        let mut there = BTreeSet::new();
        let parts: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
        keys_at(root.get_ref(), &parts, kind, &mut there);
        for field in fields {
            assert!(
                there.contains(field),
                "full.toml shows no `{field}` in [{path}] {}",
                kind.unwrap_or_default()
            );
        }
    }
}

#[test]
fn every_alternative_of_the_full_example_can_be_taken() {
    let key_of = |line: &'static str| line.split_once(" = ").map_or("", |(key, _)| key);
    let lines: Vec<&str> = FULL.lines().collect();
    let mut taken = 0;
    for (at, line) in lines.iter().enumerate() {
        let Some(alternative) = line.strip_prefix('#').filter(|line| line.starts_with(char::is_alphabetic))
        else {
            continue;
        };
        // What is in a file or a variable instead, and the one pair of another form.
        let key = key_of(alternative);
        let instead_of = match key {
            "listen" => Some("webroot"),
            _ => key.strip_suffix("_file").or_else(|| key.strip_suffix("_env")),
        };
        let mut text: Vec<&str> = lines.clone();
        text[at] = alternative;
        if let Some(instead_of) = instead_of {
            let other = lines[..at].iter().rposition(|line| key_of(line) == instead_of).unwrap();
            text[other] = "";
        }
        Config::parse(&text.join("\n"), "/etc/acme")
            .map_err(|error| format!("{line}: {}", error.report()))
            .unwrap();
        taken += 1;
    }
    assert!(taken > 5, "{taken}");
}

#[test]
fn a_key_that_may_be_in_a_file_or_a_variable_instead_counts_as_a_secret() {
    for kind in plugins::PROVIDERS {
        for key in secrets_of(kind) {
            assert!(SECRET.contains(&key), "`{key}` of {} belongs in document.rs's SECRET", kind.name);
        }
    }
}

/// One change as a hand slips: something cut out, doubled, or put in.
fn slips() -> impl Strategy<Value = Vec<(usize, usize, Slip)>> {
    let slip = prop_oneof![
        Just(Slip::Cut),
        Just(Slip::Double),
        proptest::sample::select(vec![
            "\"", "[", "]", "]]\n", "=", "\n", "#", ".", "{", "}", ",", "'''", "\u{e4}", "\0", "9", "-"
        ])
        .prop_map(Slip::Insert),
    ];
    proptest::collection::vec((0..FULL.len(), 0..40_usize, slip), 1..4)
}

#[derive(Debug, Clone, Copy)]
enum Slip {
    Cut,
    Double,
    Insert(&'static str),
}

fn slipped(text: &mut String, at: usize, length: usize, slip: Slip) {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (start, end) = (floor(at), floor(at + length));
    match slip {
        Slip::Cut => text.replace_range(start..end, ""),
        Slip::Double => {
            let twice = text[start..end].repeat(2);
            text.replace_range(start..end, &twice);
        }
        Slip::Insert(what) => text.insert_str(start, what),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_slip_of_the_hand_makes_it_panic_or_show_a_secret(slips in slips()) {
        let mut text = FULL.to_owned();
        for (at, length, slip) in slips {
            slipped(&mut text, at, length, slip);
        }
        if let Err(error) = Config::parse(&text, "/etc/acme") {
            let shown = format!("{} {error:?}", error.report());
            prop_assert_eq!(error.kind(), ErrorKind::Config);
            for secret in secrets() {
                prop_assert!(!shown.contains(&secret[..12.min(secret.len())]), "{}", shown);
            }
        }
    }
}
