//! The vendors, and what each has to be told.

use std::collections::BTreeMap;
use std::time::Duration;

use acmekit_core::{Error, ErrorKind, Result, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use dns_update::providers::{azuredns, bluecatv2, edgedns, google_cloud_dns, infoblox, lightsail};
use dns_update::providers::{oraclecloud, volcengine, yandexcloud};
use dns_update::{DnsUpdater, TsigAlgorithm};

use crate::config::Config;
use crate::refusal::Secrets;

/// What can be said to a vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// One value comes, or goes; what others do meanwhile stays.
    OneValue,
    /// All TXT values of a name are set at once: what others do at this name in the same instant can be lost.
    WholeRrset,
}

/// A vendor, and its settings.
#[derive(Debug)]
pub struct Vendor {
    name: &'static str,
    way: Way,
    needed: &'static [&'static str],
    optional: &'static [&'static str],
    connect: fn(&Given<'_>) -> Refusable<DnsUpdater>,
}

impl Vendor {
    /// What [`Config::vendor`] calls it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What can be said to it.
    pub fn way(&self) -> Way {
        self.way
    }

    /// The names of its settings, and whether they have to be given.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let needed = self.needed.iter().map(|&name| (name, true));
        needed.chain(self.optional.iter().map(|&name| (name, false)))
    }

    /// That these settings are its own, and all it needs.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the one that is missing or not known.
    pub fn check<'n>(&self, given: impl Iterator<Item = &'n str> + Clone) -> Result<()> {
        let refuse = |setting: &str, why: &str| {
            let known: Vec<&str> = self.settings().map(|(name, _)| name).collect();
            Err(Error::new(ErrorKind::Config, "dns-update.settings", why)
                .with("vendor", self.name)
                .with("setting", setting)
                .with_hint(format!("the settings of this vendor: {}", known.join(", "))))
        };
        if let Some(unknown) = given.clone().find(|name| self.settings().all(|(known, _)| known != *name)) {
            return refuse(unknown, "the vendor has no such setting");
        }
        match self.needed.iter().find(|name| given.clone().all(|given| given != **name)) {
            Some(missing) => refuse(missing, "the vendor needs this setting"),
            None => Ok(()),
        }
    }

    pub(crate) fn connect(&self, config: &Config, secrets: &Secrets) -> Result<DnsUpdater> {
        // Where this fails, what dns-update does instead panics.
        reqwest::Client::builder().build().map_err(|e| {
            Error::new(ErrorKind::Config, "dns-update.new", "HTTPS cannot be spoken on this machine")
                .with("why", secrets.words(&format!("{e:?}")))
                .with_hint(
                    "install the root certificates of the system: on Debian, the package ca-certificates",
                )
        })?;
        // The time of the whole change is up first, and that error says what was waited for.
        let given =
            Given { values: &config.settings, timeout: Some(config.timeout + Duration::from_secs(1)) };
        (self.connect)(&given).map_err(|refused| {
            Error::new(ErrorKind::Config, "dns-update.new", "the vendor's settings are refused")
                .with("why", secrets.words(&refused))
                .with("vendor", self.name)
        })
    }
}

/// All there are, by name.
pub fn vendors() -> &'static [Vendor] {
    VENDORS
}

/// The vendor of this name.
///
/// # Errors
/// [`ErrorKind::Config`] if there is none, or if it must not be used, with the reason and what to use instead.
pub fn vendor(name: &str) -> Result<&'static Vendor> {
    find(name)
}

pub(crate) fn find(name: &str) -> Result<&'static Vendor> {
    if let Some(found) = VENDORS.iter().find(|vendor| vendor.name == name) {
        return Ok(found);
    }
    let refuse = |why: String| Error::new(ErrorKind::Config, "dns-update.vendor", why).with("vendor", name);
    if OWN.contains(&name) {
        return Err(refuse("acmekit has an own provider for this vendor".to_owned())
            .with_hint(format!("use the provider `{name}`")));
    }
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Err(refuse((*why).to_owned()).with_hint(
            "use the provider `exec` with acme.sh's script for this vendor, or let a CNAME at `_acme-challenge` \
             lead into a zone somewhere else",
        ));
    }
    let known: Vec<&str> = VENDORS.iter().map(|vendor| vendor.name).collect();
    Err(refuse("there is no such vendor".to_owned()).with_hint(format!("one of: {}", known.join(", "))))
}

