//! The servers around the story.

use std::sync::Arc;

use acmekit::dns::Resolver;
use acmekit::rfc2136::{Algorithm, Config, Key, Rfc2136};
use acmekit::solvers::{Dns01, Http01, Http01Standalone};
use acmekit::{Authority, CertificateSpec, Error, ErrorKind, Identifier, Result};
use acmekit_testbed::{Bind, HaProxy, Pebble, TestbedError};

use crate::Args;
use crate::output::Output;

/// All that the story needs.
pub(crate) struct Stage {
    pub(crate) authority: Authority,
    pub(crate) ca: Ca,
    pub(crate) haproxy: HaProxy,
}

/// Who issues, and how names are proved.
pub(crate) enum Ca {
    /// Started here; the servers end with this value.
    Local { solver: Dns01, _ca: Box<Pebble>, _dns: Box<Bind> },
    /// Elsewhere, by dns-01.
    RealByDns(Dns01),
    /// Elsewhere, by http-01.
    RealByHttp(Arc<Http01Standalone>),
}

impl Stage {
    pub(crate) async fn start(spec: &CertificateSpec, args: &Args, out: &mut Output) -> Result<Self> {
        let names: Vec<String> = spec.identifiers().iter().map(ToString::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (authority, ca) = match &args.directory {
            None => local(spec, out).await?,
            Some(directory) => real(directory, out)?,
        };
        let mut authority = match &args.email {
            Some(email) => authority.contact(email),
            None => authority,
        };
        if args.agree_to_terms || args.directory.is_none() {
            authority = authority.agree_to_terms();
        }
        let haproxy = HaProxy::builder().names(&names).bind_lines(2).start().await.map_err(not_started)?;
        let addresses: Vec<String> = haproxy.tls_addrs().iter().map(ToString::to_string).collect();
        out.step(&format!("HAProxy at {}, with a self-signed certificate", addresses.join(" and ")));
        Ok(Self { authority, ca, haproxy })
    }
}

async fn local(spec: &CertificateSpec, out: &mut Output) -> Result<(Authority, Ca)> {
    let mut builder = Bind::builder();
    for zone in zones(spec) {
        builder = builder.zone(&zone);
    }
    let dns = builder.start().await.map_err(not_started)?;
    out.step(&format!("BIND at {} for {}", dns.addr(), zones(spec).join(", ")));
    let ca = Pebble::builder().dns_server(dns.addr()).start().await.map_err(not_started)?;
    out.step(&format!("Pebble {} at {}", ca.version().await, ca.directory_url()));

    let key = Key::new(dns.tsig_name(), Algorithm::HmacSha256, dns.tsig_secret_base64());
    let provider = Rfc2136::new(Config::new(dns.addr().to_string(), key))?;
    let resolver = Resolver::new([dns.addr()])?.authoritative_port(dns.addr().port());
    let authority =
        Authority::custom(&ca.directory_url())?.with_id("pebble").extra_roots_pem(ca.root_pem())?;
    let solver = Dns01::with_resolver(provider, resolver);
    Ok((authority, Ca::Local { solver, _ca: Box::new(ca), _dns: Box::new(dns) }))
}

fn real(directory: &str, out: &mut Output) -> Result<(Authority, Ca)> {
    let authority = Authority::custom(directory)?;
    let by_dns =
        ["ACME_RFC2136_SERVER", "RFC2136_NAMESERVER"].iter().any(|name| std::env::var_os(name).is_some());
    let ca = if by_dns {
        out.step("names are proved by dns-01 with RFC 2136 updates");
        Ca::RealByDns(Dns01::new(Rfc2136::new(Config::from_env()?)?)?)
    } else {
        out.step("names are proved by http-01 on port 80 of this machine");
        let everywhere = std::net::SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, 80));
        Ca::RealByHttp(Arc::new(Http01::standalone(everywhere)))
    };
    Ok((authority, ca))
}

/// The registered domains of the names, as the local DNS server serves them.
fn zones(spec: &CertificateSpec) -> Vec<String> {
    let mut zones: Vec<String> = spec
        .identifiers()
        .iter()
        .filter_map(Identifier::domain)
        .map(|name| {
            let labels: Vec<&str> = name.labels().collect();
            labels.get(labels.len().saturating_sub(2)..).unwrap_or(&labels).join(".")
        })
        .collect();
    zones.dedup();
    zones
}

fn not_started(error: TestbedError) -> Error {
    Error::new(ErrorKind::Unavailable, "quickstart", error.to_string())
        .with_hint("`dev/setup` installs the servers this example starts")
}
