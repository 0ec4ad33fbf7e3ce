//! Values that cannot print themselves.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroize;

/// A key, token or password: wiped when dropped, and shown as `Secret(…)` by `Debug`.
///
/// It has no `Display` and no `Serialize`, so it cannot reach a log or a file by accident; who
/// needs the value asks for it by name with [`expose`](Secret::expose).
///
/// ```
/// use acmekit_core::Secret;
/// let token = Secret::new("s3cr3t".to_owned());
/// assert_eq!(format!("{token:?}"), "Secret(…)");
/// assert_eq!(token.expose(), "s3cr3t");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Keep it out of errors, logs, arguments and this process's environment.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl From<&str> for Secret<String> {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl<'de, T: Zeroize + Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        // Its own words would show the value: "invalid type: integer `4711`, expected a string".
        T::deserialize(input).map(Self).map_err(|_| D::Error::custom("a secret is not of the form expected"))
    }
}

/// A value that holds secrets as JSON, for the 0600 files of a store. It is measured first: what grows leaves pieces of
/// itself behind in memory.
pub(crate) fn json(value: &impl serde::Serialize) -> serde_json::Result<Secret<Vec<u8>>> {
    let mut room = Room(0);
    serde_json::to_writer_pretty(&mut room, value)?;
    let mut octets = Secret::new(Vec::with_capacity(room.0));
    serde_json::to_writer_pretty(&mut octets.0, value)?;
    Ok(octets)
}

/// Counts what is written.
struct Room(usize);

impl std::io::Write for Room {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0 += octets.len();
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// For `#[serde(with = "…")]` on the few fields that are written to the 0600 files of a store.
pub(crate) mod stored {
    use super::{Deserialize, Deserializer, Secret, Zeroize};
    use serde::{Serialize, Serializer};

    pub(crate) fn serialize<T, S>(secret: &Secret<T>, out: S) -> Result<S::Ok, S::Error>
    where
        T: Zeroize + Serialize,
        S: Serializer,
    {
        secret.expose().serialize(out)
    }

    pub(crate) fn deserialize<'de, T, D>(input: D) -> Result<Secret<T>, D::Error>
    where
        T: Zeroize + Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Secret::deserialize(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_of_secrets_has_room_from_the_beginning() {
        let text = json(&["\n".repeat(1000), "ä".repeat(1000)]).unwrap();
        assert_eq!(text.expose().len(), text.expose().capacity());
        assert_eq!(serde_json::from_slice::<Vec<String>>(text.expose()).unwrap().len(), 2);
    }

    #[test]
    fn a_secret_of_another_form_is_not_shown_by_the_error() {
        let error = serde_json::from_str::<Secret<String>>("4711").unwrap_err().to_string();
        assert!(!error.contains("4711"), "{error}");
        assert!(error.contains("secret"), "{error}");
    }
}
