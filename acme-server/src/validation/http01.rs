//! http-01 (RFC 8555 section 8.3): a file at a known place.

use std::sync::Arc;

use acmekit_core::{Error, ErrorKind, Identifier, Result as CoreResult};
use http::StatusCode;
use http::header::{HOST, LOCATION};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::dns::{Dns, LookupFailed};
use super::{Failure, ValidationConfig, deepest, quote, tls};
use crate::{ProblemType, Validation};

/// A key authorization has 87 octets; the rest is for whitespace.
const MAX_BODY: usize = 4096;
/// As Boulder.
const MAX_REDIRECTS: usize = 10;
const MAX_LOCATION: usize = 2000;

#[derive(Debug)]
pub(super) struct Http01 {
    client: reqwest::Client,
    http_port: u16,
    tls_port: u16,
}

/// Gives the client the addresses the validator would use.
struct Addresses(Arc<Dns>);

impl Resolve for Addresses {
    fn resolve(&self, name: Name) -> Resolving {
        let dns = Arc::clone(&self.0);
        Box::pin(async move {
            let found = dns.addresses(name.as_str().trim_end_matches('.')).await?;
            // The port is the URL's.
            let addresses: Addrs = Box::new(found.into_iter().map(|ip| (ip, 0).into()));
            Ok(addresses)
        })
    }
}

impl Http01 {
    pub(super) fn new(config: &ValidationConfig, dns: Arc<Dns>) -> CoreResult<Self> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client_config()?)
            .http1_only()
            .no_proxy()
            .referer(false)
            // Each hop is looked at here: ports, loops, and how many.
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(Addresses(dns)))
            .user_agent(concat!("acmekit-server/", env!("CARGO_PKG_VERSION"), " (validation)"))
            // A connection is not asked twice, and idle ones would pile up.
            .pool_max_idle_per_host(0)
            .connect_timeout(config.timeout)
            .timeout(config.timeout)
            .build()
            .map_err(|e| {
                Error::new(ErrorKind::Config, "validation.http", "the HTTP client could not be made")
                    .with_source(e)
            })?;
        Ok(Self { client, http_port: config.http_port, tls_port: config.tls_port })
    }

    pub(super) async fn check(&self, validation: &Validation) -> Result<(), Failure> {
        let secret = validation.key_authorization.as_secret().expose();
        let mut url = first_url(validation)?;
        let mut seen = vec![url.clone()];
        loop {
            let (target, host) = self.target(&url)?;
            let request = self.client.get(target).header(HOST, host);
            let mut answer = request.send().await.map_err(|e| failed(&url, &e))?;
            let status = answer.status();
            if let Some(next) = redirect(status, &url, &answer)? {
                if seen.contains(&next) {
                    return Err(connection(format!("Fetching {next}: Redirect loop detected")));
                }
                if seen.len() > MAX_REDIRECTS {
                    return Err(connection(format!("Fetching {next}: Too many redirects")));
                }
                seen.push(next.clone());
                url = next;
                continue;
            }
            let from = answer.remote_addr().map_or_else(String::new, |address| format!("{}: ", address.ip()));
            if status != StatusCode::OK {
                let code = status.as_u16();
                return Err(Failure::unauthorized(format!("{from}Invalid response from {url}: {code}")));
            }
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(|e| failed(&url, &e))? {
                let room = (MAX_BODY + 1).saturating_sub(body.len());
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
                if body.len() > MAX_BODY {
                    return Err(Failure::unauthorized(format!(
                        "{from}Invalid response from {url}: more than {MAX_BODY} octets, beginning {}",
                        quote(&body, secret)
                    )));
                }
            }
            // Whitespace at the end does not count (RFC 8555 section 8.3).
            let received = body.trim_ascii_end();
            if received == secret.as_bytes() {
                return Ok(());
            }
            return Err(Failure::unauthorized(format!(
                "{from}The key authorization file from the server did not match this challenge: {url} has {}",
                quote(received, secret)
            )));
        }
    }

    /// Where to connect to, and the `Host` to ask for. A URL without a port means the configured one, because that
    /// is what stands for 80 and 443 here.
    fn target(&self, url: &Url) -> Result<(Url, String), Failure> {
        let shown = url.host_str().unwrap_or_default();
        let configured = if url.scheme() == "https" { self.tls_port } else { self.http_port };
        let host = match url.port() {
            None => shown.to_owned(),
            Some(port) if port == self.http_port || port == self.tls_port => format!("{shown}:{port}"),
            Some(port) => {
                return Err(connection(format!(
                    "Fetching {url}: Invalid port in redirect target. Only ports {} and {} are supported, not {port}",
                    self.http_port, self.tls_port
                )));
            }
        };
        let mut target = url.clone();
        if target.port().is_none() {
            let refused = || connection(format!("Fetching {url}: the URL has no host"));
            target.set_port(Some(configured)).map_err(|()| refused())?;
        }
        Ok((target, host))
    }
}

fn first_url(validation: &Validation) -> Result<Url, Failure> {
    let host = match &validation.identifier {
        Identifier::Ip(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
        other => other.to_string(),
    };
    let text = format!("http://{host}/.well-known/acme-challenge/{}", validation.token);
    Url::parse(&text).map_err(|_| Failure::malformed(format!("{host} cannot be part of a URL")))
}

/// The next URL, if the answer names one.
fn redirect(status: StatusCode, url: &Url, answer: &reqwest::Response) -> Result<Option<Url>, Failure> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = answer.headers().get(LOCATION) else { return Ok(None) };
    let refused = |why: &str| connection(format!("Fetching {url}: Invalid redirect: {why}"));
    if location.len() > MAX_LOCATION {
        return Err(refused("the target is too long"));
    }
    let text = location.to_str().map_err(|_| refused("the target is not ASCII"))?;
    let mut next = url.join(text).map_err(|_| refused("the target is no URL"))?;
    if !matches!(next.scheme(), "http" | "https") {
        return Err(refused("only http and https are supported"));
    }
    // A fragment is not sent, so it does not make two requests different.
    next.set_fragment(None);
    Ok(Some(next))
}

fn connection(detail: String) -> Failure {
    Failure::new(ProblemType::Connection, detail)
}

fn failed(url: &Url, error: &reqwest::Error) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if this.is::<LookupFailed>() {
            return Failure::new(ProblemType::Dns, format!("Fetching {url}: {this}"));
        }
        if let Some(tls) = tls::cause(this) {
            return Failure::new(ProblemType::Tls, format!("Fetching {url}: {tls}"));
        }
        cause = this.source();
    }
    if error.is_timeout() {
        return connection(format!("Fetching {url}: Timeout (likely firewall problem)"));
    }
    connection(format!("Fetching {url}: {}", deepest(error)))
}
