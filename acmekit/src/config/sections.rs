//! What can be written in a configuration, section by section.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use acmekit_core::limits::Limits;
use acmekit_core::renewal::RenewalPolicy;
use acmekit_core::{ChallengeKind, DnsName, KeyType, Secret, Timeouts, duration};
use serde::Deserialize;

use super::secret::SecretKeys;

/// `[[authorities]]`: a CA, and how to introduce oneself to it.
///
/// In order: the first is preferred, later ones are fall-backs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AuthorityConfig {
    /// The URL of its directory, or one of `lets-encrypt`, `lets-encrypt-staging`, `zerossl`, `google`,
    /// `google-staging`, `buypass`, `buypass-test`.
    pub ca: String,
    /// Its id here and in the store: a-z, 0-9, `.`, `-`, `_`. Default: the name above, or host and port.
    #[serde(default)]
    pub id: Option<String>,
    /// Where the CA can write to: mail addresses, with or without `mailto:`. Default: none.
    #[serde(default)]
    pub contacts: Vec<String>,
    /// Whether you agree to the CA's terms of service. Default: no, and a CA that has such terms then
    /// gives no account.
    #[serde(default)]
    pub agree_to_terms: bool,
    /// The account at the CA's web site that this one is bound to (RFC 8555 section 7.3.4). Default: none.
    #[serde(default)]
    pub eab: Option<EabConfig>,
    /// A PEM file of roots that are trusted for the connection to the CA, beside the well-known ones.
    /// Default: none.
    #[serde(default)]
    pub extra_roots: Option<PathBuf>,
    /// How long each part of the way may take.
    #[serde(default)]
    pub timeouts: TimeoutsConfig,
    /// What the CA allows in a time, to be kept to without being told. Default: what Let's Encrypt publishes, for
    /// Let's Encrypt; none for others.
    #[serde(default)]
    pub limits: Option<Limits>,
}

/// `[authorities.eab]`: an external account. One of `key`, `key_file` and `key_env` is given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct EabConfig {
    /// The key id, as the CA's web site shows it.
    pub kid: String,
    /// The HMAC key, base64url, as the CA's web site shows it.
    #[serde(default)]
    pub key: Option<Secret<String>>,
    /// The file that holds it.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// The environment variable that holds it.
    #[serde(default)]
    pub key_env: Option<String>,
}

impl EabConfig {
    pub(super) fn secret(&self) -> SecretKeys<'_> {
        SecretKeys {
            name: "key",
            inline: self.key.as_ref(),
            file: self.key_file.as_deref(),
            env: self.key_env.as_deref(),
        }
    }
}

/// `[authorities.timeouts]`: text with a unit (`"30s"`, `"5 min"`), or whole seconds. See [`Timeouts`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct TimeoutsConfig {
    /// TCP and TLS to the CA. Default: 10 s.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub connect: Option<Duration>,
    /// One request and its whole answer. Default: 30 s.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub request: Option<Duration>,
    /// Presenting all challenges. Default: 2 min.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub present: Option<Duration>,
    /// Until all challenges can be seen. Default: 5 min.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub ready: Option<Duration>,
    /// Until the CA has validated, and again until it has issued. Default: 5 min each.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub poll: Option<Duration>,
    /// Taking all challenges away. Default: 1 min.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub cleanup: Option<Duration>,
    /// One deployer, with its reload, its check and its rollback. Default: 5 min.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub deploy: Option<Duration>,
    /// Waiting for another process that works on the same certificate. Default: 10 min.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub lease: Option<Duration>,
}

impl TimeoutsConfig {
    /// What is given, by name.
    pub(super) fn given(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        let all = [
            ("connect", self.connect),
            ("request", self.request),
            ("present", self.present),
            ("ready", self.ready),
            ("poll", self.poll),
            ("cleanup", self.cleanup),
            ("deploy", self.deploy),
            ("lease", self.lease),
        ];
        all.into_iter().filter_map(|(name, time)| Some((name, time?)))
    }

    /// With the defaults for what is not given.
    pub(super) fn timeouts(&self) -> Timeouts {
        let mut timeouts = Timeouts::default();
        let fields = [
            (&mut timeouts.connect, self.connect),
            (&mut timeouts.request, self.request),
            (&mut timeouts.present, self.present),
            (&mut timeouts.ready, self.ready),
            (&mut timeouts.poll, self.poll),
            (&mut timeouts.cleanup, self.cleanup),
            (&mut timeouts.deploy, self.deploy),
            (&mut timeouts.lease, self.lease),
        ];
        for (field, given) in fields {
            *field = given.unwrap_or(*field);
        }
        timeouts
    }
}

