//! An ACME client that can also do everything wrong.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;

use acmekit_server::{TestCa, TestCaBuilder};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use p256::ecdsa::signature::Signer as _;
use rcgen::{PublicKeyData, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A CA that takes every challenge for met.
pub async fn credulous() -> TestCa {
    with(TestCa::builder()).await
}

pub async fn with(builder: TestCaBuilder) -> TestCa {
    builder.always_valid().start().await.unwrap()
}

/// Who signs.
pub enum Signer {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    Provider(rcgen::KeyPair),
}

impl Signer {
    pub fn es256() -> Self {
        Self::P256(p256::ecdsa::SigningKey::random(&mut p256::elliptic_curve::rand_core::OsRng))
    }

    pub fn es384() -> Self {
        Self::P384(p384::ecdsa::SigningKey::random(&mut p384::elliptic_curve::rand_core::OsRng))
    }

    pub fn ed25519() -> Self {
        Self::Provider(rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap())
    }

    pub async fn rsa() -> Self {
        let key = acmekit_core::PrivateKey::generate(acmekit_core::KeyType::Rsa2048).await.unwrap();
        let der = rustls::pki_types::PrivatePkcs8KeyDer::from(key.to_pkcs8().expose().as_slice());
        Self::Provider(rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_RSA_SHA256).unwrap())
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::P384(_) => "ES384",
            Self::Provider(key) if key.is_compatible(&rcgen::PKCS_ED25519) => "EdDSA",
            Self::Provider(_) => "RS256",
        }
    }

    pub fn jwk(&self) -> Value {
        let point = |crv: &str, octets: &[u8]| {
            let (x, y) = octets[1..].split_at(octets.len() / 2);
            json!({ "kty": "EC", "crv": crv, "x": BASE64.encode(x), "y": BASE64.encode(y) })
        };
        match self {
            Self::P256(key) => point("P-256", key.verifying_key().to_encoded_point(false).as_bytes()),
            Self::P384(key) => point("P-384", key.verifying_key().to_encoded_point(false).as_bytes()),
            Self::Provider(key) if self.algorithm() == "EdDSA" => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(key.der_bytes()) })
            }
            Self::Provider(key) => {
                // RSAPublicKey ::= SEQUENCE { n INTEGER, e INTEGER }, of a 2048-bit key.
                let der = key.der_bytes();
                let (n, e) = (&der[8..9 + 256], &der[9 + 256 + 2..]);
                json!({ "kty": "RSA", "n": BASE64.encode(&n[1..]), "e": BASE64.encode(e) })
            }
        }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_vec()
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign(message);
                signature.to_vec()
            }
            Self::Provider(key) => SigningKey::sign(key, message).unwrap(),
        }
    }

    pub fn thumbprint(&self) -> String {
        let sorted: BTreeMap<String, Value> = serde_json::from_value(self.jwk()).unwrap();
        BASE64.encode(Sha256::digest(serde_json::to_string(&sorted).unwrap()))
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    /// Status and ACME error type, as `400 malformed`; checks that it is a problem document.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status, "{self:?}");
        let kind = json["type"].as_str().unwrap().strip_prefix("urn:ietf:params:acme:error:").unwrap();
        format!("{} {kind}", self.status)
    }
}

/// One client with one key.
pub struct Client {
    pub http: reqwest::Client,
    pub directory: Value,
    pub signer: Signer,
    pub kid: Option<String>,
}

impl Client {
    /// With an account.
    pub async fn new(ca: &TestCa) -> Self {
        Self::registered(ca, Signer::es256()).await
    }

    pub async fn registered(ca: &TestCa, signer: Signer) -> Self {
        let mut client = Self::unregistered(ca, signer).await;
        let reply = client.post("newAccount", &json!({ "termsOfServiceAgreed": true })).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        client.kid = Some(reply.header("location").to_owned());
        client
    }

