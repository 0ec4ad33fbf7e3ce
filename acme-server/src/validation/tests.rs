use std::net::Ipv4Addr;
use std::sync::Mutex;

use acmekit_core::KeyAuthorization;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, CAA, CNAME, TXT};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_resolver::proto::serialize::binary::{BinDecodable, BinEncodable};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::*;

const PROOF: &str = "token-1.thumbprint-of-the-account";
const ACCOUNT: &str = "https://ca.example.test/acme/account/1";

fn validation(identifier: &str, kind: &str) -> Validation {
    let proof = KeyAuthorization::new("token-1", "thumbprint-of-the-account");
    let kind = ChallengeKind::from(kind.to_owned());
    Validation::new(identifier.parse().unwrap(), kind, "token-1", proof, ACCOUNT)
        .with_issuer_domains(["ca.example.test"])
}

/// A DNS server with these records; a name with `SERVFAIL` fails.
struct Dns {
    address: SocketAddr,
    records: Arc<Mutex<Vec<(String, RData)>>>,
    _running: JoinSet<()>,
}

impl Dns {
    async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let records: Arc<Mutex<Vec<(String, RData)>>> = Arc::default();
        let known = Arc::clone(&records);
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut buffer = [0; 1500];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let answer = answer(&buffer[..length], &known.lock().unwrap());
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        Self { address, records, _running: running }
    }

    fn add(&self, name: &str, data: RData) {
        self.records.lock().unwrap().push((format!("{name}."), data));
    }

    fn txt(&self, name: &str, parts: &[&str]) {
        self.add(name, RData::TXT(TXT::new(parts.iter().map(|part| (*part).to_owned()).collect())));
    }

    fn caa(&self, name: &str, tag: &str, value: &str, critical: bool) {
        let mut caa = CAA::new_issue(critical, None, Vec::new());
        tag.clone_into(&mut caa.tag);
        caa.value = value.as_bytes().to_vec();
        self.add(name, RData::CAA(caa));
    }
}

fn answer(question: &[u8], records: &[(String, RData)]) -> Vec<u8> {
    let asked = Message::from_bytes(question).unwrap();
    let mut message = Message::response(asked.metadata.id, asked.metadata.op_code);
    message.metadata.recursion_available = true;
    let query = asked.queries[0].clone();
    message.add_query(query.clone());
    let mut name = query.name().to_string().to_ascii_lowercase();
    if name.contains("servfail") {
        message.metadata.response_code = ResponseCode::ServFail;
        return message.to_bytes().unwrap();
    }
    let mut known = false;
    for _ in 0..4 {
        let mut next = None;
        for (owner, data) in records.iter().filter(|(owner, _)| *owner == name) {
            known = true;
            if data.record_type() == query.query_type() || data.record_type() == RecordType::CNAME {
                let mut record = Record::from_rdata(Name::from_ascii(owner).unwrap(), 1, data.clone());
                record.dns_class = DNSClass::IN;
                message.add_answer(record);
            }
            if let RData::CNAME(CNAME(target)) = data {
                next = Some(target.to_string());
            }
        }
        match next {
            Some(target) => name = target,
            None => break,
        }
    }
    if !known {
        message.metadata.response_code = ResponseCode::NXDomain;
    }
    message.to_bytes().unwrap()
}

fn validator(dns: &Dns) -> RealValidator {
    RealValidator::new(config(dns)).unwrap()
}

fn config(dns: &Dns) -> ValidationConfig {
    ValidationConfig::new().dns_server(dns.address).check_caa(false).timeout(Duration::from_secs(8))
}

/// Type and text of what a validation ends with. The key authorization stands in none.
async fn ends(validator: &RealValidator, validation: &Validation) -> Result<(), String> {
    validator.validate(validation).await.map_err(|problem| {
        let text = problem.to_json().to_string();
        assert!(!text.contains(PROOF) && !text.contains("thumbprint"), "{text}");
        assert_eq!(problem.identifier(), Some(&validation.identifier));
        problem.to_string()
    })
}

