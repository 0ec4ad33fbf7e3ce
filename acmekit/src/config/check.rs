//! What the text of a configuration shows to be wrong, beyond the form of each section.

use std::collections::BTreeMap;
use std::path::Path;

use acmekit_core::renewal::MaintenanceWindow;
use acmekit_core::{Authority, CertificateSpec, ChallengeKind, Csr, Error, Identifier, Result, StoreKey};

use super::document::{Places, one_of};
use super::problem::{Place, Problem};
use super::sections::{AuthorityConfig, CertificateConfig};
use super::{Config, document};

/// An authority that is known by name.
type Preset = (&'static str, fn() -> Authority);

const PRESETS: [Preset; 7] = [
    ("lets-encrypt", Authority::lets_encrypt),
    ("lets-encrypt-staging", Authority::lets_encrypt_staging),
    ("zerossl", Authority::zerossl),
    ("google", Authority::google),
    ("google-staging", Authority::google_staging),
    ("buypass", Authority::buypass),
    ("buypass-test", Authority::buypass_test),
];

/// Collects problems, each with its place.
#[derive(Debug)]
pub(super) struct Findings<'c> {
    places: &'c Places,
    pub(super) problems: Vec<Problem>,
}

impl<'c> Findings<'c> {
    pub(super) fn new(places: &'c Places) -> Self {
        Self { places, problems: Vec::new() }
    }

    pub(super) fn add(&mut self, mut problem: Problem) {
        if problem.place.is_none() && problem.file.is_none() {
            problem.place = self.places.find(&problem.key);
        }
        self.problems.push(problem);
    }
}

/// Everything that can be seen without reading another file.
pub(super) fn check(config: &Config) -> Vec<Problem> {
    let mut found = Findings::new(&config.places);
    authorities(config, &mut found);
    solvers(config, &mut found);
    deployers(config, &mut found);
    renewal(config, &mut found);
    let mut certificates = Certificates::new(config);
    for (at, certificate) in config.certificates.iter().enumerate() {
        // A CSR's names are known when it has been read.
        if let Some(problem) = certificate.csr.as_ref().and_then(|_| csr_alone(certificate, &at_key(at))) {
            found.add(problem);
        }
        certificates.check(&Origin::Text(at), certificate, None, &mut found);
    }
    if config.certificates.is_empty() && config.certificates_csv.is_none() {
        found.add(
            Problem::new("certificates", "no certificate is asked for")
                .hint("add `[[certificates]]` with `names = […]`, or `certificates_csv = …`"),
        );
    }
    found.problems
}

fn at_key(at: usize) -> String {
    format!("certificates[{at}]")
}

/// The authority without what is in files: its directory, id, contacts, terms, deadlines.
pub(super) fn authority(config: &AuthorityConfig) -> Result<Authority, (&'static str, Error)> {
    let preset = PRESETS.iter().find(|(name, _)| *name == config.ca);
    let mut authority = match preset {
        Some((_, make)) => make(),
        None => Authority::custom(&config.ca).map_err(|error| ("ca", error))?,
    };
    if let Some(id) = &config.id {
        authority = authority.with_id(id.clone());
    }
    // Parts of the store are named after it.
    let account: Result<StoreKey> = format!("accounts/{}", authority.id()).parse();
    if account.is_err() || authority.id().contains('/') {
        let error =
            Error::new(acmekit_core::ErrorKind::Config, "config.authority", "this is no id of an authority")
                .with_hint("set `id`: a-z, 0-9, `.`, `-`, `_`, starting with a letter or digit");
        return Err(("id", error));
    }
    for contact in &config.contacts {
        authority = authority.contact(contact.clone());
    }
    if config.agree_to_terms {
        authority = authority.agree_to_terms();
    }
    if let Some(limits) = &config.limits {
        authority = authority.with_limits(limits.clone());
    }
    Ok(authority.with_timeouts(config.timeouts.timeouts()))
}

