//! Roots, intermediates, and the certificates they sign.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use acmekit_core::{Clock, Identifier};
use async_trait::async_trait;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};

use x509_parser::prelude::{FromDer, X509CertificationRequest};

use crate::certificate::facts;
use crate::{IssueRequest, Issued, Issuer, Jwk, Problem, ProblemType, RenewalInfo};

const HOUR: Duration = Duration::from_secs(60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// By which profile, when an order names none.
const DEFAULT_PROFILE: &str = "classic";

/// A kind of certificate: what a person is told of it, and how long it lasts.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    pub(super) description: String,
    pub(super) lifetime: Duration,
}

/// Let's Encrypt's profiles and lifetimes as of 2026-05 (<https://letsencrypt.org/docs/profiles/>).
pub(super) fn profiles() -> BTreeMap<String, Profile> {
    let profile = |name: &str, description: &str, lifetime: Duration| {
        (name.to_owned(), Profile { description: description.to_owned(), lifetime })
    };
    BTreeMap::from([
        profile("classic", "90 days, with a common name", 90 * 24 * HOUR),
        profile("tlsserver", "45 days, for TLS servers", 45 * 24 * HOUR),
        profile("shortlived", "160 hours, also for IP addresses", 160 * HOUR),
    ])
}

/// The CA behind [`TestCa`](super::TestCa).
#[derive(Debug)]
pub(super) struct Hierarchy {
    roots: Vec<String>,
    ecdsa: Intermediate,
    rsa: Option<Intermediate>,
    profiles: BTreeMap<String, Profile>,
    clock: Arc<dyn Clock>,
    notes: Mutex<Notes>,
}

/// What a person or a client has said about certificates, by leaf.
#[derive(Debug, Default)]
struct Notes {
    revoked: HashMap<Vec<u8>, SystemTime>,
    windows: HashMap<Vec<u8>, RenewalInfo>,
    issued: u64,
}

/// One key, with a certificate from each root.
struct Intermediate {
    issuer: rcgen::Issuer<'static, KeyPair>,
    certificates: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Intermediate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intermediate").finish_non_exhaustive()
    }
}

