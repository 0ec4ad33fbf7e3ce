//! A DNS server and an HTTP server that say what a test tells them.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CAA, CNAME, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What the zone has for a name and a type.
#[derive(Debug, Clone)]
enum Entry {
    Data(Vec<RData>),
    Fails,
    Silent,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Zone {
    entries: HashMap<(String, RecordType), Entry>,
    aliases: HashMap<String, String>,
    tcp_only: bool,
}

impl Zone {
    fn with(mut self, name: &str, kind: RecordType, data: impl IntoIterator<Item = RData>) -> Self {
        self.entries.insert((name.to_owned(), kind), Entry::Data(data.into_iter().collect()));
        self
    }
    pub(super) fn address(self, name: &str, ip: &str) -> Self {
        match ip.parse().unwrap() {
            IpAddr::V4(ip) => self.with(name, RecordType::A, [RData::A(A(ip))]),
            IpAddr::V6(ip) => self.with(name, RecordType::AAAA, [RData::AAAA(AAAA(ip))]),
        }
    }
    /// Each value is one record of one string.
    pub(super) fn txt(self, name: &str, values: &[&str]) -> Self {
        let data = values.iter().map(|value| RData::TXT(TXT::new(vec![(*value).to_owned()])));
        self.with(name, RecordType::TXT, data)
    }
    /// One record of several strings.
    pub(super) fn txt_in_parts(self, name: &str, parts: &[&str]) -> Self {
        let parts = parts.iter().map(|part| (*part).to_owned()).collect();
        self.with(name, RecordType::TXT, [RData::TXT(TXT::new(parts))])
    }
    /// Each is critical, the tag, and the value.
    pub(super) fn caa(self, name: &str, properties: &[(bool, &str, &str)]) -> Self {
        let data = properties.iter().map(|(critical, tag, value)| {
            let mut caa = CAA::new_issue(*critical, None, Vec::new());
            caa.tag = (*tag).to_owned();
            caa.value = value.as_bytes().to_vec();
            RData::CAA(caa)
        });
        self.with(name, RecordType::CAA, data)
    }
    pub(super) fn alias(mut self, name: &str, target: &str) -> Self {
        self.aliases.insert(name.to_owned(), target.to_owned());
        self
    }
    pub(super) fn fails(mut self, name: &str, kind: RecordType) -> Self {
        self.entries.insert((name.to_owned(), kind), Entry::Fails);
        self
    }
    pub(super) fn silent(mut self, name: &str, kind: RecordType) -> Self {
        self.entries.insert((name.to_owned(), kind), Entry::Silent);
        self
    }
    /// By UDP every answer is cut.
    pub(super) fn tcp_only(mut self) -> Self {
        self.tcp_only = true;
        self
    }

    fn answer(&self, request: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let request = Message::from_vec(request).ok()?;
        let query = request.queries.first()?.clone();
        let mut reply = Message::new(request.metadata.id, MessageType::Response, OpCode::Query);
        reply.metadata.recursion_desired = true;
        reply.metadata.recursion_available = true;
        reply.add_query(query.clone());
        if self.tcp_only && !tcp {
            reply.metadata.truncation = true;
            return reply.to_vec().ok();
        }
        let text = |name: &Name| name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        let mut name = query.name().clone();
        while let Some(target) = self.aliases.get(&text(&name)) {
            let target = Name::from_ascii(format!("{target}.")).unwrap();
            reply.add_answer(Record::from_rdata(name, 60, RData::CNAME(CNAME(target.clone()))));
            name = target;
            if reply.answers.len() > 20 {
                break;
            }
        }
        match self.entries.get(&(text(&name), query.query_type())) {
            Some(Entry::Data(data)) => {
                reply.add_answers(data.iter().map(|data| Record::from_rdata(name.clone(), 60, data.clone())));
            }
            Some(Entry::Fails) => reply.metadata.response_code = ResponseCode::ServFail,
            Some(Entry::Silent) => return None,
            None => reply.metadata.response_code = ResponseCode::NXDomain,
        }
        reply.to_vec().ok()
    }
}

/// A running DNS server; it ends with the test.
#[derive(Debug)]
pub(super) struct FakeDns {
    pub(super) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl FakeDns {
    pub(super) async fn start(zone: Zone) -> Self {
        Self::start_at(IpAddr::V4(Ipv4Addr::LOCALHOST), zone).await
    }

    pub(super) async fn start_at(ip: IpAddr, zone: Zone) -> Self {
        // The same port must be free for both; another try costs nothing.
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind((ip, 0)).await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (tcp, udp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let zone = Arc::new(zone);
        let mut tasks = JoinSet::new();
        let by_udp = Arc::clone(&zone);
        tasks.spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer).await {
                if let Some(reply) = by_udp.answer(&buffer[..length], false) {
                    let _ = udp.send_to(&reply, peer).await;
                }
            }
        });
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                // One connection at a time is enough, and hickory keeps it open.
                while let Ok(length) = stream.read_u16().await {
                    let mut request = vec![0; usize::from(length)];
                    if stream.read_exact(&mut request).await.is_err() {
                        break;
                    }
                    if let Some(reply) = zone.answer(&request, true) {
                        let _ = stream.write_u16(u16::try_from(reply.len()).unwrap()).await;
                        let _ = stream.write_all(&reply).await;
                    }
                }
            }
        });
        Self { address, _tasks: tasks }
    }
}

/// What a web server does with a request.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Body(u16, Vec<u8>),
    Redirect(String),
    Hang,
    Close,
}

/// A running web server, and the `Host` and path of each request.
#[derive(Debug)]
pub(super) struct FakeWeb {
    pub(super) port: u16,
    pub(super) seen: Arc<Mutex<Vec<(String, String)>>>,
    _tasks: JoinSet<()>,
}

type Answers = dyn Fn(&str) -> Reply + Send + Sync;

impl FakeWeb {
    pub(super) async fn start(answers: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1", None, answers).await
    }

    pub(super) async fn start_at(
        ip: &str,
        tls: Option<TlsAcceptor>,
        answers: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let answers: Arc<Answers> = Arc::new(answers);
        let mut tasks = JoinSet::new();
        let record = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, answers, seen) = (tls.clone(), Arc::clone(&answers), Arc::clone(&record));
                connections.spawn(async move {
                    let _ = connection(stream, tls, &*answers, &seen).await;
                });
            }
        });
        Self { port, seen, _tasks: tasks }
    }

    pub(super) fn hosts(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(host, _)| host.clone()).collect()
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    answers: &Answers,
    seen: &Mutex<Vec<(String, String)>>,
) -> io::Result<()> {
    match tls {
        Some(tls) => exchange(tls.accept(stream).await?, answers, seen).await,
        None => exchange(stream, answers, seen).await,
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send>(
    mut stream: S,
    answers: &Answers,
    seen: &Mutex<Vec<(String, String)>>,
) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let host = request
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("host: ").map(str::to_owned))
        .unwrap();
    seen.lock().unwrap().push((host, path.clone()));
    let (head, body) = match answers(&path) {
        Reply::Body(status, body) => (format!("HTTP/1.1 {status} X"), body),
        Reply::Redirect(target) => (format!("HTTP/1.1 302 Found\r\nlocation: {target}"), Vec::new()),
        Reply::Hang => std::future::pending().await,
        Reply::Close => return Ok(()),
    };
    let head = format!("{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

/// A port at which nobody listens.
pub(super) async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}
