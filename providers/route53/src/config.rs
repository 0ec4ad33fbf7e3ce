//! Whose zones, by which credential, and where.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use acmekit_core::{Error, ErrorKind, Result, Secret};

/// A role to be assumed with the credential ([AssumeRole]).
///
/// [AssumeRole]: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Role {
    /// The role: `arn:aws:iam::123456789012:role/acme`.
    pub arn: String,
    /// The session's name, as CloudTrail shows it (default `acmekit`).
    pub session_name: String,
    /// What the owner of the role wants to be told, if anything.
    pub external_id: Option<String>,
}

impl Role {
    /// This role, in a session called `acmekit`.
    pub fn new(arn: impl Into<String>) -> Self {
        Self { arn: arn.into(), session_name: "acmekit".to_owned(), external_id: None }
    }

    /// Sets the session's name.
    #[must_use]
    pub fn with_session_name(mut self, name: impl Into<String>) -> Self {
        self.session_name = name.into();
        self
    }

    /// Sets the external id.
    #[must_use]
    pub fn with_external_id(mut self, id: impl Into<String>) -> Self {
        self.external_id = Some(id.into());
        self
    }
}

/// How AWS knows who asks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Credential {
    /// What the SDK finds, when it is first needed: environment, profile files (with SSO and
    /// `credential_process`), web identity, container, instance; [in this order][chain].
    ///
    /// [chain]: https://docs.aws.amazon.com/sdk-for-rust/latest/dg/credproviders.html
    Found {
        /// The profile (default: `AWS_PROFILE`, or `default`).
        profile: Option<String>,
    },
    /// An access key.
    Keys {
        /// The key's id, which is no secret: `AKIA…`.
        access_key_id: String,
        /// The key.
        secret_access_key: Secret<String>,
        /// The token that belongs to a temporary key.
        session_token: Option<Secret<String>>,
    },
}

impl Credential {
    /// What the SDK finds.
    pub fn found() -> Self {
        Self::Found { profile: None }
    }

    /// What the SDK finds, with this profile of its files.
    pub fn profile(name: impl Into<String>) -> Self {
        Self::Found { profile: Some(name.into()) }
    }

    /// An access key that does not expire.
    pub fn keys(access_key_id: impl Into<String>, secret_access_key: impl Into<Secret<String>>) -> Self {
        Self::Keys {
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            session_token: None,
        }
    }
}

impl Default for Credential {
    fn default() -> Self {
        Self::found()
    }
}

/// Whose zones, by which credential, and where.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// How AWS knows who asks (default: [what the SDK finds](Credential::Found)).
    pub credential: Credential,
    /// A role to be assumed with it (default none).
    pub role: Option<Role>,
    /// The only zone there is, by its id: `Z0123456789ABC` (default: every public zone). Then zones are
    /// not listed.
    pub hosted_zone_id: Option<String>,
    /// The region that requests are signed for, and that STS is asked in (default `us-east-1`).
    /// Route 53 is the same in all regions of a partition: in China set `cn-northwest-1`.
    pub region: String,
    /// Where Route 53 is (default: AWS's own). Only `https://`, or `http://` on this machine.
    pub endpoint: Option<String>,
    /// Where STS is, for [`role`](Self::role) (default: AWS's own). As `endpoint`.
    pub sts_endpoint: Option<String>,
    /// How long one call may take (default 120 s): AWS needs up to a minute to bring a change to all
    /// its servers.
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self::new(Credential::found())
    }
}

impl Config {
    /// All public zones that this credential may change.
    pub fn new(credential: Credential) -> Self {
        Self {
            credential,
            role: None,
            hosted_zone_id: None,
            region: "us-east-1".to_owned(),
            endpoint: None,
            sts_endpoint: None,
            timeout: Duration::from_secs(120),
        }
    }

    /// Assumes a role first.
    #[must_use]
    pub fn with_role(mut self, role: Role) -> Self {
        self.role = Some(role);
        self
    }

