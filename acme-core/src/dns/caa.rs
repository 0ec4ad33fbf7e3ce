//! CAA: who may issue for a name, by which methods, to whom (RFC 8659, RFC 8657).
//!
//! A CA looks before it issues and refuses what the records forbid; this tells the same beforehand,
//! with the record that would allow it. What is decided is a pure function of the records; see
//! [`CaaSet::decide`]. The CA's answer is what counts: it may know more tags, or fewer parameters.

mod lookup;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

pub use self::lookup::check_caa;
use super::issue_value::{self, IssueValue};
use crate::{ChallengeKind, DnsName, Error, ErrorKind, Result};

/// One CAA record: flags, tag and value of its property (RFC 8659 section 4.1).
///
/// ```
/// use acmekit_core::dns::CaaRecord;
/// let record = CaaRecord::from_rdata(b"\x00\x05issueca.example")?;
/// assert_eq!(record.to_string(), r#"0 issue "ca.example""#);
/// # Ok::<(), acmekit_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CaaRecord {
    flags: u8,
    tag: String,
    value: Vec<u8>,
}

impl CaaRecord {
    /// Reads the data of a record. A tag of other octets than letters and digits is one that
    /// nobody knows; it is shown escaped.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if it is shorter than it says.
    pub fn from_rdata(octets: &[u8]) -> Result<Self> {
        let parts = match octets {
            [flags, length, rest @ ..] => {
                rest.split_at_checked(usize::from(*length)).map(|(tag, value)| (*flags, tag, value))
            }
            _ => None,
        };
        let (flags, tag, value) =
            parts.ok_or_else(|| Error::new(ErrorKind::Protocol, "dns.caa", "a CAA record is cut off"))?;
        Ok(Self { flags, tag: tag.escape_ascii().to_string(), value: value.to_vec() })
    }

    /// All flags as they stand there.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// The Issuer Critical Flag, bit 0 in the counting of RFC 8659 section 4.1: 128. The other bits are ignored.
    pub fn is_critical(&self) -> bool {
        self.flags & 0x80 != 0
    }

    /// The tag as it stands there; [`has_tag`](Self::has_tag) compares it.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Whether it has this tag, in any case (RFC 8659 section 4.1).
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tag.eq_ignore_ascii_case(tag)
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

/// As in a zone file, without what stands before the data (RFC 8659 section 4.1.1).
impl fmt::Display for CaaRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} \"", self.flags, self.tag)?;
        for octet in &self.value {
            match octet {
                b'"' | b'\\' => write!(f, "\\{}", char::from(*octet))?,
                b' '..=b'~' => write!(f, "{}", char::from(*octet))?,
                _ => write!(f, "\\{octet:03}")?,
            }
        }
        f.write_str("\"")
    }
}

/// Who is to issue, and what could prove control: what records are held against.
///
/// ```
/// use acmekit_core::{ChallengeKind, dns::CaaRequest};
/// let request = CaaRequest::new(["letsencrypt.org"], [ChallengeKind::Dns01])
///     .with_account("https://acme-v02.api.letsencrypt.org/acme/acct/1");
/// assert_eq!(request.issuers().collect::<Vec<_>>(), ["letsencrypt.org"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaaRequest {
    issuers: Vec<String>,
    challenges: BTreeSet<ChallengeKind>,
    account: Option<String>,
}

impl CaaRequest {
    /// The names the CA goes by in CAA records, the directory's `caaIdentities` (RFC 8555 section 9.7.6),
    /// and the challenges there are solvers for.
    ///
    /// A CA that says no name cannot be looked for: everything counts as allowed then. A name that no record can
    /// hold (RFC 8659 section 4.2) is none.
    pub fn new<S: Into<String>>(
        issuers: impl IntoIterator<Item = S>,
        challenges: impl IntoIterator<Item = ChallengeKind>,
    ) -> Self {
        let issuers = issuers.into_iter().map(Into::into).map(|name: String| {
            let name = name.trim();
            name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
        });
        Self {
            issuers: issuers.filter(|name| issue_value::is_issuer(name)).collect(),
            challenges: challenges.into_iter().collect(),
            account: None,
        }
    }

    /// The URL of the account that orders. Until it is known, a record that asks for an account counts
    /// as asking for this one (RFC 8657 section 3).
    #[must_use]
    pub fn with_account(mut self, url: impl Into<String>) -> Self {
        self.account = Some(url.into());
        self
    }

