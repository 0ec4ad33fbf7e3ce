//! BIND: an authoritative DNS server that takes updates signed by TSIG.

mod builder;
mod key;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::process::Process;
use crate::{Port, TestbedError, program};

pub use builder::BindBuilder;
pub use key::{TsigAlgorithm, TsigKey};

/// A running BIND; ended on drop.
///
/// It serves its zones and follows CNAMEs between them; an empty root zone of its own keeps every other question
/// on the machine. Each zone has `ns1.<zone>` as its name server, at the address it listens on: the port is not 53, so
/// clients are told [`addr`](Self::addr).
///
/// Two can be the name servers of one zone: NS records name no port, so they share one, on 127.0.0.1 and on `::1`
/// ([`beside`](Self::beside), [`secondary`](Self::secondary)). BIND does not listen on 127.0.0.2 and its like, which
/// no interface has.
#[derive(Debug)]
pub struct Bind {
    // First, so that the server ends before its folder and port are given back.
    process: Process,
    port: Arc<Port>,
    ip: IpAddr,
    zones: Vec<String>,
    keys: Vec<TsigKey>,
    named: PathBuf,
    dig: PathBuf,
    nsupdate: PathBuf,
    _dir: TempDir,
}

impl Bind {
    /// A server without zones yet, with one key that may change and transfer everything.
    pub fn builder() -> BindBuilder {
        BindBuilder::default()
    }

    /// Starts one that serves `example.test`.
    pub async fn start() -> Result<Self, TestbedError> {
        Self::builder().zone("example.test").start().await
    }

    /// A server at the same port of `::1`, with the same keys.
    pub fn beside(&self) -> BindBuilder {
        Self::builder().on_ipv6().sharing(Arc::clone(&self.port), self.keys.clone())
    }

    /// A secondary of all its zones, [`beside`](Self::beside) it. It is not notified: it asks for news as often as
    /// [the zones say](BindBuilder::refresh).
    pub fn secondary(&self) -> BindBuilder {
        self.beside().secondary_of(self.addr(), &self.zones)
    }

    /// Where it listens, over UDP and TCP.
    pub fn addr(&self) -> SocketAddr {
        (self.ip, self.port.number()).into()
    }

    /// The zones it serves, without a dot at the end.
    pub fn zones(&self) -> &[String] {
        &self.zones
    }

    /// The process id, `None` while stopped.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// The key that may update and transfer every zone.
    pub fn tsig(&self) -> &TsigKey {
        &self.keys[0]
    }

    /// The name of [`tsig`](Self::tsig).
    pub fn tsig_name(&self) -> &str {
        self.tsig().name()
    }

    /// The secret of [`tsig`](Self::tsig).
    pub fn tsig_secret_base64(&self) -> &str {
        self.tsig().secret_base64()
    }

    /// The algorithm of [`tsig`](Self::tsig).
    pub fn tsig_algorithm(&self) -> TsigAlgorithm {
        self.tsig().algorithm()
    }

    /// The key of this name: see [`BindBuilder::add_key`].
    pub fn key(&self, name: &str) -> Option<&TsigKey> {
        self.keys.iter().find(|key| key.name() == name)
    }

    /// All records of a zone by AXFR, one per line as `dig` writes them: name, TTL, class, type, data.
    pub async fn transfer(&self, zone: &str) -> Result<Vec<String>, TestbedError> {
        self.transfer_with(self.tsig(), zone).await
    }

    /// [`transfer`](Self::transfer) with another key.
    pub async fn transfer_with(&self, key: &TsigKey, zone: &str) -> Result<Vec<String>, TestbedError> {
        let answer = self.dig(&["-y", &key.for_dig(), "+noall", "+answer", "+onesoa", zone, "AXFR"]).await?;
        if answer.contains("Transfer failed") || answer.trim().is_empty() {
            return Err(TestbedError::unexpected(format!("AXFR of {zone}"), answer));
        }
        Ok(records(&answer))
    }

    /// All TXT records of a zone by AXFR: name (without a dot at the end) and value (without quotes).
    pub async fn txt_records(&self, zone: &str) -> Result<Vec<(String, String)>, TestbedError> {
        Ok(self.transfer(zone).await?.iter().filter_map(|record| txt(record)).collect())
    }

    /// The values at this name as a resolver sees them, through CNAMEs.
    pub async fn query_txt(&self, name: &str) -> Result<Vec<String>, TestbedError> {
        let answer = self.dig(&["+noall", "+answer", name, "TXT"]).await?;
        Ok(records(&answer).iter().filter_map(|record| txt(record)).map(|(_, value)| value).collect())
    }

    /// Runs `nsupdate` with these lines (`add …`, `delete …`, `prereq …`) and sends them as one update.
    pub async fn update(&self, key: &TsigKey, zone: &str, lines: &str) -> Result<(), TestbedError> {
        let addr = self.addr();
        let input = format!("server {} {}\nzone {zone}\n{lines}\nsend\n", addr.ip(), addr.port());
        let output = program::run(&self.nsupdate, &["-y", &key.for_dig()], &input).await?;
        if output.success {
            return Ok(());
        }
        Err(TestbedError::unexpected(format!("update of {zone} with key {}", key.name()), output.stderr))
    }

    /// Adds a TXT record behind the back of the code under test.
    pub async fn add_txt(&self, zone: &str, name: &str, value: &str) -> Result<(), TestbedError> {
        let name = name.trim_end_matches('.');
        self.update(self.tsig(), zone, &format!("add {name}. 1 TXT \"{value}\"")).await
    }

    /// The version of the program, such as `9.18.49-1~deb12u3-Debian`.
    pub async fn version(&self) -> Result<String, TestbedError> {
        let output = program::run(&self.named, &["-v"], "").await?;
        Ok(output.stdout.split_whitespace().nth(1).unwrap_or("unknown").to_owned())
    }

    pub(crate) fn nsupdate(&self) -> &Path {
        &self.nsupdate
    }

    /// Everything it wrote, over all its starts.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Stops it where it stands: questions arrive and nothing answers.
    pub fn freeze(&self) -> Result<(), TestbedError> {
        self.process.freeze()
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    pub fn thaw(&self) -> Result<(), TestbedError> {
        self.process.thaw()
    }

    /// Ends it; its port stays reserved and refuses until [`restart`](Self::restart).
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Ends it (if it runs) and starts it again on the same port; updates are replayed from its journal.
    pub async fn restart(&self) -> Result<(), TestbedError> {
        self.process.respawn()?;
        self.ready().await
    }

    async fn ready(&self) -> Result<(), TestbedError> {
        for zone in &self.zones {
            self.process
                .wait_until("BIND serves its zones", || async {
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
        let (server, port) = (format!("@{}", self.ip), self.addr().port().to_string());
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