fn authorities(config: &Config, found: &mut Findings<'_>) {
    if config.authorities.is_empty() {
        found.add(
            Problem::new("authorities", "there is no authority to get certificates from")
                .hint("add `[[authorities]]` with `ca = \"lets-encrypt-staging\"`"),
        );
    }
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    for (at, section) in config.authorities.iter().enumerate() {
        let key = |name: &str| format!("authorities[{at}].{name}");
        match authority(section) {
            Ok(authority) => {
                if let Some(before) = ids.insert(authority.id().to_owned(), at) {
                    let why = format!("authorities[{before}] has the same id");
                    found.add(
                        Problem::new(key("id"), why).value(authority.id()).hint("give each its own `id`"),
                    );
                }
            }
            Err((name, error)) => {
                let value = if name == "id" { section.id.as_deref() } else { None };
                let mut problem = Problem::of(key(name), &error);
                // Who wrote no URL meant one of the names.
                if name == "ca" && !section.ca.contains("://") {
                    let known: Vec<String> = PRESETS.iter().map(|(name, _)| (*name).to_owned()).collect();
                    problem =
                        Problem::new(key(name), "this is neither a known CA nor the URL of a directory")
                            .hint(one_of(&section.ca, &known));
                }
                found.add(problem.value(value.unwrap_or(&section.ca)));
            }
        }
        let preset = PRESETS.iter().any(|(name, _)| *name == section.ca);
        if preset && !section.agree_to_terms {
            let problem = Problem::new(
                key("agree_to_terms"),
                "this CA gives accounts only to those who agree to its terms",
            );
            found.add(problem.hint("read its terms of service, then write `agree_to_terms = true`"));
        }
        for (at, contact) in section.contacts.iter().enumerate() {
            if !contact.contains('@') && !contact.contains(':') {
                let problem = Problem::new(key(&format!("contacts[{at}]")), "this is no mail address");
                found.add(problem.value(contact).hint("write it as in \"ops@example.com\""));
            }
        }
        if let Some(eab) = &section.eab
            && let Err(error) = eab.secret().check()
        {
            let name = format!("eab.{}", eab.secret().key());
            found.add(Problem::of(key(&name), &error));
        }
        for (name, time) in section.timeouts.given() {
            if time.is_zero() {
                let problem =
                    Problem::new(key(&format!("timeouts.{name}")), "nothing can be done in no time");
                found.add(problem.hint("leave it out to have the default"));
            }
        }
    }
}

fn solvers(config: &Config, found: &mut Findings<'_>) {
    if let Some(http) = &config.http {
        let hint = "write `webroot = …` where a web server has port 80, else `listen = \"[::]:80\"`";
        match (&http.webroot, http.listen) {
            (None, None) => {
                found.add(Problem::new("http", "neither `webroot` nor `listen` is given").hint(hint))
            }
            (Some(_), Some(_)) => {
                found
                    .add(Problem::new("http.listen", "`webroot` and `listen` exclude each other").hint(hint));
            }
            _ => {}
        }
    }
    for (at, provider) in config.providers.iter().enumerate() {
        if let Err(flaw) = provider.plugin.check() {
            let key = format!("dns.providers[{at}]");
            let key = if flaw.key.is_empty() { key } else { document::join(&key, &flaw.key) };
            found.add(Problem::of(key, &flaw.error));
        }
    }
    if config.http.is_none() && config.providers.is_empty() && !config.dns.standing_records {
        found.add(
            Problem::new("", "there is no way to prove control of a name")
                .hint("add `[http]` for http-01, or `[[dns.providers]]` for dns-01"),
        );
    }
}

fn deployers(config: &Config, found: &mut Findings<'_>) {
    let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, deployer) in config.deployers.iter().enumerate() {
        if let Some(before) = ids.insert(&deployer.id, at) {
            let why = format!("deployers[{before}] has the same id");
            let problem = Problem::new(format!("deployers[{at}].id"), why).value(&deployer.id);
            found.add(problem.hint("give each its own `id`"));
        }
    }
}

fn renewal(config: &Config, found: &mut Findings<'_>) {
    if let Some(share) = config.renewal.renew_at_life_share
        && !(0.1..=0.9).contains(&share)
    {
        let problem = Problem::new("renewal.renew_at_life_share", "this is no share of a life").value(share);
        found.add(problem.hint("write a number from 0.1 to 0.9, such as 0.66"));
    }
    for (at, window) in config.renewal.maintenance_windows.iter().enumerate() {
        if let Err(error) = window.parse::<MaintenanceWindow>() {
            found.add(Problem::of(format!("renewal.maintenance_windows[{at}]"), &error).value(window));
        }
    }
}