/// Type and a part of the text of a refusal; `None` if there is to be none.
type Wrong = Option<(&'static str, &'static str)>;

fn contains(result: Result<(), String>, kind: &str, part: &str) {
    let text = result.unwrap_err();
    assert!(text.starts_with(&format!("{kind}: ")) && text.contains(part), "{text}");
}

#[tokio::test]
async fn dns01_takes_the_right_value_among_others_in_pieces_and_behind_a_cname() {
    let dns = Dns::start().await;
    let validator = validator(&dns);
    let right = validation("*.example.test", "dns-01");
    let value = right.key_authorization.txt_value();
    contains(
        ends(&validator, &right).await,
        "unauthorized",
        "No TXT record found at _acme-challenge.example.test",
    );
    dns.txt("_acme-challenge.example.test", &["wrong"]);
    contains(ends(&validator, &right).await, "unauthorized", "Incorrect TXT record \"wrong\"");
    dns.txt("_acme-challenge.example.test", &["also wrong"]);
    contains(ends(&validator, &right).await, "unauthorized", "(and 1 more)");
    dns.txt("_acme-challenge.example.test", &[&value[..10], &value[10..]]);
    ends(&validator, &right).await.unwrap();

    let alias = validation("alias.example.test", "dns-01");
    dns.add(
        "_acme-challenge.alias.example.test",
        RData::CNAME(CNAME(Name::from_ascii("proof.other.test.").unwrap())),
    );
    dns.txt("proof.other.test", &[&value]);
    ends(&validator, &alias).await.unwrap();
    contains(ends(&validator, &validation("servfail.example.test", "dns-01")).await, "dns", "looking up TXT");
}

#[tokio::test]
async fn dns_account01_looks_at_the_name_of_the_account() {
    let dns = Dns::start().await;
    let validator = validator(&dns);
    // The draft's own example of a label (draft-ietf-acme-dns-account-label section 3.1).
    let mut right = validation("example.org", DNS_ACCOUNT_01);
    right.account_url = "https://example.com/acme/acct/ExampleAccount".to_owned();
    let value = right.key_authorization.txt_value();
    dns.txt("_ujmmovf2vn55tgye._acme-challenge.example.org", &[&value]);
    ends(&validator, &right).await.unwrap();
    right.account_url = ACCOUNT.to_owned();
    contains(ends(&validator, &right).await, "unauthorized", "No TXT record found at _");
}

#[tokio::test]
async fn dns_persist01_wants_ca_account_policy_and_time() {
    let cases = [
        ("www.example.test", format!("ca.example.test; accounturi={ACCOUNT}"), ""),
        ("www.example.test", format!("CA.example.test;accounturi={ACCOUNT};strange=1"), ""),
        ("*.example.test", format!("ca.example.test; accounturi={ACCOUNT}; policy=wildcard"), ""),
        ("www.example.test", format!("ca.example.test; accounturi={ACCOUNT}; persistUntil=4102444800"), ""),
        ("*.example.test", format!("ca.example.test; accounturi={ACCOUNT}"), "does not allow wildcards"),
        ("www.example.test", format!("other.test; accounturi={ACCOUNT}"), "for another CA"),
        ("www.example.test", "ca.example.test".to_owned(), "for another account"),
        ("www.example.test", format!("ca.example.test; accounturi={ACCOUNT}1"), "for another account"),
        (
            "www.example.test",
            format!("ca.example.test; accounturi={ACCOUNT}; persistUntil=1"),
            "its time is over",
        ),
        ("www.example.test", format!("ca.example.test; accounturi={ACCOUNT}; persistUntil=x"), "is no time"),
        ("www.example.test", "ca.example.test; accounturi".to_owned(), "has no value"),
    ];
    for (identifier, record, why) in cases {
        let dns = Dns::start().await;
        let right = validation(identifier, DNS_PERSIST_01);
        dns.txt(&format!("_validation-persist.{}", right.identifier.domain().unwrap()), &[&record]);
        let ended = ends(&validator(&dns), &right).await;
        match why {
            "" => ended.unwrap(),
            why => contains(ended, "unauthorized", why),
        }
    }
}

