//! Questions to a DNS server, zone transfers and updates: what `dig` and `nsupdate` do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::process::Process;
use crate::{TestbedError, TsigKey, program};

/// Asks one server, and changes its zones behind the back of the code under test.
#[derive(Debug)]
pub struct DnsClient {
    ip: IpAddr,
    port: u16,
    dig: PathBuf,
    nsupdate: PathBuf,
}

impl DnsClient {
    pub(crate) fn new(addr: SocketAddr) -> Result<Self, TestbedError> {
        let dig = program::find(None, "dig", "bind9-dnsutils")?;
        let nsupdate = program::find(None, "nsupdate", "bind9-dnsutils")?;
        Ok(Self { ip: addr.ip(), port: addr.port(), dig, nsupdate })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        (self.ip, self.port).into()
    }

    pub(crate) fn nsupdate(&self) -> &Path {
        &self.nsupdate
    }

    /// All records of a zone by AXFR, one per line as `dig` writes them: name, TTL, class, type, data.
    pub async fn transfer(&self, key: &TsigKey, zone: &str) -> Result<Vec<String>, TestbedError> {
        let answer = self.dig(&["-y", &key.for_dig(), "+noall", "+answer", "+onesoa", zone, "AXFR"]).await?;
        if answer.contains("Transfer failed") || answer.trim().is_empty() {
            return Err(TestbedError::unexpected(format!("AXFR of {zone}"), answer));
        }
        Ok(records(&answer))
    }

    /// All TXT records of a zone by AXFR: name (without a dot at the end) and value (without quotes).
    pub async fn txt_records(
        &self,
        key: &TsigKey,
        zone: &str,
    ) -> Result<Vec<(String, String)>, TestbedError> {
        Ok(self.transfer(key, zone).await?.iter().filter_map(|record| txt(record)).collect())
    }

    /// The values at this name, through CNAMEs where the server follows them.
    pub async fn query_txt(&self, name: &str) -> Result<Vec<String>, TestbedError> {
        let answer = self.dig(&["+noall", "+answer", name, "TXT"]).await?;
        Ok(records(&answer).iter().filter_map(|record| txt(record)).map(|(_, value)| value).collect())
    }

    /// Runs `nsupdate` with these lines (`add …`, `delete …`, `prereq …`) and sends them as one update.
    pub async fn update(&self, key: &TsigKey, zone: &str, lines: &str) -> Result<(), TestbedError> {
        let input = format!("server {} {}\nzone {zone}\n{lines}\nsend\n", self.ip, self.port);
        let output = program::run(&self.nsupdate, &["-y", &key.for_dig()], &input).await?;
        if output.success {
            return Ok(());
        }
        Err(TestbedError::unexpected(format!("update of {zone} with key {}", key.name()), output.stderr))
    }

    /// Waits until it answers for each zone with authority, over UDP and TCP.
    pub(crate) async fn serves(
        &self,
        what: &str,
        process: &Process,
        zones: &[String],
    ) -> Result<(), TestbedError> {
        for zone in zones {
            process
                .wait_until(what, || async {
                    let (udp, tcp) = (ask_udp(self.addr(), zone).await, ask_tcp(self.addr(), zone).await);
                    (udp.is_ok_and(|answer| is_authoritative(&answer))
                        && tcp.is_ok_and(|answer| is_authoritative(&answer)))
                    .then_some(())
                })
                .await?;
        }
        Ok(())
    }

    async fn dig(&self, question: &[&str]) -> Result<String, TestbedError> {
        let (server, port) = (format!("@{}", self.ip), self.port.to_string());
        let args = [&["-r", &server, "-p", &port, "+time=5", "+tries=1"], question].concat();
        let output = program::run(&self.dig, &args, "").await?;
        if output.success {
            return Ok(output.stdout);
        }
        Err(TestbedError::unexpected(format!("dig {}", question.join(" ")), output.stdout + &output.stderr))
    }
}

fn records(answer: &str) -> Vec<String> {
    let lines = answer.lines().filter(|line| !line.is_empty() && !line.starts_with(';'));
    lines
        .map(|line| line.split('\t').filter(|field| !field.is_empty()).collect::<Vec<_>>().join(" "))
        .collect()
}

/// Name and value of a line `name ttl IN TXT "one" "two"`: the strings of one record are one value.
fn txt(record: &str) -> Option<(String, String)> {
    let mut fields = record.splitn(5, ' ');
    let name = fields.next()?.trim_end_matches('.').to_owned();
    let kind = fields.nth(2)?;
    let value = fields.next()?.trim();
    let value = value.strip_prefix('"')?.strip_suffix('"')?.replace("\" \"", "");
    (kind == "TXT").then_some((name, value))
}

/// Who serves `zone`? (SOA, class IN)
fn soa_question(zone: &str) -> Vec<u8> {
    let mut message = vec![0x2a, 0x2a, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in zone.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend(label.bytes());
    }
    message.extend([0, 0, 6, 0, 1]);
    message
}

/// NOERROR, the AA flag and an answer.
fn is_authoritative(answer: &[u8]) -> bool {
    matches!(answer, [_, _, flags, code, _, _, high, low, ..]
        if flags & 0x04 != 0 && code & 0x0f == 0 && (*high, *low) != (0, 0))
}

async fn ask_udp(addr: SocketAddr, zone: &str) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr =
        if addr.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(addr).await?;
    socket.send(&soa_question(zone)).await?;
    let mut answer = vec![0; 512];
    let length = tokio::time::timeout(std::time::Duration::from_secs(1), socket.recv(&mut answer)).await??;
    answer.truncate(length);
    Ok(answer)
}

async fn ask_tcp(addr: SocketAddr, zone: &str) -> std::io::Result<Vec<u8>> {
    let question = soa_question(zone);
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_u16(u16::try_from(question.len()).unwrap_or(u16::MAX)).await?;
    stream.write_all(&question).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
