//! Which certificates are wanted: here a JSON file; as well an inventory, a database, an API.

use std::path::Path;

use acmekit::{CertificateSpec, Error, ErrorKind, Result};
use serde::Deserialize;

/// A certificate, and who asked for it.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) spec: CertificateSpec,
    pub(crate) owner: String,
}

/// The file: `{ "certificates": [ { "names": ["www.example.com"], "owner": "web" } ] }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    certificates: Vec<Item>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    names: Vec<String>,
    owner: String,
}

/// Reads the file. One certificate that cannot be is an error of the whole: nobody looks for what was left out silently.
///
/// # Errors
/// [`ErrorKind::Config`] that names the file, and the certificate by its place in it.
pub(crate) fn read(path: &Path) -> Result<Vec<Wanted>> {
    let refused = |why: &str| Error::new(ErrorKind::Config, "wanted", why).with("file", path.display());
    let text =
        std::fs::read_to_string(path).map_err(|e| refused("the file cannot be read").with("reason", e))?;
    let file: File = serde_json::from_str(&text)
        .map_err(|e| refused("the file is not as it should be").with("reason", e))?;
    let item = |(place, Item { names, owner }): (usize, Item)| {
        let spec = CertificateSpec::new(&names);
        let spec = spec
            .map_err(|e| e.with("file", path.display()).with("certificate", format!("number {}", place + 1)));
        spec.map(|spec| Wanted { spec, owner })
    };
    file.certificates.into_iter().enumerate().map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Wanted>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wanted.json");
        acmekit::atomic::write_file(&path, text.as_bytes(), acmekit::atomic::FileAttributes::default())
            .unwrap();
        read(&path)
    }

    #[test]
    fn names_and_owners_are_read_and_a_mistake_is_told_with_its_place() {
        let text = r#"{ "certificates": [ { "names": ["b.example", "a.example"], "owner": "web" } ] }"#;
        let wanted = read_text(text).unwrap();
        assert_eq!((wanted[0].spec.identifiers().len(), wanted[0].owner.as_str()), (2, "web"));
        for (text, told) in [
            (text.replace("b.example", "b b"), "number 1"),
            (text.replace("owner", "owners"), "owners"),
            ("{".to_owned(), "line 1"),
        ] {
            let error = read_text(&text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(told) && error.to_string().contains("wanted.json"), "{error}");
        }
    }
}