/// The words of who refuses settings.
type Refusable<T> = std::result::Result<T, String>;

/// The settings as they were given; those that are needed are there.
struct Given<'s> {
    values: &'s BTreeMap<String, Secret<String>>,
    timeout: Option<Duration>,
}

impl<'s> Given<'s> {
    fn needed(&self, name: &str) -> &'s str {
        self.optional(name).unwrap_or_default()
    }

    fn optional(&self, name: &str) -> Option<&'s str> {
        self.values.get(name).map(|value| value.expose().trim_end_matches(['\r', '\n']))
    }
}

fn owned(value: Option<&str>) -> Option<String> {
    value.map(str::to_owned)
}

fn flag(name: &str, value: Option<&str>) -> Refusable<bool> {
    match value {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(format!("{name} is neither `true` nor `false`")),
    }
}

/// A row for each: its name, its [`Way`], what it needs, what it may have, and what dns-update makes of it.
macro_rules! vendors {
    ($($name:literal $way:ident ($($needed:ident),* $(; $($optional:ident),+)?) $timeout:ident => $connect:expr;)+) => {
        const VENDORS: &[Vendor] = &[$(Vendor {
            name: $name,
            way: Way::$way,
            needed: &[$(stringify!($needed)),*],
            optional: &[$($(stringify!($optional)),+)?],
            connect: |given| {
                let $timeout = given.timeout;
                $(let $needed = given.needed(stringify!($needed));)*
                $($(let $optional = given.optional(stringify!($optional));)+)?
                let made: dns_update::Result<DnsUpdater> = $connect;
                made.map_err(|said| said.to_string())
            },
        }),+];
    };
}