    /// Only this zone.
    #[must_use]
    pub fn with_hosted_zone_id(mut self, id: impl Into<String>) -> Self {
        self.hosted_zone_id = Some(id.into());
        self
    }

    /// Asks another server than AWS's.
    #[must_use]
    pub fn with_endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// Trims what files leave behind, and refuses what cannot work.
    pub(crate) fn checked(mut self) -> Result<Self> {
        trim(&mut self.region);
        match &mut self.credential {
            Credential::Found { profile } => {
                if let Some(profile) = profile {
                    plain("route53.profile", "the profile", profile)?;
                }
            }
            Credential::Keys { access_key_id, secret_access_key, session_token } => {
                plain("route53.access_key_id", "the access key's id", access_key_id)?;
                secret("route53.secret_access_key", "the secret access key", secret_access_key)?;
                if let Some(token) = session_token {
                    secret("route53.session_token", "the session token", token)?;
                }
            }
        }
        plain("route53.region", "the region", &mut self.region)?;
        if let Some(id) = &mut self.hosted_zone_id {
            trim(id);
            if let Some(bare) = id.strip_prefix("/hostedzone/") {
                *id = bare.to_owned();
            }
            if id.is_empty() || id.len() > 32 || !id.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
                return Err(refuse("route53.hosted_zone_id", "this is no id of a hosted zone")
                    .with("hosted_zone_id", &*id)
                    .with_hint("it looks like Z0123456789ABC and stands beside the zone in the console"));
            }
        }
        if let Some(role) = &mut self.role {
            plain("route53.role_arn", "the role", &mut role.arn)?;
            if !role.arn.starts_with("arn:") || role.arn.split(':').count() < 6 {
                return Err(refuse("route53.role_arn", "this is no role")
                    .with("role_arn", &role.arn)
                    .with_hint("write it as in arn:aws:iam::123456789012:role/acme"));
            }
            // https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
            let fits = |c: u8| {
                c.is_ascii_alphanumeric() || matches!(c, b'_' | b'+' | b'=' | b',' | b'.' | b'@' | b'-')
            };
            if !(2..=64).contains(&role.session_name.len()) || !role.session_name.bytes().all(fits) {
                return Err(refuse("route53.role_session_name", "AWS takes no such name of a session")
                    .with("role_session_name", role.session_name.escape_debug())
                    .with_hint("2 to 64 letters, digits and _+=,.@-"));
            }
        }
        endpoint("route53.endpoint", &mut self.endpoint)?;
        endpoint("route53.sts_endpoint", &mut self.sts_endpoint)?;
        if self.timeout.is_zero() {
            return Err(refuse("route53.timeout", "no call can be made in no time")
                .with_hint("leave it out: 120 s is what AWS's own promise leads to"));
        }
        Ok(self)
    }
}

fn refuse(op: &'static str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, op, why)
}

fn trim(text: &mut String) {
    *text = text.trim().to_owned();
}

fn unfit(text: &str) -> bool {
    text.is_empty() || text.contains(|c: char| c.is_control() || c.is_whitespace())
}

fn plain(op: &'static str, what: &str, text: &mut String) -> Result<()> {
    trim(text);
    if unfit(text) {
        return Err(refuse(op, format!("{what} is empty, or has a blank in it"))
            .with("value", text.escape_debug())
            .with_hint("copy it again, whole and alone, or leave it out"));
    }
    Ok(())
}

fn secret(op: &'static str, what: &str, value: &mut Secret<String>) -> Result<()> {
    *value = Secret::new(value.expose().trim().to_owned());
    if unfit(value.expose()) || !value.expose().is_ascii() {
        return Err(refuse(op, format!("{what} is empty, or has characters that none has"))
            .with_hint("copy it again, whole, without blanks, quotes or a line break"));
    }
    Ok(())
}