    pub async fn unregistered(ca: &TestCa, signer: Signer) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        let root = pem::parse(ca.root_pem()).unwrap().into_contents();
        roots.add(root.into()).unwrap();
        #[cfg(feature = "aws-lc-rs")]
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        #[cfg(not(feature = "aws-lc-rs"))]
        let provider = rustls::crypto::ring::default_provider();
        let tls = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .tcp_nodelay(true)
            .timeout(std::time::Duration::from_secs(20))
            .build()
            .unwrap();
        let directory = http.get(ca.directory_url()).send().await.unwrap().text().await.unwrap();
        Self { http, directory: serde_json::from_str(&directory).unwrap(), signer, kid: None }
    }

    /// The URL of a name in the directory; a URL stays what it is.
    pub fn url(&self, name: &str) -> String {
        self.directory[name].as_str().unwrap_or(name).to_owned()
    }

    pub async fn nonce(&self) -> String {
        let reply = self.http.head(self.url("newNonce")).send().await.unwrap();
        assert_eq!(reply.status(), 200);
        reply.headers()["replay-nonce"].to_str().unwrap().to_owned()
    }

    /// The protected header of a right request.
    pub async fn header(&self, url: &str) -> Value {
        let mut header =
            json!({ "alg": self.signer.algorithm(), "nonce": self.nonce().await, "url": self.url(url) });
        match &self.kid {
            Some(kid) => header["kid"] = json!(kid),
            None => header["jwk"] = self.signer.jwk(),
        }
        header
    }

    /// A JWS of these parts. A payload of `null` is the empty one of a POST-as-GET.
    pub fn jws(&self, header: &Value, payload: &Value) -> Value {
        jws(&self.signer, header, payload)
    }

    pub async fn post(&self, url: &str, payload: &Value) -> Reply {
        let header = self.header(url).await;
        self.send(url, &self.jws(&header, payload)).await
    }

    pub async fn get(&self, url: &str) -> Reply {
        self.post(url, &Value::Null).await
    }

    pub async fn send(&self, url: &str, jws: &Value) -> Reply {
        self.raw(url, "application/jose+json", jws.to_string().into_bytes()).await
    }

    pub async fn raw(&self, url: &str, media: &str, body: Vec<u8>) -> Reply {
        let sent = self.http.post(self.url(url)).header("content-type", media).body(body).send().await;
        read(sent.unwrap()).await
    }

    pub async fn open(&self, url: &str) -> Reply {
        read(self.http.get(self.url(url)).send().await.unwrap()).await
    }

    /// Orders names and answers every pending authorization's first challenge.
    pub async fn ready(&self, payload: &Value) -> Reply {
        let order = self.post("newOrder", payload).await;
        assert_eq!(order.status, 201, "{order:?}");
        for url in order.json()["authorizations"].as_array().unwrap() {
            let authorization = self.get(url.as_str().unwrap()).await.json();
            if authorization["status"] == "pending" {
                let challenge = authorization["challenges"][0]["url"].as_str().unwrap();
                let answer = self.post(challenge, &json!({})).await;
                assert_eq!(answer.json()["status"], "valid", "{answer:?}");
            }
        }
        order
    }

    /// The order of these names, finalized; the key of the certificate.
    pub async fn issue(&self, names: &[&str]) -> (Reply, rcgen::KeyPair) {
        self.issue_for(&order_of(names), names).await
    }

    pub async fn issue_for(&self, payload: &Value, names: &[&str]) -> (Reply, rcgen::KeyPair) {
        let order = self.ready(payload).await;
        let key = rcgen::KeyPair::generate().unwrap();
        let finalized =
            self.post(order.json()["finalize"].as_str().unwrap(), &json!({ "csr": csr(&key, names) })).await;
        assert_eq!((finalized.status, &finalized.json()["status"]), (200, &json!("valid")), "{finalized:?}");
        (finalized, key)
    }

    /// A certificate's chain in PEM.
    pub async fn download(&self, order: &Reply) -> Reply {
        let reply = self.get(order.json()["certificate"].as_str().unwrap()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply
    }
}

pub fn jws(signer: &Signer, header: &Value, payload: &Value) -> Value {
    let protected = BASE64.encode(header.to_string());
    let payload = if payload.is_null() { String::new() } else { BASE64.encode(payload.to_string()) };
    let signature = signer.sign(format!("{protected}.{payload}").as_bytes());
    json!({ "protected": protected, "payload": payload, "signature": BASE64.encode(signature) })
}

async fn read(reply: reqwest::Response) -> Reply {
    let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
    Reply { status, headers, text: reply.text().await.unwrap() }
}

/// The payload of newOrder for these names and addresses.
pub fn order_of(names: &[&str]) -> Value {
    let identifiers: Vec<Value> = names
        .iter()
        .map(|name| {
            let kind = if name.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" };
            json!({ "type": kind, "value": name })
        })
        .collect();
    json!({ "identifiers": identifiers })
}

pub fn csr(key: &rcgen::KeyPair, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    BASE64.encode(params.serialize_request(key).unwrap().der())
}

/// The leaf of a chain in PEM.
pub fn leaf(chain: &str) -> Vec<u8> {
    pem::parse_many(chain).unwrap().remove(0).into_contents()
}
