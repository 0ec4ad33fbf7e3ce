//! The self-check: asks for the answer as the CA will.

use std::sync::Arc;
use std::time::Duration;

use crate::probe::{client_config, crypto_provider};
use crate::{Challenge, Deadline, Error, ErrorKind, Identifier, Result};

use super::WELL_KNOWN;

const PAUSE: Duration = Duration::from_millis(500);

/// Fetches the answer from `base` (`http://127.0.0.1`) until it is the right one, at most until the
/// deadline. Redirects are followed and certificates taken as they are, as the CA does.
pub(super) async fn fetch_until_right(base: &str, challenge: &Challenge, deadline: Deadline) -> Result<()> {
    let client = client(deadline)?;
    let url = format!("{}/{WELL_KNOWN}/{}", base.trim_end_matches('/'), challenge.token);
    loop {
        let attempt = deadline.capped(Duration::from_secs(5));
        let seen = attempt.run("http01.ready", "self-check", fetch(&client, &url, challenge)).await;
        let Err(error) = seen else { return Ok(()) };
        if error.kind() == ErrorKind::Config {
            return Err(error);
        }
        if !deadline.sleep(PAUSE).await {
            return Err(deadline
                .missed("http01.ready", "the answer cannot be fetched")
                .with("url", &url)
                .with("identifier", &challenge.identifier)
                .with_hint("the web server at this address has to serve the challenge folder without a login")
                .with_source(error));
        }
    }
}

fn client(deadline: Deadline) -> Result<reqwest::Client> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::Other, "http01.ready", "could not make an HTTP client").with_source(e)
    };
    let tls = client_config(Arc::new(crypto_provider())).map_err(|e| failed(e.into()))?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .pool_max_idle_per_host(0)
        .timeout(deadline.remaining())
        .build()
        .map_err(|e| failed(e.into()))
}

async fn fetch(client: &reqwest::Client, url: &str, challenge: &Challenge) -> Result<()> {
    let unavailable = |e: reqwest::Error| {
        let kind = if e.is_builder() { ErrorKind::Config } else { ErrorKind::Unavailable };
        Error::new(kind, "http01.ready", "the answer cannot be fetched").with("url", url).with_source(e)
    };
    let wanted = challenge.key_authorization.as_secret().expose();
    let request = client.get(url).header(http::header::HOST, host(&challenge.identifier));
    let mut answer = request.send().await.map_err(unavailable)?;
    let wrong = |why: String| Error::new(ErrorKind::Unavailable, "http01.ready", why).with("url", url);
    if !answer.status().is_success() {
        return Err(wrong(format!("the answer is status {}", answer.status().as_u16())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unavailable)? {
        body.extend_from_slice(&chunk);
        if body.len() > wanted.len() + 64 {
            break;
        }
    }
    // A CA ignores whitespace at the end (RFC 8555 section 8.3).
    if body.trim_ascii_end() == wanted.as_bytes() {
        return Ok(());
    }
    Err(wrong("the answer is another text".to_owned())
        .with("length", body.len())
        .with("wanted_length", wanted.len()))
}

/// The Host the CA sends, so that the right virtual server answers.
fn host(identifier: &Identifier) -> String {
    match identifier {
        Identifier::Ip(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
        other => other.to_string(),
    }
}
