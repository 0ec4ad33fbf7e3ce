//! What a client sees while the CA is still at work, and a server that is not a TestCa.

#![cfg(feature = "test-ca")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::Duration;

use acmekit_core::{ChallengeKind, Identifier};
use acmekit_server::faults::{Action, Fault};
use acmekit_server::{Endpoint, Problem, TestCa, Validation, Validator};
use async_trait::async_trait;
use common::{Client, csr, order_of};
use serde_json::json;

/// Takes its time.
#[derive(Debug)]
struct Slow;

#[async_trait]
impl Validator for Slow {
    fn kinds(&self, _: &Identifier) -> Vec<ChallengeKind> {
        vec![ChallengeKind::Dns01]
    }
    async fn validate(&self, validation: &Validation) -> Result<(), Problem> {
        tokio::time::sleep(Duration::from_millis(300)).await;
        match validation.identifier.to_string().starts_with("wrong") {
            true => Err(Problem::unauthorized("No TXT record found")),
            false => Ok(()),
        }
    }
}

async fn until(client: &Client, url: &str, status: &str) -> common::Reply {
    for _ in 0..200 {
        let reply = client.get(url).await;
        if reply.json()["status"] == status {
            return reply;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{url} does not become {status}");
}

#[tokio::test]
async fn what_is_under_way_says_when_to_ask_again() {
    let builder = TestCa::builder().validator(Slow).settings(|settings| {
        settings.patience = Duration::ZERO;
        settings.retry_after = Duration::from_secs(7);
    });
    let ca = builder.start().await.unwrap();
    let client = Client::new(&ca).await;
    let names = ["www.example.test"];
    let order = client.post("newOrder", &order_of(&names)).await;
    let url = order.header("location").to_owned();
    let pending = client.get(&url).await;
    assert_eq!((&pending.json()["status"], pending.header("retry-after")), (&json!("pending"), "7"));
    let authorization = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    let shown = client.get(&authorization).await;
    assert_eq!((&shown.json()["status"], shown.header("retry-after")), (&json!("pending"), "7"));
    let challenge = shown.json()["challenges"][0]["url"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        let told = client.post(&challenge, &json!({})).await;
        assert_eq!((&told.json()["status"], told.header("retry-after")), (&json!("processing"), "7"));
        assert!(told.headers("link").contains(&format!("<{authorization}>;rel=\"up\"").as_str()));
    }
    let valid = until(&client, &authorization, "valid").await;
    assert_eq!(valid.header("retry-after"), "");
    assert_eq!(valid.json()["challenges"].as_array().unwrap().len(), 1);
    assert!(valid.json()["challenges"][0]["validated"].is_string());
    until(&client, &url, "ready").await;
    let key = rcgen::KeyPair::generate().unwrap();
    let finalized =
        client.post(order.json()["finalize"].as_str().unwrap(), &json!({ "csr": csr(&key, &names) })).await;
    assert_eq!(finalized.status, 200);
    let done = until(&client, &url, "valid").await;
    assert!(done.json()["certificate"].is_string() && done.header("retry-after").is_empty());
}

#[tokio::test]
async fn a_failed_validation_ends_the_order_and_says_why() {
    let ca = TestCa::builder().validator(Slow).start().await.unwrap();
    let client = Client::new(&ca).await;
    let order = client.post("newOrder", &order_of(&["right.example.test", "wrong.example.test"])).await;
    for url in order.json()["authorizations"].as_array().unwrap() {
        let shown = client.get(url.as_str().unwrap()).await.json();
        client.post(shown["challenges"][0]["url"].as_str().unwrap(), &json!({})).await;
    }
    let ended = until(&client, order.header("location"), "invalid").await;
    assert_eq!(ended.header("retry-after"), "");
    let url = ended.json()["authorizations"][1].as_str().unwrap().to_owned();
    let failed = until(&client, &url, "invalid").await.json();
    let error = &failed["challenges"][0]["error"];
    assert_eq!(error["type"], "urn:ietf:params:acme:error:unauthorized");
    assert_eq!((&error["status"], &error["detail"]), (&json!(403), &json!("No TXT record found")));
    // What failed is not reused: the next order gets a new authorization for it.
    let again =
        client.post("newOrder", &order_of(&["right.example.test", "wrong.example.test"])).await.json();
    assert_eq!(again["status"], "pending");
    assert_eq!(again["authorizations"][0], ended.json()["authorizations"][0]);
    assert_ne!(again["authorizations"][1], ended.json()["authorizations"][1]);
}

#[tokio::test]
async fn a_lasting_record_has_a_challenge_without_token() {
    let ca = common::credulous().await;
    let client = Client::new(&ca).await;
    let order = client.post("newOrder", &order_of(&["www.example.test"])).await;
    let shown = client.get(order.json()["authorizations"][0].as_str().unwrap()).await.json();
    let challenges = shown["challenges"].as_array().unwrap();
    let kinds: Vec<&str> = challenges.iter().map(|one| one["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["http-01", "tls-alpn-01", "dns-01", "dns-account-01", "dns-persist-01"]);
    for challenge in challenges {
        assert_eq!(challenge["token"].is_string(), challenge["type"] != "dns-persist-01", "{challenge}");
    }
    assert_eq!(challenges[4]["accounturi"], json!(client.kid));
    assert_eq!(challenges[4]["issuer-domain-names"], json!(["ca.example.test"]));
}

#[tokio::test]
async fn a_connection_is_really_reset() {
    let ca = common::credulous().await;
    let client = Client::new(&ca).await;
    let struck = ca.faults().add(Fault::new(Endpoint::Directory, Action::Reset));
    let error = client.http.get(ca.directory_url()).send().await.unwrap_err();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    assert!(cause.to_string().contains("reset"), "{cause}");
    assert_eq!(ca.faults().hits_of(struck), 1);
    assert_eq!(client.open(&ca.directory_url()).await.status, 200);
}

#[cfg(feature = "rsa")]
#[tokio::test]
async fn an_rsa_key_is_certified_by_an_rsa_intermediate() {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let ca = TestCa::builder().always_valid().rsa().start().await.unwrap();
    let client = Client::new(&ca).await;
    let names = ["www.example.test"];
    let order = client.ready(&order_of(&names)).await;
    let common::Signer::Provider(key) = common::Signer::rsa().await else { unreachable!() };
    let finalize = order.json()["finalize"].as_str().unwrap().to_owned();
    let done = client.post(&finalize, &json!({ "csr": csr(&key, &names) })).await;
    let chain = pem::parse_many(client.download(&done).await.text).unwrap();
    let (_, leaf) = X509Certificate::from_der(chain[0].contents()).unwrap();
    let (_, above) = X509Certificate::from_der(chain[1].contents()).unwrap();
    leaf.verify_signature(Some(above.public_key())).unwrap();
    assert!(matches!(above.public_key().parsed().unwrap(), x509_parser::public_key::PublicKey::RSA(_)));
    // A P-256 key still gets a P-256 chain.
    let (order, _) = client.issue(&["ec.example.test"]).await;
    let chain = pem::parse_many(client.download(&order).await.text).unwrap();
    let (_, above) = X509Certificate::from_der(chain[1].contents()).unwrap();
    assert!(matches!(above.public_key().parsed().unwrap(), x509_parser::public_key::PublicKey::EC(_)));
}
