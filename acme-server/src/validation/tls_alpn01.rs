//! tls-alpn-01 (RFC 8737): a certificate that is shown only to those who ask for `acme-tls/1`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use acmekit_core::{Deadline, Identifier, Result as CoreResult};
use rustls::ClientConfig;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::asn1_rs::{FromDer, OctetString, Oid, oid};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::dns::Dns;
use super::{Failure, ValidationConfig, tls};
use crate::{ProblemType, Validation};

const PROTOCOL: &[u8] = b"acme-tls/1";
/// id-pe-acmeIdentifier (RFC 8737 section 3).
const ACME_IDENTIFIER: Oid<'static> = oid!(1.3.6.1.5.5.7.1.31);

#[derive(Debug)]
pub(super) struct TlsAlpn01 {
    config: Arc<ClientConfig>,
    algorithms: WebPkiSupportedAlgorithms,
    port: u16,
}

impl TlsAlpn01 {
    pub(super) fn new(config: &ValidationConfig) -> CoreResult<Self> {
        let mut client = tls::client_config()?;
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        let algorithms = tls::crypto_provider().signature_verification_algorithms;
        Ok(Self { config: Arc::new(client), algorithms, port: config.tls_port })
    }

    pub(super) async fn check(
        &self,
        validation: &Validation,
        dns: &Dns,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        let identifier = &validation.identifier;
        let (addresses, name) = match identifier {
            Identifier::Ip(ip) => (vec![*ip], reverse_name(*ip)),
            other => (dns.addresses(&other.to_string()).await?, other.to_string()),
        };
        let name = ServerName::try_from(name)
            .map_err(|_| Failure::malformed(format!("{identifier} cannot be asked for by SNI")))?;
        let stream = connect(&addresses, self.port, deadline).await?;
        let from = stream.peer_addr().map_or_else(|_| String::new(), |peer| format!("{}: ", peer.ip()));
        let connection = TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await;
        let connection = connection.map_err(|e| {
            let (kind, why) = match tls::cause(&e) {
                Some(tls) => (ProblemType::Tls, tls.to_string()),
                None => (ProblemType::Connection, e.to_string()),
            };
            Failure::new(kind, format!("{from}TLS handshake for {identifier} failed: {why}"))
        })?;
        let state = connection.get_ref().1;
        if state.alpn_protocol() != Some(PROTOCOL) {
            return Err(Failure::unauthorized(format!(
                "{from}Cannot negotiate ALPN protocol \"acme-tls/1\" for tls-alpn-01 challenge"
            )));
        }
        let Some(leaf) = state.peer_certificates().and_then(<[_]>::first) else {
            return Err(Failure::unauthorized(format!("{from}No certs presented for tls-alpn-01 challenge")));
        };
        check_certificate(leaf, identifier, &validation.key_authorization.digest(), &self.algorithms).map_err(|why| {
            Failure::unauthorized(format!(
                "{from}Incorrect validation certificate for tls-alpn-01 challenge. Requested {identifier}: {why}"
            ))
        })
    }
}

/// Connects to the first that answers; each gets its share of the time left.
async fn connect(addresses: &[IpAddr], port: u16, deadline: Deadline) -> Result<TcpStream, Failure> {
    let mut failures = Vec::new();
    for (index, ip) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        // A last share as long as the deadline would hide which address was silent.
        let share = deadline.remaining() / left * 9 / 10;
        let address = SocketAddr::new(*ip, port);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => failures.push(format!("{address}: {e}")),
            Err(_) => failures.push(format!("{address}: Timeout during connect (likely firewall problem)")),
        }
    }
    Err(Failure::new(ProblemType::Connection, failures.join("; ")))
}

/// The name by which an address is asked for (RFC 8738 section 6).
fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            let labels: String = nibbles.map(|nibble| format!("{nibble:x}.")).collect();
            format!("{labels}ip6.arpa")
        }
    }
}

/// RFC 8737 section 3: self-signed, one name, and the critical extension with the digest.
pub(super) fn check_certificate(
    der: &[u8],
    identifier: &Identifier,
    digest: &[u8; 32],
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), String> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| "the certificate is malformed".to_owned())?;
    if !tls::is_self_signed(&certificate, algorithms) {
        return Err("the certificate is not self-signed".to_owned());
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| "the subjectAltName extension is malformed or not unique".to_owned())?
        .ok_or("the certificate has no subjectAltName extension")?;
    let names = &names.value.general_names;
    let right = match (names.as_slice(), identifier) {
        ([GeneralName::DNSName(name)], Identifier::Dns(want)) => name.eq_ignore_ascii_case(want.as_str()),
        ([GeneralName::IPAddress(octets)], Identifier::Ip(IpAddr::V4(want))) => *octets == want.octets(),
        ([GeneralName::IPAddress(octets)], Identifier::Ip(IpAddr::V6(want))) => *octets == want.octets(),
        _ => false,
    };
    if !right {
        let shown: Vec<String> = names.iter().take(10).map(shown).collect();
        return Err(format!("the certificate must have this name alone, but has [{}]", shown.join(", ")));
    }
    let mut found = certificate.extensions().iter().filter(|extension| extension.oid == ACME_IDENTIFIER);
    let (Some(extension), None) = (found.next(), found.next()) else {
        return Err("the acmeIdentifier extension is missing or not unique".to_owned());
    };
    if !extension.critical {
        return Err("the acmeIdentifier extension is not critical".to_owned());
    }
    match OctetString::from_der(extension.value) {
        Ok(([], value)) if value.as_ref() == digest => Ok(()),
        Ok(([], _)) => Err("the acmeIdentifier extension has another key authorization's digest".to_owned()),
        _ => Err("the acmeIdentifier extension is malformed".to_owned()),
    }
}

fn shown(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => name.chars().take(253).flat_map(char::escape_debug).collect(),
        GeneralName::IPAddress(octets) => match (<[u8; 4]>::try_from(*octets), <[u8; 16]>::try_from(*octets))
        {
            (Ok(four), _) => IpAddr::from(four).to_string(),
            (_, Ok(sixteen)) => IpAddr::from(sixteen).to_string(),
            _ => "a malformed address".to_owned(),
        },
        _ => "a name of another type".to_owned(),
    }
}