/// Where the wish for a certificate comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin<'c> {
    /// The configuration, the how-many-eth.
    Text(usize),
    /// A line of the CSV file.
    Line(&'c Path, usize),
}

impl Origin<'_> {
    /// Its place in a person's words.
    pub(super) fn describe(&self, places: &Places) -> String {
        match self {
            Self::Text(at) => match places.find(&at_key(*at)) {
                Some(place) => format!("certificates[{at}], line {}", place.line),
                None => at_key(*at),
            },
            Self::Line(path, line) => format!("{}, line {line}", path.display()),
        }
    }

    fn problem(&self, name: &str, why: impl Into<String>) -> Problem {
        self.place(Problem::new(self.key(name), why))
    }

    fn key(&self, name: &str) -> String {
        match self {
            Self::Text(at) => format!("{}.{name}", at_key(*at)),
            Self::Line(..) => name.to_owned(),
        }
    }

    fn place(&self, mut problem: Problem) -> Problem {
        if let Self::Line(path, line) = self {
            problem.file = Some((*path).to_owned());
            problem.place = Some(Place { line: *line, column: 1 });
        }
        problem
    }
}

fn csr_alone(certificate: &CertificateConfig, key: &str) -> Option<Problem> {
    let (name, what) = match certificate {
        _ if !certificate.names.is_empty() => ("names", "the names are the CSR's own"),
        _ if certificate.key_type.is_some() => ("key_type", "the key is the CSR's own"),
        _ => return None,
    };
    Some(Problem::new(format!("{key}.{name}"), what).hint(format!("take out `{name}`, or `csr`")))
}

/// Checks certificates one by one, and that no two are the same.
#[derive(Debug)]
pub(super) struct Certificates<'c> {
    config: &'c Config,
    authorities: Vec<String>,
    deployers: Vec<String>,
    seen: BTreeMap<String, String>,
}

impl<'c> Certificates<'c> {
    pub(super) fn new(config: &'c Config) -> Self {
        let authorities = config.authorities.iter().filter_map(|section| authority(section).ok());
        Self {
            config,
            authorities: authorities.map(|authority| authority.id().to_owned()).collect(),
            deployers: config.deployers.iter().map(|deployer| deployer.id.clone()).collect(),
            seen: BTreeMap::new(),
        }
    }

    /// The spec, if nothing is wrong with it; `None` also for a CSR that is not there yet.
    pub(super) fn check(
        &mut self,
        origin: &Origin<'_>,
        certificate: &CertificateConfig,
        csr: Option<Csr>,
        found: &mut Findings<'_>,
    ) -> Option<CertificateSpec> {
        let before = found.problems.len();
        let awaited = certificate.csr.is_some() && csr.is_none();
        self.names(origin, certificate, found);
        self.references(origin, certificate, found);
        if awaited || found.problems.len() > before {
            return None;
        }
        let spec = match csr {
            Some(csr) => CertificateSpec::from_csr(csr).map_err(|error| ("csr", error)),
            None => CertificateSpec::new(&certificate.names).map_err(|error| ("names", error)),
        };
        let spec = spec.and_then(|spec| finish(spec, certificate));
        let spec = match spec {
            Ok(spec) => spec,
            Err((name, error)) => {
                let problem = Problem::of(origin.key(name), &error);
                let value = if name == "id" { certificate.id.clone() } else { None };
                found.add(origin.place(match value {
                    Some(value) => problem.value(value),
                    None => problem,
                }));
                return None;
            }
        };
        self.provable(origin, &spec, certificate, found);
        let here = origin.describe(found.places);
        if let Some(other) = self.seen.insert(spec.id().to_string(), here) {
            let why = format!("the certificate at {other} has the same id");
            let hint = "give one of them another `id`; without one, it is made of names and key type";
            found.add(origin.problem("id", why).value(spec.id()).hint(hint));
        }
        (found.problems.len() == before).then_some(spec)
    }