/// `[http]`: how http-01 is answered. One of the two is given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpConfig {
    /// The folder that a web server on port 80 serves.
    #[serde(default)]
    pub webroot: Option<PathBuf>,
    /// The address of a server that acmekit starts when there is something to answer: `[::]:80`.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
}

/// `[dns]`: what dns-01 asks, beside its providers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct DnsConfig {
    /// The recursive resolvers to ask, `IP:PORT`. Default: those of this machine.
    pub resolvers: Vec<SocketAddr>,
    /// The authoritative servers to ask instead of those the NS records name, `IP:PORT`. Default: none.
    pub authoritative: Vec<SocketAddr>,
    /// The port of the authoritative servers that the NS records name. Default: 53.
    pub authoritative_port: Option<u16>,
    /// The TTL of the records. Default: 60 s.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub ttl: Option<Duration>,
    /// How long to wait instead of asking the authoritative servers, where they cannot be reached.
    /// Default: they are asked.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub wait: Option<Duration>,
    /// Where the records of a domain go, whatever CNAMEs the DNS has: domain by domain, the whole name of the record.
    /// Default: the DNS is asked.
    pub aliases: BTreeMap<DnsName, DnsName>,
    /// Whether names may be proved by records that stand in the DNS (dns-persist-01), too. Default: no.
    pub standing_records: bool,
    /// Whether CAA records are looked up before an order, so that one that the CA would refuse for them is not placed.
    /// Default: no.
    pub check_caa: bool,
}

/// `[[certificates]]`, or one line of the CSV file: one certificate.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CertificateConfig {
    /// Its names: domains, wildcards, addresses; 1 to 100. Not with `csr`, which has its own.
    #[serde(default)]
    pub names: Vec<String>,
    /// What it is called, so that it stays the same when its names change: a-z, 0-9, `.`, `-`, `_`.
    /// Default: made of its names and key type.
    #[serde(default)]
    pub id: Option<String>,
    /// `ecdsa-p256`, `ecdsa-p384`, or with the feature `rsa` also `rsa-2048`, `rsa-3072`, `rsa-4096`.
    /// Default: `ecdsa-p256`. Not with `csr`.
    #[serde(default)]
    pub key_type: Option<KeyType>,
    /// One of the CA's profiles, by name. Default: the CA's choice.
    #[serde(default)]
    pub profile: Option<String>,
    /// The common name of the root whose chain is preferred. Default: the CA's choice.
    #[serde(default)]
    pub preferred_chain: Option<String>,
    /// The id of one of the authorities. Default: the first one.
    #[serde(default)]
    pub authority: Option<String>,
    /// How control of its names is proved: `http-01`, `dns-01`, `dns-account-01` or `dns-persist-01`. Default: http-01
    /// where there is `[http]` and the name is no wildcard, else dns-01, else by records that stand.
    #[serde(default)]
    pub challenge: Option<ChallengeKind>,
    /// A PEM file with a CSR of your own: acmekit then never sees the key. Default: acmekit makes a key.
    #[serde(default)]
    pub csr: Option<PathBuf>,
    /// The ids of the deployers it is brought to. Default: all of them.
    #[serde(default)]
    pub deployers: Option<Vec<String>>,
    /// The group it belongs to: a label of your own. Default: none.
    #[serde(default)]
    pub group: Option<String>,
}

/// `[renewal]`: when certificates are renewed, where the CA leaves that to us.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RenewalConfig {
    /// The share of its life that a certificate has lived when it is due; from 0.1 to 0.9.
    /// Default: two thirds, or one half of a life shorter than ten days.
    pub renew_at_life_share: Option<f64>,
    /// When renewals may begin: `Sat-Sun 02:00-05:00 UTC`, `daily 22:00-04:00 +02:00`. Default: at any time.
    pub maintenance_windows: Vec<String>,
}

impl RenewalConfig {
    /// The policy it asks for. Windows that cannot be read have been refused before.
    pub(super) fn policy(&self) -> RenewalPolicy {
        let mut policy = RenewalPolicy::default();
        if let Some(share) = self.renew_at_life_share {
            policy.at_share = share;
            policy.at_share_short_lived = share;
        }
        policy.maintenance_windows =
            self.maintenance_windows.iter().filter_map(|window| window.parse().ok()).collect();
        policy
    }
}
