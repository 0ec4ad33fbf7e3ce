//! The name of a version: `NUMBER-SERIAL`, counted up from 1.

use std::fmt;

/// Ordered by number: the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VersionName {
    number: u64,
    text: String,
}

impl VersionName {
    /// Reads a name; `None` for everything this crate does not write.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (number, serial) = text.split_once('-')?;
        let hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
        let number: u64 = number.parse().ok().filter(|n: &u64| n.to_string() == number)?;
        (serial.len() <= 64 && serial.bytes().all(hex)).then(|| Self { number, text: text.to_owned() })
    }

    /// The name that follows the newest one.
    pub(crate) fn after(newest: Option<&Self>, serial: &str) -> Self {
        let number = newest.map_or(0, |name| name.number).saturating_add(1);
        Self { number, text: format!("{number}-{serial}") }
    }

    pub(crate) fn is_of(&self, serial: &str) -> bool {
        self.serial() == serial
    }

    pub(crate) fn serial(&self) -> &str {
        self.text.split_once('-').map_or("", |(_, serial)| serial)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_ordered_by_number() {
        let nine = VersionName::parse("9-0A").unwrap();
        let ten = VersionName::after(Some(&nine), "01FF");
        assert_eq!(ten.as_str(), "10-01FF");
        assert!(nine < ten);
        assert_eq!(VersionName::parse("10-01FF").as_ref(), Some(&ten));
        assert_eq!(VersionName::after(None, "0B").as_str(), "1-0B");
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_name() {
        for bad in ["", "1", "-1", "01-0A", "+1-0A", "1-../..", "1-0a", "../1-0A", "1-0A/x", ".unfinished"] {
            assert_eq!(VersionName::parse(bad), None, "{bad}");
        }
    }
}