vendors! {
    "alidns" OneValue (access_key, secret_key; region, security_token, line) t =>
        DnsUpdater::new_alidns(access_key, secret_key, region, security_token, line, t);
    "arvancloud" OneValue (api_key) t => DnsUpdater::new_arvancloud(api_key, t);
    "azuredns" WholeRrset (tenant_id, client_id, client_secret, subscription_id, resource_group) t =>
        DnsUpdater::new_azuredns(azuredns::AzureDnsConfig {
            tenant_id: tenant_id.to_owned(),
            client_id: client_id.to_owned(),
            client_secret: client_secret.to_owned(),
            subscription_id: subscription_id.to_owned(),
            resource_group: resource_group.to_owned(),
            environment: azuredns::AzureEnvironment::Public,
            request_timeout: t,
        });
    "baiducloud" OneValue (access_key, secret_key) t => DnsUpdater::new_baiducloud(access_key, secret_key, t);
    "bluecatv2" OneValue (server_url, username, password, config_name, view_name; skip_deploy) t =>
        DnsUpdater::new_bluecatv2(bluecatv2::BluecatV2Config {
            server_url: server_url.to_owned(),
            username: username.to_owned(),
            password: password.to_owned(),
            config_name: config_name.to_owned(),
            view_name: view_name.to_owned(),
            skip_deploy: flag("skip_deploy", skip_deploy)?,
            request_timeout: t,
        });
    "cloudns" OneValue (auth_password; auth_id, sub_auth_id) t =>
        DnsUpdater::new_cloudns(auth_id, sub_auth_id, auth_password, t);
    "cpanel" OneValue (base_url, username, token) t => DnsUpdater::new_cpanel(base_url, username, token, t);
    "digitalocean" OneValue (auth_token) t => DnsUpdater::new_digitalocean(auth_token, t);
    "domeneshop" OneValue (api_token, api_secret) t => DnsUpdater::new_domeneshop(api_token, api_secret, t);
    "dreamhost" OneValue (api_key) t => DnsUpdater::new_dreamhost(api_key, t);
    "dynu" OneValue (api_key) t => DnsUpdater::new_dynu(api_key, t);
    "easydns" OneValue (token, key) t => DnsUpdater::new_easydns(token, key, t);
    "edgedns" WholeRrset (host, client_token, client_secret, access_token; account_switch_key) t =>
        DnsUpdater::new_edgedns(edgedns::EdgeDnsConfig {
            host: host.to_owned(),
            client_token: client_token.to_owned(),
            client_secret: client_secret.to_owned(),
            access_token: access_token.to_owned(),
            account_switch_key: owned(account_switch_key),
            request_timeout: t,
        });
    "exoscale" OneValue (api_key, api_secret) t => DnsUpdater::new_exoscale(api_key, api_secret, t);
    "gandiv5" WholeRrset (personal_access_token) t => DnsUpdater::new_gandiv5(personal_access_token, t);
    "glesys" OneValue (api_user, api_key) t => DnsUpdater::new_glesys(api_user, api_key, t);
    "godaddy" WholeRrset (api_key, api_secret) t => DnsUpdater::new_godaddy(api_key, api_secret, t);
    "google_cloud_dns" WholeRrset (service_account_json, project_id, managed_zone; impersonate_service_account) t =>
        DnsUpdater::new_google_cloud_dns(google_cloud_dns::GoogleCloudDnsConfig {
            service_account_json: service_account_json.to_owned(),
            project_id: project_id.to_owned(),
            // Without it, dns-update takes a zone whose name ends in the same letters.
            managed_zone: Some(managed_zone.to_owned()),
            private_zone: false,
            impersonate_service_account: owned(impersonate_service_account),
            request_timeout: t,
        });
    "hetzner" WholeRrset (api_token) t => DnsUpdater::new_hetzner(api_token, t);
    "huaweicloud" WholeRrset (access_key, secret_key, region) t =>
        DnsUpdater::new_huaweicloud(access_key, secret_key, region, t);
    "infoblox" OneValue (host, username, password; port, wapi_version, dns_view) t =>
        DnsUpdater::new_infoblox(infoblox::InfobloxConfig {
            host: host.to_owned(),
            port: owned(port),
            username: username.to_owned(),
            password: password.to_owned(),
            wapi_version: owned(wapi_version),
            dns_view: owned(dns_view),
            request_timeout: t,
        });
    "infomaniak" OneValue (access_token) t => DnsUpdater::new_infomaniak(access_token, t);
    "inwx" OneValue (username, password; sandbox) t =>
        DnsUpdater::new_inwx(username, password, flag("sandbox", sandbox)?, t);
    "ionos" OneValue (api_key) t => DnsUpdater::new_ionos(api_key, t);
    "ipv64" OneValue (api_key) t => DnsUpdater::new_ipv64(api_key, t);
    "lightsail" OneValue (access_key_id, secret_access_key; region, domain) t =>
        DnsUpdater::new_lightsail(lightsail::LightsailConfig {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: secret_access_key.to_owned(),
            // Not signed right in dns-update 0.6.
            session_token: None,
            region: owned(region),
            domain: owned(domain),
            request_timeout: t,
        });
    "linode" OneValue (auth_token) t => DnsUpdater::new_linode(auth_token, t);
    "luadns" OneValue (api_username, api_token) t => DnsUpdater::new_luadns(api_username, api_token, t);
    "mythicbeasts" WholeRrset (username, password) t => DnsUpdater::new_mythicbeasts(username, password, t);
    "namedotcom" OneValue (username, api_token) t => DnsUpdater::new_namedotcom(username, api_token, t);
    "namesilo" OneValue (api_key) t => DnsUpdater::new_namesilo(api_key, t);
    "netlify" OneValue (access_token) t => DnsUpdater::new_netlify(access_token, t);
    "nifcloud" WholeRrset (access_key, secret_key) t => DnsUpdater::new_nifcloud(access_key, secret_key, t);
    "ns1" WholeRrset (api_key) t => DnsUpdater::new_ns1(api_key, t);
    "oraclecloud" OneValue
        (tenancy_ocid, user_ocid, fingerprint, private_key_pem, region, compartment_ocid) t =>
        DnsUpdater::new_oraclecloud(oraclecloud::OracleCloudConfig {
            tenancy_ocid: tenancy_ocid.to_owned(),
            user_ocid: user_ocid.to_owned(),
            fingerprint: fingerprint.to_owned(),
            private_key_pem: private_key_pem.to_owned(),
            private_key_password: None,
            region: region.to_owned(),
            compartment_ocid: compartment_ocid.to_owned(),
            request_timeout: t,
        });
    "ovh" OneValue (application_key, application_secret, consumer_key, endpoint) t => {
        let endpoint = endpoint.parse().map_err(|said: dns_update::Error| said.to_string())?;
        DnsUpdater::new_ovh(application_key, application_secret, consumer_key, endpoint, t)
    };
    "pdns" WholeRrset (api_key; endpoint, server_name) t => DnsUpdater::new_pdns(api_key, endpoint, server_name, t);
    "plesk" OneValue (base_url, api_key) t => DnsUpdater::new_plesk(base_url, api_key, t);
    "porkbun" OneValue (api_key, secret_api_key) t => DnsUpdater::new_porkbun(api_key, secret_api_key, t);
    "rfc2136" OneValue (server, key_name, key_secret; key_algorithm) _t => {
        let key = BASE64.decode(key_secret).map_err(|_| "key_secret is not base64".to_owned())?;
        let algorithm: TsigAlgorithm = key_algorithm
            .unwrap_or("hmac-sha256")
            .parse()
            .map_err(|()| "key_algorithm is none: `hmac-sha256`, `hmac-sha512`, …".to_owned())?;
        DnsUpdater::new_rfc2136_tsig(server, key_name, key, algorithm)
    };
    "safedns" OneValue (auth_token) t => DnsUpdater::new_safedns(auth_token, t);
    "scaleway" OneValue (api_token) t => DnsUpdater::new_scaleway(api_token, t);
    "selectel" WholeRrset (username, password, account_id, project_id) t =>
        DnsUpdater::new_selectel(username, password, account_id, project_id, t);
    "simplycom" OneValue (account_name, api_key) t => DnsUpdater::new_simplycom(account_name, api_key, t);
    "spaceship" OneValue (api_key, api_secret) t => DnsUpdater::new_spaceship(api_key, api_secret, t);
    "tencentcloud" OneValue (secret_id, secret_key; region, session_token) t =>
        DnsUpdater::new_tencentcloud(secret_id, secret_key, region, session_token, t);
    "transip" OneValue (login, private_key_pem; global_key) t =>
        DnsUpdater::new_transip(login, private_key_pem, flag("global_key", global_key)?, t);
    "vercel" OneValue (auth_token; team_id) t => DnsUpdater::new_vercel(auth_token, team_id, t);
    "volcengine" OneValue (access_key, secret_key; region, host, scheme) t =>
        DnsUpdater::new_volcengine(volcengine::VolcengineConfig {
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            region: owned(region),
            host: owned(host),
            scheme: owned(scheme),
            request_timeout: t,
        });
    "vultr" OneValue (api_key) t => DnsUpdater::new_vultr(api_key, t);
    "yandexcloud" WholeRrset (iam_token_b64, folder_id) t =>
        DnsUpdater::new_yandexcloud(yandexcloud::YandexCloudConfig {
            iam_token_b64: iam_token_b64.to_owned(),
            folder_id: folder_id.to_owned(),
            request_timeout: t,
        });
    "zoneeu" OneValue (username, api_key) t => DnsUpdater::new_zoneeu(username, api_key, t);
}

