//! Names a certificate can carry, normalised once and for all.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// A domain name in its one spelling: A-labels, lower case, no trailing dot (RFC 5890, RFC 9499).
///
/// Labels may start with an underscore, because names of records such as `_acme-challenge` do;
/// an [`Identifier`] refuses those. Comparison and hashing follow the normalised text.
///
/// ```
/// use acmekit_core::DnsName;
/// let name: DnsName = "Bücher.Example.".parse()?;
/// assert_eq!(name.as_str(), "xn--bcher-kva.example");
/// # Ok::<(), acmekit_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

impl DnsName {
    /// The normalised text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The labels, leftmost first.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }

    /// The name without its leftmost label; `None` for a single label.
    pub fn parent(&self) -> Option<Self> {
        self.0.split_once('.').map(|(_, rest)| Self(rest.to_owned()))
    }

    /// This name, its parent, its grandparent, … down to the top-level label.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.clone()), Self::parent)
    }

    /// Whether this is `zone` or lies below it, on label boundaries.
    pub fn is_within(&self, zone: &Self) -> bool {
        self.0.strip_suffix(zone.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// This name with `label` in front of it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the label is not valid or the name becomes too long.
    pub fn child(&self, label: &str) -> Result<Self> {
        format!("{label}.{self}").parse()
    }
}

impl FromStr for DnsName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Err(Error::new(ErrorKind::Config, "name.parse", format!("`{}` is not a domain name: {why}", text.escape_debug()))
                .with_hint("write it as in `www.example.com`; letters outside ASCII are fine, spaces, ports and URLs are not"))
        };
        let bare = text.strip_suffix('.').unwrap_or(text);
        if bare.is_empty() {
            return refuse("it is empty");
        }
        if bare.contains('*') {
            return refuse("`*` stands only alone, as the whole leftmost label of a certificate's name");
        }
        let ascii = if bare.is_ascii() {
            bare.to_ascii_lowercase()
        } else {
            // The underscore of record names is not part of IDNA; only wholly ASCII names may carry it.
            match idna::domain_to_ascii_strict(bare) {
                Ok(ascii) => ascii,
                Err(_) => return refuse("IDNA (RFC 5891) does not allow it"),
            }
        };
        if ascii.len() > 253 {
            return refuse("it is longer than 253 octets (RFC 1035 section 2.3.4)");
        }
        for label in ascii.split('.') {
            if label.is_empty() {
                return refuse("it has an empty label (two dots in a row, or one in front)");
            }
            if label.len() > 63 {
                return refuse("a label is longer than 63 octets (RFC 1035 section 2.3.4)");
            }
            if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
                return refuse("a label has a character other than letters, digits and hyphens");
            }
            if label.starts_with('-') || label.ends_with('-') {
                return refuse("a label starts or ends with a hyphen");
            }
            if label.starts_with("xn--") && idna::domain_to_unicode(label).1.is_err() {
                return refuse("a label starts with `xn--` but is no valid A-label (RFC 5890)");
            }
        }
        Ok(Self(ascii))
    }
}

impl TryFrom<String> for DnsName {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> Self {
        name.0
    }
}

impl AsRef<str> for DnsName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DnsName({})", self.0)
    }
}

/// What a certificate can name: a domain, every name one label below a domain, or an address.
///
/// ```
/// use acmekit_core::Identifier;
/// let wildcard: Identifier = "*.Example.com".parse()?;
/// assert_eq!(wildcard.to_string(), "*.example.com");
/// let address: Identifier = "192.0.2.7".parse()?;
/// assert!(matches!(address, Identifier::Ip(_)));
/// # Ok::<(), acmekit_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Identifier {
    /// One domain name.
    Dns(DnsName),
    /// `*.` and this name: all names exactly one label longer (RFC 8555 section 7.1.3).
    Wildcard(DnsName),
    /// An IP address (RFC 8738).
    Ip(IpAddr),
}

impl Identifier {
    /// The domain under validation: the name itself, and for a wildcard the name without `*.`.
    pub fn domain(&self) -> Option<&DnsName> {
        match self {
            Self::Dns(name) | Self::Wildcard(name) => Some(name),
            Self::Ip(_) => None,
        }
    }

    /// Whether this is a wildcard.
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Wildcard(_))
    }
}

impl FromStr for Identifier {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(address));
        }
        let (wildcard, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let name: DnsName = rest.parse()?;
        let refuse = |why: &str, hint: &str| {
            Err(Error::new(
                ErrorKind::Config,
                "name.identifier",
                format!("`{}` cannot be in a certificate: {why}", text.escape_debug()),
            )
            .with_hint(hint))
        };
        if name.as_str().contains('_') {
            return refuse(
                "an underscore is not allowed in it",
                "CA/Browser Forum rules forbid underscores; rename the host",
            );
        }
        if name.labels().next_back().is_some_and(|tld| tld.bytes().all(|b| b.is_ascii_digit())) {
            return refuse(
                "it looks like an IP address but is not one",
                "write four numbers from 0 to 255, or a domain name",
            );
        }
        if !name.as_str().contains('.') {
            return refuse("it has only one label", "write the full name, such as `www.example.com`");
        }
        Ok(if wildcard { Self::Wildcard(name) } else { Self::Dns(name) })
    }
}

impl TryFrom<String> for Identifier {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl TryFrom<&str> for Identifier {
    type Error = Error;
    fn try_from(text: &str) -> Result<Self> {
        text.parse()
    }
}

impl From<Identifier> for String {
    fn from(identifier: Identifier) -> Self {
        identifier.to_string()
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "{name}"),
            Self::Wildcard(name) => write!(f, "*.{name}"),
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        for (given, want) in [
            ("WWW.Example.COM", "www.example.com"),
            ("example.com.", "example.com"),
            ("Bücher.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("*.EXAMPLE.com.", "*.example.com"),
            ("2001:DB8::0:1", "2001:db8::1"),
        ] {
            assert_eq!(given.parse::<Identifier>().unwrap().to_string(), want);
        }
        assert_eq!(
            "_acme-challenge.Example.com".parse::<DnsName>().unwrap().as_str(),
            "_acme-challenge.example.com"
        );
    }

    #[test]
    fn bad_names_get_one_clear_error_with_the_name_in_it() {
        let long_label = format!("{}.com", "a".repeat(64));
        let long_name = format!("{}com", "abcdefg.".repeat(32));
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            ".a.b",
            "a.*.b",
            "*a.example.com",
            "*",
            "*.",
            "*.*.example.com",
            "exa mple.com",
            "example.com:443",
            "https://example.com",
            "-a.example.com",
            "a-.example.com",
            "xn--99zzzz9.example",
            "localhost",
            "1.2.3",
            "300.1.1.1",
            "under_score.example.com",
            "a\nb.com",
            &long_label,
            &long_name,
        ] {
            let error = bad.parse::<Identifier>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            assert!(error.hint().is_some(), "{bad}: no hint");
            assert!(!error.to_string().contains('\n'), "{bad}");
        }
    }

    #[test]
    fn within_looks_at_label_boundaries() {
        let zone: DnsName = "example.com".parse().unwrap();
        for (name, want) in
            [("example.com", true), ("a.example.com", true), ("badexample.com", false), ("com", false)]
        {
            assert_eq!(name.parse::<DnsName>().unwrap().is_within(&zone), want, "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics_and_is_idempotent(text in ".{0,80}") {
            if let Ok(identifier) = text.parse::<Identifier>() {
                let again: Identifier = identifier.to_string().parse().unwrap();
                proptest::prop_assert_eq!(again, identifier);
            }
        }
    }
}
