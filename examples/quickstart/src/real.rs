//! The servers of `--real-servers`, as `dev/setup` installs them: Pebble, BIND and HAProxy.

use acmekit::dns::Resolver;
use acmekit::haproxy::{self, Endpoint, HaProxy, Instance};
use acmekit::rfc2136::{Algorithm, Config, Key, Rfc2136};
use acmekit::solvers::Dns01;
use acmekit::{Authority, DnsName, Error, ErrorKind, Result};
use acmekit_testbed::{Bind, Pebble, TestbedError};

use crate::output::Output;

/// A CA and the DNS server it asks; they end with this value.
pub(crate) struct PebbleAndBind {
    _ca: Pebble,
    _dns: Bind,
}

pub(crate) async fn ca(zones: &[DnsName], out: &Output) -> Result<(Authority, Dns01, PebbleAndBind)> {
    let mut builder = Bind::builder();
    for zone in zones {
        builder = builder.zone(zone.as_str());
    }
    let dns = builder.start().await.map_err(not_started)?;
    let shown: Vec<&str> = zones.iter().map(DnsName::as_str).collect();
    out.step(&format!("BIND at {} for {}", dns.addr(), shown.join(", ")));
    let ca = Pebble::builder().dns_server(dns.addr()).start().await.map_err(not_started)?;
    out.step(&format!("Pebble {} at {}", ca.version().await, ca.directory_url()));

    let key = Key::new(dns.tsig_name(), Algorithm::HmacSha256, dns.tsig_secret_base64());
    let provider = Rfc2136::new(Config::new(dns.addr().to_string(), key))?;
    let resolver = Resolver::new([dns.addr()])?.authoritative_port(dns.addr().port());
    let authority =
        Authority::custom(&ca.directory_url())?.with_id("pebble").extra_roots_pem(ca.root_pem())?;
    Ok((authority, Dns01::with_resolver(provider, resolver), PebbleAndBind { _ca: ca, _dns: dns }))
}

pub(crate) async fn haproxy(names: &[String], out: &Output) -> Result<(HaProxy, acmekit_testbed::HaProxy)> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let server = acmekit_testbed::HaProxy::builder().names(&names).bind_lines(2).start().await;
    let server = server.map_err(not_started)?;
    let addresses: Vec<String> = server.tls_addrs().iter().map(ToString::to_string).collect();
    out.step(&format!("HAProxy at {}, with a self-signed certificate", addresses.join(" and ")));
    let mut instance = Instance::new(Endpoint::unix(server.socket_path()), server.cert_path());
    instance.addresses = server.tls_addrs();
    Ok((HaProxy::new(haproxy::Config::new(instance))?, server))
}

fn not_started(error: TestbedError) -> Error {
    Error::new(ErrorKind::Unavailable, "quickstart", error.to_string())
        .with_hint("`dev/setup` installs the servers; without --real-servers none is needed")
}
