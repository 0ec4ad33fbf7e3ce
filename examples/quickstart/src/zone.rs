//! A DNS server in this process, and the `DnsProvider` for its zones: a model for one's own.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use acmekit::{DnsName, DnsProvider, Error, ErrorKind, RecordHandle, Result, TxtRecord, Zone, async_trait};
use hickory_server::Server;
use hickory_server::proto::rr::rdata::{A, NS, SOA, TXT};
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordType, RrKey};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

/// What one changes through the server's API; here: its tables themselves.
#[derive(Clone)]
pub(crate) struct Zones(Arc<BTreeMap<DnsName, Arc<InMemoryZoneHandler>>>);

#[async_trait]
impl DnsProvider for Zones {
    fn id(&self) -> &str {
        "in-process"
    }

    async fn zone(&self, name: &DnsName) -> Result<Option<Zone>> {
        Ok(name.ancestors().find(|apex| self.0.contains_key(apex)).map(Zone::new))
    }

    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        // Adds one value to those already there; one that is there already is not doubled.
        self.table(zone)?.upsert(txt(record)?, 0).await;
        Ok(RecordHandle::intent(self.id(), zone.clone(), record.clone()))
    }

    async fn remove_txt(&self, handle: &RecordHandle) -> Result<()> {
        let record = txt(&handle.record)?;
        let key = RrKey::new(LowerName::new(&record.name), RecordType::TXT);
        let mut records = self.table(&handle.zone)?.records_mut().await;
        // Exactly this value: the name and its wildcard share a name, and others may use it too.
        if let Some(values) = records.get_mut(&key) {
            Arc::make_mut(values).remove(&record, 0);
            if values.is_empty() {
                records.remove(&key);
            }
        }
        Ok(())
    }
}

impl Zones {
    fn table(&self, zone: &Zone) -> Result<&InMemoryZoneHandler> {
        self.0.get(&zone.name).map(AsRef::as_ref).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "in_process.zone", "this server does not have the zone")
                .with("zone", &zone.name)
        })
    }
}

impl fmt::Debug for Zones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn txt(record: &TxtRecord) -> Result<Record> {
    let ttl = u32::try_from(record.ttl.as_secs()).unwrap_or(u32::MAX);
    let value = TXT::from_bytes(vec![record.value.as_bytes()]);
    Ok(Record::from_rdata(absolute(record.name.as_str())?, ttl, RData::TXT(value)))
}

fn absolute(name: &str) -> Result<Name> {
    Name::from_ascii(format!("{name}.")).map_err(|e| {
        Error::new(ErrorKind::Config, "in_process.name", "the DNS cannot hold this name")
            .with("name", name)
            .with_source(e)
    })
}

/// All the DNS there is: whatever is not in one of its zones does not exist.
pub(crate) struct DnsServer {
    address: SocketAddr,
    zones: Zones,
    server: Server<Catalog>,
}

impl DnsServer {
    /// Serves these zones on a free loopback port, over UDP and TCP.
    pub(crate) async fn start(apexes: &[DnsName]) -> Result<Self> {
        let mut zones = BTreeMap::new();
        let mut catalog = Catalog::new();
        // CAs climb from a name to the root for CAA records: these questions want an answer too.
        catalog.upsert(Name::root().into(), vec![Arc::new(table(Name::root(), &absolute("ns")?).await?)]);
        for apex in apexes {
            let table = table(absolute(apex.as_str())?, &absolute(&format!("ns.{apex}"))?).await?;
            let table = Arc::new(table);
            catalog.upsert(absolute(apex.as_str())?.into(), vec![Arc::clone(&table) as _]);
            zones.insert(apex.clone(), table);
        }
        let (udp, tcp, address) = one_port().await.map_err(|e| {
            Error::new(ErrorKind::Unavailable, "in_process.start", "no free port for the DNS server")
                .with_source(e)
        })?;
        let mut server = Server::new(catalog);
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 16);
        Ok(Self { address, zones: Zones(Arc::new(zones)), server })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn provider(&self) -> Zones {
        self.zones.clone()
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        self.server.shutdown_gracefully().await.map_err(|e| {
            Error::new(ErrorKind::Other, "in_process.stop", "the DNS server did not end well").with_source(e)
        })
    }
}

/// A zone with what every zone has: SOA, NS, and the name server's address.
async fn table(apex: Name, server: &Name) -> Result<InMemoryZoneHandler> {
    let table = InMemoryZoneHandler::empty(apex.clone(), ZoneType::Primary, AxfrPolicy::Deny);
    let records = [
        (apex.clone(), RData::SOA(SOA::new(server.clone(), server.clone(), 1, 60, 60, 60, 1))),
        (apex, RData::NS(NS(server.clone()))),
        (server.clone(), RData::A(A(Ipv4Addr::LOCALHOST))),
    ];
    for (owner, data) in records {
        if !table.upsert(Record::from_rdata(owner.clone(), 60, data), 1).await {
            return Err(Error::new(
                ErrorKind::Config,
                "in_process.start",
                "the zone cannot hold this record",
            )
            .with("owner", owner));
        }
    }
    Ok(table)
}

/// A port that is free for both transports.
async fn one_port() -> std::io::Result<(UdpSocket, TcpListener, SocketAddr)> {
    let mut tries_left = 20;
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = tcp.local_addr()?;
        tries_left -= 1;
        match UdpSocket::bind(address).await {
            Err(_) if tries_left > 0 => {}
            udp => return Ok((udp?, tcp, address)),
        }
    }
}

#[cfg(test)]
mod tests;