impl Hierarchy {
    pub(super) fn new(
        rsa: Option<KeyPair>,
        profiles: BTreeMap<String, Profile>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, rcgen::Error> {
        let now = clock.now();
        let mut roots = Vec::new();
        for name in ["X", "Y"] {
            let params = authority(&format!("acmekit test root {name}"), now);
            let key = KeyPair::generate()?;
            let certificate = params.self_signed(&key)?;
            roots.push((certificate.pem(), rcgen::Issuer::new(params, key)));
        }
        let intermediate = |name: &str, key: KeyPair| -> Result<Intermediate, rcgen::Error> {
            let mut params = authority(name, now);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.use_authority_key_identifier_extension = true;
            let mut certificates = Vec::new();
            for (_, root) in &roots {
                params.serial_number = Some(serial());
                certificates.push(params.signed_by(&key, root)?.der().to_vec());
            }
            Ok(Intermediate { issuer: rcgen::Issuer::new(params, key), certificates })
        };
        let ecdsa = intermediate("acmekit test intermediate E", KeyPair::generate()?)?;
        let rsa = rsa.map(|key| intermediate("acmekit test intermediate R", key)).transpose()?;
        let roots = roots.into_iter().map(|(pem, _)| pem).collect();
        Ok(Self { roots, ecdsa, rsa, profiles, clock, notes: Mutex::default() })
    }

    /// The roots in PEM: the default chain's first.
    pub(super) fn roots_pem(&self) -> &[String] {
        &self.roots
    }

    pub(super) fn issued_count(&self) -> u64 {
        self.notes().issued
    }

    pub(super) fn is_revoked(&self, leaf_der: &[u8]) -> bool {
        self.notes().revoked.contains_key(leaf_der)
    }

    pub(super) fn set_window(&self, leaf_der: &[u8], window: RenewalInfo) {
        self.notes().windows.insert(leaf_der.to_vec(), window);
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sign(&self, request: &IssueRequest) -> Result<Issued, rcgen::Error> {
        let profile = request.profile.as_deref().unwrap_or(DEFAULT_PROFILE);
        let lifetime = self.profiles.get(profile).map_or(90 * 24 * HOUR, |profile| profile.lifetime);
        // As Let's Encrypt: an hour in the past, for clients whose clocks are slow.
        let begin = request.not_before.unwrap_or_else(|| self.clock.now() - HOUR);
        let end = request.not_after.unwrap_or_else(|| begin + lifetime - Duration::from_secs(1));
        let key = SubjectPublicKeyInfo::from_der(request.csr.public_key_info())?;
        let is_rsa = Jwk::from_public_key_info(request.csr.public_key_info())
            .is_some_and(|key| key.algorithm() == "RS256");

        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if profile == DEFAULT_PROFILE
            && let Some(name) = common_name(request)
        {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names =
            request.identifiers.iter().map(alternative_name).collect::<Result<_, rcgen::Error>>()?;
        params.serial_number = Some(serial());
        params.not_before = begin.into();
        params.not_after = end.into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if is_rsa && profile == DEFAULT_PROFILE {
            params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;

        let intermediate = match &self.rsa {
            Some(rsa) if is_rsa => rsa,
            _ => &self.ecdsa,
        };
        let leaf = params.signed_by(&key, &intermediate.issuer)?.der().to_vec();
        let chains =
            intermediate.certificates.iter().map(|above| vec![leaf.clone(), above.clone()]).collect();
        self.notes().issued += 1;
        Ok(Issued::new(chains))
    }
}

#[async_trait]
impl Issuer for Hierarchy {
    fn profiles(&self) -> BTreeMap<String, String> {
        self.profiles.iter().map(|(name, profile)| (name.clone(), profile.description.clone())).collect()
    }

    async fn issue(&self, request: &IssueRequest) -> Result<Issued, Problem> {
        self.sign(request).map_err(|error| Problem::new(ProblemType::BadCsr, error.to_string()))
    }

    async fn revoke(&self, leaf_der: &[u8], reason: Option<u8>) -> Result<(), Problem> {
        // Those Let's Encrypt takes from subscribers (https://letsencrypt.org/docs/revoking/).
        if !matches!(reason, None | Some(0 | 1 | 3 | 4 | 5)) {
            return Err(Problem::new(
                ProblemType::BadRevocationReason,
                "the reason must be unspecified (0), keyCompromise (1), affiliationChanged (3), superseded (4) or cessationOfOperation (5)",
            ));
        }
        let now = self.clock.now();
        self.notes().revoked.insert(leaf_der.to_vec(), now);
        Ok(())
    }

    /// Boulder's window: 2 % of the lifetime long, around two thirds of it (below 10 days: one half); in the past for a
    /// revoked certificate.
    async fn renewal_info(&self, leaf_der: &[u8]) -> Result<Option<RenewalInfo>, Problem> {
        let now = self.clock.now();
        let mut notes = self.notes();
        if notes.revoked.contains_key(leaf_der) {
            let window = RenewalInfo::new(now - HOUR, now - HOUR / 2);
            return Ok(Some(window.with_explanation("https://ca.example.test/revoked")));
        }
        if let Some(window) = notes.windows.get(leaf_der) {
            return Ok(Some(window.clone()));
        }
        let window = facts(leaf_der).and_then(|facts| {
            let lifetime = facts.not_after.duration_since(facts.not_before).ok()?;
            let middle = match lifetime < 10 * 24 * HOUR {
                true => lifetime / 2,
                false => lifetime / 3 * 2,
            };
            let ideal = facts.not_before.checked_add(middle)?;
            Some(RenewalInfo::new(ideal.checked_sub(lifetime / 100)?, ideal.checked_add(lifetime / 100)?))
        });
        // It is asked for again and again.
        notes.windows.extend(window.clone().map(|window| (leaf_der.to_vec(), window)));
        Ok(window)
    }
}

fn authority(name: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - 24 * HOUR).into();
    params.not_after = (now + 30 * YEAR).into();
    params.serial_number = Some(serial());
    params
}

/// As Boulder: the one the CSR asks for, or the first name that fits in one. lego, for one, keeps certificates by it.
fn common_name(request: &IssueRequest) -> Option<String> {
    let mut fitting = request
        .identifiers
        .iter()
        .filter(|identifier| identifier.domain().is_some())
        .map(ToString::to_string)
        .filter(|name| name.len() <= 64);
    let (_, csr) = X509CertificationRequest::from_der(request.csr.as_der()).ok()?;
    let subject = &csr.certification_request_info.subject;
    let asked = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
    let asked = asked.map(str::to_ascii_lowercase);
    let first = fitting.clone().next();
    fitting.find(|name| asked.as_ref() == Some(name)).or(first)
}

/// 16 random octets, positive and without a leading zero in DER.
fn serial() -> SerialNumber {
    let mut octets: [u8; 16] = rand::random();
    octets[0] = octets[0] & 0x3f | 0x40;
    SerialNumber::from_slice(&octets)
}

fn alternative_name(identifier: &Identifier) -> Result<SanType, rcgen::Error> {
    Ok(match identifier {
        Identifier::Ip(IpAddr::V4(address)) => SanType::IpAddress((*address).into()),
        Identifier::Ip(IpAddr::V6(address)) => SanType::IpAddress((*address).into()),
        name => SanType::DnsName(name.to_string().try_into()?),
    })
}
