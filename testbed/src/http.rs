//! One HTTPS request to a server of the testbed; small enough to need no HTTP client.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::{TestbedError, tls};

const WITHIN: Duration = Duration::from_secs(10);

/// An HTTP answer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// HTTP/1.0, so that the answer ends with the connection and is never chunked.
pub(crate) async fn request(
    method: &str,
    addr: SocketAddr,
    path: &str,
    body: &str,
    root_pem: &str,
) -> Result<HttpResponse, TestbedError> {
    let what = format!("{method} https://{addr}{path}");
    let exchange = async {
        let mut stream = tls::connect_verified(addr, root_pem).await?;
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {addr}\r\nUser-Agent: acmekit-testbed\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.map_err(TestbedError::io(&what))?;
        stream.write_all(body.as_bytes()).await.map_err(TestbedError::io(&what))?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map_err(TestbedError::io(&what))?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        parse(&answer).ok_or_else(|| TestbedError::unexpected(&what, answer))
    };
    timeout(WITHIN, exchange).await.map_err(|_| TestbedError::NotReady {
        what: what.clone(),
        waited: WITHIN,
        log: String::new(),
    })?
}

fn parse(answer: &str) -> Option<HttpResponse> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(HttpResponse { status, body: body.to_owned() })
}