/// An HTTP server that answers each path as told; others get 404.
async fn http(answers: Vec<(&'static str, String)>) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut running = JoinSet::new();
    running.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let found = answers.iter().find(|(known, _)| *known == path);
            let answer =
                found.map_or("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", |(_, answer)| answer);
            if answer == "hang" {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            // A client that has seen enough hangs up.
            stream.write_all(answer.as_bytes()).await.ok();
        }
    });
    (address, running)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn to(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
}

const PATH: &str = "/.well-known/acme-challenge/token-1";

#[tokio::test]
async fn http01_takes_the_right_file_and_follows_redirects() {
    type Answers = Vec<(&'static str, String)>;
    let cases: Vec<(Answers, Wrong)> = vec![
        (vec![(PATH, ok(PROOF))], None),
        (vec![(PATH, ok(&format!("{PROOF}\r\n  ")))], None),
        (vec![(PATH, to("/elsewhere")), ("/elsewhere", ok(PROOF))], None),
        (vec![(PATH, to("http://www.example.test/elsewhere")), ("/elsewhere", ok(PROOF))], None),
        (vec![(PATH, ok("something\u{7}else"))], Some(("unauthorized", "Got \"something\\u{7}else\""))),
        (vec![(PATH, ok(""))], Some(("unauthorized", "Got \"\""))),
        (vec![(PATH, ok("token-1.of-another-account"))], Some(("unauthorized", "did not match"))),
        (vec![], Some(("unauthorized", "404"))),
        (vec![(PATH, to(PATH))], Some(("connection", "more than 10 redirects"))),
        (vec![(PATH, to("http://www.example.test:1/"))], Some(("connection", "another port"))),
        (vec![(PATH, to("ftp://www.example.test/"))], Some(("connection", "other than http"))),
        (vec![(PATH, ok(&"x".repeat(100_000)))], Some(("unauthorized", "more than 4096 octets"))),
        (vec![(PATH, "nonsense\r\n\r\n".to_owned())], Some(("connection", "Fetching"))),
    ];
    for (number, (answers, wrong)) in cases.into_iter().enumerate() {
        let (address, _running) = http(answers).await;
        let dns = Dns::start().await;
        dns.add("www.example.test", RData::A(A(Ipv4Addr::LOCALHOST)));
        let validator = RealValidator::new(config(&dns).http_port(address.port())).unwrap();
        let ended = ends(&validator, &validation("www.example.test", "http-01")).await;
        match wrong {
            None => ended.unwrap_or_else(|why| panic!("{number}: {why}")),
            Some((kind, part)) => contains(ended, kind, part),
        }
    }
}

#[tokio::test]
async fn http01_asks_addresses_themselves_and_names_where_they_are_told_to_be() {
    let (address, _running) = http(vec![(PATH, ok(PROOF))]).await;
    let dns = Dns::start().await;
    let validator = RealValidator::new(config(&dns).http_port(address.port())).unwrap();
    ends(&validator, &validation("127.0.0.1", "http-01")).await.unwrap();
    let unknown = validation("nowhere.example.test", "http-01");
    contains(ends(&validator, &unknown).await, "dns", "no A or AAAA record");
    contains(ends(&validator, &validation("servfail.test", "http-01")).await, "dns", "looking up A");
    let told = config(&dns).http_port(address.port()).resolve_all_to(IpAddr::V4(Ipv4Addr::LOCALHOST));
    ends(&RealValidator::new(told).unwrap(), &unknown).await.unwrap();
    // Nobody listens there.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
    let validator = RealValidator::new(config(&dns).http_port(free)).unwrap();
    contains(ends(&validator, &validation("127.0.0.1", "http-01")).await, "connection", "refused");
}

#[tokio::test]
async fn a_server_that_never_answers_costs_the_time_allowed() {
    let (address, _running) = http(vec![(PATH, "hang".to_owned())]).await;
    let dns = Dns::start().await;
    let config = config(&dns).http_port(address.port()).timeout(Duration::from_millis(300));
    let validator = RealValidator::new(config).unwrap();
    contains(
        ends(&validator, &validation("127.0.0.1", "http-01")).await,
        "connection",
        "no end within 300ms",
    );
}

/// A TLS server that shows this certificate and speaks this protocol.
async fn tls(params: CertificateParams, protocol: &[u8]) -> (SocketAddr, JoinSet<()>) {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    #[cfg(feature = "aws-lc-rs")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "aws-lc-rs"))]
    let provider = rustls::crypto::ring::default_provider();
    // rustls refuses to be given a certificate with a critical extension it does not know; a resolver may have one.
    let der = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let signing = provider.key_provider.load_private_key(der).unwrap();
    let shown = rustls::sign::CertifiedKey::new(vec![certificate.der().clone()], signing);
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
    config.alpn_protocols = if protocol.is_empty() { Vec::new() } else { vec![protocol.to_vec()] };
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut running = JoinSet::new();
    running.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // What the client thinks of it is what the test is after.
            acceptor.accept(stream).await.ok();
        }
    });
    (address, running)
}

