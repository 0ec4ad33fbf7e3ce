//! The servers around the story: who issues, how names are proved, and who serves.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use acmekit::dns::Resolver;
use acmekit::rfc2136::{Config, Rfc2136};
use acmekit::solvers::{Dns01, Http01};
use acmekit::{Authority, CertificateSpec, ChallengeSolver, Deployer, DnsName, Error, ErrorKind, Result};
use acmekit_server::TestCa;

use crate::Args;
use crate::output::Output;
use crate::real::{self, PebbleAndBind};
use crate::server::HttpsServer;
use crate::zone::DnsServer;

/// All that the story needs.
pub(crate) struct Stage {
    pub(crate) authority: Authority,
    pub(crate) solver: Arc<dyn ChallengeSolver>,
    pub(crate) deployer: Arc<dyn Deployer>,
    ca: Ca,
    served_by: ServedBy,
}

enum Ca {
    InProcess(Box<TestCa>, DnsServer),
    Started { _both: Box<PebbleAndBind> },
    Elsewhere,
}

enum ServedBy {
    InProcess(HttpsServer),
    HaProxy(Box<acmekit_testbed::HaProxy>),
}

impl Stage {
    pub(crate) async fn start(spec: &CertificateSpec, args: &Args, out: &Output) -> Result<Self> {
        let (authority, solver, ca) = match &args.directory {
            Some(directory) => elsewhere(directory, out)?,
            None if args.real_servers => {
                let (authority, solver, both) = real::ca(&zones(spec)?, out).await?;
                (authority, Arc::new(solver) as _, Ca::Started { _both: Box::new(both) })
            }
            None => in_process(spec, out).await?,
        };
        let mut authority = match &args.email {
            Some(email) => authority.contact(email),
            None => authority,
        };
        if args.agree_to_terms || args.directory.is_none() {
            authority = authority.agree_to_terms();
        }
        let names: Vec<String> = spec.identifiers().iter().map(ToString::to_string).collect();
        let (deployer, served_by): (Arc<dyn Deployer>, _) = if args.real_servers {
            let (deployer, server) = real::haproxy(&names, out).await?;
            (Arc::new(deployer), ServedBy::HaProxy(Box::new(server)))
        } else {
            let server = HttpsServer::start(&names).await?;
            out.step(&format!("an HTTPS server at {}, with a self-signed certificate", server.address()));
            (server.deployer(), ServedBy::InProcess(server))
        };
        Ok(Self { authority, solver, deployer, ca, served_by })
    }

    /// Where clients connect.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        match &self.served_by {
            ServedBy::InProcess(server) => vec![server.address()],
            ServedBy::HaProxy(server) => server.tls_addrs(),
        }
    }

    /// What is remarkable about how it was served.
    pub(crate) fn remark(&self) -> &'static str {
        match &self.served_by {
            ServedBy::InProcess(_) => "the server never restarted",
            ServedBy::HaProxy(_) => "HAProxy never reloaded",
        }
    }

    /// What the server would read if it started anew, if that is a file.
    pub(crate) fn reload_path(&self) -> Option<&Path> {
        match &self.served_by {
            ServedBy::InProcess(_) => None,
            ServedBy::HaProxy(server) => Some(server.cert_path()),
        }
    }

    /// Ends what was started in this process; the other servers end with their values.
    pub(crate) async fn end(self) -> Result<()> {
        if let ServedBy::InProcess(server) = self.served_by {
            server.stop().await;
        }
        if let Ca::InProcess(ca, dns) = self.ca {
            ca.shutdown().await;
            dns.stop().await?;
        }
        Ok(())
    }
}

type Issuing = (Authority, Arc<dyn ChallengeSolver>, Ca);

async fn in_process(spec: &CertificateSpec, out: &Output) -> Result<Issuing> {
    let zones = zones(spec)?;
    let dns = DnsServer::start(&zones).await?;
    let shown: Vec<&str> = zones.iter().map(DnsName::as_str).collect();
    out.step(&format!("a DNS server at {} for {}", dns.address(), shown.join(", ")));
    let ca = TestCa::builder().dns_server(dns.address()).start().await?;
    out.step(&format!("a CA at {}", ca.directory_url()));

    let resolver = Resolver::new([dns.address()])?.authoritative_port(dns.address().port());
    let authority =
        Authority::custom(&ca.directory_url())?.with_id("test-ca").extra_roots_pem(ca.root_pem())?;
    let solver = Dns01::with_resolver(dns.provider(), resolver);
    Ok((authority, Arc::new(solver), Ca::InProcess(Box::new(ca), dns)))
}

fn elsewhere(directory: &str, out: &Output) -> Result<Issuing> {
    let authority = Authority::custom(directory)?;
    let by_dns =
        ["ACME_RFC2136_SERVER", "RFC2136_NAMESERVER"].iter().any(|name| std::env::var_os(name).is_some());
    let solver: Arc<dyn ChallengeSolver> = if by_dns {
        out.step("names are proved by dns-01 with RFC 2136 updates");
        Arc::new(Dns01::new(Rfc2136::new(Config::from_env()?)?)?)
    } else {
        out.step("names are proved by http-01 on port 80 of this machine");
        let everywhere = SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, 80));
        Arc::new(Http01::standalone(everywhere))
    };
    Ok((authority, solver, Ca::Elsewhere))
}

/// The registered domains of the names, as the DNS server started here serves them.
fn zones(spec: &CertificateSpec) -> Result<Vec<DnsName>> {
    let mut zones = std::collections::BTreeSet::new();
    for name in spec.identifiers() {
        let domain = name.domain().ok_or_else(|| {
            Error::new(ErrorKind::Config, "quickstart", "an IP address cannot be proved by dns-01")
                .with("name", name)
                .with_hint("give domain names with --name")
        })?;
        let two_labels = domain.ancestors().find(|name| name.labels().count() <= 2);
        zones.extend(two_labels);
    }
    Ok(zones.into_iter().collect())
}
