//! tls-alpn-01 (RFC 8737; RFC 8738 for addresses): a certificate shown to who speaks `acme-tls/1`.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use acmekit_core::{Identifier, Result};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::lookup::Lookup;
use super::unverified;
use crate::{Problem, ProblemType, Validation};

const PROTOCOL: &[u8] = b"acme-tls/1";

/// id-pe-acmeIdentifier (RFC 8737 section 6.1).
const ACME_IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";

/// For one address: another one may answer yet.
const CONNECT: Duration = Duration::from_secs(4);

pub(super) struct TlsAlpn01 {
    port: u16,
    connector: TlsConnector,
}

impl std::fmt::Debug for TlsAlpn01 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsAlpn01").field("port", &self.port).finish_non_exhaustive()
    }
}

impl TlsAlpn01 {
    pub(super) fn new(port: u16) -> Result<Self> {
        let mut config = unverified::client()?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Each validation is to see the certificate anew.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self { port, connector: TlsConnector::from(Arc::new(config)) })
    }

    pub(super) async fn check(&self, lookup: &Lookup, validation: &Validation) -> Result<(), Problem> {
        let (addresses, asked) = match &validation.identifier {
            Identifier::Ip(address) => (vec![*address], reverse(address)),
            Identifier::Dns(name) => (lookup.addresses(name).await?, name.to_string()),
            other => return Err(Problem::malformed(format!("{other} cannot be proved by tls-alpn-01"))),
        };
        let server = ServerName::try_from(asked.clone())
            .map_err(|_| Problem::malformed(format!("{asked} cannot be asked for by TLS")))?;
        let stream = self.connect(&addresses).await?;
        let stream = self.connector.connect(server, stream).await.map_err(|error| {
            Problem::new(ProblemType::Tls, format!("the TLS handshake for {asked} failed: {error}"))
        })?;
        let session = stream.get_ref().1;
        if session.alpn_protocol() != Some(PROTOCOL) {
            return Err(Problem::unauthorized(format!("{asked} does not speak the protocol \"acme-tls/1\"")));
        }
        let leaf = session.peer_certificates().and_then(|chain| chain.first());
        let leaf = leaf.ok_or_else(|| Problem::unauthorized(format!("{asked} shows no certificate")))?;
        proves(leaf, validation).map_err(|why| {
            Problem::unauthorized(format!("the certificate shown for {asked} is not the right one: {why}"))
        })
    }

    async fn connect(&self, addresses: &[IpAddr]) -> Result<TcpStream, Problem> {
        let mut why = String::new();
        for address in addresses {
            let reason = match tokio::time::timeout(CONNECT, TcpStream::connect((*address, self.port))).await
            {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {CONNECT:?}"),
            };
            if !why.is_empty() {
                why.push_str("; ");
            }
            // Writing into a String does not fail.
            write!(why, "{address} port {}: {reason}", self.port).ok();
        }
        Err(Problem::new(ProblemType::Connection, why))
    }
}

/// RFC 8737 section 3: one name, and in a critical extension the digest of the key authorization.
fn proves(der: &[u8], validation: &Validation) -> Result<(), &'static str> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| "it cannot be read")?;
    if certificate.issuer() != certificate.subject() {
        return Err("it is not self-signed");
    }
    let names = certificate.subject_alternative_name().ok().flatten().ok_or("it has no subjectAltName")?;
    let fits = match (names.value.general_names.as_slice(), &validation.identifier) {
        ([GeneralName::DNSName(name)], Identifier::Dns(wanted)) => name.eq_ignore_ascii_case(wanted.as_str()),
        ([GeneralName::IPAddress(octets)], Identifier::Ip(IpAddr::V4(wanted))) => *octets == wanted.octets(),
        ([GeneralName::IPAddress(octets)], Identifier::Ip(IpAddr::V6(wanted))) => *octets == wanted.octets(),
        _ => false,
    };
    if !fits {
        return Err("its subjectAltName is not the identifier alone");
    }
    let mut found = certificate.extensions().iter().filter(|one| one.oid.to_id_string() == ACME_IDENTIFIER);
    let extension = found.next().ok_or("it has no acmeIdentifier extension")?;
    if found.next().is_some() {
        return Err("it has two acmeIdentifier extensions");
    }
    if !extension.critical {
        return Err("its acmeIdentifier extension is not critical");
    }
    // An OCTET STRING of 32 octets in DER.
    let digest = validation.key_authorization.digest();
    match extension.value.strip_prefix(&[4, 32]) == Some(&digest[..]) {
        true => Ok(()),
        false => Err("its acmeIdentifier extension is not the digest of the key authorization"),
    }
}

/// The name an address is asked by (RFC 8738 section 6).
fn reverse(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let mut text = String::new();
            for octet in address.octets().iter().rev() {
                // Writing into a String does not fail.
                write!(text, "{:x}.{:x}.", octet & 15, octet >> 4).ok();
            }
            text + "ip6.arpa"
        }
    }
}
