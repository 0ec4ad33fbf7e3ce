//! A permission by HTTP.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;

use super::Permission;
use crate::{DnsName, Error, ErrorKind, Result};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks an HTTP server which names are allowed, by `GET <URL>?domain=<name>`: the same question as Caddy's `ask`
/// (<https://caddyserver.com/docs/caddyfile/options#on-demand-tls>), so the same server answers it.
///
/// | The server answers | That means |
/// |---|---|
/// | 2xx | yes |
/// | 4xx, but 408 and 429 | no |
/// | anything else, or nothing within 5 seconds | it cannot tell now |
///
/// Redirects are not followed, bodies not read. `http://` is for this machine only.
#[derive(Clone)]
pub struct Ask {
    http: reqwest::Client,
    url: Url,
}

impl Ask {
    /// Asks there.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is no such URL.
    pub fn new(url: &str) -> Result<Self> {
        let (http, url) = crate::rest::outside(url).map_err(|e| e.with("key", "ask"))?;
        Ok(Self { http, url })
    }
}

#[async_trait]
impl Permission for Ask {
    async fn allows(&self, name: &DnsName) -> Result<bool> {
        let unknown = |kind, why: &str| Error::new(kind, "on_demand.ask", why.to_owned()).with("name", name);
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("domain", name.as_str());
        let answer = self.http.get(url).timeout(PATIENCE).send().await.map_err(|e| {
            let kind = if e.is_timeout() { ErrorKind::Timeout } else { ErrorKind::Unavailable };
            // The URL is the program's own, and may say more than a log should.
            unknown(kind, "the server that decides on names does not answer").with_source(e.without_url())
        })?;
        let status = answer.status();
        match status.as_u16() {
            200..=299 => Ok(true),
            408 | 429 => Err(unknown(ErrorKind::Unavailable, "the server that decides on names is busy")),
            400..=499 => Ok(false),
            _ => {
                Err(unknown(ErrorKind::Protocol, "the server that decides on names says neither yes nor no")
                    .with("status", status.as_u16()))
            }
        }
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}
