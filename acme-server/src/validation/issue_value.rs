//! The issue-value of CAA records (RFC 8659 section 4.2), which dns-persist-01 uses too.

/// An issuer and parameters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IssueValue {
    /// In lower case, without a dot at the end; empty if nobody may issue.
    pub(super) issuer: String,
    parameters: Vec<(String, String)>,
}

impl IssueValue {
    /// Reads one. What is not of the form is told apart from what is not known.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (issuer, rest) = text.split_once(';').unwrap_or((text, ""));
        let mut parameters = Vec::new();
        if !trim(rest).is_empty() {
            for parameter in rest.split(';') {
                let (tag, value) = parameter
                    .split_once('=')
                    .ok_or("a parameter is empty or has no `=`, or there is a `;` at the end")?;
                let tag = trim(tag);
                if tag.is_empty() || !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                    return Err("a parameter's tag is malformed".to_owned());
                }
                parameters.push((tag.to_ascii_lowercase(), trim(value).to_owned()));
            }
        }
        Ok(Self { issuer: issuer_of(issuer), parameters })
    }

    /// The value of a parameter, if it is there once and well-formed.
    pub(super) fn parameter(&self, tag: &str) -> Result<Option<&str>, String> {
        let mut values = self.parameters.iter().filter(|(name, _)| name == tag).map(|(_, value)| value);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(format!("the parameter `{tag}` is there twice"));
        }
        if !value.bytes().all(|b| b.is_ascii_graphic() && b != b';') {
            return Err(format!("the parameter `{tag}` is malformed"));
        }
        Ok(Some(value))
    }
}

/// The issuer of a record, even if its parameters are malformed.
pub(super) fn issuer(text: &str) -> String {
    issuer_of(text.split(';').next().unwrap_or_default())
}

fn issuer_of(text: &str) -> String {
    let name = trim(text);
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether a record's issuer is one of ours.
pub(super) fn is_ours(issuer: &str, ours: &[String]) -> bool {
    !issuer.is_empty() && ours.iter().any(|domain| issuer_of(domain) == issuer)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}
