//! The value of `issue` and `issuewild`, read by its grammar to the letter (RFC 8659 section 4.2).

/// An issuer and parameters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IssueValue<'a> {
    /// `None`: nobody may issue.
    issuer: Option<&'a str>,
    parameters: Vec<(&'a str, &'a str)>,
}

/// A parameter is there more than once, so that nothing satisfies it (RFC 8657 sections 3 and 4).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Repeated;

impl<'a> IssueValue<'a> {
    /// `None` if it is malformed.
    pub(crate) fn parse(octets: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(octets).ok()?;
        let (issuer, rest) = match text.split_once(';') {
            Some((issuer, rest)) => (trim(issuer), Some(trim(rest))),
            None => (trim(text), None),
        };
        let issuer = match issuer {
            "" => None,
            name if is_issuer(name) => Some(name),
            _ => return None,
        };
        // A `;` may stand there with nothing behind it, but none may end the parameters.
        let parameters = match rest {
            None | Some("") => Vec::new(),
            Some(list) => list.split(';').map(parameter).collect::<Option<_>>()?,
        };
        Some(Self { issuer, parameters })
    }

    /// Whether it names one of these. Domain names compare without case.
    pub(crate) fn is_for(&self, issuers: &[String]) -> bool {
        self.issuer.is_some_and(|issuer| issuers.iter().any(|ours| ours.eq_ignore_ascii_case(issuer)))
    }

    pub(crate) fn has(&self, tag: &str) -> bool {
        self.values(tag).next().is_some()
    }

    /// The value of a parameter, if it is there.
    pub(crate) fn parameter(&self, tag: &str) -> Result<Option<&'a str>, Repeated> {
        let mut values = self.values(tag);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(Repeated),
        }
    }

    fn values(&self, tag: &str) -> impl Iterator<Item = &'a str> {
        self.parameters
            .iter()
            .filter(move |(name, _)| name.eq_ignore_ascii_case(tag))
            .map(|(_, value)| *value)
    }
}

/// The methods of `validationmethods` (RFC 8657 section 4); `None` if the list is malformed or empty, which
/// both permit no method.
pub(crate) fn methods(value: &str) -> Option<Vec<&str>> {
    let is_method =
        |method: &str| !method.is_empty() && method.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    value.split(',').map(|method| is_method(method).then_some(method)).collect()
}

fn parameter(text: &str) -> Option<(&str, &str)> {
    let (tag, value) = text.split_once('=')?;
    let (tag, value) = (trim(tag), trim(value));
    // `;` cannot be in it any more.
    (is_label(tag) && value.bytes().all(|b| b.is_ascii_graphic())).then_some((tag, value))
}

/// An issuer-domain-name. Without a dot at the end: the grammar has none.
pub(crate) fn is_issuer(name: &str) -> bool {
    name.split('.').all(is_label)
}

/// Letters and digits, with hyphens between them.
fn is_label(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Off with WSP (RFC 5234 appendix B.1).
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}
