//! What is at which name: zones, addresses and values, in memory.

use std::collections::HashMap;
use std::net::IpAddr;

use acmekit_core::{DnsName, Result};
use hickory_proto::rr::rdata::{A, AAAA, NS, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::config::Config;
use crate::name::{Key, ancestors, key, record_name};

/// How long resolvers may keep a value, and the word that there is none: the next value is seen at once.
const SHORT_TTL: u32 = 0;
/// How long they may keep what hardly ever changes.
const LONG_TTL: u32 = 300;

/// A zone's own records.
#[derive(Debug)]
pub(crate) struct Zone {
    pub(crate) key: Key,
    soa: Record,
    servers: Vec<Record>,
    server_keys: Vec<Key>,
}

/// What is at a name.
#[derive(Debug, Default)]
struct Node {
    addresses: Vec<IpAddr>,
    texts: Vec<String>,
    /// How many records there are at and below this name: with none, the name does not exist.
    records: usize,
}

#[derive(Debug)]
pub(crate) struct Tree {
    zones: Vec<Zone>,
    nodes: HashMap<Key, Node>,
}

impl Tree {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let mut tree = Self { zones: Vec::new(), nodes: HashMap::new() };
        let names = config.name_servers.iter().map(record_name).collect::<Result<Vec<Name>>>()?;
        for zone in &config.zones {
            let apex = record_name(zone)?;
            let primary = names.first().cloned().unwrap_or_default();
            // Nobody transfers the zone, so the serial says nothing.
            let soa = SOA::new(primary, config.mailbox(zone)?, 1, 3600, 600, 86_400, SHORT_TTL);
            let servers = names
                .iter()
                .map(|name| Record::from_rdata(apex.clone(), LONG_TTL, RData::NS(NS(name.clone()))));
            tree.zones.push(Zone {
                key: key(zone),
                servers: servers.collect(),
                server_keys: config.name_servers.iter().map(key).collect(),
                soa: Record::from_rdata(apex, SHORT_TTL, RData::SOA(soa)),
            });
        }
        // Longest first: the first that fits is the right one.
        tree.zones.sort_by_key(|zone| std::cmp::Reverse(zone.key.len()));
        for zone in &config.zones {
            tree.count(&key(zone), true);
        }
        for (name, addresses) in &config.addresses {
            let at = key(name);
            for address in addresses {
                tree.count(&at, true);
                if let Some(node) = tree.nodes.get_mut(&at) {
                    node.addresses.push(*address);
                }
            }
        }
        Ok(tree)
    }

    /// The zone a name is in.
    pub(crate) fn zone_of(&self, name: &[u8]) -> Option<&Zone> {
        self.zones.iter().find(|zone| ancestors(name).any(|part| part == &*zone.key))
    }

    /// Whether there is anything at this name or below it.
    pub(crate) fn exists(&self, name: &[u8]) -> bool {
        self.nodes.contains_key(name)
    }

    pub(crate) fn has_texts(&self, name: &[u8]) -> bool {
        self.nodes.get(name).is_some_and(|node| !node.texts.is_empty())
    }

    /// Whether there is any record at this very name.
    pub(crate) fn has_records(&self, name: &[u8]) -> bool {
        self.zones.iter().any(|zone| *zone.key == *name)
            || self.nodes.get(name).is_some_and(|node| !node.texts.is_empty() || !node.addresses.is_empty())
    }

    /// The records of a type at a name, which is spelled as it was asked for.
    pub(crate) fn records(&self, zone: &Zone, name: &[u8], owner: &Name, kind: RecordType) -> Vec<Record> {
        let own = |record: &Record| {
            let mut record = record.clone();
            record.name = owner.clone();
            record
        };
        match kind {
            RecordType::SOA if *zone.key == *name => vec![own(&zone.soa)],
            RecordType::NS if *zone.key == *name => zone.servers.iter().map(own).collect(),
            RecordType::TXT => {
                let texts = self.nodes.get(name).map(|node| node.texts.as_slice()).unwrap_or_default();
                let record = |text: &String| {
                    let data = RData::TXT(TXT::from_bytes(vec![text.as_bytes()]));
                    Record::from_rdata(owner.clone(), SHORT_TTL, data)
                };
                texts.iter().map(record).collect()
            }
            RecordType::A | RecordType::AAAA => {
                self.addresses(name, owner, |data| data.record_type() == kind)
            }
            _ => Vec::new(),
        }
    }

    fn addresses(&self, name: &[u8], owner: &Name, wanted: impl Fn(&RData) -> bool) -> Vec<Record> {
        let addresses = self.nodes.get(name).map(|node| node.addresses.as_slice()).unwrap_or_default();
        let data = addresses.iter().map(|address| match address {
            IpAddr::V4(ip) => RData::A(A(*ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(*ip)),
        });
        data.filter(wanted).map(|data| Record::from_rdata(owner.clone(), LONG_TTL, data)).collect()
    }

    /// The SOA record as it says for how long something is not there (RFC 2308 section 3).
    pub(crate) fn negative<'z>(&self, zone: &'z Zone) -> &'z Record {
        &zone.soa
    }

    /// The addresses of a zone's name servers, as far as they are known here.
    pub(crate) fn glue(&self, zone: &Zone) -> Vec<Record> {
        let servers = zone.servers.iter().zip(&zone.server_keys);
        let glue = servers.filter_map(|(record, key)| match &record.data {
            RData::NS(NS(name)) => Some(self.addresses(key, name, |_| true)),
            _ => None,
        });
        glue.flatten().collect()
    }

    pub(crate) fn add_text(&mut self, name: &DnsName, text: &str) {
        let at = key(name);
        if self.zone_of(&at).is_none() {
            return;
        }
        self.count(&at, true);
        if let Some(node) = self.nodes.get_mut(&at) {
            node.texts.push(text.to_owned());
        }
    }

    pub(crate) fn remove_text(&mut self, name: &DnsName, text: &str) {
        let at = key(name);
        let texts = self.nodes.get_mut(&at).map(|node| &mut node.texts);
        let Some((texts, index)) =
            texts.and_then(|texts| texts.iter().position(|there| there == text).map(|index| (texts, index)))
        else {
            return;
        };
        texts.remove(index);
        self.count(&at, false);
    }

    /// Counts a record at a name in or out, for every name of ours above it, too.
    fn count(&mut self, name: &[u8], more: bool) {
        for part in ancestors(name) {
            if self.zone_of(part).is_none() {
                return;
            }
            let node = self.nodes.entry(part.into()).or_default();
            node.records = if more { node.records + 1 } else { node.records.saturating_sub(1) };
            if node.records == 0 {
                self.nodes.remove(part);
            }
        }
    }
}
