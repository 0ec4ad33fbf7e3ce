//! http-01 (RFC 8555 section 8.3): a file at a well-known path.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use acmekit_core::{DnsName, Error, ErrorKind, Identifier, Result};
use http::header::LOCATION;
use reqwest::Url;

use super::lookup::Lookup;
use super::{shown, unverified};
use crate::{Problem, ProblemType, Validation};

/// Boulder's bound (<https://letsencrypt.org/docs/challenge-types/>).
const REDIRECTS: usize = 10;

/// A key authorization has about 90 octets.
const MAX_BODY: usize = 4096;

/// For one address: another one may answer yet.
const CONNECT: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub(super) struct Http01 {
    http_port: u16,
    tls_port: u16,
    tls: rustls::ClientConfig,
}

impl Http01 {
    pub(super) fn new(http_port: u16, tls_port: u16) -> Result<Self> {
        let http01 = Self { http_port, tls_port, tls: unverified::client()? };
        // What cannot be built is told now, not at the first challenge.
        http01.client(None).map_err(|error| {
            Error::new(ErrorKind::Config, "validation.http01", "the HTTP client cannot be set up")
                .with_source(error)
        })?;
        Ok(http01)
    }

    /// A client that connects nowhere but to these addresses of this host.
    fn client(&self, to: Option<(&str, &[SocketAddr])>) -> Result<reqwest::Client, reqwest::Error> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(0)
            .user_agent("acmekit-server validation");
        if let Some((host, addresses)) = to {
            builder = builder.resolve_to_addrs(host, addresses);
        }
        builder.build()
    }

    pub(super) async fn check(&self, lookup: &Lookup, validation: &Validation) -> Result<(), Problem> {
        let host = match &validation.identifier {
            Identifier::Ip(IpAddr::V6(address)) => format!("[{address}]"),
            other => other.to_string(),
        };
        let path = format!("/.well-known/acme-challenge/{}", validation.token);
        let mut url = Url::parse(&format!("http://{host}:{}{path}", self.http_port))
            .map_err(|_| Problem::malformed(format!("{host} cannot be part of a URL")))?;
        for _ in 0..=REDIRECTS {
            let response = self.fetch(lookup, &url).await?;
            if response.status().is_redirection() {
                url = self.redirected(&url, &response)?;
                continue;
            }
            return compare(&url, response, validation).await;
        }
        Err(Problem::new(
            ProblemType::Connection,
            format!("more than {REDIRECTS} redirects, the last to {url}"),
        ))
    }

    async fn fetch(&self, lookup: &Lookup, url: &Url) -> Result<reqwest::Response, Problem> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(self.http_port);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = match bare.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => {
                let name: DnsName = host.parse().map_err(|_| {
                    Problem::new(ProblemType::Dns, format!("{} is not a DNS name", shown(host.as_bytes())))
                })?;
                lookup.addresses(&name).await?
            }
        };
        let addresses: Vec<SocketAddr> =
            addresses.into_iter().map(|address| (address, port).into()).collect();
        let failed = |error: reqwest::Error| {
            let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let reason = root_cause(&error);
            Problem::new(
                ProblemType::Connection,
                format!("Fetching {url} from {}: {reason}", shown.join(", ")),
            )
        };
        self.client(Some((host, &addresses))).map_err(failed)?.get(url.clone()).send().await.map_err(failed)
    }

    /// To http or https at the usual ports only (RFC 8555 section 10.2: no scanning of other services).
    fn redirected(&self, from: &Url, response: &reqwest::Response) -> Result<Url, Problem> {
        let refuse = |why: &str| Problem::new(ProblemType::Connection, format!("{from} redirects {why}"));
        let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let target = target.ok_or_else(|| refuse("to nowhere"))?;
        let mut url = from.join(target).map_err(|_| refuse("to what is not a URL"))?;
        let port = match (url.scheme(), url.port()) {
            ("http", None | Some(80)) => self.http_port,
            ("https", None | Some(443)) => self.tls_port,
            ("http", Some(port)) if port == self.http_port => port,
            ("https", Some(port)) if port == self.tls_port => port,
            ("http" | "https", Some(_)) => {
                return Err(refuse("to another port than those of http and https"));
            }
            _ => return Err(refuse("to something other than http and https")),
        };
        url.set_port(Some(port)).map_err(|()| refuse("to what has no port"))?;
        Ok(url)
    }
}

async fn compare(url: &Url, mut response: reqwest::Response, validation: &Validation) -> Result<(), Problem> {
    if !response.status().is_success() {
        return Err(Problem::unauthorized(format!(
            "Invalid response from {url}: {}",
            response.status().as_u16()
        )));
    }
    let mut body = Vec::new();
    while body.len() <= MAX_BODY {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk[..chunk.len().min(MAX_BODY + 1)]),
            Ok(None) => break,
            Err(error) => {
                let why = format!("Fetching {url}: {}", root_cause(&error));
                return Err(Problem::new(ProblemType::Connection, why));
            }
        }
    }
    if body.len() > MAX_BODY {
        return Err(Problem::unauthorized(format!(
            "Invalid response from {url}: more than {MAX_BODY} octets"
        )));
    }
    match body.trim_ascii_end() == validation.key_authorization.as_secret().expose().as_bytes() {
        true => Ok(()),
        false => Err(Problem::unauthorized(format!(
            "The key authorization file from the server did not match this challenge. Got \"{}\" from {url}",
            shown(&body)
        ))),
    }
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
