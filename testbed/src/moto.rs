//! moto: a server of AWS's APIs.
//!
//! It takes any credential: it can be told to check signatures, but then refuses every request with a query. With
//! Route 53 it is more lenient than AWS: it takes a `DELETE` of what was there at any time, leaves two record sets
//! where AWS refuses a second `CREATE`, refuses a `CREATE` that it has seen before, and every change is in sync at
//! once. What depends on these is to be tested against something stricter.

use std::path::PathBuf;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use crate::process::{Process, Spec};
use crate::{Port, TestbedError, free_port, program};

const WITHIN: Duration = Duration::from_secs(10);

/// A record set, as moto has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MotoRecords {
    /// The name, with a dot at the end.
    pub name: String,
    /// The type.
    pub kind: String,
    /// The TTL, in seconds.
    pub ttl: u64,
    /// The values: those of type TXT in their quotes.
    pub values: Vec<String>,
}

/// A running moto; ended on drop.
#[derive(Debug)]
pub struct Moto {
    // First, so that the server ends before its folder and port are given back.
    process: Process,
    port: Port,
    _dir: TempDir,
}

impl Moto {
    /// Starts one without zones.
    pub async fn start() -> Result<Self, TestbedError> {
        let mut attempt = 0;
        loop {
            match Self::start_once().await {
                Err(error) if error.is_port_conflict() && attempt < 3 => attempt += 1,
                ended => return ended,
            }
        }
    }

    async fn start_once() -> Result<Self, TestbedError> {
        let environment: PathBuf = program::workspace_root().join(".testbed/moto/bin/python");
        let python = program::find(Some(&environment), "python", "python3-venv")?;
        let dir = tempfile::tempdir().map_err(TestbedError::io("make moto's folder"))?;
        let port = free_port()?;
        let spec = Spec {
            name: "moto",
            program: python,
            args: ["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.number().to_string()]
                .map(str::to_owned)
                .to_vec(),
            env: Vec::new(),
            dir: dir.path().to_owned(),
        };
        let moto = Self { process: Process::spawn(spec)?, port, _dir: dir };
        moto.process
            .wait_until("moto answers", || async {
                let head = format!("GET /moto-api/data.json HTTP/1.0\r\nHost: {}\r\n\r\n", moto.port.addr());
                exchange(&moto.port, head, "").await.ok().filter(|(status, _)| *status == 200)
            })
            .await?;
        Ok(moto)
    }

    /// Where it is: `http://127.0.0.1:PORT`, for every service.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.addr())
    }

    /// Everything it wrote.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Makes a zone and answers its id.
    pub async fn create_zone(&self, name: &str, private: bool) -> Result<String, TestbedError> {
        let reference: u64 = rand::random();
        let vpc = "<VPC><VPCRegion>us-east-1</VPCRegion><VPCId>vpc-1a2b3c4d</VPCId></VPC>";
        let body = format!(
            "<CreateHostedZoneRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Name>{name}.</Name>{}\
             <CallerReference>{reference}</CallerReference><HostedZoneConfig><PrivateZone>{private}</PrivateZone>\
             </HostedZoneConfig></CreateHostedZoneRequest>",
            if private { vpc } else { "" },
        );
        let made = self.route53("POST", "/2013-04-01/hostedzone", "", &body).await?;
        let id =
            elements(&made, "Id").first().and_then(|id| id.strip_prefix("/hostedzone/")).map(str::to_owned);
        id.ok_or_else(|| TestbedError::unexpected("moto CreateHostedZone", made))
    }

