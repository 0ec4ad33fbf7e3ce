//! For the fuzz targets only; no part of the API.

use std::path::Path;

use acmekit_core::limits::Limits;
use acmekit_core::renewal::MaintenanceWindow;
use acmekit_core::{CertificateSpec, duration};
use toml::de::{DeTable, DeValue};

use super::document::SECRET;
use super::{CertificateConfig, Config, table};

/// Reads arbitrary octets as a configuration, and as values in one: a maintenance window, a time, limits.
///
/// # Panics
/// If a secret is shown that begins with `S3cret`, or a place is told that is not in the text.
#[doc(hidden)]
pub fn toml(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    // With the one that a last line break begins: what is missing is missing there.
    let last = text.split('\n').count();
    values(text.trim());
    let shown = match Config::parse(&text, "/etc/acme") {
        Ok(config) => {
            let place = config.position("store");
            assert!(place.is_some_and(|(line, _)| line <= last), "a section is nowhere");
            format!("{config:?}")
        }
        Err(error) => {
            let places = error.context().filter(|(name, _)| *name == "line");
            let mut lines = places.filter_map(|(_, line)| line.parse::<usize>().ok());
            assert!(lines.all(|line| line <= last), "a mistake is nowhere: {error}");
            format!("{} {error:?}", error.report())
        }
    };
    let mut secrets = Vec::new();
    secrets_in(DeTable::parse_recoverable(&text).0.get_ref(), false, 0, &mut secrets);
    // One that also stands elsewhere may be shown.
    for secret in secrets.iter().filter(|secret| text.matches(secret.as_str()).count() == 1) {
        assert!(!shown.contains(secret.as_str()), "a secret is shown: {shown}");
    }
}

fn secrets_in(table: &DeTable<'_>, secret: bool, depth: usize, found: &mut Vec<String>) {
    for (key, value) in table.iter().filter(|_| depth < 32) {
        let secret = secret || SECRET.contains(&key.get_ref().as_ref());
        let mut values = vec![value.get_ref()];
        while let Some(value) = values.pop() {
            match value {
                DeValue::Table(table) => secrets_in(table, secret, depth + 1, found),
                DeValue::Array(items) => values.extend(items.iter().map(|item| item.get_ref())),
                DeValue::String(text) if secret && is_marked(text) => found.push(text.to_string()),
                _ => {}
            }
        }
    }
}

/// One that nothing but itself can be: no word of ours begins so.
fn is_marked(text: &str) -> bool {
    text.starts_with("S3cret") && text.len() >= 12 && text.bytes().all(|octet| octet.is_ascii_alphanumeric())
}

fn values(text: &str) {
    if let Ok(window) = text.parse::<MaintenanceWindow>() {
        let written = window.to_string();
        assert_eq!(
            written.parse::<MaintenanceWindow>().ok(),
            Some(window),
            "{text:?} is written {written:?}"
        );
    }
    let _ = (Limits::from_json(text), duration::parse(text));
}

/// Reads arbitrary octets as the CSV file of certificates.
///
/// # Panics
/// If a line is told that is not there, or what was read and written again is read as something else.
#[doc(hidden)]
pub fn csv(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let path = Path::new("domains.csv");
    let (rows, problems) = table::read(&text, path);
    // A quoted field may end with the text and not with its line.
    let last = text.split('\n').count() + text.matches('\r').count();
    for (line, row) in &rows {
        assert!((1..=last).contains(line), "a certificate is on line {line} of {last}");
        assert!(!row.names.is_empty(), "a certificate has no names");
        let _ = CertificateSpec::new(&row.names);
    }
    for problem in &problems {
        let place = problem.place.map_or(1, |place| place.line);
        assert!((1..=last).contains(&place), "a problem is on line {place} of {last}");
        assert!(!problem.to_string().contains('\n'), "a problem has several lines");
    }
    let again = written(&rows);
    let (read, problems) = table::read(&again, path);
    assert!(problems.is_empty(), "what was read is refused: {again}");
    let facts =
        |row: &CertificateConfig| (row.names.clone(), row.id.clone(), row.key_type, row.group.clone());
    let same = rows.iter().map(|(_, row)| facts(row)).eq(read.iter().map(|(_, row)| facts(row)));
    assert!(same, "what was read is something else once it is written: {again}");
}

fn written(rows: &[(usize, CertificateConfig)]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut out = "names,id,key_type,group\n".to_owned();
    for (_, row) in rows {
        let kind = row.key_type.map(|kind| kind.as_str().to_owned());
        let columns = [Some(row.names.join(" ")), row.id.clone(), kind, row.group.clone()];
        let columns: Vec<String> =
            columns.iter().map(|column| quoted(column.as_deref().unwrap_or(""))).collect();
        out.push_str(&columns.join(","));
        out.push('\n');
    }
    out
}
