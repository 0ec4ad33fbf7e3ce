//! Which CA, as whom, on what terms: [`Authority`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;

use crate::limits::Limits;
use crate::{Error, ErrorKind, Exchange, Result, Secret};

/// A certification authority that speaks ACME, and how to introduce oneself to it.
///
/// ```
/// use acmekit_core::Authority;
/// let staging = Authority::lets_encrypt_staging().contact("mailto:ops@example.com").agree_to_terms();
/// assert_eq!(staging.id(), "lets-encrypt-staging");
/// ```
#[derive(Debug, Clone)]
pub struct Authority {
    id: String,
    directory: String,
    extra_roots: Vec<CertificateDer<'static>>,
    contacts: Vec<String>,
    external_account: Option<ExternalAccount>,
    terms_agreed: bool,
    timeouts: Timeouts,
    limits: Limits,
    exchange: Option<Arc<dyn Exchange>>,
    staging: Option<Box<Self>>,
}

#[derive(Debug, Clone)]
pub(crate) struct ExternalAccount {
    pub(crate) kid: String,
    pub(crate) key: Secret<Vec<u8>>,
}

/// How long each part of the way may take. All of them end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// TCP and TLS to the CA (default 10 s).
    pub connect: Duration,
    /// One request and its whole answer (default 30 s).
    pub request: Duration,
    /// Presenting all challenges (default 2 min).
    pub present: Duration,
    /// Until all challenges can be seen, DNS propagation above all (default 5 min).
    pub ready: Duration,
    /// Until the CA has validated, and again until it has issued (default 5 min each).
    pub poll: Duration,
    /// Taking all challenges away (default 1 min).
    pub cleanup: Duration,
    /// One deployer, with its reload, its check and its rollback (default 5 min).
    pub deploy: Duration,
    /// Waiting for another process that works on the same certificate (default 10 min).
    pub lease: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self {
            connect: Duration::from_secs(10),
            request: Duration::from_secs(30),
            present: minutes(2),
            ready: minutes(5),
            poll: minutes(5),
            cleanup: minutes(1),
            deploy: minutes(5),
            lease: minutes(10),
        }
    }
}

impl Authority {
    fn preset(id: &str, directory: &str) -> Self {
        Self {
            id: id.to_owned(),
            directory: directory.to_owned(),
            extra_roots: Vec::new(),
            contacts: Vec::new(),
            external_account: None,
            terms_agreed: false,
            timeouts: Timeouts::default(),
            limits: Limits::none(),
            exchange: None,
            staging: None,
        }
    }

    /// Let's Encrypt, within its [limits](Limits::lets_encrypt). Try [staging](Self::lets_encrypt_staging) first: its
    /// limits are wide. What has failed is tried there, too ([`with_staging`](Self::with_staging)).
    pub fn lets_encrypt() -> Self {
        Self::preset("lets-encrypt", "https://acme-v02.api.letsencrypt.org/directory")
            .with_limits(Limits::lets_encrypt())
            .with_staging(Self::lets_encrypt_staging())
    }

    /// Let's Encrypt's staging environment: the same rules, certificates that nobody trusts.
    pub fn lets_encrypt_staging() -> Self {
        Self::preset("lets-encrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory")
            .with_limits(Limits::lets_encrypt_staging())
    }

    /// ZeroSSL. Needs an [external account](Self::external_account).
    pub fn zerossl() -> Self {
        Self::preset("zerossl", "https://acme.zerossl.com/v2/DV90")
    }

    /// Google Trust Services. Needs an [external account](Self::external_account).
    pub fn google() -> Self {
        Self::preset("google", "https://dv.acme-v02.api.pki.goog/directory")
    }

    /// The staging environment of Google Trust Services. Needs an external account of its own.
    pub fn google_staging() -> Self {
        Self::preset("google-staging", "https://dv.acme-v02.test-api.pki.goog/directory")
    }

    /// Buypass Go SSL.
    pub fn buypass() -> Self {
        Self::preset("buypass", "https://api.buypass.com/acme/directory")
    }

    /// The test environment of Buypass Go SSL.
    pub fn buypass_test() -> Self {
        Self::preset("buypass-test", "https://api.test4.buypass.no/acme/directory")
    }

