//! Names as keys: lower case, each label behind its length, as on the wire.

use acmekit_core::{DnsName, Error, ErrorKind, Result};
use hickory_proto::rr::Name;

/// A name in lower case as it is on the wire, without the root's zero: each parent is a suffix.
pub(crate) type Key = Box<[u8]>;

fn join<'l>(labels: impl Iterator<Item = &'l [u8]>) -> Key {
    let mut key = Vec::with_capacity(64);
    for label in labels {
        // A label has 63 octets at most (RFC 1035 section 2.3.4), in a `Name` and in a `DnsName`.
        key.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        key.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    key.into()
}

/// The key of a name that was asked for.
pub(crate) fn key_of(name: &Name) -> Key {
    join(name.iter())
}

/// The key of a name of ours.
pub(crate) fn key(name: &DnsName) -> Key {
    join(name.labels().map(str::as_bytes))
}

/// The key itself, then its parent's, up to the top-level label.
pub(crate) fn ancestors(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors((!key.is_empty()).then_some(key), |key| parent(key))
}

fn parent(key: &[u8]) -> Option<&[u8]> {
    let (&length, rest) = key.split_first()?;
    rest.get(usize::from(length)..).filter(|rest| !rest.is_empty())
}

/// The name as records carry it.
pub(crate) fn record_name(name: &DnsName) -> Result<Name> {
    let unusable = |e| {
        Error::new(ErrorKind::Config, "responder.name", "this name cannot be put into a record")
            .with("name", name)
            .with_source(e)
    };
    let mut found = Name::from_labels(name.labels().map(str::as_bytes)).map_err(unusable)?;
    found.set_fqdn(true);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_go_up_label_by_label_in_lower_case() {
        let asked = Name::from_ascii("_ACME-challenge.Example.test.").unwrap();
        let ours: DnsName = "_acme-challenge.example.test".parse().unwrap();
        assert_eq!(key_of(&asked), key(&ours));
        let up: Vec<Key> = ancestors(&key(&ours)).map(Key::from).collect();
        assert_eq!(up, [key(&ours), key(&"example.test".parse().unwrap()), key(&"test".parse().unwrap())]);
        assert_eq!(ancestors(&key_of(&Name::root())).count(), 0);
    }

    #[test]
    fn a_dot_inside_a_label_is_no_border() {
        let odd = Name::from_labels([b"a.b".as_slice(), b"test"]).unwrap();
        assert_ne!(key_of(&odd), key(&"a.b.test".parse().unwrap()));
    }
}
