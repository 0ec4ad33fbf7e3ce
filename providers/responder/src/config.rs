//! Which zones are served, as whom, and where.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use acmekit_core::{DnsName, Error, ErrorKind, Result};
use hickory_proto::rr::Name;
use serde::Deserialize;

use crate::name::record_name;

/// Which zones are served, as whom, and where.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The apex of each zone, such as `_acme-challenge.example.com` or `acme.example.net`.
    pub zones: Vec<DnsName>,
    /// The names of the name servers, as the NS records of the delegation have them. The first one is the
    /// primary in the SOA record.
    pub name_servers: Vec<DnsName>,
    /// The addresses of names in these zones: of each name server that lies in one, so that it is found.
    #[serde(default)]
    pub addresses: BTreeMap<DnsName, Vec<IpAddr>>,
    /// The mail address in the SOA record (default `hostmaster@<zone>`).
    #[serde(default)]
    pub contact: Option<String>,
    /// Where to listen, over UDP and TCP each: `192.0.2.53:53`, `[2001:db8::53]:53`. None at all: the values
    /// are only written to the store, and another process on it answers.
    pub listen: Vec<SocketAddr>,
    /// How many answers over UDP a network (/24, /56) gets in a second, after twice as many at once (default
    /// 100); 0 is no limit.
    #[serde(default = "hundred")]
    pub answers_per_second: u32,
}

fn hundred() -> u32 {
    100
}

impl Config {
    /// Serves these zones as these name servers; where is still to be said: [`listen`](Self::listen).
    pub fn new(
        zones: impl IntoIterator<Item = DnsName>,
        name_servers: impl IntoIterator<Item = DnsName>,
    ) -> Self {
        Self {
            zones: zones.into_iter().collect(),
            name_servers: name_servers.into_iter().collect(),
            addresses: BTreeMap::new(),
            contact: None,
            listen: Vec::new(),
            answers_per_second: hundred(),
        }
    }

    /// Listens here, too, over UDP and TCP.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen.push(address);
        self
    }

    /// Gives a name in one of the zones an address; several times, several addresses.
    #[must_use]
    pub fn address(mut self, name: DnsName, address: IpAddr) -> Self {
        self.addresses.entry(name).or_default().push(address);
        self
    }

    /// Sets the mail address in the SOA record.
    #[must_use]
    pub fn contact(mut self, address: impl Into<String>) -> Self {
        self.contact = Some(address.into());
        self
    }

    /// Sets how many answers over UDP a network gets in a second.
    #[must_use]
    pub fn answers_per_second(mut self, count: u32) -> Self {
        self.answers_per_second = count;
        self
    }

    /// Refuses what cannot work; [`Responder::new`](crate::Responder::new) does so, too.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: the field, what is wrong with it, and what to do.
    pub fn check(&self) -> Result<()> {
        let Some(first) = self.zones.first() else {
            return Err(refuse("zones", "there is no zone to serve")
                .with_hint("name the zone that is delegated here, such as `_acme-challenge.example.com`"));
        };
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.zones.iter().find(|zone| !seen.insert(*zone)) {
            return Err(refuse("zones", "the zone is there twice").with("zone", twice));
        }
        if self.name_servers.is_empty() {
            return Err(refuse("name_servers", "there is no name server").with("zone", first).with_hint(
                "name the host that the NS record of the delegation points to, such as `acme.example.net`",
            ));
        }
        for (name, addresses) in &self.addresses {
            if self.zone_of(name).is_none() {
                return Err(refuse("addresses", "this name is in none of the zones")
                    .with("name", name)
                    .with_hint("its address belongs into the zone it is in; take it out here"));
            }
            if addresses.is_empty() {
                return Err(refuse("addresses", "this name has no address").with("name", name));
            }
        }
        for server in &self.name_servers {
            if self.zone_of(server).is_some() && !self.addresses.contains_key(server) {
                return Err(refuse(
                    "addresses",
                    "a name server lies in a zone served here, and has no address",
                )
                .with("name_server", server)
                .with_hint("give it the address that the delegation's glue record has"));
            }
        }
        self.zones.iter().try_for_each(|zone| self.mailbox(zone).map(drop))
    }

    /// The longest of the zones that holds the name.
    pub(crate) fn zone_of(&self, name: &DnsName) -> Option<&DnsName> {
        let holding = self.zones.iter().filter(|zone| name.is_within(zone));
        holding.max_by_key(|zone| zone.as_str().len())
    }

    /// The mail address as a name: what is before the `@` is the first label (RFC 1035 section 8).
    pub(crate) fn mailbox(&self, zone: &DnsName) -> Result<Name> {
        let Some(address) = &self.contact else { return prefixed("hostmaster", zone) };
        let parts = address.split_once('@');
        let read = parts.and_then(|(local, domain)| Some((local, domain.parse::<DnsName>().ok()?)));
        let made = read.and_then(|(local, domain)| prefixed(local, &domain).ok());
        made.ok_or_else(|| {
            refuse("contact", "this is no mail address")
                .with("contact", address)
                .with_hint("write it as in `hostmaster@example.com`")
        })
    }
}

fn prefixed(label: &str, name: &DnsName) -> Result<Name> {
    let failed =
        |e| refuse("contact", "this cannot be put into a SOA record").with("zone", name).with_source(e);
    record_name(name)?.prepend_label(label.as_bytes()).map_err(failed)
}

fn refuse(field: &'static str, why: &str) -> Error {
    Error::new(ErrorKind::Config, "responder.config", why).with("field", field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    fn refused(config: &Config) -> String {
        let error = config.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.report()
    }

    #[test]
    fn what_cannot_work_is_refused_by_field() {
        let outside = name("ns.example.net");
        let config = Config::new([name("acme.test")], [outside.clone()]);
        config.check().unwrap();
        assert!(refused(&Config::new([], [outside.clone()])).contains("field=zones"));
        assert!(refused(&Config::new([name("a.test"), name("A.test")], [outside])).contains("twice"));
        assert!(refused(&Config::new([name("acme.test")], [])).contains("field=name_servers"));
        let foreign = config.clone().address(name("ns.example.net"), [192, 0, 2, 1].into());
        assert!(refused(&foreign).contains("none of the zones"));
        let lonely = Config::new([name("acme.test")], [name("ns.acme.test")]);
        assert!(refused(&lonely).contains("name_server=ns.acme.test"));
        lonely.address(name("ns.acme.test"), [192, 0, 2, 1].into()).check().unwrap();
        for bad in ["hostmaster", "@example.com", "a@b c"] {
            assert!(refused(&config.clone().contact(bad)).contains("contact"), "{bad}");
        }
    }

    #[test]
    fn a_dot_before_the_at_sign_stays_in_its_label() {
        let config = Config::new([name("acme.test")], [name("ns.example.net")]).contact("a.b@example.com");
        let mailbox = config.mailbox(&name("acme.test")).unwrap();
        assert_eq!(mailbox.iter().next().unwrap(), b"a.b");
    }

    #[test]
    fn a_file_is_read_strictly() {
        let text = r#"{"zones":["acme.test"],"name_servers":["ns.acme.test"],"listen":["127.0.0.1:53"],
            "addresses":{"ns.acme.test":["192.0.2.1"]}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        config.check().unwrap();
        assert_eq!(config.answers_per_second, 100);
        assert!(serde_json::from_str::<Config>(r#"{"zones":[],"name_servers":[],"lisen":[]}"#).is_err());
    }
}
