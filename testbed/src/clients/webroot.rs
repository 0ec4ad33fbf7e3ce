//! A web server for the one folder a hook writes to.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::TestbedError;

/// How long one who connects may take.
const WITHIN: Duration = Duration::from_secs(2);

/// Serves the files in `webroot` under `/.well-known/acme-challenge/`, one connection after the other, until
/// nobody can connect any more.
pub(super) async fn serve(listener: &TcpListener, webroot: &Path) -> TestbedError {
    loop {
        match listener.accept().await {
            // The CA says what it did not get.
            Ok((stream, _)) => drop(timeout(WITHIN, answer(stream, webroot)).await),
            Err(error) => return TestbedError::io("accept a connection")(error),
        }
    }
}

async fn answer(stream: TcpStream, webroot: &Path) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if (&mut stream).take(8_192).read_until(b'\n', &mut head).await? == 0 || head.len() > 8_192 {
            return Ok(());
        }
    }
    let body =
        token(&String::from_utf8_lossy(&head)).and_then(|token| std::fs::read(webroot.join(token)).ok());
    let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
    let body = body.unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let stream = stream.get_mut();
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

/// The file asked for; `None` for whatever is no challenge.
fn token(head: &str) -> Option<&str> {
    let path = head.strip_prefix("GET ")?.split(' ').next()?;
    let token = path.strip_prefix("/.well-known/acme-challenge/")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (!token.is_empty() && token.bytes().all(plain)).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_token_is_a_file() {
        assert_eq!(token("GET /.well-known/acme-challenge/a-B_9 HTTP/1.1\r\n\r\n"), Some("a-B_9"));
        for other in ["", "../x", "a/b", "%2e"] {
            assert_eq!(token(&format!("GET /.well-known/acme-challenge/{other} HTTP/1.1\r\n\r\n")), None);
        }
        assert_eq!(token("POST /.well-known/acme-challenge/a HTTP/1.1\r\n\r\n"), None);
    }
}