    /// Any other CA, by the URL of its directory. Its id is made of host and port.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is no `https://` URL (RFC 8555 section 6.1).
    pub fn custom(directory: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Error::new(
                ErrorKind::Config,
                "authority.directory",
                format!("`{}` is no directory URL: {why}", directory.escape_debug()),
            )
            .with_hint("write it as in `https://ca.example.com/directory`")
        };
        let uri: http::Uri = directory.parse().map_err(|_| refuse("it is not a URL"))?;
        if uri.scheme_str() != Some("https") {
            return Err(refuse("ACME wants https (RFC 8555 section 6.1)"));
        }
        let host = uri.authority().ok_or_else(|| refuse("it has no host"))?.as_str().to_ascii_lowercase();
        if host.contains('@') {
            return Err(refuse("it carries a user name"));
        }
        let id: String = host
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
            .take(100)
            .collect();
        Ok(Self::preset(id.trim_matches(['-', '.']), directory))
    }

    /// Gives it another id: parts of the store are named after it.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Where the CA can write to, as a URL: `mailto:ops@example.com`. May be called more than once.
    #[must_use]
    pub fn contact(mut self, url: impl Into<String>) -> Self {
        let url = url.into();
        self.contacts.push(if url.contains(':') { url } else { format!("mailto:{url}") });
        self
    }

    /// Agrees to the CA's terms of service. Nothing else does: read them first; the error that
    /// asks for this call shows where they are.
    #[must_use]
    pub fn agree_to_terms(mut self) -> Self {
        self.terms_agreed = true;
        self
    }

    /// Binds the account to one at the CA's web site (RFC 8555 section 7.3.4). The key is the
    /// base64url text the site shows.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is not base64url, or empty.
    pub fn external_account(mut self, kid: impl Into<String>, key: &Secret<String>) -> Result<Self> {
        let text = key.expose().trim().trim_end_matches('=');
        let refuse = |why: &str| {
            Error::new(
                ErrorKind::Config,
                "authority.external_account",
                format!("the EAB key is not usable: {why}"),
            )
            .with_hint("copy the HMAC key as the CA's web site shows it: letters, digits, `-` and `_`")
        };
        // Some sites show the standard alphabet.
        let text = Secret::new(text.replace('+', "-").replace('/', "_"));
        let octets =
            BASE64_URL_SAFE_NO_PAD.decode(text.expose()).map_err(|_| refuse("it is not base64url"))?;
        if octets.is_empty() {
            return Err(refuse("it is empty"));
        }
        self.external_account = Some(ExternalAccount { kid: kid.into(), key: Secret::new(octets) });
        Ok(self)
    }

    /// Trusts these roots (PEM) for the connection to the CA, beside the well-known ones.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no certificate in it.
    pub fn extra_roots_pem(mut self, text: &str) -> Result<Self> {
        self.extra_roots.extend(roots_from_pem(text)?);
        Ok(self)
    }

    /// Sets how long each part may take.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Keeps to these limits, so that the CA need not refuse: charged before each request, and kept in the store. By
    /// default none but for Let's Encrypt; what a CA refuses with `rateLimited` is kept to in any case.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Reaches the CA through this rather than by HTTPS from here.
    #[must_use]
    pub fn through(mut self, exchange: Arc<dyn Exchange>) -> Self {
        self.exchange = Some(exchange);
        self
    }

    /// A certificate whose validation has failed is tried at this authority before it is ordered again: failures there
    /// cost nothing. Contacts and agreed terms are taken over where it has none of its own.
    #[must_use]
    pub fn with_staging(mut self, staging: Self) -> Self {
        self.staging = Some(Box::new(staging));
        self
    }

    /// Never tries at a staging directory.
    #[must_use]
    pub fn without_staging(mut self) -> Self {
        self.staging = None;
        self
    }

    /// The limits it keeps to.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Where failed certificates are tried.
    pub(crate) fn staging(&self) -> Option<Self> {
        let mut staging = self.staging.as_deref()?.clone();
        if staging.contacts.is_empty() {
            staging.contacts.clone_from(&self.contacts);
        }
        staging.terms_agreed |= self.terms_agreed;
        staging.timeouts = self.timeouts;
        staging.staging = None;
        Some(staging)
    }

    pub(crate) fn exchange(&self) -> Option<&Arc<dyn Exchange>> {
        self.exchange.as_ref()
    }

    /// Its id: `lets-encrypt`, `zerossl`, … or the host of a custom directory.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The URL of its directory.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// How long each part may take.
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    pub(crate) fn contacts(&self) -> &[String] {
        &self.contacts
    }

    pub(crate) fn eab(&self) -> Option<&ExternalAccount> {
        self.external_account.as_ref()
    }

    pub(crate) fn terms_agreed(&self) -> bool {
        self.terms_agreed
    }

    pub(crate) fn tls_config(&self) -> Result<rustls::ClientConfig> {
        tls_config(&self.extra_roots)
    }
}

/// The certificates in a PEM text: at least one.
pub(crate) fn roots_from_pem(text: &str) -> Result<Vec<CertificateDer<'static>>> {
    let blocks = pem::parse_many(text).unwrap_or_default();
    let certificates = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
    let roots: Vec<_> = certificates.map(|block| CertificateDer::from(block.into_contents())).collect();
    if roots.is_empty() {
        return Err(Error::new(
            ErrorKind::Config,
            "authority.extra_roots",
            "there is no certificate in this PEM",
        ));
    }
    Ok(roots)
}

/// TLS with the well-known roots and these, by the one crypto provider that is linked.
pub(crate) fn tls_config(extra_roots: &[CertificateDer<'static>]) -> Result<rustls::ClientConfig> {
    let failed = |why: &str| Error::new(ErrorKind::Config, "authority.tls", why);
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    for root in extra_roots {
        roots
            .add(root.clone())
            .map_err(|e| failed("an extra root is not usable as a trust anchor").with_source(e))?;
    }
    let provider = Arc::new(crate::probe::crypto_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| failed("the crypto provider cannot do TLS").with_source(e))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id, self.directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_directory_is_https_and_names_itself() {
        assert_eq!(Authority::custom("https://localhost:14000/dir").unwrap().id(), "localhost-14000");
        for bad in [
            "",
            "ca.example.com",
            "http://ca.example.com/dir",
            "https://",
            "https://u:p@ca/dir",
            "ftp://x",
            "https://a b/",
        ] {
            assert_eq!(Authority::custom(bad).unwrap_err().kind(), ErrorKind::Config, "{bad}");
        }
    }

    #[test]
    fn a_bad_eab_key_is_refused_and_never_shown() {
        for bad in ["", "===", "not base64!", "ä"] {
            let error = Authority::zerossl().external_account("kid", &bad.into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(bad.is_empty() || !error.report().contains(bad), "{error}");
        }
        let shown =
            format!("{:?}", Authority::zerossl().external_account("kid", &"c2VjcmV0".into()).unwrap());
        assert!(!shown.contains("c2VjcmV0") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_bare_address_becomes_a_mailto_url() {
        assert_eq!(Authority::lets_encrypt().contact("a@b.example").contacts(), ["mailto:a@b.example"]);
    }
}