    /// The names of the CA, in lower case.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.issuers.iter().map(String::as_str)
    }

    /// The URL of the account, if it is known.
    pub fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// What can prove control. A web server shows nothing about the names below it, so http-01 and
    /// tls-alpn-01 are not for wildcards (Baseline Requirements 3.2.2.4.19 and 3.2.2.4.20).
    fn usable(&self, wildcard: bool) -> BTreeSet<ChallengeKind> {
        let of_one_host =
            |kind: &&ChallengeKind| matches!(kind, ChallengeKind::Http01 | ChallengeKind::TlsAlpn01);
        self.challenges.iter().filter(|kind| !(wildcard && of_one_host(kind))).cloned().collect()
    }
}

/// The records that count for a name: its Relevant RRset (RFC 8659 section 3), or the one of another name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CaaSet {
    /// Where the records stand: the name itself, a parent, or where a CNAME of one of these leads.
    pub at: DnsName,
    /// The records.
    pub records: Vec<CaaRecord>,
}

/// What the records say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CaaVerdict {
    /// The CA may issue.
    Allowed {
        /// After which of the request's challenges; for a wildcard without those that are not for wildcards.
        challenges: BTreeSet<ChallengeKind>,
    },
    /// It may not.
    Forbidden {
        /// Where the records stand.
        at: DnsName,
        /// All records there.
        records: Vec<CaaRecord>,
        /// What is in the way.
        why: CaaObstacle,
    },
}

/// Why no record lets the CA issue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CaaObstacle {
    /// A critical property has this tag, which a CA cannot be expected to know (RFC 8659 section 4.1).
    UnknownCritical(String),
    /// No property names the CA.
    NotNamed,
    /// No property names the CA, and this one is malformed: it names nobody (RFC 8659 section 4.2).
    Malformed(CaaRecord),
    /// The CA is named, with parameters nothing can satisfy: one of RFC 8657 is there twice, or malformed.
    Unsatisfiable(CaaRecord),
    /// The CA is named, for another account (RFC 8657 section 3).
    OtherAccount(CaaRecord),
    /// The CA is named, for methods of validation there is no solver for (RFC 8657 section 4).
    OtherMethods(CaaRecord),
}

impl fmt::Display for CaaObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCritical(tag) => write!(f, "the critical property `{tag}` is not known"),
            Self::NotNamed => f.write_str("none of them names this CA"),
            Self::Malformed(record) => write!(f, "`{record}` is malformed and names nobody"),
            Self::Unsatisfiable(record) => {
                write!(f, "`{record}` has parameters that nothing satisfies: malformed, or there twice")
            }
            Self::OtherAccount(record) => write!(f, "`{record}` names another account"),
            Self::OtherMethods(record) => {
                write!(f, "`{record}` names methods of validation that are not set up here")
            }
        }
    }
}

/// The tags that say nothing about TLS certificates, or are weighed here: RFC 8659 sections 4.2 to 4.4, RFC 9495,
/// Baseline Requirements appendix A, and the VMC requirements.
const KNOWN_TAGS: [&str; 7] =
    ["issue", "issuewild", "iodef", "issuemail", "contactemail", "contactphone", "issuevmc"];

impl CaaSet {
    /// These records, found at this name.
    pub fn new(at: DnsName, records: impl IntoIterator<Item = CaaRecord>) -> Self {
        Self { at, records: records.into_iter().collect() }
    }

    /// Whether they let a CA issue for a name, or for all names below one (`wildcard`), RFC 8659 section 4.
    pub fn decide(&self, wildcard: bool, request: &CaaRequest) -> CaaVerdict {
        if request.issuers.is_empty() {
            return CaaVerdict::Allowed { challenges: request.usable(wildcard) };
        }
        match self.challenges(wildcard, request) {
            Ok(challenges) => CaaVerdict::Allowed { challenges },
            Err(why) => CaaVerdict::Forbidden { at: self.at.clone(), records: self.records.clone(), why },
        }
    }