fn proof(names: &[&str], digest: &[u8], critical: bool) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    let mut extension = CustomExtension::new_acme_identifier(digest);
    extension.set_criticality(critical);
    params.custom_extensions = vec![extension];
    params
}

#[tokio::test]
async fn tls_alpn01_takes_only_the_certificate_made_for_it() {
    let digest = validation("www.example.test", "tls-alpn-01").key_authorization.digest();
    let plain = {
        let mut params = proof(&["www.example.test"], &digest, true);
        params.custom_extensions.clear();
        params
    };
    let name = "www.example.test";
    let acme: &[u8] = b"acme-tls/1";
    let cases: Vec<(&str, CertificateParams, &[u8], Wrong)> = vec![
        (name, proof(&[name], &digest, true), acme, None),
        ("127.0.0.1", proof(&["127.0.0.1"], &digest, true), acme, None),
        (name, proof(&[name], &[7; 32], true), acme, Some(("unauthorized", "not the digest"))),
        (name, proof(&[name], &digest, false), acme, Some(("unauthorized", "not critical"))),
        (
            name,
            proof(&[name, "example.test"], &digest, true),
            acme,
            Some(("unauthorized", "not the identifier alone")),
        ),
        (
            name,
            proof(&["example.test"], &digest, true),
            acme,
            Some(("unauthorized", "not the identifier alone")),
        ),
        (
            "127.0.0.1",
            proof(&["127.0.0.2"], &digest, true),
            acme,
            Some(("unauthorized", "not the identifier alone")),
        ),
        (name, plain, acme, Some(("unauthorized", "no acmeIdentifier"))),
        (name, proof(&[name], &digest, true), b"http/1.1", Some(("tls", "handshake"))),
        (name, proof(&[name], &digest, true), b"", Some(("unauthorized", "does not speak"))),
    ];
    for (number, (identifier, params, protocol, wrong)) in cases.into_iter().enumerate() {
        let (address, _running) = tls(params, protocol).await;
        let dns = Dns::start().await;
        dns.add(name, RData::A(A(Ipv4Addr::LOCALHOST)));
        let validator = RealValidator::new(config(&dns).tls_port(address.port())).unwrap();
        let ended = ends(&validator, &validation(identifier, "tls-alpn-01")).await;
        match wrong {
            None => ended.unwrap_or_else(|why| panic!("{number}: {why}")),
            Some((kind, part)) => contains(ended, kind, part),
        }
    }
}