    /// Each name by itself: the error is to say which.
    fn names(&self, origin: &Origin<'_>, certificate: &CertificateConfig, found: &mut Findings<'_>) {
        for (at, name) in certificate.names.iter().enumerate() {
            if let Err(error) = name.parse::<Identifier>() {
                let problem = Problem::of(origin.key(&format!("names[{at}]")), &error);
                found.add(origin.place(problem.value(name)));
            }
        }
    }

    /// The ids of other sections.
    fn references(&self, origin: &Origin<'_>, certificate: &CertificateConfig, found: &mut Findings<'_>) {
        if let Some(id) = &certificate.authority
            && !self.authorities.contains(id)
        {
            let problem = origin.problem("authority", "there is no authority of this id").value(id);
            found.add(problem.hint(one_of(id, &self.authorities)));
        }
        for (at, id) in certificate.deployers.iter().flatten().enumerate() {
            if !self.deployers.contains(id) {
                let problem = origin.problem(&format!("deployers[{at}]"), "there is no deployer of this id");
                found.add(problem.value(id).hint(one_of(id, &self.deployers)));
            }
        }
    }

    /// That there is a solver for each name.
    fn provable(
        &self,
        origin: &Origin<'_>,
        spec: &CertificateSpec,
        certificate: &CertificateConfig,
        found: &mut Findings<'_>,
    ) {
        let wished =
            |kind: ChallengeKind| certificate.challenge.as_ref().is_none_or(|wished| *wished == kind);
        let http = self.config.http.is_some() && wished(ChallengeKind::Http01);
        let by_provider = wished(ChallengeKind::Dns01) || wished(ChallengeKind::DnsAccount01);
        let standing = self.config.dns.standing_records && wished(ChallengeKind::DnsPersist01);
        let dns = standing || (by_provider && !self.config.providers.is_empty());
        if let Some(kind) = certificate.challenge.as_ref().filter(|_| !http && !dns) {
            let problem = origin.problem("challenge", "there is nothing that answers such challenges");
            let hint = match kind {
                ChallengeKind::Http01 => "add `[http]`, or take `challenge` out",
                ChallengeKind::Dns01 | ChallengeKind::DnsAccount01 => {
                    "add `[[dns.providers]]`, or take `challenge` out"
                }
                ChallengeKind::DnsPersist01 => {
                    "set `standing_records = true` in `[dns]`, or take `challenge` out"
                }
                _ => "there are: http-01, dns-01, dns-account-01, dns-persist-01",
            };
            found.add(problem.value(kind.as_str()).hint(hint));
            return;
        }
        for identifier in spec.identifiers() {
            let (why, hint) = match identifier {
                Identifier::Wildcard(_) if !dns => (
                    "a wildcard is proved by the DNS alone, and nothing here does that for it",
                    "add `[[dns.providers]]`",
                ),
                Identifier::Ip(_) if !http => {
                    ("an address is proved by http-01 alone, which is not there for it", "add `[http]`")
                }
                _ => continue,
            };
            let given =
                certificate.names.iter().position(|name| name.parse().ok().as_ref() == Some(identifier));
            let name = given.map_or_else(|| "csr".to_owned(), |at| format!("names[{at}]"));
            found.add(origin.problem(&name, why).value(identifier).hint(hint));
        }
    }
}

/// What the certificate is to be, beyond its names.
fn finish(
    mut spec: CertificateSpec,
    certificate: &CertificateConfig,
) -> Result<CertificateSpec, (&'static str, Error)> {
    if let Some(kind) = certificate.key_type {
        spec = spec.key_type(kind);
    }
    if let Some(profile) = &certificate.profile {
        spec = spec.profile(profile.clone());
    }
    if let Some(chain) = &certificate.preferred_chain {
        spec = spec.preferred_chain(chain.clone());
    }
    if let Some(authority) = &certificate.authority {
        spec = spec.authority(authority.clone());
    }
    if let Some(kind) = &certificate.challenge {
        spec = spec.challenge(kind.clone());
    }
    match &certificate.id {
        Some(id) => spec.named(id).map_err(|error| ("id", error)),
        None => Ok(spec),
    }
}
