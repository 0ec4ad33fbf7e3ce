//! The one record that a person sets, and what is made of those that stand.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::dns::issue_value::IssueValue;
use crate::{Challenge, DnsName, Result};

/// The TTL told to people: the record changes once in years.
const TTL: u32 = 3600;
/// What one string of a TXT record can hold (RFC 1035 section 3.3).
const LONGEST_STRING: usize = 255;

/// A TXT record that lets an account at a CA have certificates for a domain, until it is taken away
/// (draft-ietf-acme-dns-persist).
///
/// Whoever has the account's key can have certificates for the domain as long as the record stands.
///
/// ```
/// use acmekit_core::solvers::StandingRecord;
/// let record = StandingRecord::new("example.com".parse()?, "letsencrypt.org", "https://ca.example/acct/1").wildcard();
/// assert_eq!(
///     record.to_string(),
///     "_validation-persist.example.com. 3600 IN TXT \
///      \"letsencrypt.org; accounturi=https://ca.example/acct/1; policy=wildcard\""
/// );
/// # Ok::<(), acmekit_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StandingRecord {
    /// The domain it is about.
    pub domain: DnsName,
    /// The name the CA goes by, one of its `issuer-domain-names`.
    pub issuer: String,
    /// The account's URL.
    pub account: String,
    /// Whether it is for the wildcard below the domain, too (`policy=wildcard`).
    pub wildcard: bool,
    /// Until when it counts (`persistUntil`); `None`: as long as it stands.
    pub until: Option<SystemTime>,
}

impl StandingRecord {
    /// A record for a domain without its wildcard, and without an end.
    pub fn new(domain: DnsName, issuer: impl Into<String>, account: impl Into<String>) -> Self {
        Self { domain, issuer: issuer.into(), account: account.into(), wildcard: false, until: None }
    }

    /// For the wildcard below the domain, too.
    #[must_use]
    pub fn wildcard(mut self) -> Self {
        self.wildcard = true;
        self
    }

    /// It counts until then and no longer.
    #[must_use]
    pub fn until(mut self, until: SystemTime) -> Self {
        self.until = Some(until);
        self
    }

    /// Where it goes: `_validation-persist.<domain>`.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) if that is too long for a name.
    pub fn name(&self) -> Result<DnsName> {
        self.domain.child("_validation-persist")
    }

    /// The TXT value, unquoted.
    pub fn value(&self) -> String {
        let mut value = format!("{}; accounturi={}", self.issuer, self.account);
        if self.wildcard {
            value.push_str("; policy=wildcard");
        }
        if let Some(until) = self.until {
            let seconds = until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            value.push_str(&format!("; persistUntil={seconds}"));
        }
        value
    }
}

/// As a line of a zone file (RFC 1035 section 5.1).
impl fmt::Display for StandingRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "_validation-persist.{}. {TTL} IN TXT", self.domain)?;
        let value = self.value();
        let mut rest = value.as_str();
        while !rest.is_empty() {
            let mut end = rest.len().min(LONGEST_STRING);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            let (string, after) = rest.split_at(end);
            write!(f, " \"{}\"", string.replace('\\', "\\\\").replace('"', "\\\""))?;
            rest = after;
        }
        Ok(())
    }
}

/// What is made of one TXT value at the name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The CA may go by it, until then.
    Fits(Option<SystemTime>),
    /// It is for another CA, or something else.
    Foreign,
    /// It names the CA, but is of no use, for this reason.
    Refused(&'static str),
}

/// Judges a value as the CA will.
pub(super) fn judge(value: &[u8], challenge: &Challenge, now: SystemTime) -> Verdict {
    let Some(found) = IssueValue::parse(value) else {
        return match names_issuer(value, &challenge.issuers) {
            true => Verdict::Refused("it is malformed: `issuer; accounturi=URL`, with no `;` at the end"),
            false => Verdict::Foreign,
        };
    };
    if !found.is_for(&challenge.issuers) {
        return Verdict::Foreign;
    }
    let (Ok(account), Ok(policy), Ok(until)) =
        (found.parameter("accounturi"), found.parameter("policy"), found.parameter("persistUntil"))
    else {
        return Verdict::Refused("a parameter is there twice");
    };
    let until = match until.map(str::parse::<u64>) {
        None => None,
        Some(Ok(seconds)) => UNIX_EPOCH.checked_add(Duration::from_secs(seconds)),
        Some(Err(_)) => {
            return Verdict::Refused("`persistUntil` is not a number of seconds since 1970-01-01");
        }
    };
    match account {
        None | Some("") => return Verdict::Refused("`accounturi` is missing"),
        Some(account) if !is_account(account, challenge) => {
            return Verdict::Refused("`accounturi` is another account");
        }
        Some(_) => {}
    }
    let wildcard = policy.is_some_and(|policy| policy.eq_ignore_ascii_case("wildcard"));
    if challenge.identifier.is_wildcard() && !wildcard {
        return Verdict::Refused("a wildcard needs `policy=wildcard`");
    }
    if until.is_some_and(|until| until < now) {
        return Verdict::Refused("`persistUntil` has passed");
    }
    Verdict::Fits(until)
}