/// Those that have a provider of their own here, which is better.
const OWN: [&str; 3] = ["cloudflare", "desec", "route53"];

/// Those that dns-update knows, and why they are not to be had: as its version 0.6.1 was read.
const REFUSED: [(&str, &str); 18] = [
    ("autodns", NOT_FOUND),
    ("bunny", NOT_FOUND),
    ("constellix", OVERWRITES),
    ("ddnss", ONE_VALUE),
    ("dnsimple", NOT_FOUND),
    ("dnsmadeeasy", NOT_FOUND),
    ("duckdns", ONE_VALUE),
    ("freemyip", ONE_VALUE),
    ("gcore", OVERWRITES),
    (
        "hostingde",
        "dns-update refuses a zone here while the last change is being carried out, and sets its settings anew",
    ),
    ("hostinger", NOT_FOUND),
    ("hurricane", ONE_VALUE),
    ("ibmcloud", "dns-update takes values that differ in case for the same here"),
    ("joker", WHOLE_ZONE),
    ("namecheap", WHOLE_ZONE),
    ("netcup", NOT_FOUND),
    ("ultradns", "dns-update does not make the first TXT record of a name as this vendor wants it"),
    ("websupport", NOT_FOUND),
];
const ONE_VALUE: &str = "dns-update can only set the TXT value of a name at this vendor: apex and wildcard, or another \
                         program, would overwrite each other";