#[tokio::test]
async fn caa_decides_who_may_issue() {
    type Properties = &'static [(&'static str, &'static str, &'static str, bool)];
    let cases: Vec<(&str, Properties, bool)> = vec![
        ("a.b.example.test", &[], true),
        ("a.b.example.test", &[("example.test", "issue", "ca.example.test", false)], true),
        ("a.b.example.test", &[("example.test", "issue", "other.test", false)], false),
        ("a.b.example.test", &[("example.test", "issue", ";", false)], false),
        // The nearest one decides.
        (
            "a.b.example.test",
            &[("example.test", "issue", ";", false), ("b.example.test", "issue", "ca.example.test", false)],
            true,
        ),
        ("a.b.example.test", &[("b.example.test", "iodef", "mailto:x@example.test", true)], true),
        ("a.b.example.test", &[("b.example.test", "tbs", "unknown", true)], false),
        ("a.b.example.test", &[("b.example.test", "tbs", "unknown", false)], true),
        ("*.example.test", &[("example.test", "issue", "ca.example.test", false)], true),
        (
            "*.example.test",
            &[("example.test", "issue", "ca.example.test", false), ("example.test", "issuewild", ";", false)],
            false,
        ),
        ("example.test", &[("example.test", "issuewild", ";", false)], true),
        (
            "example.test",
            &[("example.test", "issue", "ca.example.test; validationmethods=http-01", false)],
            false,
        ),
        (
            "example.test",
            &[("example.test", "issue", "ca.example.test; validationmethods=http-01,dns-01", false)],
            true,
        ),
        (
            "example.test",
            &[(
                "example.test",
                "issue",
                "ca.example.test; accounturi=https://ca.example.test/acme/account/1",
                false,
            )],
            true,
        ),
        (
            "example.test",
            &[("example.test", "issue", "ca.example.test; accounturi=https://x.test/2", false)],
            false,
        ),
    ];
    for (number, (identifier, properties, may)) in cases.into_iter().enumerate() {
        let dns = Dns::start().await;
        let asked = validation(identifier, "dns-01");
        let value = asked.key_authorization.txt_value();
        dns.txt(&format!("_acme-challenge.{}", asked.identifier.domain().unwrap()), &[&value]);
        for (name, tag, value, critical) in properties {
            dns.caa(name, tag, value, *critical);
        }
        let validator = RealValidator::new(config(&dns).check_caa(true)).unwrap();
        match (ends(&validator, &asked).await, may) {
            (Ok(()), true) => {}
            (Err(text), false) => assert!(text.starts_with("caa: CAA record for"), "{number}: {text}"),
            (ended, _) => panic!("{number}: {ended:?}"),
        }
    }
}

#[tokio::test]
async fn a_caa_record_that_cannot_be_asked_for_forbids() {
    let (address, _running) = http(vec![(PATH, ok(PROOF))]).await;
    let dns = Dns::start().await;
    dns.add("www.servfail.test", RData::A(A(Ipv4Addr::LOCALHOST)));
    let config = config(&dns)
        .check_caa(true)
        .http_port(address.port())
        .resolve_all_to(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let validator = RealValidator::new(config).unwrap();
    let asked = validation("www.servfail.test", "http-01");
    let ended = ends(&validator, &asked).await.unwrap_err();
    assert!(ended.starts_with("dns: ") || ended.starts_with("caa: "), "{ended}");
}

#[test]
fn what_can_prove_an_identifier() {
    let kinds = |identifier: &str| {
        AlwaysValid::new()
            .kinds(&identifier.parse().unwrap())
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds("example.test"), ["http-01", "tls-alpn-01", "dns-01", DNS_ACCOUNT_01, DNS_PERSIST_01]);
    assert_eq!(kinds("*.example.test"), ["dns-01", DNS_ACCOUNT_01, DNS_PERSIST_01]);
    assert_eq!(kinds("192.0.2.1"), ["http-01", "tls-alpn-01"]);
}