/// A signed request shows no key, but it may carry a session token, and answers are believed.
fn endpoint(op: &'static str, url: &mut Option<String>) -> Result<()> {
    let Some(url) = url else { return Ok(()) };
    *url = url.trim().trim_end_matches('/').to_owned();
    let refuse = |why: &dyn fmt::Display| {
        refuse(op, format!("this is no URL of a server: {why}")).with_hint(
            "write it as in `https://route53.example.com`; http:// is for 127.0.0.1, ::1 and localhost",
        )
    };
    let parsed: http::Uri = url.parse().map_err(|e| refuse(&e))?;
    let (Some(scheme), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else {
        return Err(refuse(&"it does not begin with https://, or has no host"));
    };
    // First, so that no other error shows a password.
    if authority.as_str().contains('@') {
        return Err(refuse(&"it carries a user name or a password"));
    }
    if parsed.query().is_some() || !matches!(parsed.path(), "" | "/") {
        return Err(refuse(&"it has a path or a query").with("url", &*url));
    }
    let host = authority.host();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let loopback = host == "localhost" || address.is_ok_and(|ip| ip.is_loopback());
    match scheme {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        _ => Err(refuse(&"requests are sent by https only").with("url", &*url)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_have_the_defaults_their_documentation_tells() {
        let config = Config::default().checked().unwrap();
        assert_eq!((config.region.as_str(), config.timeout), ("us-east-1", Duration::from_secs(120)));
        assert!(matches!(config.credential, Credential::Found { profile: None }));
        assert_eq!(Role::new("arn:x").session_name, "acmekit");
    }

    #[test]
    fn what_files_and_consoles_add_is_taken_off() {
        let config = Config::new(Credential::keys(" AKIAEXAMPLE ", "s3cr3t\n"))
            .with_hosted_zone_id("/hostedzone/Z0123456789ABC")
            .with_endpoint("https://route53.example.com/")
            .checked()
            .unwrap();
        assert_eq!(config.hosted_zone_id.as_deref(), Some("Z0123456789ABC"));
        assert_eq!(config.endpoint.as_deref(), Some("https://route53.example.com"));
        let Credential::Keys { access_key_id, secret_access_key, .. } = &config.credential else { panic!() };
        assert_eq!((access_key_id.as_str(), secret_access_key.expose().as_str()), ("AKIAEXAMPLE", "s3cr3t"));
        assert!(!format!("{config:?}").contains("s3cr3t"));
    }

    #[test]
    fn what_cannot_work_is_refused_and_names_the_field() {
        let good = || Config::new(Credential::keys("AKIAEXAMPLE", "s3cr3t"));
        type Change = fn(&mut Config);
        let cases: [(&str, Change); 13] = [
            ("endpoint", |c| c.endpoint = Some("http://route53.example.com".into())),
            ("endpoint", |c| c.endpoint = Some("https://u:s3cr3t@route53.example.com".into())),
            ("endpoint", |c| c.endpoint = Some("route53.example.com".into())),
            ("endpoint", |c| c.endpoint = Some("https://route53.example.com/2013-04-01".into())),
            ("sts_endpoint", |c| c.sts_endpoint = Some("ftp://127.0.0.1".into())),
            ("hosted_zone_id", |c| c.hosted_zone_id = Some("example.com".into())),
            ("region", |c| c.region = String::new()),
            ("timeout", |c| c.timeout = Duration::ZERO),
            ("role_arn", |c| c.role = Some(Role::new("acme"))),
            ("role_session_name", |c| {
                c.role = Some(Role::new("arn:aws:iam::1:role/a").with_session_name("a b"));
            }),
            ("secret_access_key", |c| c.credential = Credential::keys("AKIAEXAMPLE", "s3cr3t s3cr3t")),
            ("access_key_id", |c| c.credential = Credential::keys("", "s3cr3t")),
            ("profile", |c| c.credential = Credential::profile("")),
        ];
        for (field, change) in cases {
            let mut config = good();
            change(&mut config);
            let error = config.checked().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
            assert_eq!(error.op(), format!("route53.{field}"), "{}", error.report());
            assert!(error.hint().is_some() && !error.report().contains("s3cr3t"), "{}", error.report());
        }
        for url in ["http://127.0.0.1:5000", "http://[::1]:5000", "http://localhost:5000"] {
            good().with_endpoint(url).checked().unwrap();
        }
    }
}