const WHOLE_ZONE: &str =
    "dns-update writes back all records of the zone at this vendor: those of others are at stake";
const OVERWRITES: &str = "dns-update does not keep what others have at the name at this vendor";
const NOT_FOUND: &str =
    "dns-update does not find its own values again at this vendor: they would be left behind";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DnsUpdate;

    /// A value that fits the setting.
    fn fitting(setting: &str) -> &'static str {
        match setting {
            "endpoint" => "ovh-eu",
            "server" => "tcp://127.0.0.1:53",
            "key_algorithm" => "hmac-sha512",
            "skip_deploy" | "sandbox" | "global_key" => "true",
            "server_url" | "base_url" => "https://dns.example.com",
            "region" => "eu-west-1",
            "key_secret" => "c2VjcmV0",
            _ => "made-up-value",
        }
    }

    fn with(vendor: &Vendor, optional: bool) -> Config {
        let config = Config::new(vendor.name()).zone("example.com".parse().unwrap());
        let settings = vendor.settings().filter(|(_, needed)| *needed || optional);
        settings.fold(config, |config, (name, _)| config.setting(name, fitting(name)))
    }

    #[test]
    fn vendors_stand_in_order_and_each_in_one_list() {
        let mut names: Vec<&str> = vendors().iter().map(Vendor::name).collect();
        assert!(names.is_sorted(), "{names:?}");
        names.extend(OWN);
        names.extend(REFUSED.map(|(name, _)| name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "one is in two lists");
    }

    #[test]
    fn every_vendor_can_be_made_of_its_settings_or_says_which_is_wrong() {
        for vendor in vendors() {
            for optional in [false, true] {
                let Err(error) = DnsUpdate::new(with(vendor, optional)) else { continue };
                // A key that has to be a real one.
                let is_of_a_key = ["google_cloud_dns", "oraclecloud", "transip"].contains(&vendor.name());
                assert!(is_of_a_key || !optional && vendor.name() == "cloudns", "{}", error.report());
                assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
                assert!(!error.report().contains("made-up-value"), "{}", error.report());
            }
        }
    }

    #[test]
    fn settings_of_a_wrong_form_are_refused() {
        for (name, setting, value) in [
            ("inwx", "sandbox", "yes"),
            ("ovh", "endpoint", "ovh-mars"),
            ("rfc2136", "server", "nowhere at all"),
            ("rfc2136", "key_secret", "%%%%"),
            ("rfc2136", "key_algorithm", "rot13"),
        ] {
            let config = with(find(name).unwrap(), true).setting(setting, value);
            let error = DnsUpdate::new(config).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
            assert!(!error.report().contains("%%%%"), "{}", error.report());
        }
    }
}