    fn challenges(
        &self,
        wildcard: bool,
        request: &CaaRequest,
    ) -> Result<BTreeSet<ChallengeKind>, CaaObstacle> {
        let is_known = |record: &CaaRecord| KNOWN_TAGS.iter().any(|tag| record.has_tag(tag));
        if let Some(record) = self.records.iter().find(|record| record.is_critical() && !is_known(record)) {
            return Err(CaaObstacle::UnknownCritical(record.tag.clone()));
        }
        let tag = self.counting_tag(wildcard);
        let mut properties = self.records.iter().filter(|record| record.has_tag(tag)).peekable();
        let usable = request.usable(wildcard);
        // Properties that restrict nobody, such as iodef alone, leave issuance open (RFC 8659 section 4.1).
        if properties.peek().is_none() {
            return Ok(usable);
        }
        let (mut allowed, mut obstacle) = (None, CaaObstacle::NotNamed);
        for record in properties {
            match weigh(record, &usable, request) {
                // Each property grants for itself.
                Ok(Some(challenges)) => {
                    allowed.get_or_insert_with(BTreeSet::new).extend(challenges);
                }
                Ok(None) => {}
                // That the CA is named says more than that something is malformed.
                Err(CaaObstacle::Malformed(_)) if obstacle != CaaObstacle::NotNamed => {}
                Err(why) => obstacle = why,
            }
        }
        allowed.ok_or(obstacle)
    }

    /// For a wildcard `issuewild` alone counts, where it is there at all (RFC 8659 section 4.3).
    fn counting_tag(&self, wildcard: bool) -> &'static str {
        if wildcard && self.records.iter().any(|record| record.has_tag("issuewild")) {
            "issuewild"
        } else {
            "issue"
        }
    }

    /// The record that would let the CA issue, as strict about account and methods as one that names it.
    fn remedy(&self, wildcard: bool, request: &CaaRequest) -> String {
        let tag = self.counting_tag(wildcard);
        let ours: Vec<_> = self
            .records
            .iter()
            .filter(|record| record.has_tag(tag))
            .filter_map(|record| IssueValue::parse(&record.value))
            .filter(|value| value.is_for(&request.issuers))
            .collect();
        let mut text = format!("0 {tag} \"{}", request.issuers.first().map_or("", String::as_str));
        if let Some(account) = &request.account
            && ours.iter().any(|value| value.has(ACCOUNT))
        {
            text.push_str(&format!("; {ACCOUNT}={account}"));
        }
        let usable = request.usable(wildcard);
        if !usable.is_empty() && ours.iter().any(|value| value.has(METHODS)) {
            let methods: Vec<&str> = usable.iter().map(ChallengeKind::as_str).collect();
            text.push_str(&format!("; {METHODS}={}", methods.join(",")));
        }
        text.push('"');
        text
    }

    /// With the record that [`remedy`](Self::remedy) tells: for the fuzz targets only.
    pub(super) fn with_remedy(&self, wildcard: bool, request: &CaaRequest) -> Self {
        let text = self.remedy(wildcard, request);
        let mut parts = text.split('"');
        let tag = parts.next().and_then(|head| head.split(' ').nth(1)).unwrap_or_default().to_owned();
        let value = parts.next().unwrap_or_default().as_bytes().to_vec();
        let added = CaaRecord { flags: 0, tag, value };
        Self::new(self.at.clone(), self.records.iter().cloned().chain([added]))
    }
}

const ACCOUNT: &str = "accounturi";
const METHODS: &str = "validationmethods";

/// What one property grants this request; `None` if it is about another CA.
fn weigh(
    record: &CaaRecord,
    usable: &BTreeSet<ChallengeKind>,
    request: &CaaRequest,
) -> Result<Option<BTreeSet<ChallengeKind>>, CaaObstacle> {
    let Some(value) = IssueValue::parse(&record.value) else {
        return Err(CaaObstacle::Malformed(record.clone()));
    };
    if !value.is_for(&request.issuers) {
        return Ok(None);
    }
    let once = |tag| value.parameter(tag).map_err(|_| CaaObstacle::Unsatisfiable(record.clone()));
    // RFC 8657 section 3: compared octet by octet.
    if let (Some(wanted), Some(account)) = (once(ACCOUNT)?, &request.account)
        && wanted != account
    {
        return Err(CaaObstacle::OtherAccount(record.clone()));
    }
    let Some(methods) = once(METHODS)? else { return Ok(Some(usable.clone())) };
    let Some(methods) = issue_value::methods(methods) else {
        return Err(CaaObstacle::Unsatisfiable(record.clone()));
    };
    let common: BTreeSet<_> =
        usable.iter().filter(|kind| methods.contains(&kind.as_str())).cloned().collect();
    if common.is_empty() {
        return Err(CaaObstacle::OtherMethods(record.clone()));
    }
    Ok(Some(common))
}