    /// Sets the whole record set, past whoever else changes it: `set(zone, "a.example.test", "TXT", 60, &["\"v\""])`.
    pub async fn set(
        &self,
        zone: &str,
        name: &str,
        kind: &str,
        ttl: u64,
        values: &[&str],
    ) -> Result<(), TestbedError> {
        let values: String = values
            .iter()
            .map(|value| format!("<ResourceRecord><Value>{}</Value></ResourceRecord>", escape(value)))
            .collect();
        let body = format!(
            "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeBatch>\
             <Changes><Change><Action>UPSERT</Action><ResourceRecordSet><Name>{name}.</Name><Type>{kind}</Type>\
             <TTL>{ttl}</TTL><ResourceRecords>{values}</ResourceRecords></ResourceRecordSet></Change></Changes>\
             </ChangeBatch></ChangeResourceRecordSetsRequest>",
        );
        self.route53("POST", &format!("/2013-04-01/hostedzone/{zone}/rrset"), "", &body).await.map(drop)
    }

    /// All record sets of a zone but its own NS and SOA.
    pub async fn records(&self, zone: &str) -> Result<Vec<MotoRecords>, TestbedError> {
        let path = format!("/2013-04-01/hostedzone/{zone}/rrset");
        let answer = self.route53("GET", &path, "maxitems=300", "").await?;
        let one = |set: &&str| {
            let first = |tag: &str| elements(set, tag).first().map(|text| unescape(text)).unwrap_or_default();
            MotoRecords {
                name: first("Name"),
                kind: first("Type"),
                ttl: first("TTL").parse().unwrap_or_default(),
                values: elements(set, "Value").iter().map(|value| unescape(value)).collect(),
            }
        };
        let all = elements(&answer, "ResourceRecordSet").iter().map(one).collect::<Vec<_>>();
        Ok(all.into_iter().filter(|set| set.kind != "NS" && set.kind != "SOA").collect())
    }

    async fn route53(
        &self,
        method: &str,
        path: &str,
        query: &str,
        body: &str,
    ) -> Result<String, TestbedError> {
        let mark = if query.is_empty() { "" } else { "?" };
        // It finds the service in the credential, and nothing else.
        let head = format!(
            "{method} {path}{mark}{query} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=testbed/20260101/us-east-1/route53/aws4_request, \
             SignedHeaders=host, Signature=0\r\n\r\n",
            self.port.addr(),
            body.len()
        );
        let (status, answer) = exchange(&self.port, head, body).await?;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        Err(TestbedError::unexpected(format!("moto {method} {path}: {status}"), answer))
    }
}

/// HTTP/1.0, so that the answer ends with the connection and is never chunked.
async fn exchange(port: &Port, head: String, body: &str) -> Result<(u16, String), TestbedError> {
    let what = "ask moto";
    let asked = async {
        let mut stream = TcpStream::connect(port.addr()).await.map_err(TestbedError::io(what))?;
        stream.write_all((head + body).as_bytes()).await.map_err(TestbedError::io(what))?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map_err(TestbedError::io(what))?;
        Ok::<_, TestbedError>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(WITHIN, asked).await.map_err(|_| TestbedError::NotReady {
        what: "moto answers".to_owned(),
        waited: WITHIN,
        log: String::new(),
    })??;
    let read = answer.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    });
    read.ok_or_else(|| TestbedError::unexpected(what, answer))
}

/// What stands between `<tag>` and `</tag>`, each time. Enough for what moto writes.
fn elements<'a>(xml: &'a str, tag: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    xml.split(&open).skip(1).filter_map(|rest| rest.split_once(&close)).map(|(text, _)| text).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn unescape(text: &str) -> String {
    let plain = text.replace("&quot;", "\"").replace("&#34;", "\"").replace("&#39;", "'");
    plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_set_is_there() {
        let moto = Moto::start().await.unwrap();
        let zone = moto.create_zone("example.test", false).await.unwrap();
        moto.set(&zone, "a.example.test", "TXT", 60, &["\"a & b\"", "\"c\""]).await.unwrap();
        let there = moto.records(&zone).await.unwrap();
        assert_eq!(there.len(), 1, "{there:?}");
        assert_eq!((there[0].name.as_str(), there[0].ttl), ("a.example.test.", 60));
        assert_eq!(there[0].values, ["\"a & b\"", "\"c\""]);
        assert!(moto.records("Z0NOWHERE").await.unwrap_err().to_string().contains("NoSuchHostedZone"));
    }
}
