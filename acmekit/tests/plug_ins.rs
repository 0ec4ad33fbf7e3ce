//! A plug-in is one folder, and a line each in a few places: none of them may miss one.
//!
//! `ACMEKIT_BLESS=1` writes the tables in README.md and lib.rs anew instead of comparing them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// A folder below `providers` or `deployers`.
struct PlugIn {
    of: &'static str,
    id: String,
    description: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text at a path of keys, and the texts of an array there.
fn texts(document: &str, path: &[&str]) -> Vec<String> {
    let table = DeTable::parse(document).unwrap();
    let mut found: Option<&DeValue<'_>> = None;
    let mut at = Some(table.get_ref());
    for key in path {
        found = at.and_then(|table| table.get(*key)).map(|value| value.get_ref());
        at = found.and_then(DeValue::as_table);
    }
    match found {
        Some(DeValue::Array(items)) => {
            items.iter().filter_map(|item| item.get_ref().as_str()).map(str::to_owned).collect()
        }
        Some(value) => value.as_str().into_iter().map(str::to_owned).collect(),
        None => Vec::new(),
    }
}

fn plug_ins() -> Vec<PlugIn> {
    let mut found = Vec::new();
    for (of, prefix) in
        [("providers", "DNS-01 provider for acmekit: "), ("deployers", "Deployer for acmekit: ")]
    {
        let folders = std::fs::read_dir(root().join(of)).unwrap().map(|entry| entry.unwrap());
        let mut ids: Vec<String> = folders
            .filter(|folder| folder.path().join("Cargo.toml").exists())
            .map(|folder| folder.file_name().into_string().unwrap())
            .collect();
        ids.sort();
        for id in ids {
            let manifest = read(&format!("{of}/{id}/Cargo.toml"));
            assert_eq!(
                texts(&manifest, &["package", "name"]),
                [format!("acmekit-{id}")],
                "the package of {of}/{id}"
            );
            let description = texts(&manifest, &["package", "description"]).concat();
            let description = description.strip_prefix(prefix).map(str::to_owned);
            let description =
                description.unwrap_or_else(|| panic!("the description of acmekit-{id} begins `{prefix}`"));
            found.push(PlugIn { of, id, description });
        }
    }
    assert!(found.len() >= 7, "the folders of the plug-ins are not found");
    found
}

#[test]
fn each_has_its_feature_in_acmekit() {
    let manifest = read("acmekit/Cargo.toml");
    let lib = read("acmekit/src/lib.rs");
    let all = plug_ins();
    for PlugIn { id, .. } in &all {
        assert_eq!(texts(&manifest, &["features", id]), [format!("dep:acmekit-{id}")], "the feature `{id}`");
        for crypto in ["aws-lc-rs", "ring"] {
            let forwarded = format!("acmekit-{id}?/{crypto}");
            assert!(
                texts(&manifest, &["features", crypto]).contains(&forwarded),
                "`{forwarded}` is missing in the feature `{crypto}` of acmekit"
            );
        }
        let module = id.replace('-', "_");
        let exported = format!("#[cfg(feature = \"{id}\")]\npub use acmekit_{module} as {module};");
        assert!(lib.contains(&exported), "acmekit/src/lib.rs lacks:\n{exported}");
    }
    let mut ids: Vec<String> = all.into_iter().map(|plug_in| plug_in.id).collect();
    ids.sort();
    let mut listed = texts(&manifest, &["features", "plug-ins"]);
    listed.sort();
    assert_eq!(listed, ids, "the feature `plug-ins` of acmekit");
}

#[test]
fn each_has_its_kind_in_configurations() {
    let registry = read("acmekit/src/config/plugins.rs");
    for PlugIn { id, of, .. } in plug_ins() {
        assert!(
            registry.contains(&format!("\n    \"{id}\" => ")),
            "acmekit/src/config/plugins.rs has no line `\"{id}\" => …` for {of}/{id}"
        );
    }
}

#[test]
fn each_is_told_in_the_changelog() {
    let changelog = read("CHANGELOG.md");
    for PlugIn { id, .. } in plug_ins() {
        assert!(changelog.contains(&format!("`acmekit-{id}`")), "CHANGELOG.md says nothing of acmekit-{id}");
    }
}

/// Compares the lines of a file from `first` to the one before `last`, or writes them.
fn table(path: &str, first: &str, last: &str, rows: &str) {
    let text = read(path);
    let start = text.find(first).unwrap_or_else(|| panic!("{path} has no line `{first}`"));
    let start = start + text[start..].find('\n').unwrap() + 1;
    let end = start + text[start..].find(last).unwrap_or_else(|| panic!("{path} has no line `{last}`"));
    if &text[start..end] == rows {
        return;
    }
    assert!(
        std::env::var_os("ACMEKIT_BLESS").is_some(),
        "the table in {path} is not what the descriptions of the plug-ins say; it should be:\n{rows}\nACMEKIT_BLESS=1 \
         writes it"
    );
    let text = format!("{}{rows}{}", &text[..start], &text[end..]);
    let attributes = acmekit::atomic::FileAttributes::mode(0o644);
    acmekit::atomic::write_file(&root().join(path), text.as_bytes(), attributes).unwrap();
}

#[test]
fn the_tables_for_readers_are_made_of_the_descriptions() {
    let row = |PlugIn { of, id, description }: &PlugIn| {
        let kind = if *of == "providers" { "DNS provider" } else { "deployer" };
        format!("| {kind} | [`{id}`]({of}/{id}) | `{id}` | {description} |\n")
    };
    let rows: String = plug_ins().iter().map(row).collect();
    table("README.md", "| solver | `solvers::Http01` |", "| store | ", &rows);

    let row = |PlugIn { of, id, description }: &PlugIn| {
        let kind = if *of == "providers" { "dns-01" } else { "deploys" };
        format!("//! | `{id}` | `{}` | {kind}: {description} |\n", id.replace('-', "_"))
    };
    let rows: String = plug_ins().iter().map(row).collect();
    table("acmekit/src/lib.rs", "//! |---|---|---|", "//! | `plug-ins` |", &rows);
}