fn names_issuer(value: &[u8], issuers: &[String]) -> bool {
    let text = String::from_utf8_lossy(value);
    let named = text.split(';').next().unwrap_or_default().trim();
    issuers.iter().any(|issuer| issuer.eq_ignore_ascii_case(named))
}

/// The account's URL; or, from draft 02 on (section 4.1), a digest of the domain or `*`, of the account's key and of its URL.
fn is_account(found: &str, challenge: &Challenge) -> bool {
    if found == challenge.account {
        return true;
    }
    let Some((_, digest)) = found.rsplit_once("sha-256/") else { return false };
    let domain = challenge.identifier.domain().map(DnsName::as_str);
    domain.into_iter().chain(["*"]).any(|name| {
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        let thumbprint = challenge.key_authorization.thumbprint();
        let parts: [&[u8]; 4] =
            [&[length], name.as_bytes(), thumbprint.as_bytes(), challenge.account.as_bytes()];
        digest == BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(parts.concat()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChallengeKind, KeyAuthorization};

    const ACCOUNT: &str = "https://ca.example/acct/1";
    const NOW: u64 = 1_900_000_000;

    fn challenge(identifier: &str) -> Challenge {
        let proof = KeyAuthorization::new("", "thumbprint");
        Challenge::new(identifier.parse().unwrap(), ChallengeKind::DnsPersist01, "", proof)
            .with_account(ACCOUNT)
            .with_issuers(["ca.example", "letsencrypt.org"])
    }

    fn judged(value: &str, identifier: &str) -> Verdict {
        judge(value.as_bytes(), &challenge(identifier), UNIX_EPOCH + Duration::from_secs(NOW))
    }

    #[test]
    fn what_a_person_is_told_to_set_fits() {
        let record = StandingRecord::new("example.com".parse().unwrap(), "letsencrypt.org", ACCOUNT);
        assert_eq!(judged(&record.value(), "example.com"), Verdict::Fits(None));
        let until = UNIX_EPOCH + Duration::from_secs(NOW + 5);
        let record = record.wildcard().until(until);
        assert_eq!(judged(&record.value(), "*.example.com"), Verdict::Fits(Some(until)));
        assert_eq!(judged(&record.value(), "example.com"), Verdict::Fits(Some(until)));
        assert_eq!(record.name().unwrap().as_str(), "_validation-persist.example.com");
    }

    #[test]
    fn what_does_not_fit_says_why() {
        for (value, why) in [
            ("ca.example", "`accounturi` is missing"),
            ("CA.example; accounturi=https://ca.example/acct/2", "another account"),
            ("ca.example; accounturi=https://ca.example/acct/1", "policy=wildcard"),
            ("ca.example; accounturi=https://ca.example/acct/1; policy=other", "policy=wildcard"),
            ("ca.example; accounturi=https://ca.example/acct/1; persistUntil=soon", "number of seconds"),
            (
                "ca.example; accounturi=https://ca.example/acct/1;policy=wildcard; persistUntil=1899999999",
                "passed",
            ),
            ("ca.example; accounturi=a; accounturi=b", "twice"),
            ("ca.example; accounturi=https://ca.example/acct/1;", "malformed"),
        ] {
            match judged(value, "*.example.com") {
                Verdict::Refused(told) => assert!(told.contains(why), "{value}: {told}"),
                other => panic!("{value}: {other:?}"),
            }
        }
        for value in ["", "v=spf1 -all", "other.example; accounturi=https://ca.example/acct/1", "\u{e4}"] {
            assert_eq!(judged(value, "example.com"), Verdict::Foreign, "{value}");
        }
    }

    #[test]
    fn an_account_may_be_named_by_its_digest() {
        for name in ["example.com", "*"] {
            let length = u8::try_from(name.len()).unwrap();
            let parts = [&[length], name.as_bytes(), b"thumbprint", ACCOUNT.as_bytes()].concat();
            let digest = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(parts));
            let value = format!("ca.example; accounturi=https://ca.example/x/sha-256/{digest}");
            assert_eq!(judged(&value, "example.com"), Verdict::Fits(None), "{name}");
            assert!(matches!(judged(&value, "other.example.com"), Verdict::Refused(_)) || name == "*");
        }
    }

    #[test]
    fn a_long_value_is_several_strings() {
        let account = format!("https://ca.example/{}", "a".repeat(400));
        let line = StandingRecord::new("example.com".parse().unwrap(), "ca.example", &account).to_string();
        let strings: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        assert_eq!(strings.iter().map(|string| string.len()).collect::<Vec<_>>(), [255, 187]);
        assert_eq!(strings.concat(), format!("ca.example; accounturi={account}"));
    }

    proptest::proptest! {
        #[test]
        fn whatever_stands_there_it_is_judged(value in proptest::collection::vec(0u8.., 0..80)) {
            let _ = judge(&value, &challenge("*.example.com"), UNIX_EPOCH);
        }
    }
}
